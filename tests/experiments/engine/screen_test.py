"""What a person sees of a run, in a file and on a terminal."""

import os
import pty
import re
import subprocess
import sys

import pytest

from experiments.data import pipeline
from experiments.engine.screen import Screen
from experiments.engine.screen import table
from tests.conftest import ENVIRONMENT
from tests.conftest import ROOT

SHORT = (
    "--config.train_examples=48",
    "--config.batch_size=16",
    "--config.schedule.warmup=1",
    "--config.run.log_every=1",
    "--config.run.eval_every=2",
)


def on_a_terminal(*args):
  """(exit code, what a command shows) on a pseudo-terminal."""
  ours, theirs = pty.openpty()
  process = subprocess.Popen(
      [sys.executable, "-m", *args],
      cwd=ROOT,
      env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "200"},
      stdin=subprocess.DEVNULL,
      stdout=theirs,
      stderr=theirs,
  )
  os.close(theirs)
  shown = b""
  try:
    while True:
      try:
        part = os.read(ours, 65536)
      except OSError:  # Nobody has the other side any more.
        break
      if not part:
        break
      shown += part
    return process.wait(60), shown.decode()
  finally:
    process.kill()
    os.close(ours)


@pytest.fixture(scope="module")
def written(training, in_fork, tmp_path_factory):
  """(folder, standard output) of a short run that is not on a terminal."""
  folder = tmp_path_factory.mktemp("run") / "new"
  code, out, err = in_fork(*training(folder, *SHORT))
  assert code == 0, err
  return folder, out


def test_a_run_says_what_it_waits_for_and_where_its_results_are(written):
  folder, out = written
  lines = out.splitlines()
  order = [
      "compiling the step: the first time",
      "step 1/3  loss",
      "step 2/3  loss",
      "compiling the evaluation 'test', 63 batches: the first time",
      "step 2:",
      "step 3/3  loss",
      "step 3:",
      f"done: results in {folder}, figures in {folder}/figures;"
      f" `tensorboard --logdir {folder}` shows them",
  ]
  found = [
      next(i for i, line in enumerate(lines) if line.startswith(start))
      for start in order
  ]
  assert found == sorted(found) and found[-1] == len(lines) - 1
  # What is compiled once is told once, and nothing is drawn over itself.
  assert out.count("compiling the evaluation") == 1
  assert "\x1b" not in out and "\r" not in out


def test_an_evaluation_is_a_table_with_the_best_metric_first(written):
  lines = written[1].splitlines()
  head, first, *others = lines[lines.index("step 2:") + 1 :][:3]
  assert head.split() == ["test"]
  assert re.fullmatch(r"top1 +[\d.]+\*", first)
  assert re.fullmatch(r"loss +[\d.]+", others[0])


def test_on_a_terminal_there_are_bars_with_the_time_left(training, tmp_path):
  code, shown = on_a_terminal(*training(tmp_path / "new", *SHORT))
  assert code == 0, shown
  text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
  for part in (
      "compiling the step",
      "evaluating test",
      "compiling the evaluation 'test', 63 batches",
      "done: results in",
  ):
    assert part in text
  assert re.search(r"step +\d/3 ", text)
  assert re.search(r"evaluating test +\d+/63 ", text)
  assert re.search(r"\d:\d\d:\d\d", text)  # The time that is left.
  assert "step 1/3  loss" not in text  # The bar has it.


def test_the_command_of_evaluation_prints_a_table(written, data_dir, in_fork):
  code, out, err = in_fork(
      "experiments.evaluate",
      "--config=configs/quickstart.py:mini",
      f"--workdir={written[0]}",
      f"--config.data_dir={data_dir}",
      f"--json={written[0] / 'evaluated.json'}",
  )
  assert code == 0, err
  first, step, head, best, _ = out.splitlines()
  assert first.startswith("compiling the evaluation 'test'")
  assert step == "step 3:" and head.split() == ["test"]
  assert best.startswith("top1") and best.endswith("*")
  assert '"test/top1": ' in (written[0] / "evaluated.json").read_text()


def test_a_table_has_a_line_for_each_metric_and_a_column_for_each_eval():
  metrics = {
      "a/loss": 0.5,
      "a/map": 12.3456,
      "longer/loss": 1e-5,
      "longer/map": 2.0,
      "longer/more": 7.0,
      "lonely": 1.0,
  }
  assert table(metrics, "longer/map").splitlines() == [
      "        longer      a",
      "map         2*  12.35",
      "loss     1e-05    0.5",
      "more         7",
      "lonely                 1",
  ]
  assert table({}) == ""


def test_without_a_terminal_a_long_evaluation_says_how_far_it_is(
    capsys, monkeypatch
):
  times = iter([0.0, 10.0, 31.0, 31.0, 40.0, 50.0])
  monkeypatch.setattr("time.monotonic", lambda: next(times))
  with Screen() as screen:
    assert list(screen.tracked("evaluating a", iter("xyz"), 3)) == [*"xyz"]
  assert capsys.readouterr().out == "evaluating a 2/3\n"


def test_of_several_processes_one_speaks(capsys):
  with Screen(is_active=False) as screen:
    screen.line("a line")
    assert list(screen.tracked("evaluating", [1, 2], None)) == [1, 2]
  assert not capsys.readouterr().out


@pytest.mark.parametrize(("batch_size", "count"), [(5, 3), (13, 1), (100, 1)])
def test_batches_of_an_evaluation_are_counted(batch_size, count):
  examples = [{"i": i} for i in range(13)]
  data = pipeline.evaluation(
      examples, [], batch_size=batch_size, shard=pipeline.Shard()
  )
  assert pipeline.number_of_batches(data) == len(list(data)) == count
  assert pipeline.number_of_batches([1, 2]) == 2
  assert pipeline.number_of_batches(iter([1])) is None
