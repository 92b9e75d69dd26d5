"""ImageNet classification: Perceiver IO and the original Perceiver."""

import jax
import jax.numpy as jnp

from experiments.task import choose
from experiments.task import Network
from perceiver import Encoder
from perceiver import inputs
from perceiver import outputs
from perceiver import Processor
from perceiver import RepeatedEncoder

INPUTS = (inputs.pixels, inputs.learned_positions, inputs.conv)
OUTPUTS = (outputs.class_query, outputs.average_and_project)


def network(config) -> Network:
  """Images, normalised, to logits [B, classes]."""
  model = config.model
  encoder, processor = model.encoder.to_dict(), model.processor.to_dict()
  read_image = choose(INPUTS, model.input)
  classify = choose(OUTPUTS, model.output)

  def forward(batch, is_training):
    x = read_image(batch["image"], is_training=is_training)  # [B, M, C]
    if model.reads.num_reads == 1:
      z = Encoder(**encoder)(x)  # [B, N, D]
      z = Processor(**processor)(z)
    else:
      z = RepeatedEncoder(encoder, processor, **model.reads)(x)
    return {"logits": classify(z, config.num_classes)}

  dims = tuple(config.image_size)
  return Network(
      {"image": jax.ShapeDtypeStruct((*dims, 3), jnp.float32)}, forward
  )
