"""Where the elements of an array are: grids, and Fourier features of them."""

from collections.abc import Sequence
import math

from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from jaxtyping import Int


def grid(dims: Sequence[int]) -> Float[Array, "M {len(dims)}"]:
  """Positions of the cells of a grid, row-major, each axis from -1 to 1.

  Both ends are included; an axis of one cell lies at -1. Coordinates stand in
  the order of the axes.

  Source: official behaviour, positions of every input array.
  """
  axes = [jnp.linspace(-1.0, 1.0, n) for n in dims]
  points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
  return points.reshape(math.prod(dims), len(dims))


def of_indices(
    indices: Int[Array, "O"], dims: Sequence[int]
) -> Float[Array, "O {len(dims)}"]:
  """Positions of some cells of a grid, given by their row-major index.

  Cell i of n lies at -1 + 2 i / n, so that the last one falls short of 1,
  unlike in `grid`. The published video model was trained with this for its
  output queries and with `grid` for its inputs.

  Source: official behaviour, subsampled output queries.
  """
  cells = jnp.stack(jnp.unravel_index(indices, tuple(dims)), axis=-1)
  return -1.0 + 2.0 * cells / jnp.asarray(dims, jnp.float32)


def fourier_features(
    pos: Float[Array, "M d"],
    num_bands: int,
    max_resolution: Sequence[int],
) -> Float[Array, "M {len(max_resolution)*(2*num_bands+1)}"]:
  """Positions, then sines, then cosines of them at evenly spaced frequencies.

  Args:
    pos: points in [-1, 1]^d, one a row.
    num_bands: frequencies per axis, from 1 to Nyquist, both included, in half
      cycles per unit of `pos`.
    max_resolution: samples per axis that the data has; Nyquist is half.

  Returns:
    d positions, d * num_bands sines, d * num_bands cosines, axis by axis.

  Raises:
    ValueError: if max_resolution does not give one number per axis of `pos`.

  Source: Perceiver IO, appendix G; official behaviour.
  """
  if len(max_resolution) != pos.shape[-1]:
    raise ValueError(
        f"max_resolution {tuple(max_resolution)} has {len(max_resolution)} axes"
        f" for positions that have {pos.shape[-1]}."
    )
  frequencies = jnp.stack(
      [jnp.linspace(1.0, n / 2, num_bands) for n in max_resolution]
  )  # [d, bands]
  # The product comes before π: at high frequencies the order shows in float32.
  angles = jnp.pi * (pos[:, :, None] * frequencies)
  angles = angles.reshape(pos.shape[0], -1)
  return jnp.concatenate([pos, jnp.sin(angles), jnp.cos(angles)], axis=-1)
