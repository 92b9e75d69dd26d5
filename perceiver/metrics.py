"""What is reported: a number per example, or one for a whole split.

Those for a split are computed by numpy in float64: no mean of numbers per
example gives them.
"""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from jaxtyping import Int
from jaxtyping import Num
import numpy as np


def top_k(
    logits: Float[Array, "B K"], labels: Int[Array, "B *L"], k: int = 1
) -> Float[Array, "B"]:
  """100 where the label is among the k largest logits, else 0; in percent.

  Of several labels, one is enough; those below 0 are none.

  Raises:
    ValueError: if there are fewer than k classes.
  """
  if k > logits.shape[-1]:
    raise ValueError(f"top-{k} of {logits.shape[-1]} classes.")
  _, best = jax.lax.top_k(logits, k)
  labels = labels.reshape(len(labels), 1, -1)
  is_right = jnp.any(best[:, :, None] == labels, axis=(1, 2))
  return 100.0 * is_right.astype(jnp.float32)


def psnr(squared_errors: Float[np.ndarray, "N"]) -> float:
  """Peak signal-to-noise ratio in dB, for a peak of 1.

  That of the mean error of all examples: one that is silent, and guessed to be,
  would have an infinite ratio by itself.
  """
  error = np.mean(squared_errors, dtype=np.float64)
  return float(-10.0 * np.log10(error)) if error else float("inf")


def matthews(
    predicted: Int[np.ndarray, "N"], label: Int[np.ndarray, "N"]
) -> float:
  """Matthews' correlation of classes, from -1 to 1, for any number of them.

  0 where it is undefined: if all predictions are the same, all labels are, or
  there are none.

  Source: Gorodkin, 2004, for more than two classes.

  Raises:
    ValueError: if there are not as many predictions as labels.
  """
  both = np.stack([predicted, label])
  classes, index = np.unique(both, return_inverse=True)
  p, t = (
      np.bincount(i, minlength=len(classes)).astype(np.float64)
      for i in index.reshape(both.shape)
  )
  total = float(both.shape[1])
  covariance = total * np.sum(both[0] == both[1]) - p @ t
  spread = np.sqrt(total**2 - p @ p) * np.sqrt(total**2 - t @ t)
  return float(covariance / spread) if spread else 0.0


def pearson(x: Num[np.ndarray, "N"], y: Num[np.ndarray, "N"]) -> float:
  """Pearson's correlation, from -1 to 1.

  0 where it is undefined: if either is constant, or has fewer than two numbers.

  Raises:
    ValueError: if they are not as long as each other.
  """
  both = np.stack([x, y]).astype(np.float64)
  # Rounding would give a constant's mean, and so its distances, another value.
  if both.shape[1] < 2 or not np.ptp(both, axis=1).all():
    return 0.0
  x, y = both - both.mean(axis=1, keepdims=True)
  x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
  return float(np.clip(x @ y, -1.0, 1.0))
