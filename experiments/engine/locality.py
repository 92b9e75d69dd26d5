"""Initialisation with a locality bias, for training of minutes.

It is no part of the library: the paper does not have it, and it changes what
modules draw from the outside, by a Haiku creator that knows their names. As an
argument, it would have to go through every module, since the initial map of an
attention's keys depends on that of its queries.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import itertools

import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

from perceiver import position

# Of positions and queries; and of latents, whose place has to be seen in what
# they become by reading.
_DEVIATION, _OF_LATENTS, _ON_GRIDS, _OF_MODALITIES = 0.1, 1.0, 2.0, 3.0
_READS = "cross_attention/attention"
_WAVES = 64
_MOST_CYCLES = 64.0  # Of the shortest wave, over the whole sequence.


@dataclasses.dataclass(frozen=True)
class Grid:
  """The grid of latents of a model with Fourier features."""

  dims: Sequence[int]  # Of the input array.
  latent_dims: Sequence[int]  # As many axes; their product is N, or part of it.
  num_bands: int  # Of the Fourier features.
  max_resolution: Sequence[int] | None = None  # Of these; None: `dims`.
  # Of outputs whose queries lie where `position.of_indices` puts them; None:
  # queries lie where the input array does.
  output_dims: Sequence[int] | None = None
  # The first channels of the features in the input array and in the output
  # queries; None: they are the last ones.
  of_inputs: int | None = None
  of_queries: int | None = None

  @property
  def channels(self) -> int:
    """Number of the Fourier features."""
    return len(self.dims) * (2 * self.num_bands + 1)

  def places(self) -> Float[Array, "N _"]:
    """The Fourier features of the latents' places in the input array.

    As if seen from afar: high frequencies are damped, so that what agrees with
    them is as wide as the distance between latents.
    """
    dims = jnp.asarray(self.dims)
    middle = self._cells(dims)
    return self._features(-1.0 + 2.0 * middle / jnp.maximum(dims - 1, 1))

  def as_keys(self) -> Float[Array, "_ _"]:
    """The map from `places` to keys that match output queries at these places.

    It is the identity unless queries lie elsewhere than the input array.
    """
    if self.output_dims is None:
      return jnp.eye(self.channels)
    dims = jnp.asarray(self.output_dims)
    of_outputs = self._features(-1.0 + 2.0 * self._cells(dims) / dims)
    return jnp.linalg.pinv(self.places(), rtol=1e-3) @ of_outputs

  def _cells(self, dims) -> Float[Array, "N _"]:
    """The middle of each latent's part of a grid, in cells of that grid."""
    cells = jnp.indices(self.latent_dims).reshape(len(self.latent_dims), -1).T
    return (cells + 0.5) * dims / jnp.asarray(self.latent_dims) - 0.5

  def _features(self, pos: Float[Array, "N d"]) -> Float[Array, "N _"]:
    resolution, bands = self.max_resolution or self.dims, self.num_bands
    damped = jnp.concatenate(
        [
            jnp.exp(
                -0.5 * (jnp.pi / cells * jnp.linspace(1, n / 2, bands)) ** 2
            )
            for n, cells in zip(resolution, self.latent_dims, strict=True)
        ]
    )
    none = jnp.zeros(len(self.dims))  # Of the positions themselves.
    features = position.fourier_features(pos, bands, resolution)
    features *= jnp.concatenate([none, damped, damped])
    return features * jax.lax.rsqrt(jnp.mean(jnp.square(features)))


@contextlib.contextmanager
def locality_biased(
    sharpness: float, grids: Mapping[str, Grid] | None = None
) -> Iterator[None]:
  """Biases cross-attends that are created inside towards near positions.

  With the usual initialisation, every latent attends to all of the input array
  equally, and every output to all latents; where things are is then learned
  slowly. Here learned arrays of more than one element are initialised as sines
  and cosines of each element's position in its sequence, and the map of queries
  of each cross-attend as its map of keys: attention is highest where positions
  agree. On grids this holds for the latents alone, since the input array and
  the output queries have Fourier features.

  Args:
    sharpness: what the queries' map is multiplied by; with 4 a latent attends
      to the few elements around its position. 0: the usual initialisation.
    grids: where the latents are, those of one modality after the other's, by
      the names that `multimodal.Pack` has for these; none: all arrays are
      sequences.

  Yields:
    nothing.

  Source: none; the papers train for days.
  """
  if not sharpness:
    yield
    return
  create = _on_grids(sharpness, grids) if grids else _in_sequences(sharpness)
  with hk.custom_creator(create, params=True):
    yield


def _in_sequences(sharpness: float) -> Callable[..., Array]:
  """A creator of parameters for models of sequences."""
  drawn = {}  # The queries' map of a module, until its keys' is created.

  def create(next_creator, shape, dtype, init, context):
    module, kind = context.full_name.rsplit("/", 1)
    value = next_creator(shape, dtype, init)
    if kind == "array" and shape[0] > 1:
      initial = waves(len(value))[:, : shape[1]]
      initial *= _OF_LATENTS if module.endswith("latents") else _DEVIATION
      return value.at[:, : initial.shape[1]].set(initial)
    read, _, which = module.rpartition("/")
    if kind != "w" or not read.endswith(_READS):
      return value
    if which == "q":
      drawn[read] = value
      return sharpness * value
    if which == "k" and drawn[read].shape[1] == value.shape[1]:
      rows = min(2 * _WAVES, len(drawn[read]), len(value))
      return value.at[:rows].set(drawn[read][:rows])
    return value

  return create


def _on_grids(
    sharpness: float, grids: Mapping[str, Grid]
) -> Callable[..., Array]:
  """A creator of parameters for inputs with Fourier features."""
  # Each grid has channels of its own in the latents and in what maps give.
  ends = list(itertools.accumulate(grid.channels for grid in grids.values()))
  firsts = [0, *ends[:-1]]
  # So have several modalities together, to tell them apart.
  names = list(grids) if len(grids) > 1 else []
  codes = _OF_MODALITIES * (2 * jnp.eye(len(names)) - 1)

  def latents(value):
    places = [_ON_GRIDS * grid.places() for grid in grids.values()]
    placed = jax.scipy.linalg.block_diag(*places)
    if names:
      of_each = [
          jnp.tile(code, (len(its), 1))
          for code, its in zip(codes, places, strict=True)
      ]
      placed = jnp.concatenate([placed, jnp.concatenate(of_each)], axis=1)
    return value.at[: len(placed), : placed.shape[1]].set(placed)

  def queries_or_keys(value, is_of_latents, is_encoder):
    """The map from the features of each grid to its channels."""
    rows = []
    for first, grid in zip(firsts, grids.values(), strict=True):
      if not is_of_latents:
        first = grid.of_inputs if is_encoder else grid.of_queries
        first = len(value) - grid.channels if first is None else first
      rows.append((first, grid.channels))
    if names:
      first = ends[-1] if is_of_latents else len(value) - len(names)
      rows.append((first, len(names)))
    for first, count in rows:
      value = value.at[first : first + count].set(0.0)
    is_keys = is_of_latents and not is_encoder
    maps = [
        grid.as_keys() if is_keys else jnp.eye(grid.channels)
        for grid in grids.values()
    ]
    maps.append(jnp.eye(len(names)))
    for to, (first, count), each in zip(
        [*firsts, ends[-1]], rows, maps, strict=False
    ):
      room = value.shape[1] - to
      value = value.at[first : first + count, to : to + count].set(
          each[:, :room]
      )
    return value

  def create(next_creator, shape, dtype, init, context):
    module, kind = context.full_name.rsplit("/", 1)
    value = next_creator(shape, dtype, init)
    if kind == "array":
      if module.endswith("latents"):
        return latents(value)
      for name, code in zip(names, codes, strict=True):
        if module.endswith(f"{name}_padding"):
          return value.at[:, -len(names) :].set(code)
    read, _, which = module.rpartition("/")
    if kind != "w" or which not in "qk" or not read.endswith(_READS):
      return value
    is_encoder = "encoder" in read.split("/")
    value = queries_or_keys(value, (which == "q") == is_encoder, is_encoder)
    return sharpness * value if which == "q" else value

  return create


def waves(num_elements: int) -> Float[Array, "{num_elements} _"]:
  """Sines and cosines of each element's position, for each frequency.

  Frequencies rise from half a cycle by the same factor each. The first
  channels of arrays are initialised as these, whatever their number.
  """
  place = (jnp.arange(num_elements) + 0.5) / num_elements
  angle = 2 * jnp.pi * place[:, None] * jnp.geomspace(0.5, _MOST_CYCLES, _WAVES)
  pairs = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
  return jnp.sqrt(2.0) * pairs.reshape(num_elements, -1)
