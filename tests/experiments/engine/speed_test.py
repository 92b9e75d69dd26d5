"""The speed that a run reports, with a clock that counts steps."""

import json
import types

import numpy as np
import pytest

from experiments import train as train_lib
from experiments.engine import build
from experiments.engine import record
from experiments.engine import settings


class Later:
  """A number of a step that is done when it is read."""

  def __init__(self, value, done):
    self._value, self._done = value, done

  def is_ready(self):
    return self._done.is_set

  def __array__(self, dtype=None, copy=None):
    self._done.set()
    return np.asarray(self._value, dtype)


class Done:
  """Whether a step is done; the clock ticks once when it becomes so."""

  def __init__(self, clock):
    self.is_set, self._clock = False, clock

  def set(self):
    self._clock.ticks += not self.is_set
    self.is_set = True


@pytest.mark.parametrize("ends", ["dispatch", "logging", "reading"])
@pytest.mark.parametrize("log_every", [1, 3])
def test_the_speed_is_that_of_steps_that_are_done(
    data_dir, tmp_path, monkeypatch, ends, log_every
):
  # A second is the time of a step, whenever it ends: its dispatch may wait for
  # it; it may end while the step before is logged, or be done when it is read.
  clock = types.SimpleNamespace(ticks=0)
  newest = []

  def counted(built):
    step_of = make(built)

    def step(state, batch):
      state, scalars = step_of(state, batch)
      done = Done(clock)
      newest[:] = [done]
      if ends == "dispatch":
        done.set()
      return state, {k: Later(v, done) for k, v in scalars.items()}

    return step

  def logged(recorder, step, numbers):
    if ends == "logging" and newest:
      newest[0].set()
    log(recorder, step, numbers)

  log, make = record.Recorder.scalars, build.Built.train_step
  monkeypatch.setattr(build.Built, "train_step", counted)
  monkeypatch.setattr(record.Recorder, "scalars", logged)
  monkeypatch.setattr(record.time, "perf_counter", lambda: float(clock.ticks))
  changes = {
      "data_dir": data_dir,
      "train_examples": 16 * 11,
      "run.log_every": log_every,
      "run.eval_every": 5,
      "run.checkpoint_every": 7,
  }
  train_lib.train(settings.load("quickstart:mini", changes), tmp_path)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  name = "speed/steps_per_second"
  found = {r["step"]: r[name] for r in map(json.loads, lines) if name in r}
  steps = {*range(log_every, 12, log_every), 11}
  assert found == dict.fromkeys(sorted(steps), 1.0)
  assert clock.ticks == 11
