"""Trains a task.

    python -m experiments.train --config=configs/X.py[:variant] --workdir=DIR
        [--config.key=value ...]

The same command again continues where the newest checkpoint left off.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import json
import pathlib

from absl import flags
import jax
import numpy as np

from experiments import task as task_lib
from experiments.engine import command
from experiments.engine import job
from experiments.engine import record
from experiments.engine import sharding
from experiments.engine import start
from experiments.engine import workdir as workdir_lib
from experiments.engine.build import build
from experiments.engine.build import fitted
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.preemption import Preemption
from experiments.evaluate import Evaluate


def train(config: task_lib.Config, workdir: pathlib.Path) -> dict[str, float]:
  """Trains to the end, or until SIGTERM; returns the last metrics.

  Raises:
    UserError: if the config, the data or the folder do not allow it, or the
      loss is not finite.
    FileNotFoundError: if the data set is not there.
  """
  return _train(config, workdir)[0]


def check_batch(
    batch: Mapping[str, np.ndarray], example: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
  """Compares what the pipeline gives with what the task says it gives.

  Raises:
    UserError: if they differ; names the key.
  """
  for name, expected in example.items():
    if name not in batch:
      raise UserError(f"the batches have no {name!r}, but {sorted(batch)}")
    found = np.asarray(batch[name])
    if found.shape[1:] != expected.shape or found.dtype != expected.dtype:
      raise UserError(
          f"the batches' {name!r} is {found.dtype}{list(found.shape[1:])} an"
          f" example, not {expected.dtype}{list(expected.shape)}"
      )


def _train(
    config: task_lib.Config, workdir: pathlib.Path
) -> tuple[dict[str, float], bool]:
  """(the last metrics, whether SIGTERM came before the end)."""
  job.keep_log(workdir, workdir_lib.checkpoints(workdir, config))
  run = _Run(config, workdir)
  try:
    return run.loop(), run.stopped
  finally:
    run.close()


class _Run:
  """A run, from its checks to its end."""

  def __init__(self, config: task_lib.Config, workdir: pathlib.Path):
    config, self.notes = fitted(config)
    self.built = built = build(config)
    self.config = config = built.config
    self.train_step = built.train_step()
    shard = sharding.part_of_batches(built.mesh)
    with user_errors("the data"):  # It is opened before anything is written.
      self.data = iter(built.task.train_data(shard))
    self.evaluate = Evaluate(built.task.evals, built.net, built.layout)
    # What would fail at the first evaluation fails here.
    self.evaluate.trace(built.like.model)
    workdir_lib.claim(workdir, config)
    self.recorder = record.Recorder(workdir, built.steps)
    self.checkpoints = Checkpoints(
        workdir_lib.checkpoints(workdir, config),
        config=json.loads(config.to_json()),
        keep=config.run.keep_checkpoints,
        best=config.best or None,
        best_is_largest=config.best_is_largest,
        note=self.recorder.note,
    )
    self.profile = workdir / "profile"
    self._introduce()
    state = self.checkpoints.restore(built.like)
    if state is not None:
      done = int(state.step)
      self.recorder.note(f"continues after step {done}")
      self.data.close()
      # A batch is a function of its number, whoever read those before it.
      rest = dataclasses.replace(shard, first=done)
      self.data = iter(built.task.train_data(rest))
    self.state = state or start.initial_state(built, self.recorder.note)
    self.timer = record.Timer()
    self.stopped = False

  def _introduce(self) -> None:
    """Says what runs where."""
    config, built = self.config, self.built
    self.flops = built.network.flops_per_example()
    device = built.mesh.devices.flat[0]
    self.recorder.note(
        f"task {config.task}: {built.network.parameters():,} parameters,"
        f" {self.flops / 1e6:,.1f} MFLOPs an example (forward)"
    )
    self.recorder.note(
        f"{built.mesh.size} × {device.device_kind} in {jax.process_count()}"
        f" processes, mesh {dict(built.mesh.shape)}; batch {config.batch_size},"
        f" {built.steps} steps, {config.compute_dtype}"
    )
    for note in (*self.notes, *built.task.notes()):
      self.recorder.note(note)
    taken = built.network.attention(config.batch_size // config.accumulate)
    for module, how in taken.items():
      self.recorder.note(f"{module}: {how}")
    peak = record.peak_flops(device, config.compute_dtype)
    self.peak = peak and peak * built.mesh.size

  def loop(self) -> dict[str, float]:
    """Steps, with what is due after each."""
    done = int(self.state.step)
    self.first = done + 1
    self.recorder.start(done)
    metrics: dict[str, float] = {}
    if done and self._is_due(done, "eval_every"):
      if self.checkpoints.metrics(done) is None:
        metrics = self._evaluate(done)  # It had failed, or was broken off.
    self.timer.restart(done)
    pending = None
    with Preemption() as preemption:
      for step in range(self.first, self.built.steps + 1):
        self._profile(step)
        batch = self._next_batch(step)
        self.state, scalars = self.train_step(self.state, batch)
        # Numbers are read one step late, so that the devices never wait.
        if pending is not None:
          self._record(*pending)
        pending = (step, scalars)
        stop = preemption.reached(step)
        evaluate = self._is_due(step, "eval_every")
        if evaluate or stop or self._is_due(step, "checkpoint_every"):
          # A state is saved only once it is known to be good, and before it is
          # evaluated: whatever fails there, the steps are not lost.
          self._record(*pending)
          pending = None
          self.checkpoints.save(self.state)
          metrics = self._evaluate(step) if evaluate else {}
          self.timer.restart(step)
        if stop:
          self.stopped = True
          self.checkpoints.wait()
          self.recorder.note(
              f"stopped by SIGTERM after step {step}; the same command goes on"
          )
          break
      self.checkpoints.wait()
    return metrics

  def _is_due(self, step: int, every: str) -> bool:
    return step % self.config.run[every] == 0 or step == self.built.steps

  def _next_batch(self, step: int) -> dict[str, jax.Array]:
    with self.timer.waiting():
      batch = next(self.data, None)
    if batch is None:
      raise UserError(f"the training data ended before step {step}")
    if step == self.first:
      check_batch(batch, self.built.task.example)
      if self.built.task.draw:
        drawn = self.built.task.draw(batch)
        named = {f"train-{name}": what for name, what in drawn.items()}
        self.recorder.pictures(step, named)
    return sharding.spread(batch, self.built.mesh)

  def _record(self, step: int, scalars: Mapping[str, jax.Array]) -> None:
    """Checks, writes and shows the numbers of a step."""
    values = {k: float(v) for k, v in jax.device_get(scalars).items()}
    finite = np.isfinite([values["loss"], values["grad_norm"]]).all()
    if not finite and not self.config.skip_nonfinite:
      raise UserError(
          f"at step {step} the loss is {values['loss']} and the gradient's norm"
          f" {values['grad_norm']}; the last good checkpoint:"
          f" {self.checkpoints.last_good()}"
      )
    speed, waited = self.timer.read(step)
    due = self._is_due(step, "log_every")
    examples = speed * self.config.batch_size
    # A training step is three forward passes' worth of products.
    achieved = 3 * self.flops * examples
    text = (
        f"loss {values['loss']:.4f}  {speed:.2f} steps/s "
        f" {examples:.1f} examples/s"
    )
    if self.peak:
      text += f"  {achieved / self.peak:.0%} of peak FLOP/s"
    self.recorder.progress(step, text, say=due)
    if due:
      numbers = {f"train/{k}": v for k, v in values.items()}
      numbers["train/learning_rate"] = float(
          np.asarray(self.built.schedule(step - 1))
      )
      numbers["speed/steps_per_second"] = speed
      numbers["speed/examples_per_second"] = examples
      numbers["speed/share_waiting_for_input"] = waited
      if self.peak:
        numbers["speed/utilisation"] = achieved / self.peak
      self.recorder.scalars(step, numbers)
    if due or step == self.first:  # The first step compiles.
      self.timer.restart(step)

  def _evaluate(self, step: int) -> dict[str, float]:
    metrics, pictures = self.evaluate(self.state.model)
    if self.config.best and self.config.best not in metrics:
      self.recorder.note(
          f"config.best = {self.config.best!r} is not one of {sorted(metrics)}:"
          " no best checkpoint is kept"
      )
    self.recorder.scalars(step, metrics)
    self.recorder.pictures(step, pictures)
    self.checkpoints.measured(step, metrics)
    shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    self.recorder.note(f"step {step}: {shown}")
    return metrics

  def _profile(self, step: int) -> None:
    """Starts or ends the trace before a step."""
    run = self.config.run
    begin = max(run.profile_from, self.first)
    if not run.profile_steps:
      return
    if step == begin:
      jax.profiler.start_trace(str(self.profile))
    if step == min(begin + run.profile_steps, self.built.steps):
      jax.block_until_ready(self.state)
      jax.profiler.stop_trace()
      self.recorder.note(f"profile of steps {begin} to {step}: {self.profile}")

  def close(self) -> None:
    """Ends what the run has opened."""
    # A full disk stops the one, and must not keep the other from ending.
    with (
        contextlib.closing(self.checkpoints),
        contextlib.closing(self.recorder),
    ):
      self.data.close()


def main() -> int:
  """Trains what the flags say; returns the exit code."""
  if _WORKDIR.value is None:
    raise UserError("--workdir=DIR is missing")
  _, stopped = _train(command.config(), pathlib.Path(_WORKDIR.value))
  return _STOPPED_CODE.value if stopped else 0


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "where the results go")
  _STOPPED_CODE = flags.DEFINE_integer(
      "stopped_code", 0, "exit code where SIGTERM came before the end"
  )
  command.run(main)
