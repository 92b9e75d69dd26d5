"""An evaluation is the same on any number of devices and processes."""

import json
import socket

import numpy as np
import pytest

from tests.conftest import Command
from tests.conftest import json_lines
from tests.experiments.audioset_test import data_dir as audioset  # noqa: F401
from tests.experiments.glue_test import data_dir as glue  # noqa: F401
from tests.experiments.imagenet_test import pictures as imagenet  # noqa: F401
from tests.experiments.kinetics_test import data_dir as kinetics  # noqa: F401
from tests.experiments.mlm_test import data_dir as mlm  # noqa: F401
from tests.experiments.modelnet40_test import data_dir as modelnet40  # noqa: F401
from tests.experiments.starcraft_test import data_dir as starcraft  # noqa: F401

PICTURES = {
    "train": {"name": "imagenet2012", "split": "train"},
    "sets": {"test": {"name": "imagenet2012", "split": "validation"}},
    "num_classes": 11,
}
CLIPS = {
    name: {
        "train": {"name": name, "split": train},
        "sets": {"test": {"name": name, "split": test}},
        "eval_batch_size": 3,
    }
    for name, train, test in (
        ("audioset", "unbalanced_train_segments", "eval_segments"),
        ("kinetics", "train", "validate"),
    )
}
CORPORA = {"corpora": {"c4": 0.7, "wikipedia": 0.3}}

# Configs, and what of them is changed for the small data of the tests. Few
# devices divide the batches.
TINY = {
    "flow:tiny": {},  # Pairs that belong together.
    "imagenet:tiny": {},
}
MINI = {
    "audioset:mini_mel_audio": {**CLIPS["audioset"], "num_classes": 11},
    "flow:mini": {"eval_batch_size": 3, "eval_pairs": 5},
    "glue:mini_bytes_cola": {},
    "imagenet:mini_conv": {**PICTURES, "eval_batch_size": 5},
    "kinetics:mini_32": {**CLIPS["kinetics"], "num_classes": 7},
    "mlm:mini_bytes": {**CORPORA, "batch_size": 5, "eval_examples": 7},
    "modelnet40:mini": {"batch_size": 5},
    "quickstart:mini": {"batch_size": 150, "schedule.warmup": 0},
    "starcraft:mini_perceiver_io": {"batch_size": 3},
}


def start(config, changes, *arguments: str, devices: int) -> Command:
  """The evaluation in a process of its own."""
  return Command(
      "tests.evaluate_on_meshes",
      f"--config={config}",
      f"--changes={json.dumps(changes)}",
      *arguments,
      devices=devices,
  )


def in_two_processes(config, changes, *arguments: str):
  """What each found."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"--address=localhost:{free.getsockname()[1]}"
  processes = [
      start(config, changes, address, f"--process={i}/2", *arguments, devices=2)
      for i in range(2)
  ]
  return [line for process in processes for line in json_lines(process)]


def check(found, count: int) -> None:
  assert len(found) == count
  for metrics in found[1:]:
    assert metrics.keys() == found[0].keys()
    for name, value in metrics.items():
      np.testing.assert_allclose(
          value, found[0][name], rtol=2e-5, atol=1e-5, err_msg=name
      )


def changed(request, config, changes):
  """The changes, with the folder of the data."""
  task = config.partition(":")[0]
  if task == "flow":
    return changes
  name = "data_dir" if task == "quickstart" else task
  return {**changes, "data_dir": str(request.getfixturevalue(name))}


@pytest.mark.parametrize("config", TINY)
def test_a_tiny_evaluation_is_the_same_on_any_devices(request, config):
  changes = changed(request, config, TINY[config])
  meshes = ("1x1", "2x1", "3x1", "4x1", "4x2")
  check(json_lines(start(config, changes, *meshes, devices=8)), len(meshes))


@pytest.mark.slow
@pytest.mark.parametrize("config", MINI)
def test_an_evaluation_is_the_same_on_any_devices(request, config):
  changes = changed(request, config, MINI[config])
  meshes = ("1x1", "2x1", "3x1", "4x1", "8x1", "4x2")
  found = json_lines(start(config, changes, *meshes, devices=8))
  found += in_two_processes(config, changes, "4x1")
  check(found, len(meshes) + 2)
