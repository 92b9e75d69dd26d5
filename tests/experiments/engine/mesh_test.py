"""A step of training is the same wherever its arrays live."""

import json
import pathlib
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import Command
from tests.conftest import json_lines
from tests.conftest import on_devices
from tests.conftest import ROOT

# Three of the smallest models, and of each task one that trains in minutes.
TINY = ("autoregression:tiny", "imagenet:tiny", "kinetics:tiny")
MINI = (
    "audioset:mini_mel_audio",
    "flow:mini",
    "glue:mini_bytes_cola",
    "imagenet:mini_conv",
    "kinetics:mini_32",
    "mlm:mini_bytes",
    "modelnet40:mini",
    "quickstart:mini",
    "starcraft:mini_perceiver_io",
)


def start(folder: pathlib.Path, *arguments: str, devices: int) -> Command:
  """The step in a process of its own."""
  reference = f"--reference={folder}"
  return Command("tests.step_on_meshes", reference, *arguments, devices=devices)


def check(found, count: int) -> None:
  assert len(found) == count
  for line in found:
    assert np.isfinite(line["loss"]) and line["loss"] != 0, line
    assert line["of_loss"] < 2e-6, line
    assert line["of_update"] < 2e-5, line


@pytest.mark.slow
def test_a_tiny_step_is_the_same_on_any_mesh(tmp_path):
  process = start(tmp_path, "--fast", *TINY, "1x1", "4x2", devices=8)
  check(json_lines(process), 2 * len(TINY))


@pytest.mark.slow
@pytest.mark.parametrize("config", MINI)
def test_a_step_is_the_same_on_any_mesh(tmp_path, config):
  meshes = ("1x1", "2x1", "4x1", "8x1", "1x2", "4x2", "2x4", "1x8")
  process = start(tmp_path, "--fast", config, *meshes, devices=8)
  check(json_lines(process), len(meshes))


def in_processes(folder, count: int, *arguments: str):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"--address=localhost:{free.getsockname()[1]}"
  processes = [
      start(folder, address, f"--process={i}/{count}", *arguments, devices=2)
      for i in range(count)
  ]
  for process in processes:
    yield json_lines(process)


def test_a_step_is_the_same_where_processes_share_examples(tmp_path):
  json_lines(start(tmp_path, "--fast", "imagenet:tiny", "1x1", devices=1))
  for found in in_processes(tmp_path, 2, "--fast", "imagenet:tiny", "2x2"):
    check(found, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "meshes"), [(2, ("4x1", "1x4")), (4, ("8x1", "2x4"))]
)
@pytest.mark.parametrize("config", MINI)
def test_a_step_is_the_same_in_processes(tmp_path, config, count, meshes):
  json_lines(start(tmp_path, "--fast", config, "1x1", devices=1))
  for found in in_processes(tmp_path, count, "--fast", config, *meshes):
    check(found, len(meshes))


@pytest.mark.slow
def test_the_published_model_sends_what_it_must(tmp_path):
  """Parameters are gathered for both passes, gradients summed once."""
  found = {}
  for devices in (1, 8):
    path = tmp_path / f"{devices}.json"
    subprocess.run(
        [
            sys.executable,
            *("-m", "scripts.benchmark", "--memory", f"--devices={devices}"),
            *("--config=configs/mlm.py:bytes", "--config.batch_size=8"),
            f"--json={path}",
        ],
        cwd=ROOT,
        env=on_devices(devices),
        check=True,
        timeout=600,
    )
    found[devices] = json.loads(path.read_text())
  one, eight = found[1], found[8]
  params = 4 * 201_108_230
  sent = {k: n for k, n in eight.items() if re.match("step_(all|coll|red)", k)}
  assert 0.95 * params <= sent.pop("step_all_gather_bytes") <= 2.05 * params
  assert 0.95 * params <= sent.pop("step_all_reduce_bytes") <= 1.1 * params
  assert sum(sent.values()) < 0.01 * params
  assert not any("all_" in name for name in one)
  # Parameters, two moments of each, and the batch; then what the step adds.
  share = eight["step_argument_bytes"] / one["step_argument_bytes"]
  assert share == pytest.approx(1 / 8, rel=0.05)
  assert eight["step_temporary_bytes"] < one["step_temporary_bytes"] / 4
