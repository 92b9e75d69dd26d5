"""Curves of finished runs."""

import json

import pytest

from experiments.engine.errors import UserError
from scripts import plot_runs
from tests.conftest import Command


@pytest.fixture
def run(tmp_path):
  lines = [{"step": 5, "loss": 3.0}, {"step": 5, "cost": 7.0}]
  lines += [{"step": 11, "loss": 2.0}]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "metrics.jsonl").write_text(text)
  return tmp_path


def test_a_curve_has_the_steps_at_which_it_was_measured(run):
  assert plot_runs.curve(run, "loss") == ([5, 11], [3.0, 2.0])
  assert plot_runs.curve(run, "cost") == ([5], [7.0])


def test_what_is_missing_is_named(run):
  with pytest.raises(UserError, match="no 'lose'; it has cost, loss, step"):
    plot_runs.curve(run, "lose")
  with pytest.raises(UserError, match="there is no .*none/metrics.jsonl"):
    plot_runs.curve(run / "none", "loss")


def write(folder, lines):
  folder.mkdir(parents=True, exist_ok=True)
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "metrics.jsonl").write_text(text)
  return folder


def test_each_panel_has_its_metrics_of_all_runs(run):
  other = write(run.with_name("other"), [{"step": 5, "loss": 4.0, "cost": 6.0}])
  figure = plot_runs.draw([run, other], [["loss", "cost"], ["cost"]])
  one, two = figure.axes
  assert len(one.lines) == 4 and len(two.lines) == 2
  assert list(one.lines[0].get_ydata()) == [3.0, 2.0]
  assert one.lines[1].get_label() == "other: loss"
  assert one.get_xlabel() == "training step"
  assert two.get_ylabel() == "cost"


def test_runs_that_differ_in_the_seed_are_a_line_with_a_band(tmp_path):
  name = "scenes/epe"
  runs = [
      write(
          tmp_path / folder,
          [{"step": 5, name: value}, {"step": 11, name: value + 1.0}],
      )
      for folder, value in (("a", 3.0), ("a-seed=1", 5.0), ("b-x=2", 7.0))
  ]
  figure = plot_runs.draw(runs, [[name]])
  (ax,) = figure.axes
  of_a, of_b = ax.lines
  assert list(of_a.get_ydata()) == [4.0, 5.0]
  assert of_a.get_label() == "a: 2 seeds" and of_b.get_label() == "b, x = 2"
  (band,) = ax.collections
  assert band.get_paths()[0].get_extents().intervaly.tolist() == [3.0, 6.0]
  assert ax.get_ylabel() == "end-point error (pixels)"
  assert ax.get_title() == "scenes"


def test_baselines_of_a_metric_are_lines(tmp_path):
  record = {"step": 5, "scenes/epe": 3.0, "scenes/epe_dis": 2.0}
  run = write(tmp_path / "a", [record | {"scenes/epe_zero": 4.0}])
  (ax,) = plot_runs.draw([run], [["scenes/epe"]]).axes
  flat = {line.get_label(): set(line.get_ydata()) for line in ax.lines[1:]}
  assert flat == {"DIS": {2.0}, "zero flow": {4.0}}
  (ax,) = plot_runs.draw([run], [["scenes/epe_dis"]]).axes
  assert len(ax.lines) == 1


def test_the_command_writes_a_picture(run, in_fork):
  file = run / "curve.png"
  args = [f"--runs={run}", "--metrics=loss,cost", "--metrics=cost"]
  code, _, err = Command("scripts.plot_runs", *args, f"--output={file}").wait()
  assert code == 0, err
  assert file.read_bytes().startswith(b"\x89PNG")
  code, _, err = in_fork("scripts.plot_runs", *args)
  assert code == 2 and "--output must have a value" in err
