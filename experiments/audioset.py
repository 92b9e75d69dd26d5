"""AudioSet: sounds in video clips."""

import jax
import jax.numpy as jnp

from experiments.task import choose
from experiments.task import Network
from perceiver import Encoder
from perceiver import inputs
from perceiver import multimodal
from perceiver import outputs
from perceiver import Processor

OUTPUTS = (outputs.class_query, outputs.average_and_project)


def network(config) -> Network:
  """Clips to logits of what is heard, [B, classes]; several may be right."""
  model = config.model
  classify = choose(OUTPUTS, model.output)

  def forward(batch, is_training):
    del is_training
    video = inputs.video_patches(batch["video"], model.video.patch)
    audio = inputs.audio_patches(batch["audio"], model.audio.patch)
    pack = multimodal.Pack(model.min_padding, name="inputs")
    x = pack(
        {
            "audio": inputs.pixels(audio, model.audio.num_bands),
            "video": inputs.pixels(video, model.video.num_bands),
        }
    )  # [B, M, C]
    z = Encoder(**model.encoder)(x)  # [B, N, D]
    z = Processor(**model.processor)(z)
    return {"logits": classify(z, config.num_classes)}

  shape = jax.ShapeDtypeStruct
  example = {
      "video": shape((*config.video, 3), jnp.float32),
      # Samples, or the numbers of a mel-spectrogram, one after the other.
      "audio": shape((config.num_audio, 1), jnp.float32),
  }
  return Network(example, forward)
