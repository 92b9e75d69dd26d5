"""The state of a training run, and its network."""

from collections.abc import Callable
from collections.abc import Mapping
import re
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from experiments.engine.choose import without_is_training
from experiments.engine.locality import Grid
from experiments.engine.locality import locality_biased
from perceiver import attend_by
from perceiver import compute_in
from perceiver import products_in


class Model(NamedTuple):
  """Parameters and state for evaluation."""

  params: Any
  net_state: Any


class TrainState(NamedTuple):
  """The state of a training run at a step."""

  step: jax.Array  # Steps done.
  model: Model
  opt_state: optax.OptState
  skipped: jax.Array  # Updates left out because they were not finite.
  ema: Any = None  # The parameters' moving average, if there is one.

  def averaged(self) -> Model | None:
    """The model with averaged parameters; None if there is no average."""
    if self.ema is None:
      return None
    return Model(self.ema, self.model.net_state)


def make_net(
    forward: Callable[..., Any],
    compute_dtype: str,
    attention: str = "auto",
    products: str = "cheapest",
    locality_bias: float = 0.0,
    grids: Mapping[str, Grid] | None = None,
) -> hk.TransformedWithState:
  """A task's forward function as a pair (init, apply).

  It is called with `is_training` if it takes that.
  """

  forward = without_is_training(forward)

  def apply(batch, is_training):
    with (
        compute_in(compute_dtype),
        attend_by(attention),
        products_in(products),
        locality_biased(locality_bias, grids),
    ):
      return forward(batch, is_training=is_training)

  return hk.transform_with_state(apply)


def initial_model(
    net: hk.TransformedWithState,
    example: Mapping[str, jax.ShapeDtypeStruct],
    seed: int,
    zeros: str = "",
) -> Model:
  """An initial model; call it under jit or `jax.eval_shape`.

  Args:
    net: the network.
    example: shapes and dtypes of an example.
    seed: seed of the parameters.
    zeros: a regular expression as of `split`, of parameters that are 0 at the
      start.
  """
  batch = {
      name: jnp.zeros((1, *x.shape), x.dtype) for name, x in example.items()
  }
  # Batch norm has no state unless it is made in training mode.
  model = Model(*net.init(jax.random.key(seed), batch, True))
  others, zeroed = split(model.params, zeros)
  zeroed = optax.tree.zeros_like(zeroed)
  return model._replace(params=hk.data_structures.merge(others, zeroed))


def initial_state(
    net: hk.TransformedWithState,
    optimizer: optax.GradientTransformation,
    example: Mapping[str, jax.ShapeDtypeStruct],
    seed: int,
    frozen: str = "",
    has_ema: bool = False,
    zeros: str = "",
) -> TrainState:
  """An initial state; call it under jit or `jax.eval_shape`.

  Args:
    net: the network.
    optimizer: update rule.
    example: shapes and dtypes of an example.
    seed: seed of the parameters.
    frozen: as of `split`; the optimizer keeps nothing of frozen parameters.
    has_ema: whether the parameters are averaged. The first update makes the
      average, so it begins with zeros.
    zeros: as of `initial_model`.
  """
  model = initial_model(net, example, seed, zeros)
  return TrainState(
      step=jnp.zeros([], jnp.int32),
      model=model,
      opt_state=optimizer.init(split(model.params, frozen)[0]),
      skipped=jnp.zeros([], jnp.int32),
      ema=optax.tree.zeros_like(model.params) if has_ema else None,
  )


def split(params: Any, pattern: str) -> tuple[Any, Any]:
  """Parameters that do not match a pattern, and those that do.

  Args:
    params: {module: {name: array}}.
    pattern: a regular expression that is looked for in each module/name; empty:
      none matches.
  """
  matching, others = hk.data_structures.partition(
      lambda module, name, _: bool(
          pattern and re.search(pattern, f"{module}/{name}")
      ),
      params,
  )
  return others, matching
