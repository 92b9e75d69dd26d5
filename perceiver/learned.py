"""Arrays that are parameters: latents, queries, positions, tokens, padding."""

import dataclasses

import haiku as hk
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

from perceiver import bounds


@dataclasses.dataclass
class LearnedArray(hk.Module):
  """A learned array, the same for every example.

  Attributes:
    num_elements: rows of the array.
    channels: of each.
    name: of the module, in the paths of its parameters; None: its class's.
  """

  num_elements: int
  channels: int
  name: str | None = None

  def __call__(
      self, batch_size: int = 1
  ) -> Float[Array, "{batch_size} {self.num_elements} {self.channels}"]:
    """The array, once for each of `batch_size` examples.

    Attention takes one for all examples, and then projects it once.

    It starts as a normal of deviation 0.02, cut at two deviations.

    Source: Perceiver, appendix C.
    """
    for name in ("num_elements", "channels"):
      bounds.check(f"{self.module_name}: {name}", getattr(self, name), 1)
    array = hk.get_parameter(
        "array",
        [self.num_elements, self.channels],
        init=hk.initializers.TruncatedNormal(0.02),
    )
    return jnp.broadcast_to(array, (batch_size, *array.shape))
