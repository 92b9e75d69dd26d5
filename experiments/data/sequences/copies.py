"""The copy task: random bytes, then the same bytes once more."""

import dataclasses

import numpy as np

from experiments.data.pipeline import Example
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL


@dataclasses.dataclass(frozen=True)
class Copies:
  """Sequences by index: BOS, random values, these in reverse, EOS.

  Each is a function of the seed and its index, so there is no end of them.

  Source: Perceiver AR, §5.1.1; its released code.
  """

  size: int  # Ids of each, BOS and EOS among them; even.
  values: int = 256
  mirrored: bool = True  # False: in the same order.
  seed: int = 0
  number: int = 2**31 - 1

  def __post_init__(self):
    if self.size < 4 or self.size % 2:
      raise ValueError(
          f"data.size = {self.size}: an even number of at least 4 was expected"
      )

  def __len__(self) -> int:
    return self.number

  def __getitem__(self, index: int) -> Example:
    """{"ids": int32 [size]}."""
    rng = np.random.default_rng([self.seed, int(index)])
    half = NUM_SPECIAL + rng.integers(self.values, size=self.size // 2 - 1)
    again = half[::-1] if self.mirrored else half
    ids = np.concatenate([[BOS], half, again, [EOS]])
    return {"ids": ids.astype(np.int32)}
