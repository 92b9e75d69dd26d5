"""Every config and every variant builds, at full size, without data."""

import importlib
import pathlib
import re

import pytest

from experiments.build import build

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
  built = build(config)
  assert built.parameters() == PARAMETERS[variant]
  assert config.best.split("/")[0] in built.task.evals


def test_configs_name_a_change_that_is_not_there():
  config = importlib.import_module("configs.quickstart").get_config().lock()
  with pytest.raises(KeyError):
    config.update_from_flattened_dict({"model.encoder.num_latent": 3})
