"""Metrics per example, or for a whole split.

What is of a split is computed by numpy in float64: no mean of numbers per
example gives it.
"""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from jaxtyping import Int
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
    raise ValueError(f"top-{k} needs {k} classes, not {logits.shape[-1]}.")
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
