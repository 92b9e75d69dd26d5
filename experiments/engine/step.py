"""One step of training, and the forward pass of evaluation."""

from collections.abc import Callable
from collections.abc import Mapping
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from experiments.engine import compiler_options
from experiments.engine import sharding
from experiments.engine.state import Model
from experiments.engine.state import split
from experiments.engine.state import TrainState
from perceiver import compiled_for
from perceiver import laid_out_by

Loss = Callable[[Any, Mapping[str, Any]], tuple[jax.Array, Mapping[str, Any]]]


def make_train_step(
    net: hk.TransformedWithState,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
    frozen: str = "",
    ema: float = 0.0,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
  """A function (state, global batch) -> (state, scalars), to be compiled.

  Args:
    net: the network.
    loss: (outputs, batch) -> (mean over examples, other scalars).
    optimizer: update rule.
    seed: of the random numbers of training; those of a step depend on the seed
      and the step alone.
    accumulate: gradient accumulation steps of a batch.
    skip_nonfinite: leave out an update that is not finite.
    frozen: as of `state.split`; gradients are those of what is trained.
    ema: decay of the average of the parameters, of a state that has one.

  Returns:
    the step. Its scalars are "loss", those of the task, "grad_norm" (before
    clipping) and "skipped" (updates left out so far).
  """

  def gradients(model: Model, batch, rng):
    trained, fixed = split(model.params, frozen)

    def objective(trained):
      params = hk.data_structures.merge(trained, fixed)
      outputs, net_state = net.apply(params, model.net_state, rng, batch, True)
      value, scalars = loss(outputs, batch)
      return value, (net_state, {"loss": value, **scalars})

    grads, aux = jax.grad(objective, has_aux=True)(trained)
    return grads, *aux

  def accumulated(model: Model, batch, rng):
    # Row i goes to part i % accumulate, so that every part is spread over the
    # devices just as the batch is.
    parts = jax.tree.map(
        lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def one(net_state, i_and_part):
      i, part = i_and_part
      grads, net_state, scalars = gradients(
          model._replace(net_state=net_state), part, jax.random.fold_in(rng, i)
      )
      return net_state, (grads, scalars)

    def add(carry, i_and_part):
      net_state, total = carry
      net_state, new = one(net_state, i_and_part)
      return (net_state, jax.tree.map(jnp.add, total, new)), None

    numbered = (jnp.arange(accumulate), parts)
    shapes = jax.eval_shape(
        one, model.net_state, jax.tree.map(lambda x: x[0], numbered)
    )[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (net_state, total), _ = jax.lax.scan(
        add, (model.net_state, zeros), numbered
    )
    grads, scalars = jax.tree.map(lambda x: x / accumulate, total)
    return grads, net_state, scalars

  def train_step(state: TrainState, batch):
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    compute = gradients if accumulate == 1 else accumulated
    grads, net_state, scalars = compute(state.model, batch, rng)
    grad_norm = optax.tree.norm(grads)
    trained, fixed = split(state.model.params, frozen)
    updates, opt_state = optimizer.update(grads, state.opt_state, trained)
    new: Any = optax.apply_updates(trained, updates)
    params = hk.data_structures.merge(new, fixed)
    model, skipped = Model(params, net_state), state.skipped
    if skip_nonfinite:
      finite = jnp.isfinite(scalars["loss"]) & jnp.isfinite(grad_norm)
      model, opt_state = jax.tree.map(
          lambda new, old: jnp.where(finite, new, old),
          (model, opt_state),
          (state.model, state.opt_state),
      )
      skipped = skipped + ~finite
    average = state.ema
    if average is not None:
      done = state.step + 1 - skipped
      rate = jnp.where(skipped > state.skipped, 0.0, averaging_rate(done, ema))
      rate = jnp.where(done == 0, 1.0, rate)  # None was finite so far.
      average = optax.incremental_update(model.params, average, rate)
    state = TrainState(state.step + 1, model, opt_state, skipped, average)
    return state, scalars | {"grad_norm": grad_norm, "skipped": skipped}

  return train_step


def averaging_rate(updates: jax.Array, decay: float) -> jax.Array:
  """The weight of the newest parameters in their average.

  Parameters of k updates ago have the weight decay ** k, over the sum of all
  weights: the average begins with the parameters after the first update, and
  never has any of those before it. Optax's `ema(decay, debias=True)` is the
  same, but keeps what is to be divided and not the average.

  Args:
    updates: done so far, the newest included; from 1 on.
    decay: from 0 to less than 1.
  """
  sum_of_weights = -jnp.expm1(updates * math.log(decay)) / (1.0 - decay)
  return jnp.minimum(1.0 / sum_of_weights, 1.0)


def compile_train_step(
    train_step, shardings: TrainState, layout: sharding.Layout
):
  """The step under jit; it overwrites the state that it is given."""
  return jax.jit(
      laid_out(train_step, layout),
      donate_argnums=0,
      out_shardings=(shardings, sharding.copied(layout.mesh)),
      compiler_options=compiler_options.options(layout.target) or None,
  )


def compile_eval_step(
    net: hk.TransformedWithState,
    measure: Callable[[Any, Mapping[str, Any]], Any],
    layout: sharding.Layout,
):
  """(model, global batch) -> measurements, replicated on every device."""

  def eval_step(model: Model, batch):
    rng = jax.random.key(0)  # Some networks ask for one even here.
    outputs, _ = net.apply(model.params, model.net_state, rng, batch, False)
    return measure(outputs, batch)

  return jax.jit(
      laid_out(eval_step, layout),
      out_shardings=sharding.copied(layout.mesh),
      compiler_options=compiler_options.options(layout.target) or None,
  )


def laid_out(function: Callable[..., Any], layout: sharding.Layout):
  """The function as it is on the layout's devices."""

  def on_devices(*args):
    with (
        compiled_for(layout.target),
        laid_out_by(layout if layout.mesh.size > 1 else None),
    ):
      return function(*args)

  return on_devices
