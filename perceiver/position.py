"""Positions of elements: grids, Fourier features, sinusoids, rotations."""

from collections.abc import Sequence
import dataclasses
import math

from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from jaxtyping import Int

from perceiver import bounds


@dataclasses.dataclass(frozen=True)
class Rotary:
  """Rotary positions: scores depend on distances only."""

  of_queries: Int[Array, "#B N"]
  of_keys: Int[Array, "#B M"]
  fraction: float  # Of each head's features, that is turned.
  longest: float  # Distance, in elements, that the slowest pair turns 1 radian.

  def queries(self, q: Float[Array, "B N H F"]) -> Float[Array, "B N H F"]:
    """Queries by head, rotated."""
    return rotated(q, self.of_queries, self.fraction, self.longest)

  def keys(self, k: Float[Array, "B M H F"]) -> Float[Array, "B M H F"]:
    """Keys by head, rotated."""
    return rotated(k, self.of_keys, self.fraction, self.longest)

  def of_newest(self, queries: int, keys: int | None = None) -> "Rotary":
    """The same for the last of the queries, and of the keys (None: all)."""
    of_keys = self.of_keys if keys is None else self.of_keys[:, -keys:]
    return dataclasses.replace(
        self, of_queries=self.of_queries[:, -queries:], of_keys=of_keys
    )


def rotated(
    x: Float[Array, "B L H F"],
    pos: Int[Array, "#B L"],
    fraction: float,
    longest: float,
) -> Float[Array, "B L H F"]:
  """Queries or keys with pairs of features rotated by their positions.

  The first features of each head are turned, in pairs of neighbours; pair i of
  n turns pos / longest^(i / (n - 1)) radians, so the first pair 1 radian an
  element. Products of what is turned depend on differences of positions alone.

  Args:
    x: queries or keys, by head.
    pos: positions of the elements.
    fraction: rotated fraction of a head's features, rounded down to pairs.
    longest: distance at which the slowest pair rotates by 1 radian.

  Returns:
    in the dtype of x; angles are computed in float32.

  Source: Su et al., 2021; Perceiver AR's released code, which turns a fraction
  of the features and spaces frequencies so that the last has `longest`.
  """
  bounds.check("the fraction that rotary positions turn", fraction, 0, 1)
  pairs = int(x.shape[-1] * fraction) // 2
  if not pairs:
    return x
  frequency = longest ** -jnp.linspace(0.0, 1.0, pairs)
  angle = pos[..., None].astype(jnp.float32) * frequency  # [#B, L, pairs]
  sin, cos = jnp.sin(angle)[:, :, None], jnp.cos(angle)[:, :, None]
  turned = x[..., : 2 * pairs].astype(jnp.float32)
  turned = turned.reshape(*x.shape[:-1], pairs, 2)
  a, b = turned[..., 0], turned[..., 1]
  turned = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
  turned = turned.reshape(*x.shape[:-1], 2 * pairs).astype(x.dtype)
  return jnp.concatenate([turned, x[..., 2 * pairs :]], axis=-1)


def sinusoids(
    pos: Int[Array, "*B L"],
    channels: int,
    longest: float = 10_000.0,
    shortest: float = 1.0,
) -> Float[Array, "*B L {channels}"]:
  """Sines, then cosines, of positions at geometrically spaced frequencies.

  Args:
    pos: counted from 0.
    channels: channels of the result; if odd, the last is 0.
    longest: the slowest wave has 2π times as many elements.
    shortest: the fastest wave has 2π times as many elements.

  Source: Vaswani et al., 2017; Perceiver AR's released code.
  """
  steps = jnp.linspace(0.0, 1.0, channels // 2)
  frequency = (longest / shortest) ** -steps / shortest
  angle = pos[..., None].astype(jnp.float32) * frequency
  waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
  rest = [(0, 0)] * pos.ndim + [(0, channels % 2)]
  return jnp.pad(waves, rest)


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
