"""Builds everything from a config that needs no data."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import re
from typing import Any

import haiku as hk
import jax
from jax.sharding import Mesh
import optax

from experiments import task as task_lib
from experiments.engine import declared
from experiments.engine import optim
from experiments.engine import settings
from experiments.engine import sharding
from experiments.engine import state as state_lib
from experiments.engine import step as step_lib
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.locality import Grid
from experiments.engine.state import Model
from experiments.engine.state import TrainState
from perceiver import attend_by
from perceiver import attended_by
from perceiver import bounds
from perceiver import flops
from perceiver import ordered_by
from perceiver import orders
from perceiver.weights import tensors

MOST = 2**31 - 1  # What an array of the step, or an index of rows, can hold.
BOUNDS = {
    "batch_size": (1, MOST),
    "accumulate": (1, MOST),
    "train_examples": (1, 2**62),
    "seed": (0, 2**32 - 1),
    "num_workers": (0, 1024),
    "ema": (0, 1 - 1e-7),
}


def load(config: task_lib.Config) -> task_lib.Task:
  """The task that `config.task` names, built from the config.

  Raises:
    UserError: if there is no such task, the config does not fit it, or it is a
      model without training.
  """
  config = settings.complete(config)
  module = declared.module(config.task)
  if not hasattr(module, "task"):
    raise UserError(
        f"{module.__name__.replace('.', '/')}.py defines a model but no"
        " training"
    )
  with user_errors(f"the config of task {config.task!r}"):
    return module.task(config)


def fitted(config: task_lib.Config) -> tuple[task_lib.Config, list[str]]:
  """The complete config of a run, with values that depend on its data.

  Returns:
    it, and what a person should know of that.

  Raises:
    UserError, DataError, FileNotFoundError: if the data is not there, or does
      not fit the config.
  """
  config, notes = settings.complete(config), []
  module = declared.module(config.task)
  if hasattr(module, "fitted"):
    with user_errors("the data"):
      config = settings.complete(module.fitted(config, notes.append))
  _check_numbers(config)
  steps, warmup = number_of_steps(config), config.schedule.get("warmup", 0)
  if warmup >= steps:
    shorter = steps // 10
    notes.append(
        f"schedule.warmup is {shorter} steps instead of {warmup}: the run has"
        f" {steps}"
    )
    config = settings.changed(config, {"schedule.warmup": shorter})
  return config, notes


def load_network(config: task_lib.Config) -> task_lib.Network:
  """The model of the task that `config.task` names.

  Raises:
    UserError: if there is no such task, or the config does not fit it.
  """
  config = settings.complete(config)
  module = declared.module(config.task)
  with user_errors(f"the config of task {config.task!r}"):
    make = module.network if hasattr(module, "network") else module.task
    return make(config)


@dataclasses.dataclass(frozen=True)
class BuiltNetwork:
  """A model and the shapes of its arrays; it uses no memory."""

  config: task_lib.Config  # Complete.
  example: Mapping[str, jax.ShapeDtypeStruct]
  net: hk.TransformedWithState
  init: Callable[[], Model]  # Draws its parameters; for jit.
  like: Model  # Their shapes, and those of its state.

  def parameters(self) -> int:
    """Number of parameters."""
    return flops.count_parameters(self.like.params)

  def flops_by_part(
      self, products: str | None = "written", batch_size: int = 1
  ) -> Mapping[str, int]:
    """FLOPs of the forward pass of a batch: part -> FLOPs.

    Args:
      products: as of `perceiver.flops.count_flops`.
      batch_size: examples.
    """
    with attend_by("plain"):  # What an accelerator's kernel does, none sees.
      return flops.flops_by_part(
          self._forward,
          self.like,
          self.batch_like(batch_size),
          products=products,
      )

  def flops_per_example(self) -> int:
    """FLOPs of the forward pass of one example."""
    return sum(self.flops_by_part().values())

  def attention(
      self, batch_size: int, layout: sharding.Layout | None = None
  ) -> Mapping[str, str]:
    """Attention implementations: module -> implementation, N × M of a device.

    Args:
      batch_size: of all devices.
      layout: of the devices; None: those that JAX has, not laid out.
    """
    forward = self._forward
    if layout is not None:
      forward = step_lib.laid_out(forward, layout)
    with attended_by() as taken:
      jax.eval_shape(forward, self.like, self.batch_like(batch_size))
    return taken

  def orders(self) -> Mapping[str, tuple[orders.Sizes, orders.Order]]:
    """Orders of attention's products: module -> sizes, order."""
    with ordered_by() as found:
      jax.eval_shape(self._forward, self.like, self.batch_like(1))
    return found

  def batch_like(self, batch_size: int) -> Mapping[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch."""
    return {
        name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype)
        for name, x in self.example.items()
    }

  def _forward(self, model, batch):
    return self.net.apply(*model, jax.random.key(0), batch, False)


def build_network(config: task_lib.Config) -> BuiltNetwork:
  """Builds the model of a config; its task need not be trainable.

  Raises:
    UserError: if the config does not fit the model.
  """
  config = settings.complete(config)
  return _built(load_network(config), config)


def _built(network: task_lib.Network, config: task_lib.Config) -> BuiltNetwork:
  net = state_lib.make_net(
      network.forward,
      config.compute_dtype,
      config.attention,
      config.products,
      config.init.locality_bias,
      _grids(config),
  )
  init = functools.partial(
      state_lib.initial_model,
      net,
      network.example,
      config.seed,
      config.init.zeros,
  )
  with user_errors("the model"):
    like = jax.eval_shape(init)
  return BuiltNetwork(config, network.example, net, init, like)


def _grids(config: task_lib.Config) -> dict[str, Grid]:
  """Grids of latents; none for modalities without one in the config."""
  grids = {name: Grid(**grid) for name, grid in config.init.grids.items()}
  there = config.get("modalities", grids)
  return {name: grid for name, grid in grids.items() if name in there}


@dataclasses.dataclass(frozen=True)
class Built:
  """A task with its network, its optimizer, and the shardings of its arrays."""

  config: task_lib.Config
  task: task_lib.Task
  layout: sharding.Layout
  steps: int
  network: BuiltNetwork
  schedule: optax.Schedule
  optimizer: optax.GradientTransformation
  init: Callable[[], TrainState]
  like: TrainState  # Shapes and shardings of the state.

  @property
  def mesh(self) -> Mesh:
    """The devices."""
    return self.layout.mesh

  @property
  def net(self) -> hk.TransformedWithState:
    """The forward function as a pair (init, apply)."""
    return self.network.net

  def initial_state(self) -> TrainState:
    """The initial state, sharded."""
    return jax.jit(self.init, out_shardings=self.shardings())()

  def train_step(self):
    """The compiled step (state, global batch) -> (state, scalars).

    Raises:
      UserError: if the devices do not divide the batch.
    """
    check_division(self.config, *self.mesh.devices.shape)
    step = step_lib.make_train_step(
        self.net,
        self.task.loss,
        self.optimizer,
        seed=self.config.seed,
        accumulate=self.config.accumulate,
        skip_nonfinite=self.config.skip_nonfinite,
        frozen=self.config.init.frozen,
        ema=self.config.ema,
    )
    return step_lib.compile_train_step(step, self.shardings(), self.layout)

  def shardings(self) -> Any:
    """The sharding of each array of the state."""
    return jax.tree.map(lambda x: x.sharding, self.like)


def build(config: task_lib.Config, devices: sharding.Devices = None) -> Built:
  """Builds what the config describes, for these devices.

  Nothing is computed: whatever is wrong with the config shows here.

  Args:
    config: config of a task.
    devices: as of `sharding.make_mesh`.

  Raises:
    UserError: if the config does not fit the task, the model or the devices.
  """
  config = settings.complete(config)
  _check_numbers(config)
  task = load(config)
  with user_errors("the config"):
    splits = dict(config.mesh)
    mesh = sharding.make_mesh(devices, splits.pop("context"))
    fsdp_min_size = splits.pop("fsdp_min_size")
    layout = sharding.Layout(mesh, **splits)
  steps = number_of_steps(config)
  with user_errors("the config"):
    schedule = optim.make_schedule(config.schedule, steps)
    optimizer = optim.make_optimizer(
        config.optimizer, schedule, config.max_grad_norm
    )
  network = _built(task, config)
  init = functools.partial(
      state_lib.initial_state,
      network.net,
      optimizer,
      task.example,
      config.seed,
      config.init.frozen,
      config.ema > 0,
      config.init.zeros,
  )
  for name in ("frozen", "zeros"):
    _check_part(network.like.params, f"init.{name}", config.init[name])
  shapes = jax.eval_shape(init)
  return Built(
      config=config,
      task=task,
      layout=layout,
      steps=steps,
      network=network,
      schedule=schedule,
      optimizer=optimizer,
      init=init,
      like=sharding.with_shardings(shapes, mesh, fsdp_min_size),
  )


def _check_pattern(name: str, pattern: str) -> None:
  try:
    re.compile(pattern)
  except re.error as error:
    raise ValueError(
        f"{name} = {pattern!r} is not a regular expression: {error}"
    ) from error


def _check_part(params: Any, name: str, pattern: str) -> None:
  """Checks that a pattern, if any, matches some parameters, and not all.

  Raises:
    UserError: if not; it has the setting's name.
  """
  others, matching = state_lib.split(params, pattern)
  if pattern and not (others and matching):
    names = list(tensors.flatten(params, {}))
    raise UserError(
        f"config.{name} = {pattern!r} matches"
        f" {'all' if matching else 'none'} of the {len(names)} parameters,"
        f" such as {', '.join(names[:5])}"
    )


def check_division(
    config: task_lib.Config, groups: int, devices: int = 1
) -> None:
  """Checks that a training batch can be split among devices.

  Raises:
    UserError: if the groups, of so many devices each, and accumulation steps
      do not divide it.
  """
  batch_size, parts = config.batch_size, groups * config.accumulate
  if batch_size < 1 or parts < 1 or batch_size % parts:
    of = "devices" if devices == 1 else f"groups of {devices} devices"
    raise UserError(
        f"batch_size {batch_size} does not divide evenly among {groups} {of} ×"
        f" {config.accumulate} gradient accumulation steps"
    )


def _check_numbers(config: task_lib.Config) -> None:
  with user_errors("the config"):
    for name, (low, high) in BOUNDS.items():
      bounds.check(name, config[name], low, high)
    for name in ("reinitialize", "frozen", "zeros"):
      _check_pattern(f"init.{name}", config.init[name])


def number_of_steps(config: task_lib.Config) -> int:
  """Steps of a run.

  Raises:
    UserError: if there is none.
  """
  steps = config.train_examples // config.batch_size
  if steps < 1:
    raise UserError(
        f"train_examples {config.train_examples} is less than one batch of"
        f" {config.batch_size}"
    )
  if steps > MOST:
    raise UserError(
        f"train_examples {config.train_examples} are {steps} steps, more than"
        f" {MOST}"
    )
  return steps
