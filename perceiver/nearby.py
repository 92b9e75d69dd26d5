"""A start from which a model reads what is near, for training of minutes."""

from collections.abc import Iterator
import contextlib

import haiku as hk
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

# Of positions and queries; and of latents, whose place has to be seen in what
# they become by reading.
_DEVIATION, _OF_LATENTS = 0.1, 1.0
_WAVES = 64
_MOST_CYCLES = 64.0  # Of the shortest wave, over the whole sequence.


@contextlib.contextmanager
def start_nearby(sharpness: float) -> Iterator[None]:
  """Makes cross-attends that are created inside start by reading what is near.

  As they usually start, every latent reads all of the input array alike and
  every output all latents: from that, where things are is learned slowly. Here
  learned arrays of more than one element start as sines and cosines of where
  each element lies in its sequence, and the queries' map of each cross-attend
  as that of its keys, so that those at like places agree.

  Args:
    sharpness: what the queries' map is multiplied by; 4 lets a latent start
      with the few elements around its place. 0: the usual start.

  Yields:
    nothing.

  Source: none; the papers train for days.
  """
  if not sharpness:
    yield
    return
  drawn = {}  # The queries' map of a module, until its keys' is created.

  def create(next_creator, shape, dtype, init, context):
    module, kind = context.full_name.rsplit("/", 1)
    if kind == "array" and shape[0] > 1:
      array = next_creator(shape, dtype, init)
      start = waves(len(array))[:, : shape[1]]
      start *= _OF_LATENTS if module.endswith("latents") else _DEVIATION
      return array.at[:, : start.shape[1]].set(start)
    w = next_creator(shape, dtype, init)
    read, _, which = module.rpartition("/")
    if kind != "w" or not read.endswith("cross_attention/attention"):
      return w
    if which == "q":
      drawn[read] = w
      return sharpness * w
    if which == "k" and drawn[read].shape[1] == w.shape[1]:
      rows = min(2 * _WAVES, len(drawn[read]), len(w))
      return w.at[:rows].set(drawn[read][:rows])
    return w

  with hk.custom_creator(create, params=True):
    yield


def waves(num_elements: int) -> Float[Array, "{num_elements} _"]:
  """A sine and a cosine of each frequency, of where each element lies.

  Frequencies rise from half a cycle by the same factor each. The first so many
  channels of arrays start as these, whatever their number.
  """
  place = (jnp.arange(num_elements) + 0.5) / num_elements
  angle = 2 * jnp.pi * place[:, None] * jnp.geomspace(0.5, _MOST_CYCLES, _WAVES)
  pairs = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
  return jnp.sqrt(2.0) * pairs.reshape(num_elements, -1)
