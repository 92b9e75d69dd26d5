"""Concatenates several arrays, and splits them again."""

from collections.abc import Mapping
import dataclasses
import itertools

import haiku as hk
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver.learned import LearnedArray


@dataclasses.dataclass
class Pack(hk.Module):
  """Pads several arrays to equal width and concatenates their elements.

  Each array is padded with a learned vector of its own, which distinguishes the
  modalities: an element's channels come first, then its modality's.

  Attributes:
    min_padding: channels of the vector that extends the widest array; those
      of other arrays are longer.
    channels: channels of every element; None: those of the widest array with
      its padding.
    name: name of the module in parameter paths; None: that of its class.

  Source: Perceiver IO, appendix I; official multimodal model.
  """

  min_padding: int = 1
  channels: int | None = None
  name: str | None = None

  def __call__(
      self,
      arrays: Mapping[str, Float[Array, "B _ _"]],
      masked: Mapping[str, Bool[Array, "B _"]] | None = None,
  ) -> Float[Array, "B M C"]:
    """All elements, in the order of the mapping.

    Args:
      arrays: modality -> its elements with their positions.
      masked: modality -> True at elements that a learned vector replaces,
        including position and modality. Other modalities have no such vector.

    Raises:
      KeyError: if `masked` names a modality that is not in `arrays`.
      ValueError: if `channels` are too few.
    """
    masked = masked or {}
    for name in masked:
      if name not in arrays:
        raise KeyError(
            f"{self.module_name}: {name!r} is masked, but the arrays are"
            f" {list(arrays)}"
        )
    widest = max(arrays, key=lambda name: arrays[name].shape[-1])
    least = arrays[widest].shape[-1] + self.min_padding
    width = least if self.channels is None else self.channels
    if width < least:
      raise ValueError(
          f"{self.module_name}: {widest!r} needs {least} channels, its padding"
          f" included, and has {width}"
      )
    packed = []
    for name, x in arrays.items():
      batch_size, num_elements, channels = x.shape
      padding = LearnedArray(1, width - channels, name=f"{name}_padding")(1)
      padding = jnp.broadcast_to(
          padding, (batch_size, num_elements, width - channels)
      )
      x = jnp.concatenate([x, padding.astype(x.dtype)], axis=-1)
      if name in masked:
        token = LearnedArray(1, width, name=f"{name}_mask")(1)
        x = jnp.where(masked[name][:, :, None], token.astype(x.dtype), x)
      packed.append(x)
    return jnp.concatenate(packed, axis=1)


def unpack(
    y: Float[Array, "B O E"], sizes: Mapping[str, int]
) -> dict[str, Float[Array, "B _ E"]]:
  """The parts of a packed array.

  Args:
    y: a packed array, or the output array for packed queries.
    sizes: modality -> number of its elements, in the order they were packed.

  Raises:
    ValueError: if the sizes do not add up to the elements of y.
  """
  if sum(sizes.values()) != y.shape[1]:
    raise ValueError(f"{y.shape[1]} elements do not split into {dict(sizes)}")
  ends = list(itertools.accumulate(sizes.values()))
  parts = jnp.split(y, ends[:-1], axis=1)
  return dict(zip(sizes, parts, strict=True))
