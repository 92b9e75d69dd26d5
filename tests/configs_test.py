"""Every config and every variant builds, at full size, without data."""

import importlib
import math
import pathlib
import re

import jax
import pytest

from experiments import task as task_lib
from experiments.train import number_of_steps
from experiments.training import optim
from experiments.training import state as state_lib

FOLDER = pathlib.Path(__file__).parent.parent / "configs"
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem not in ("__init__", "base", "tables")
)
PARAMETERS = {"quickstart:full": 360_547, "quickstart:mini": 15_187}


def variants():
  """NAME:VARIANT of every config; the error of a wrong variant lists them."""
  for name in NAMES:
    get_config = importlib.import_module(f"configs.{name}").get_config
    try:
      get_config("no such variant")
    except ValueError as error:
      listed = str(error).split("one of")[1]
      yield from (
          f"{name}:{variant}" for variant in re.findall(r"'(\w+)'", listed)
      )


@pytest.mark.parametrize("variant", list(variants()))
def test_it_builds_with_the_parameters_that_are_written_down(variant):
  name, which = variant.split(":")
  config = importlib.import_module(f"configs.{name}").get_config(which)
  task = task_lib.load(config)
  steps = number_of_steps(config, devices=1)
  schedule = optim.make_schedule(config.schedule, steps)
  optimizer = optim.make_optimizer(
      config.optimizer, schedule, config.max_grad_norm
  )
  net = state_lib.make_net(task.forward, config.compute_dtype)
  state = jax.eval_shape(
      lambda: state_lib.initial_state(net, optimizer, task.example, 0)
  )
  params = jax.tree.leaves(state.model.params)
  assert sum(math.prod(p.shape) for p in params) == PARAMETERS[variant]
  assert config.best.split("/")[0] in task.evals


def test_configs_name_a_change_that_is_not_there():
  config = importlib.import_module("configs.quickstart").get_config().lock()
  with pytest.raises(KeyError):
    config.update_from_flattened_dict({"model.encoder.num_latent": 3})
