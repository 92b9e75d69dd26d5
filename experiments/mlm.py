"""Masked language modelling: Perceiver IO, and BERT to compare it with."""

import jax
import jax.numpy as jnp

from experiments.task import choose
from experiments.task import Network
from perceiver import baselines
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import outputs
from perceiver import Processor


def network(config) -> Network:
  """Tokens, some masked, to logits of what was there, [B, M, vocabulary]."""
  predict = choose((perceiver_io, bert), config.model)

  def forward(batch, is_training):
    del is_training
    return {"logits": predict(batch["tokens"], batch["mask"])}

  length = config.model.tokens.max_length
  example = {
      "tokens": jax.ShapeDtypeStruct((length,), jnp.int32),
      "mask": jax.ShapeDtypeStruct((length,), jnp.bool_),  # False: padding.
  }
  return Network(example, forward)


def perceiver_io(
    ids, mask, tokens, encoder, processor, query_channels, decoder
):
  """One learned query a position; logits share the embeddings."""
  x, table = inputs.tokens(ids, **tokens)  # [B, M, C]
  z = Encoder(**encoder)(x, mask)  # [B, N, D]
  z = Processor(**processor)(z)
  query = LearnedArray(tokens["max_length"], query_channels, name="queries")
  query = query(len(x))[:, : x.shape[1]]
  y = Decoder(**decoder)(query, z, mask)  # [B, O=M, E]
  return outputs.tied_tokens(y, table)


def bert(ids, mask, tokens, transformer):
  """Devlin et al.'s model, without the embeddings that tell sentences apart."""
  x, table = inputs.tokens(ids, **tokens)
  x = baselines.embedded(x)
  x = baselines.Transformer(**transformer)(x, mask)
  return outputs.tied_tokens(baselines.masked_token_features(x), table)
