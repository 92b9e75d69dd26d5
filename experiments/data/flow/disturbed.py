"""Pairs of frames with and without noise, to measure robustness."""

import dataclasses
from typing import Any

import numpy as np

from experiments.data.pipeline import Example


@dataclasses.dataclass(frozen=True)
class Disturbed:
  """Every pair twice: unchanged, and with noise ("disturbed")."""

  pairs: Any  # By index.
  # Of a square of noise at one place of both frames, as a part of their shorter
  # side; 0: noise is added everywhere, another in each frame.
  side: float
  deviation: float  # Levels of 0 to 255; around grey in the square.
  seed: int = 0

  def __len__(self) -> int:
    return 2 * len(self.pairs)

  def __getitem__(self, index: int) -> Example:
    pair, is_disturbed = self.pairs[index // 2], bool(index % 2)
    if is_disturbed:
      rng = np.random.default_rng([self.seed, index // 2])
      pair = {**pair, "frames": self._with_noise(pair["frames"], rng)}
    return {**pair, "disturbed": np.bool_(is_disturbed)}

  def _with_noise(
      self, frames: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    noisy = frames.astype(np.float32)
    height, width = frames.shape[1:3]
    side = round(self.side * min(height, width))
    if side:
      y, x = rng.integers(0, [height - side + 1, width - side + 1])
      noise = rng.standard_normal([side, side, 3], np.float32)
      noisy[:, y : y + side, x : x + side] = 127.5 + self.deviation * noise
    else:
      noisy += self.deviation * rng.standard_normal(frames.shape, np.float32)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)
