"""Trains under disturbances, and compares with an undisturbed run.

    python -m tools.soak --workdir=DIR [--minutes=60]
        [--config=configs/X.py] [--devices=1,2,4] [--processes=1,2]
        [--config.key=value ...]

For so many minutes the training command is started again and again: each time
on other devices (of the CPU) and processes, and each time it is killed, or gets
SIGTERM, or its disk fills up, at a random moment. Then it may finish. A second
run, which nothing happens to, has to have the same curve: the same numbers if
all starts were of one kind, and close ones if sums were rounded in another
order; then both learn by SGD, for Adam makes whole steps of rounded gradients,
and slowly, for fast learning is chaotic.

What rounding alone does, a third run shows, which nothing happens to either, on
more devices.

DIR/soak.json and DIR/soak.md say what happened. What must not be ends with exit
code 1. A disk is filled up for real where DIR lies on a small one (`mount -t
tmpfs -o size=256m soak DIR`); elsewhere files are forbidden to grow, which is
what a full disk looks like to a process.
"""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import sys
import time
from typing import Any

from absl import flags
import numpy as np

from experiments.engine import command
from experiments.engine.errors import UserError
from tools.attempts import Attempt
from tools.attempts import checkpoints
from tools.attempts import curve
from tools.attempts import last_step
from tools.attempts import Machines
from tools.attempts import starts

CONFIG = "configs/quickstart.py:mini"
KINDS = ("kill", "kill during the start", "SIGTERM", "full disk")
SGD = (
    "--config.optimizer.name=sgd",
    "--config.optimizer.weight_decay=0.0",
)
# Learning rate × steps. At 0.05 a run on four devices that nothing happens to
# is 10⁻⁴ from one on one device after 110 steps, and elsewhere after 150.
MOVED = 2.0
# Numbers that must agree where sums are rounded in another order: what counts
# examples jumps where a prediction tips.
SMOOTH = re.compile("loss|grad_norm")
RTOL, ATOL = 2e-5, 1e-5  # As in tests/experiments/engine/devices_test.py.
# Times as far apart as two undisturbed runs are at most, and a limit to that:
# runs that rounding takes further apart show nothing.
MOST_ROUNDING, LIMIT = 3.0, 1e-3
TRIAL_STEPS = 300
# Of the time that is left to the training, after starts and what is done twice.
SHARE = 0.2
CHECKPOINT_SECONDS = 1.0
LONGEST = 20.0  # Seconds that a start trains before something happens.
PATIENCE = 600.0  # Seconds until what does not end counts as hanging.
SMALL_DISK = 2**30  # Bytes.
MOST_GROWTH = 0.03  # Of the memory, from the middle of the run to its end.


class Disturbed:
  """A disturbed run with its checks."""

  def __init__(
      self,
      workdir: pathlib.Path,
      arguments: Sequence[str],
      layouts: Sequence[Machines],
      checkpoint_every: int,
      seed: int,
  ):
    self.workdir = workdir
    self.checkpoint_every = checkpoint_every
    self.events: list[dict[str, Any]] = []
    self.wrong: list[str] = []
    self.peak = 0.0  # MB.
    self._arguments = [*arguments, f"--workdir={workdir}"]
    self._layouts = layouts
    self._random = random.Random(seed)
    self._ballast = workdir.parent / "ballast"

  def disturb(self) -> bool:
    """Starts the run once and disturbs it; False: it has ended."""
    kind = self._random.choice(KINDS)
    layout = self._random.choice(self._layouts)
    before = checkpoints(self.workdir)[-1:] or [0]
    started = len(starts(self.workdir))
    with Attempt(self.workdir, self._arguments, layout) as attempt:
      is_early = kind == "kill during the start"
      if is_early:
        attempt.watch(self._random.uniform(0.5, 15.0))
      else:
        attempt.watch(
            PATIENCE,
            lambda: len(starts(self.workdir)) > started
            and last_step(self.workdir) > before[0],
        )
        if attempt.goes_on() and last_step(self.workdir) <= before[0]:
          self._is_wrong(f"a start on {layout} hangs", attempt)
        attempt.watch(self._random.uniform(0.0, LONGEST))
      is_over = not attempt.goes_on()
      codes = attempt.codes(PATIENCE) if is_over else self._do(kind, attempt)
    self.peak = max(self.peak, attempt.peak)
    reached, newest = last_step(self.workdir), checkpoints(self.workdir)[-1:]
    event = {
        "kind": "finished" if is_over else kind,
        "layout": str(layout),
        "from": before[0],
        "reached": reached,
        "checkpoint": (newest or [0])[0],
        "exit_codes": codes,
    }
    event["redone"] = max(0, reached - event["checkpoint"])
    self.events.append(event)
    print(json.dumps(event), flush=True)
    self._check(event, attempt, starts(self.workdir)[started:])
    return not is_over

  def finish(self, layout: Machines) -> Attempt:
    """Runs to the end without disturbances."""
    with Attempt(self.workdir, self._arguments, layout) as attempt:
      attempt.watch(float("inf"))
      codes = attempt.codes(PATIENCE)
    if any(codes):
      self._is_wrong(f"the undisturbed end has exit codes {codes}", attempt)
    self.peak = max(self.peak, attempt.peak)
    return attempt

  def _do(self, kind: str, attempt: Attempt) -> list[int | None]:
    """Exit codes after a disturbance."""
    if kind == "SIGTERM":
      attempt.send(signal.SIGTERM)
      return attempt.codes(PATIENCE)
    if kind == "full disk":
      with self._full_disk(attempt):
        codes = attempt.codes(PATIENCE)
      return codes
    # One process dies first, as machines do.
    attempt.send(signal.SIGKILL, self._random.randrange(attempt.processes))
    return attempt.codes(PATIENCE)

  @contextlib.contextmanager
  def _full_disk(self, attempt: Attempt) -> Iterator[None]:
    free = shutil.disk_usage(self.workdir).free
    if free > SMALL_DISK:
      attempt.may_write(2000)
      yield
      return
    # What is left may do for some of a checkpoint's files.
    left = self._random.choice([0, 20_000, 100_000])
    with self._ballast.open("wb") as file:
      for size in range(free - left, 0, -(2**16)):
        with contextlib.suppress(OSError):  # The run writes meanwhile.
          os.posix_fallocate(file.fileno(), 0, size)
          break
    try:
      yield
    finally:
      self._ballast.unlink()

  def _check(self, event, attempt: Attempt, from_steps: list[int]) -> None:
    """Checks the run after a start."""
    if any(step != event["from"] for step in from_steps):
      self._is_wrong(
          f"went on after {from_steps}, not {event['from']}", attempt
      )
    codes = event["exit_codes"]
    # Those that wait for a process that never came give up after five minutes.
    if None in codes and event["kind"] != "kill during the start":
      self._is_wrong(f"{event['kind']}: exit codes {codes}", attempt)
    if event["kind"] in ("SIGTERM", "finished") and any(codes):
      self._is_wrong(f"{event['kind']}: exit codes {codes}", attempt)
    # JAX aborts a process when it hears that another one has ended.
    allowed = (0, 1, -signal.SIGABRT) if len(codes) > 1 else (0, 1)
    if event["kind"] == "full disk" and codes[0] not in allowed:
      self._is_wrong(f"{event['kind']}: exit codes {codes}", attempt)
    if event["kind"] == "SIGTERM" and event["redone"]:
      self._is_wrong(f"SIGTERM lost {event['redone']} steps", attempt)
    # One checkpoint may be being written; numbers are read one step late.
    if event["redone"] > 2 * self.checkpoint_every + 1:
      self._is_wrong(f"{event['redone']} steps are done again", attempt)
    damaged = list(self.workdir.glob("checkpoints/damaged-*"))
    if damaged:
      self._is_wrong(f"damaged: {[path.name for path in damaged]}", attempt)

  def _is_wrong(self, what: str, attempt: Attempt) -> None:
    """Records a failure and keeps its log."""
    self.wrong.append(f"start {len(self.events)}: {what}")
    print(f"wrong: {what}", file=sys.stderr, flush=True)
    kept = attempt.log.with_name(f"wrong-{len(self.wrong)}.log")
    shutil.copyfile(attempt.log, kept)


def compare(
    disturbed: dict[tuple[int, str], float],
    undisturbed: dict[tuple[int, str], float],
    control: dict[tuple[int, str], float] | None,
) -> tuple[dict[str, Any], list[str]]:
  """The differences between two curves, and those that are not allowed.

  Args:
    disturbed: number by step and name.
    undisturbed: what it has to be like.
    control: of a run that nothing happened to on another layout, which shows
      how far rounding alone takes two apart; None: all numbers must be equal.
  """
  if disturbed.keys() != undisturbed.keys():
    missing = sorted(undisturbed.keys() - disturbed.keys())[:3]
    more = sorted(disturbed.keys() - undisturbed.keys())[:3]
    return {}, [f"the curves have other points: without {missing}, with {more}"]
  keys = [key for key in undisturbed if not control or SMOOTH.search(key[1])]
  one, other = (
      np.asarray([numbers[key] for key in keys])
      for numbers in (disturbed, undisturbed)
  )
  apart = np.abs(one - other)
  rounding = dict.fromkeys((name for _, name in keys), RTOL)
  if control:
    for step, name in keys:
      size = max(abs(undisturbed[step, name]), ATOL)
      far = abs(control[step, name] - undisturbed[step, name]) - ATOL
      shown = min(MOST_ROUNDING * far / size, LIMIT)
      rounding[name] = max(rounding[name], shown)
  bounds = np.asarray([rounding[name] for _, name in keys])
  share = apart / (ATOL + bounds * np.abs(other))  # Of what is allowed.
  worst = int(np.argmax(share))
  step, name = keys[worst]
  found = {
      "numbers": len(keys),
      "equal": int((apart == 0).sum()),
      "largest": float(apart.max()),
      "largest_of_tolerance": float(share[worst]),
      "at": [step, name],
      **{f"tolerance of {name}": x for name, x in rounding.items() if control},
  }
  wrong = share[worst] > 1 if control else apart.any()
  text = f"{name} at step {step} is {one[worst]}, undisturbed {other[worst]}"
  return found, [text] * bool(wrong)


def growth(memory: Sequence[tuple[int, float]]) -> dict[str, float]:
  """The growth of memory over the second half of a run, by a linear fit."""
  steps, used = np.asarray(memory)[len(memory) // 2 :].T
  slope = np.polyfit(steps, used, 1)[0]
  return {
      "samples": len(memory),
      "mean_mb": float(used.mean()),
      "mb_per_1000_steps": float(1000 * slope),
      "grown": float(slope * np.ptp(steps) / used.mean()),
  }


def speed(
    workdir: pathlib.Path, arguments: Sequence[str], batch_size: int
) -> float:
  """Steps in a second, by a trial on one device."""
  arguments = [
      *arguments,
      f"--workdir={workdir}",
      f"--config.train_examples={TRIAL_STEPS * batch_size}",
      f"--config.run.eval_every={TRIAL_STEPS}",
      f"--config.run.checkpoint_every={TRIAL_STEPS}",
  ]
  with Attempt(workdir, arguments, Machines(1, 1)) as attempt:
    codes = attempt.codes(float("inf"))
  if any(codes):
    raise UserError(f"the trial has exit codes {codes}: {attempt.log}")
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  name = "speed/steps_per_second"
  speeds = [r[name] for r in map(json.loads, lines) if name in r]
  return statistics.harmonic_mean(speeds)


def soak(
    root: pathlib.Path,
    arguments: Sequence[str],
    layouts: Sequence[Machines],
    minutes: float,
    seed: int,
    **fixed: int,
) -> dict[str, Any]:
  """The summary of a disturbed run and of undisturbed ones.

  Args:
    root: a new folder.
    arguments: of the training command.
    layouts: what to start it on; the last start is on the first of them.
    minutes: for which it is disturbed.
    seed: seed of the disturbances.
    **fixed: the numbers of the run, for the summary.

  Returns:
    the summary; "wrong" lists what must not be.
  """
  every = fixed["checkpoint_every"]
  disturbed = Disturbed(root / "run", arguments, layouts, every, seed)
  start = time.monotonic()
  while time.monotonic() - start < 60 * minutes and disturbed.disturb():
    pass
  elapsed = (time.monotonic() - start) / 60
  disturbed.finish(layouts[0])
  undisturbed = Disturbed(root / "undisturbed", arguments, layouts, every, seed)
  memory = growth(undisturbed.finish(layouts[0]).memory)
  runs, control = [disturbed, undisturbed], None
  if len(set(layouts)) > 1:
    runs.append(Disturbed(root / "control", arguments, layouts, every, seed))
    # Most devices in the fewest processes, which take the least time.
    runs[-1].finish(max(layouts, key=lambda x: (-x.processes, x.devices)))
    control = curve(runs[-1].workdir)
  wrong = [line for run in runs for line in run.wrong]
  if memory["grown"] > MOST_GROWTH:
    wrong.append(f"memory grows: {memory}")
  difference, apart = compare(
      curve(disturbed.workdir),
      curve(undisturbed.workdir),
      control,
  )
  events = disturbed.events
  redone = [event["redone"] for event in events]
  return {
      "minutes": elapsed,
      **fixed,
      "starts": len(events) + 1,
      "events": collections.Counter(event["kind"] for event in events),
      "layouts": collections.Counter(event["layout"] for event in events),
      "steps_redone": sum(redone),
      "most_redone": max(redone, default=0),
      "peak_mb": max(run.peak for run in runs),
      "memory": memory,
      "difference": difference,
      "wrong": wrong + apart,
      "log": events,
  }


def markdown(summary: Mapping[str, Any]) -> str:
  """The summary as a table."""
  lines = ["| | |", "|---|---|"]
  for key, value in summary.items():
    if key == "log":
      continue
    if isinstance(value, Mapping):
      value = ", ".join(f"{k} {_short(v)}" for k, v in value.items())
    elif key == "wrong":
      value = "; ".join(value) or "nothing"
    lines.append(f"| {key.replace('_', ' ')} | {_short(value)} |")
  return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
  """Runs the endurance test; exit code 1 if it failed."""
  if _WORKDIR.value is None:
    raise UserError("--workdir=DIR is missing")
  root = pathlib.Path(_WORKDIR.value)
  if root.exists() and any(root.iterdir()):
    raise UserError(f"{root} is not empty")
  root.mkdir(parents=True, exist_ok=True)
  layouts = [
      Machines(int(processes), int(devices))
      for processes in _PROCESSES.value
      for devices in _DEVICES.value
  ]
  arguments = [x for x in sys.argv[1:] if x.startswith("--config")]
  if len(layouts) > 1:
    arguments[1:1] = SGD  # What is asked for comes later and counts.
  batch_size = command.config().batch_size
  rate = speed(root / "trial", arguments, batch_size)
  steps = command.config().train_examples // batch_size
  if not any(x.startswith("--config.train_examples=") for x in arguments):
    steps = round(SHARE * rate * 60 * _MINUTES.value)
  if len(layouts) > 1:
    arguments[1:1] = [f"--config.schedule.peak={MOVED / steps}"]
  fixed = {
      "steps": steps,
      "checkpoint_every": max(2, round(CHECKPOINT_SECONDS * rate)),
      "eval_every": max(2, steps // 20),
  }
  arguments += [
      f"--config.train_examples={steps * batch_size}",
      f"--config.run.checkpoint_every={fixed['checkpoint_every']}",
      f"--config.run.eval_every={fixed['eval_every']}",
      "--config.run.log_every=1",
  ]
  summary = soak(root, arguments, layouts, _MINUTES.value, _SEED.value, **fixed)
  summary = {"command": " ".join(sys.argv[1:]), **summary}
  (root / "soak.json").write_text(json.dumps(summary, indent=2) + "\n")
  (root / "soak.md").write_text(markdown(summary))
  print(markdown(summary))
  if summary["wrong"]:
    sys.exit(1)


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "a new folder")
  _MINUTES = flags.DEFINE_float("minutes", 60.0, "duration of the disturbances")
  _DEVICES = flags.DEFINE_list("devices", "1,2,4", "devices per process")
  _PROCESSES = flags.DEFINE_list("processes", "1,2", "processes per start")
  _SEED = flags.DEFINE_integer("seed", 0, "seed of the disturbances")
  if not any(x.startswith("--config=") for x in sys.argv):
    sys.argv.insert(1, f"--config={CONFIG}")
  command.run(main)
