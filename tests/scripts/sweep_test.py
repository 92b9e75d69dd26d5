"""Sweeps over settings and seeds, from the command line to the table."""

import io
import json
import math

import pytest
import rich.console

from experiments.engine import settings
from experiments.engine.errors import UserError
from scripts import sweep


def test_a_grid_is_read_from_the_command_line():
  text = (
      "seed=0,1; schedule.peak=1e-3,3e-3;image_size=(8, 8),[4,4];"
      'config.init.reinitialize=,"a,b;c";'
      'schedule={"name": "constant", "peak": 1}'
  )
  assert sweep.parsed(text) == {
      "seed": ["0", "1"],
      "schedule.peak": ["1e-3", "3e-3"],
      "image_size": ["(8, 8)", "[4,4]"],
      "init.reinitialize": ["", '"a,b;c"'],
      "schedule": ['{"name": "constant", "peak": 1}'],
  }


@pytest.mark.parametrize("text", ["seed", "=1", "seed=1;seed=2", ";"])
def test_a_grid_that_is_none_is_refused(text):
  with pytest.raises(UserError, match="--sweep"):
    sweep.parsed(text)


def test_each_value_is_tried_with_each_and_has_its_type():
  config = settings.load("quickstart:mini")
  made = list(
      sweep.combinations(config, "seed=0,1;model.encoder.num_latents=4,8")
  )
  assert [changes for changes, _ in made] == [
      {"seed": seed, "model.encoder.num_latents": count}
      for seed in (0, 1)
      for count in (4, 8)
  ]
  _, last = made[-1]
  assert last.seed == 1 and last.model.encoder.num_latents == 8
  assert [sweep.folder_name(changes) for changes, _ in made[:2]] == [
      "seed=0-num_latents=4",
      "seed=0-num_latents=8",
  ]


def test_a_value_that_cannot_be_set_is_noticed_before_the_first_run():
  config = settings.load("quickstart:mini")
  with pytest.raises(UserError, match="seed = 'a': a whole number"):
    list(sweep.combinations(config, "seed=0,a"))
  with pytest.raises(UserError, match="did you mean 'seed'"):
    list(sweep.combinations(config, "sead=0,1"))


def row(score, **changes):
  return {
      "changes": changes,
      "step": 5,
      "metric": "test/top1",
      "score": score,
      "is_cost": False,
      "metrics": {},
  }


def test_seeds_become_a_mean_with_its_standard_error():
  rows = [row(score, seed=i, peak=1e-3) for i, score in enumerate((90, 92, 97))]
  rows += [row(94, seed=0, peak=3e-3)]
  groups = sweep.by_seed(rows)
  assert [len(group) for group in groups] == [3, 1]
  mean, error = sweep.mean_of(groups[0])
  assert mean == 93
  assert error == pytest.approx(math.sqrt((9 + 1 + 16) / 2 / 3))
  assert math.isnan(sweep.mean_of(groups[1])[1])
  assert sweep.best_group(groups) is groups[1]
  stream = io.StringIO()
  console = rich.console.Console(file=stream, width=120)
  console.print(sweep.table({"mini": rows}))
  lines = [
      [cell.strip() for cell in line.split("│")[1:-1]]
      for line in stream.getvalue().splitlines()
  ]
  assert ["mini", "peak=0.001", "test/top1", "3", "93", "2.1", ""] in lines
  assert ["mini", "peak=0.003", "test/top1", "1", "94", "–", "best"] in lines


@pytest.mark.slow
def test_a_sweep_over_seeds_of_any_task_runs(data_dir, in_fork, tmp_path):
  args = (
      "--config=configs/quickstart.py:mini",
      f"--data_dir={data_dir}",
      "--sweep=seed=0,1;schedule.peak=1e-3,3e-3",
      f"--workdir={tmp_path}",
  )
  for _ in range(2):  # The second time all of it is done.
    code, out, err = in_fork("scripts.sweep", *args)
    assert code == 0, err
  rows = json.loads((tmp_path / "sweep.json").read_text())["mini"]
  assert [row["changes"]["seed"] for row in rows] == [0, 0, 1, 1]
  assert out.count("test/top1") == 2 and "standard error" in out
