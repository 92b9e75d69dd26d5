"""What the soak counts and compares; and, slowly, a short one."""

import json
import sys

import pytest

from tests.conftest import Command
from tools import attempts
from tools import soak


def test_equal_curves_are_equal_and_others_are_told():
  one = {(1, "train/loss"): 2.0, (2, "train/loss"): 1.0, (2, "test/top1"): 50.0}
  found, wrong = soak.compare(one, dict(one), None)
  assert (found["numbers"], found["equal"], wrong) == (3, 3, [])
  near = one | {(2, "train/loss"): 1.00001, (2, "test/top1"): 50.1}
  found, wrong = soak.compare(near, one, one)
  assert found["numbers"] == 2 and wrong == []  # Of what counts examples, none.
  assert found["at"] == [2, "train/loss"]
  assert soak.compare(near, one, None)[1]
  far = one | {(1, "train/loss"): 2.1}
  (line,) = soak.compare(far, one, one)[1]
  assert "train/loss at step 1 is 2.1, undisturbed 2.0" in line
  # Two undisturbed runs that are as far apart allow it, but not everything.
  off = one | {(1, "train/loss"): 2.001}
  assert soak.compare(off, one, one)[1]
  assert soak.compare(off, one, one | {(2, "train/loss"): 1.001})[1] == []
  assert soak.compare(far, one, one | {(2, "train/loss"): 1.1})[1]
  (line,) = soak.compare({}, one, one)[1]
  assert "other points" in line


def test_a_run_that_may_be_writing_is_read(tmp_path):
  assert attempts.last_step(tmp_path) == 0
  assert attempts.checkpoints(tmp_path) == []
  assert attempts.starts(tmp_path) == []
  for step in (9, 12):
    (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
  (tmp_path / "checkpoints" / "15.orbax-checkpoint-tmp").mkdir()
  (tmp_path / "metrics.jsonl").write_text('{"step": 13, "a": 1}\n{"step": 1')
  (tmp_path / "starts.jsonl").write_text('{"from_step": 7, "time": 0}\n')
  assert attempts.last_step(tmp_path) == 13
  assert attempts.checkpoints(tmp_path) == [9, 12]
  assert attempts.starts(tmp_path) == [7]


def test_memory_that_grows_is_told_from_memory_that_does_not():
  flat = soak.growth([(step, 500.0 + step % 2) for step in range(1, 100)])
  assert abs(flat["grown"]) < 0.001
  grown = soak.growth([(step, 500.0 + step) for step in range(1, 1001)])
  assert grown["mb_per_1000_steps"] == pytest.approx(1000)
  assert grown["grown"] > soak.MOST_GROWTH


@pytest.mark.slow
def test_a_run_that_all_kinds_of_things_happen_to_learns_the_same(
    data_dir, tmp_path
):
  command = Command(
      "tools.soak",
      f"--workdir={tmp_path}/soak",
      "--minutes=2",
      f"--config.data_dir={data_dir}",
      f"--config.train_examples={16 * 600}",
  )
  code, out, err = command.wait(1500)
  assert code == 0, out + err
  summary = json.loads((tmp_path / "soak" / "soak.json").read_text())
  assert summary["wrong"] == [] and summary["starts"] > 1


if __name__ == "__main__":
  sys.exit(pytest.main([__file__]))
