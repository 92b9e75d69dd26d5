"""From what a task is given to its input array [B, M, C]."""

from collections.abc import Sequence
import math

import haiku as hk
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

from perceiver import position
from perceiver.learned import LearnedArray


def flatten(x: Float[Array, "B *dims C"]) -> Float[Array, "B M C"]:
  """Any number of index dimensions as one, row-major."""
  return x.reshape(len(x), -1, x.shape[-1])


def with_positions(
    x: Float[Array, "B M C"], pos: Float[Array, "#B M P"]
) -> Float[Array, "B M C+P"]:
  """Channels of x, then those of its positions."""
  pos = jnp.broadcast_to(pos, (len(x), *pos.shape[1:]))
  return jnp.concatenate([x, pos.astype(x.dtype)], axis=-1)


def pixels(
    image: Float[Array, "B *dims C"],
    num_bands: int,
    max_resolution: Sequence[int] | None = None,
) -> Float[Array, "B M C+{(image.ndim-2)*(2*num_bands+1)}"]:
  """Every pixel, or voxel, with Fourier features of its position.

  Args:
    image: an array with any number of index dimensions.
    num_bands: frequencies per index dimension.
    max_resolution: samples per index dimension; None: those of `image`.

  Returns:
    the input array, row-major: the channels, then the position's.

  Source: Perceiver IO, appendix A; official ImageNet model, "fourier".
  """
  dims = image.shape[1:-1]
  pos = position.fourier_features(
      position.grid(dims), num_bands, max_resolution or dims
  )
  return with_positions(flatten(image), pos[None])


def learned_positions(
    image: Float[Array, "B *dims C"], channels: int
) -> Float[Array, "B M {2*channels}"]:
  """Every pixel, projected, with a learned position of as many channels.

  Source: Perceiver IO, appendix A; official ImageNet model, "learned". Like the
  published weights, and unlike the paper, it projects the positions too.
  """
  x = hk.Linear(channels, name="pixels")(flatten(image))
  num_pixels = math.prod(image.shape[1:-1])
  pos = LearnedArray(num_pixels, channels, name="positions")(1)
  return with_positions(x, hk.Linear(channels, name="project_positions")(pos))
