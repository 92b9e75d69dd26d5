"""The copy task: random bytes, then their copy."""

import dataclasses

import numpy as np

from experiments.data.pipeline import Example
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL
from experiments.data.text.tokenizers import PAD


@dataclasses.dataclass(frozen=True)
class Copies:
  """Sequences by index: BOS, random values, these in reverse, EOS.

  Each is a function of the seed and its index, so there is no end of them.
  With `growing`, they are a curriculum: the first one has only the value that
  is copied first, and each further one as many values or more. Padding stands
  where the others were, and the second half ends early, so every value has the
  place that it has in a whole sequence.

  Source: Perceiver AR, §5.1.1; its released code.
  """

  size: int  # Ids of each, BOS and EOS among them; even.
  values: int = 256
  mirrored: bool = True  # False: in the same order.
  seed: int = 0
  number: int = 2**31 - 1
  growing: int = 0  # Examples until sequences are whole; 0: all are.

  def __post_init__(self):
    if self.size < 4 or self.size % 2:
      raise ValueError(
          f"data.size = {self.size}: an even number of at least 4 was expected"
      )
    if self.growing < 0:
      raise ValueError(
          f"data.ramp_examples = {self.growing}: 0 or more was expected"
      )

  def __len__(self) -> int:
    return self.number

  def __getitem__(self, index: int) -> Example:
    """{"ids": int32 [size]}."""
    rng = np.random.default_rng([self.seed, int(index)])
    half = NUM_SPECIAL + rng.integers(self.values, size=self.size // 2 - 1)
    again = half[::-1] if self.mirrored else half
    ids = np.concatenate([[BOS], half, again, [EOS]])
    middle, near = self.size // 2, self._near(int(index))
    if near < middle - 1:
      hidden = (1, middle - near) if self.mirrored else (1 + near, middle)
      ids[slice(*hidden)] = PAD
      ids = ids[: middle + near]
    return {"ids": ids.astype(np.int32)}

  def _near(self, index: int) -> int:
    """The number of values in each half of a sequence, which grows."""
    whole = self.size // 2 - 1
    if index >= self.growing:
      return whole
    return round(whole ** (index / self.growing))
