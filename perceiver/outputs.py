"""Predictions from the latent array or the output array."""

from collections.abc import Mapping
from typing import Annotated, Any

from einops import rearrange
import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

from perceiver.learned import LearnedArray
from perceiver.learned import product
from perceiver.perceiver_io import AverageDecoder
from perceiver.perceiver_io import Decoder


def class_query(
    z: Float[Array, "B N D"],
    num_classes: int,
    /,
    query_channels: int,
    decoder: Annotated[Mapping[str, Any], Decoder],
) -> Float[Array, "B {num_classes}"]:
  """Class logits of Perceiver IO, decoded by one learned query.

  Args:
    z: the latent array.
    num_classes: number of logits.
    query_channels: E, channels of the query.
    decoder: settings of `Decoder`.

  Source: Perceiver IO, appendix A; official ImageNet models.
  """
  query = LearnedArray(1, query_channels, name="query")()
  y = Decoder(**decoder)(query, z)  # [B, O=1, E]
  return hk.Linear(num_classes, name="logits")(y[:, 0])


def average_and_project(
    z: Float[Array, "B N D"], num_classes: int, /
) -> Float[Array, "B {num_classes}"]:
  """Class logits of the original Perceiver.

  Source: Perceiver IO, figure 6.
  """
  return AverageDecoder(num_classes)(z)


def tied_tokens(
    y: Float[Array, "B O E"], table: Float[Array, "V E"]
) -> Float[Array, "B O V"]:
  """Logits of tokens: products with the embeddings plus biases.

  Source: official MLM model.
  """
  logits = product(y, table.T)
  return hk.Bias(bias_dims=[-1], name="logits")(logits)


def raft_upsample(
    flow: Float[Array, "B Y X 2"],
    weights: Float[Array, "B Y X _"],
    factor: int,
) -> Float[Array, "B {factor*flow.shape[1]} {factor*flow.shape[2]} 2"]:
  """A flow at a higher resolution, from convex combinations of neighbours.

  Args:
    flow: in pixels of its own resolution; zero outside.
    weights: before their softmax: for each of the 3 × 3 neighbours, row by row,
      those of the factor × factor pixels that each coarse pixel becomes.
    factor: factor of the resolution, and so of the flow.

  Returns:
    the flow in pixels of the new resolution.

  Source: Perceiver IO, appendix H; RAFT (Teed and Deng, 2020), §3.3.
  """
  y, x = flow.shape[1:3]
  weights = rearrange(
      weights, "b y x (n i j) -> b y x n i j", n=9, i=factor, j=factor
  )
  padded = jnp.pad(factor * flow, [(0, 0), (1, 1), (1, 1), (0, 0)])
  neighbours = jnp.stack(
      [padded[:, i : i + y, j : j + x] for i in range(3) for j in range(3)],
      axis=3,
  )  # [B, Y, X, 9, 2]
  fine = jnp.einsum(
      "byxnij,byxnc->byxijc", jax.nn.softmax(weights, axis=3), neighbours
  )
  return rearrange(fine, "b y x i j c -> b (y i) (x j) c")
