"""Optimizers and learning-rate schedules of the papers' experiments."""

from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.engine.choose import choose
from perceiver import bounds
from perceiver.perceiver_io import STACK

# Parameters that no published run decays: layer and batch norms, and biases.
NOT_DECAYED = ("norm", "/b$")


def make_optimizer(
    optimizer: Mapping[str, Any],
    schedule: optax.Schedule,
    max_grad_norm: float | None,
) -> optax.GradientTransformation:
  """The update rule of a training run.

  Args:
    optimizer: a name of `OPTIMIZERS` and its settings.
    schedule: learning rate by step.
    max_grad_norm: what the norm of all gradients together is cut to; None:
      nothing.

  Raises:
    ValueError: if a setting is out of its bounds.
  """
  for name, value in optimizer.items():
    if name in ("b1", "b2", "momentum"):
      bounds.check(f"optimizer.{name}", value, 0, 1)
    elif name in ("eps", "weight_decay"):
      bounds.check(f"optimizer.{name}", value, 0)
  update = choose(OPTIMIZERS, optimizer)(schedule)
  if max_grad_norm is None:
    return update
  bounds.check("max_grad_norm", max_grad_norm, 0, above=True)
  return optax.chain(clip(max_grad_norm), update)


def clip(max_norm: float) -> optax.GradientTransformation:
  """Clips gradients to a global norm of `max_norm`.

  As Optax's `clip_by_global_norm`, but a gradient is multiplied once by a
  number, which XLA computes along with the update. Optax's division costs an
  array as large as the parameters, and on two cores 7 % of MLM's step.
  """

  def update(updates, state, params=None):
    del params
    norm = optax.tree.norm(updates)
    scale = jnp.where(norm < max_norm, 1.0, max_norm / norm)
    return optax.tree.scale(scale, updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_schedule(schedule: Mapping[str, Any], steps: int) -> optax.Schedule:
  """Learning rate by step of a run: a name of `SCHEDULES` and its settings.

  Raises:
    ValueError: if a setting is out of its bounds.
  """
  for name in ("peak", "end", "factor"):
    if name in schedule:
      bounds.check(f"schedule.{name}", schedule[name], 0)
  bounds.check("schedule.flat", schedule.get("flat", 0), 0, 1)
  for part in schedule.get("boundaries", ()):
    bounds.check("schedule.boundaries", part, 0, 1)
  return choose(SCHEDULES, schedule)(steps)


def lamb(
    schedule: optax.Schedule,
    /,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    not_decayed: Sequence[str] = NOT_DECAYED,
) -> optax.GradientTransformation:
  """LAMB: Adam's step, scaled to the norm of the layer's weights.

  Source: official ImageNet training; You et al., 2019. Every row of a stack of
  layers is a tensor of its own.
  """
  return optax.chain(
      optax.scale_by_adam(b1, b2, eps),
      _decay(weight_decay, not_decayed),
      _scale_by_trust_ratio(),
      optax.scale_by_learning_rate(schedule),
  )


def adamw(
    schedule: optax.Schedule,
    /,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    not_decayed: Sequence[str] = NOT_DECAYED,
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay. Source: Loshchilov and Hutter, 2017."""
  return optax.chain(
      optax.scale_by_adam(b1, b2, eps),
      _decay(weight_decay, not_decayed),
      optax.scale_by_learning_rate(schedule),
  )


def adam(
    schedule: optax.Schedule,
    /,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Adam without weight decay. Source: Kingma and Ba, 2014."""
  return optax.adam(schedule, b1, b2, eps)


def sgd(
    schedule: optax.Schedule,
    /,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    not_decayed: Sequence[str] = NOT_DECAYED,
) -> optax.GradientTransformation:
  """Gradient descent with momentum; weight decay is added to the gradient."""
  return optax.chain(
      _decay(weight_decay, not_decayed),
      optax.sgd(schedule, momentum=momentum or None),
  )


OPTIMIZERS = (lamb, adamw, adam, sgd)


def constant(steps: int, /, peak: float) -> optax.Schedule:
  """A constant learning rate."""
  del steps
  return optax.constant_schedule(peak)


def flat_then_cosine(
    steps: int, /, peak: float, flat: float = 0.5, end: float = 0.0
) -> optax.Schedule:
  """`peak` for a fraction `flat` of the steps, then half a cosine to `end`.

  Source: official ImageNet training.
  """
  flat_steps = int(flat * steps)
  decay = optax.cosine_decay_schedule(
      peak, max(steps - flat_steps, 1), alpha=end / peak if peak else 0.0
  )
  return optax.join_schedules(
      [optax.constant_schedule(peak), decay], [flat_steps]
  )


def warmup_cosine(
    steps: int, /, peak: float, warmup: int, end: float = 0.0
) -> optax.Schedule:
  """From 0 to `peak` in `warmup` steps, then half a cosine down to `end`.

  Source: Perceiver IO, Table 12.
  """
  if not 0 <= warmup < max(steps, 1):
    raise ValueError(f"{warmup} steps of warm-up in a run of {steps} steps")
  return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end)


def warmup_constant(steps: int, /, peak: float, warmup: int) -> optax.Schedule:
  """From 0 to `peak` in `warmup` steps, then the same rate.

  Source: Perceiver AR, appendix E.
  """
  if not 0 <= warmup < max(steps, 1):
    raise ValueError(f"{warmup} steps of warm-up in a run of {steps} steps")
  return optax.warmup_constant_schedule(0.0, peak, warmup)


def step_decay(
    steps: int,
    /,
    peak: float,
    boundaries: Sequence[float] = (0.5, 0.8, 0.95),
    factor: float = 0.1,
) -> optax.Schedule:
  """`peak`, multiplied by `factor` at some fractions of the steps.

  Source: official ImageNet training; Perceiver, appendix.
  """
  return optax.piecewise_constant_schedule(
      peak, {int(part * steps): factor for part in boundaries}
  )


SCHEDULES = (
    constant,
    flat_then_cosine,
    warmup_cosine,
    warmup_constant,
    step_decay,
)


def _decay(
    weight_decay: float, not_decayed: Sequence[str]
) -> optax.GradientTransformation:
  """Adds `weight_decay` × parameter, but where a pattern matches its path."""

  def mask(params):
    return {
        module: {
            name: not any(
                re.search(pattern, f"{module}/{name}")
                for pattern in not_decayed
            )
            for name in values
        }
        for module, values in params.items()
    }

  return optax.add_decayed_weights(weight_decay, mask)


def _scale_by_trust_ratio() -> optax.GradientTransformation:
  """Multiplies each tensor's update by the norm of its weights over its own.

  A row of a stack of layers is a tensor.
  """

  def scale(updates, params):
    def ratio(update, param):
      # Optax's norm, which has a gradient at 0, passes over an array twice.
      norm, own = jnp.linalg.norm(param), jnp.linalg.norm(update)
      is_zero = (norm == 0.0) | (own == 0.0)
      return jnp.where(is_zero, 1.0, norm / own)

    return jax.tree.map(lambda u, p: ratio(u, p) * u, updates, params)

  def update(updates, state, params=None):
    assert params is not None  # Optax calls this with parameters.
    scaled = {
        module: (jax.vmap(scale) if STACK in module.split("/") else scale)(
            values, params[module]
        )
        for module, values in updates.items()
    }
    return scaled, state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
