"""Runs that are killed, stopped, starved and damaged, and go on."""

import os
import pathlib
import random
import resource
import signal
import sys
import time

import pytest

from tests.conftest import recorded
from tests.conftest import ROOT
from tests.conftest import wait_for_step
from tools.attempts import checkpoints
from tools.attempts import last_step

STEPS = 60
RUN = (
    f"--config.train_examples={16 * STEPS}",
    "--config.run.eval_every=20",
)


def learned(workdir: pathlib.Path) -> list[dict[str, float]]:
  """Every recorded number but those about time."""
  return [
      {k: v for k, v in record.items() if not k.startswith("speed/")}
      for record in recorded(workdir)
  ]


@pytest.fixture(scope="module")
def uninterrupted(in_fork, training, tmp_path_factory):
  """What a run that nothing happens to has learned."""
  workdir = tmp_path_factory.mktemp("uninterrupted")
  code, _, err = in_fork(*training(workdir, *RUN))
  assert code == 0, err
  return learned(workdir)


def test_killed_it_learns_the_same_bit_for_bit(
    train, in_fork, training, uninterrupted, tmp_path
):
  workdir = tmp_path / "run"
  command = train(workdir, *RUN)
  wait_for_step(command, workdir, 35)
  command.process.send_signal(signal.SIGKILL)
  command.wait()
  resumed_at = checkpoints(workdir)[-1]
  assert last_step(workdir) - resumed_at <= 2 * 3  # checkpoint_every is 3.
  code, out, err = in_fork(*training(workdir, *RUN))
  assert code == 0, err
  assert f"resumes after step {resumed_at}" in out
  assert learned(workdir) == uninterrupted


@pytest.mark.slow
def test_sigterm_saves_and_a_damaged_checkpoint_is_passed_over(
    train, in_fork, training, uninterrupted, tmp_path
):
  workdir = tmp_path / "run"
  command = train(workdir, *RUN)
  wait_for_step(command, workdir, 20)
  command.process.send_signal(signal.SIGTERM)
  code, out, err = command.wait()
  assert code == 0, err
  stopped_at = last_step(workdir)
  assert f"stopped by SIGTERM after step {stopped_at}" in out
  before, newest = checkpoints(workdir)[-2:]
  assert newest == stopped_at < STEPS
  data = workdir / "checkpoints" / str(newest) / "model" / "d"
  largest = max(data.iterdir(), key=lambda path: path.stat().st_size)
  os.truncate(largest, largest.stat().st_size // 2)
  code, out, err = in_fork(*training(workdir, *RUN))
  assert code == 0, err
  assert f"{newest} is damaged" in out
  assert f"resumes after step {before}" in out
  assert (workdir / "checkpoints" / f"damaged-{newest}").is_dir()
  assert learned(workdir) == uninterrupted


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_and_spares_earlier_checkpoints(
    train, in_fork, training, uninterrupted, tmp_path
):
  workdir = tmp_path / "run"
  command = train(workdir, *RUN)
  wait_for_step(command, workdir, 10)
  # No file may grow past some bytes from now on, which is how a full disk or
  # quota looks to a process.
  size = 2_000
  resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, (size, size))
  code, _, err = command.wait()
  assert code == 1
  # Threads of the libraries may complain as well, even on the same line.
  assert err.count("error: stopped, a file may not grow further") == 1, err
  code, out, err = in_fork(*training(workdir, *RUN))
  assert code == 0, err
  assert "resumes after step" in out
  assert "damaged" not in out
  assert learned(workdir) == uninterrupted


@pytest.mark.slow
def test_killed_again_and_again_at_random_it_learns_the_same(
    train, uninterrupted, tmp_path
):
  workdir = tmp_path / "run"
  moments = random.Random(0)
  for _ in range(12):
    command = train(workdir, *RUN)
    time.sleep(moments.uniform(4, 16))
    command.process.send_signal(signal.SIGKILL)
    command.wait()
  code, _, err = train(workdir, *RUN).wait()
  assert code == 0, err
  assert learned(workdir) == uninterrupted


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(
    in_fork, training, tmp_path
):
  workdir = tmp_path / "run"
  code, _, err = in_fork(
      *training(workdir, *RUN, "--config.schedule.peak=1e30")
  )
  assert code == 2
  assert len(err.splitlines()) == 1
  assert "the loss is nan" in err
  assert "last good checkpoint" in err
  # What was not finite was never saved.
  assert all(step < last_step(workdir) + 2 for step in checkpoints(workdir))


@pytest.mark.slow
def test_an_update_that_is_not_finite_can_be_left_out_and_counted(
    in_fork, training, tmp_path
):
  workdir = tmp_path / "run"
  changes = ("--config.schedule.peak=1e30", "--config.skip_nonfinite=True")
  code, _, err = in_fork(*training(workdir, *changes))
  assert code == 0, err
  lines = [line for line in learned(workdir) if "train/skipped" in line]
  assert lines[-1]["step"] == 12
  assert 0 < lines[-1]["train/skipped"] < 12


if __name__ == "__main__":
  sys.exit(pytest.main([__file__, f"--rootdir={ROOT}"]))
