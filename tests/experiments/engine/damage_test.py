"""A run goes on after any damage to its small files, or one line names one."""

import json
import pathlib
import shutil

import pytest

from experiments.engine import lock
from experiments.engine import settings
from experiments.engine.errors import UserError
from experiments.engine.workdir import FOLDERS
from experiments.train import train
from tests.conftest import recorded
from tests.experiments.engine.damage import KINDS

STEPS = 4


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
  """The config and the folder of a run with checkpoints of steps 2 and 4."""
  config = settings.load(
      "quickstart:mini",
      {
          "data_dir": data_dir,
          "train_examples": 16 * STEPS,
          "run.checkpoint_every": 2,
          "run.eval_every": 2,
      },
  )
  workdir = tmp_path_factory.mktemp("finished") / "run"
  train(config, workdir)
  return config, workdir


@pytest.fixture
def config(finished):
  return finished[0]


@pytest.fixture
def workdir(finished, tmp_path):
  """A copy of the run to damage."""
  return pathlib.Path(shutil.copytree(finished[1], tmp_path / "run"))


def learned(workdir):
  """Every recorded number but those about time."""
  return [
      {k: v for k, v in record.items() if not k.startswith("speed/")}
      for record in recorded(workdir)
  ]


def times(folder):
  """When each file was written."""
  return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_config_is_named_and_without_it_the_run_goes_on(
    config, workdir, kind, capsys
):
  file = workdir / "config.json"
  before = file.read_bytes()
  KINDS[kind](file)
  if kind != "missing":
    with pytest.raises(UserError) as raised:
      train(config, workdir)
    message = str(raised.value)
    assert str(file) in message and "\n" not in message
    file.rmdir() if kind == "a folder" else file.unlink()
  train(config, workdir)
  assert f"resumes after step {STEPS}" in capsys.readouterr().out
  assert file.read_bytes() == before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a folder"])
def test_damaged_lines_are_dropped_and_told(config, workdir, kind, capsys):
  files = [workdir / name for name in ("metrics.jsonl", "starts.jsonl")]
  for file in files:
    KINDS[kind](file)
  train(config, workdir)
  said = capsys.readouterr().out
  assert f"resumes after step {STEPS}" in said
  if kind not in ("empty", "missing"):
    assert all(f"{file}: dropped damaged lines: " in said for file in files)
  *before, last = files[1].read_text().splitlines()
  assert json.loads(last)["from_step"] == STEPS
  assert all(isinstance(json.loads(line), dict) for line in before)
  if files[0].exists():
    recorded(workdir)  # All that is left can be read.


def test_lines_around_a_damaged_one_stay(config, workdir, capsys):
  before = learned(workdir)
  file = workdir / "metrics.jsonl"
  lines = file.read_bytes().splitlines(keepends=True)
  lines[1] = lines[1][:30] + b"\xff" + lines[1][40:]
  file.write_bytes(b"".join(lines))
  train(config, workdir)
  assert f"{file}: dropped damaged lines: 2\n" in capsys.readouterr().out
  assert learned(workdir) == before[:1] + before[2:]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_where_a_folder_should_be_is_named(config, workdir, name):
  path = workdir / name
  shutil.rmtree(path, ignore_errors=True)
  path.write_text("")
  with pytest.raises(UserError, match=f"{path} is not a folder"):
    train(config, workdir)


@pytest.mark.parametrize("name", ["metrics.jsonl", "starts.jsonl"])
def test_a_folder_where_a_file_should_be_is_named(config, workdir, name):
  (workdir / name).unlink()
  (workdir / name).mkdir()
  with pytest.raises(UserError, match=f"{workdir / name} is not a file"):
    train(config, workdir)


def test_a_run_with_all_small_files_damaged_learns_the_same(
    config, workdir, capsys
):
  before = learned(workdir)
  newest = workdir / "checkpoints" / str(STEPS)
  for path in (newest / "metrics" / "metrics", newest / "about" / "metadata"):
    path.write_bytes(b"")
  (workdir / "config.json").unlink()
  with (workdir / "metrics.jsonl").open("a") as file:
    file.write('{"step": 5, "lo')
  shutil.rmtree(workdir / "figures")
  train(config, workdir)
  said = capsys.readouterr().out
  assert f"{newest} is damaged" in said
  assert f"resumes after step {STEPS - 2}" in said
  assert learned(workdir) == before


def test_all_checkpoints_with_damaged_metrics_are_named_and_none_is_moved(
    config, workdir
):
  for step in (2, 4):
    path = workdir / "checkpoints" / str(step) / "metrics" / "metrics"
    path.write_bytes(b"")
  with pytest.raises(UserError) as raised:
    train(config, workdir)
  assert "2/metrics/metrics" in str(raised.value)
  assert "4/metrics/metrics" in str(raised.value)
  assert (workdir / "checkpoints" / "4").is_dir()


def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(
    config, workdir
):
  with lock.locked(workdir):
    before = times(workdir)
    with pytest.raises(UserError, match=f"{workdir} is in use by process"):
      train(config, workdir)
    assert times(workdir) == before
  train(config, workdir)
