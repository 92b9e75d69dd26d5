"""What is reported; every function gives one number per example."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from jaxtyping import Int


def top_k(
    logits: Float[Array, "B K"], labels: Int[Array, "B"], k: int = 1
) -> Float[Array, "B"]:
  """100 where the label is among the k largest logits, else 0; in percent.

  Raises:
    ValueError: if there are fewer than k classes.
  """
  if k > logits.shape[-1]:
    raise ValueError(f"top-{k} of {logits.shape[-1]} classes.")
  _, best = jax.lax.top_k(logits, k)
  return 100.0 * jnp.any(best == labels[:, None], axis=-1).astype(jnp.float32)
