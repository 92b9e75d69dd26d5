"""Losses per example or per token."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from jaxtyping import Int
import optax


def soft_labels(
    labels: Int[Array, "B"],
    num_classes: int,
    smoothing: float = 0.0,
    mix_labels: Int[Array, "B"] | None = None,
    mix_ratio: Float[Array, "B"] | None = None,
) -> Float[Array, "B {num_classes}"]:
  """Target probabilities of classes: labels, mixed, then smoothed.

  Args:
    labels: classes, from 0.
    num_classes: number of classes.
    smoothing: the part that is spread evenly over all classes, in [0, 1].
    mix_labels: the classes of the second images of MixUp or CutMix.
    mix_ratio: the part of the first images, in [0, 1].

  Returns:
    one distribution a row.

  Raises:
    ValueError: if only one of mix_labels and mix_ratio is given.

  Source: official ImageNet training.
  """
  if (mix_labels is None) != (mix_ratio is None):
    raise ValueError("mix_labels and mix_ratio go together.")
  targets = jax.nn.one_hot(labels, num_classes)
  if mix_labels is not None and mix_ratio is not None:
    other = jax.nn.one_hot(mix_labels, num_classes)
    ratio = mix_ratio[:, None]
    targets = ratio * targets + (1.0 - ratio) * other
  return optax.smooth_labels(targets, smoothing)


def cross_entropy(
    logits: Float[Array, "B K"], targets: Float[Array, "B K"]
) -> Float[Array, "B"]:
  """Cross-entropy of softmax(logits) and target distributions, in nats."""
  return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def multi_hot(
    labels: Int[Array, "B L"], num_classes: int
) -> Float[Array, "B {num_classes}"]:
  """1 for each class that is among an example's labels, 0 for all others.

  Args:
    labels: classes, from 0, each at most once; -1 fills the rows.
    num_classes: number of classes.
  """
  return jax.nn.one_hot(labels, num_classes).sum(axis=1)


def binary_cross_entropy(
    logits: Float[Array, "B K"], targets: Float[Array, "B K"]
) -> Float[Array, "B"]:
  """Binary cross-entropy with logits, summed over classes, in nats."""
  each = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets)
  return each.sum(axis=-1)


def token_cross_entropy(
    logits: Float[Array, "B O V"], targets: Int[Array, "B O"]
) -> Float[Array, "B O"]:
  """Cross-entropy of softmax(logits) and each target token, in nats."""
  return optax.softmax_cross_entropy_with_integer_labels(
      logits.astype(jnp.float32), targets
  )


def end_point_error(
    flow: Float[Array, "*B Y X 2"], target: Float[Array, "*B Y X 2"]
) -> Float[Array, "*B Y X"]:
  """Distance between the end points of two flows, in pixels.

  Its gradient is zero, and not undefined, where they are the same.
  """
  return optax.safe_norm(flow.astype(jnp.float32) - target, 0.0, axis=-1)
