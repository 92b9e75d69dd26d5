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


def test_each_panel_has_its_metrics_of_all_runs(run):
  figure = plot_runs.draw([run, run], [["loss", "cost"], ["cost"]])
  one, two = figure.axes
  assert len(one.lines) == 4 and len(two.lines) == 2
  assert list(one.lines[0].get_ydata()) == [3.0, 2.0]
  assert one.lines[1].get_label() == f"{run.name}: cost"


def test_the_command_writes_a_picture(run, in_fork):
  file = run / "curve.png"
  args = [f"--runs={run}", "--metrics=loss,cost", "--metrics=cost"]
  code, _, err = Command("scripts.plot_runs", *args, f"--output={file}").wait()
  assert code == 0, err
  assert file.read_bytes().startswith(b"\x89PNG")
  code, _, err = in_fork("scripts.plot_runs", *args)
  assert code == 2 and "--output must have a value" in err
