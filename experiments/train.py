"""Trains a task.

    python -m experiments.train --config=configs/X.py[:variant] --workdir=DIR
        [--config.key=value ...]

The same command resumes the run from its newest checkpoint. With more
--config.train_examples it trains longer.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import json
import pathlib
from typing import Any

from absl import flags
import jax
import numpy as np

from experiments import task as task_lib
from experiments.data import pipeline
from experiments.engine import command
from experiments.engine import initialisation
from experiments.engine import job
from experiments.engine import positions
from experiments.engine import record
from experiments.engine import settings
from experiments.engine import sharding
from experiments.engine import weights
from experiments.engine import workdir as workdir_lib
from experiments.engine.build import build
from experiments.engine.build import fitted
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.preemption import Preemption
from experiments.engine.screen import FIRST_TIME
from experiments.engine.screen import table
from experiments.evaluate import Evaluate
from perceiver import bounds

EMA = "_ema"  # Ends the names of evals of averaged parameters.


def train(config: task_lib.Config, workdir: pathlib.Path) -> dict[str, float]:
  """Trains to the end or a signal such as SIGTERM; returns the last metrics.

  Raises:
    UserError: if the config, the data or the folder do not allow it, or the
      loss is not finite.
    FileNotFoundError: if the data set is not there.
  """
  with Preemption() as preemption:
    return _train(config, workdir, preemption)[0]


def check_batch(
    batch: Mapping[str, np.ndarray], example: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
  """Compares a batch of the pipeline with the example of the task.

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
    config: task_lib.Config, workdir: pathlib.Path, preemption: Preemption
) -> tuple[dict[str, float], bool]:
  """(the last metrics, whether a signal came before the end)."""
  workdir_lib.check_kinds(workdir)
  job.keep_log(workdir, workdir_lib.checkpoints(workdir, config))
  with contextlib.ExitStack() as opened:
    run = _Run(config, workdir, opened)
    return run.loop(preemption), run.stopped


def _check_settings(config: task_lib.Config, steps: int) -> None:
  """Checks the settings in `config.run`."""
  run = config.run
  with user_errors("the config"):
    for name in ("log_every", "eval_every", "checkpoint_every"):
      bounds.check(f"run.{name}", run[name], 1)
    bounds.check("run.keep_checkpoints", run.keep_checkpoints, 1)
    bounds.check("run.profile_steps", run.profile_steps, 0)
    if run.profile_steps:
      bounds.check("run.profile_from", run.profile_from, 0, steps)


class _Run:
  """A run, from its checks to its end."""

  def __init__(
      self,
      config: task_lib.Config,
      workdir: pathlib.Path,
      opened: contextlib.ExitStack,
  ):
    """Prepares the run; `opened` closes its files."""
    config, self.notes = fitted(config)
    config = self._keep_resolutions(config, workdir)
    self.built = built = build(config)
    self.config = config = built.config
    _check_settings(config, built.steps)
    self.train_step = built.train_step()
    shard = sharding.part_of_batches(built.mesh)
    with user_errors("the data"):  # It is opened before anything is written.
      self.data = iter(built.task.train_data(shard))
    as_json = json.loads(config.to_json())
    self.recorder = record.Recorder(
        workdir, built.steps, config.run.wandb, as_json
    )
    self.evaluate = Evaluate(
        built.task.evals, built.net, built.layout, self.recorder.screen
    )
    # What would fail at the first evaluation fails here.
    found = self.evaluate.trace(built.like.model)
    if config.ema:
      found |= {f"{name}{EMA}": metrics for name, metrics in found.items()}
    self._check_best(found)
    # So does what a new run starts from. One that goes on needs it no more.
    is_new = not (workdir / "config.json").exists()
    given = initialisation.given(built) if is_new else None
    longer = opened.enter_context(workdir_lib.claimed(workdir, config))
    opened.enter_context(contextlib.closing(self.recorder))
    self.checkpoints = Checkpoints(
        workdir_lib.checkpoints(workdir, config),
        config=as_json,
        keep=config.run.keep_checkpoints,
        best=config.best or None,
        best_is_largest=config.best_is_largest,
        note=self.recorder.note,
    )
    opened.enter_context(contextlib.closing(self.checkpoints))
    opened.callback(lambda: self.data.close())  # Others may take its place.
    self.profile = workdir / "profile"
    self._introduce()
    if longer:
      self.recorder.note(f"trains longer than before: {'; '.join(longer)}")
    state = self.checkpoints.restore(built.like)
    if state is not None:
      done = int(state.step)
      self.recorder.note(f"resumes after step {done}")
      self.data.close()
      # A batch is a function of its number, whoever read those before it.
      rest = dataclasses.replace(shard, first=done)
      self.data = iter(built.task.train_data(rest))
    self.state = state or initialisation.initial_state(
        built, given or initialisation.given(built), self.recorder.note
    )
    self.timer = record.Timer()
    self.stopped = False

  def _keep_resolutions(
      self, config: task_lib.Config, workdir: pathlib.Path
  ) -> task_lib.Config:
    """The config with the Fourier features of the pretrained model."""
    own = workdir / "config.json"  # A run that goes on keeps its own.
    source, where = None, workdir
    if own.exists():
      source = workdir_lib.read_config(own)
    elif config.init.pretrained:
      where = config.init.pretrained
      source = weights.config_of(where)
    if source is None:
      return config
    config, notes = positions.keep_resolutions(config, source, where)
    self.notes += notes
    return config

  def _check_best(self, metrics: Mapping[str, list[str] | None]) -> None:
    """Checks that the metric that selects the best checkpoint exists."""
    best = self.config.best
    if not best:
      return
    name, _, metric = best.partition("/")
    names = [f"{name}/..." for name in metrics]
    if name in metrics:
      found = metrics[name]
      if found is None or metric in found:
        return
      names = [f"{name}/{metric}" for metric in found]
    raise UserError(
        f"config.best = {best!r}{settings.hint(best, names)} is not one of"
        f" {', '.join(names) or 'no evals'}"
    )

  def _introduce(self) -> None:
    """Prints the model, the devices and the settings of the run."""
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
    taken = built.network.attention(
        config.batch_size // config.accumulate, built.layout
    )
    for module, how in taken.items():
      self.recorder.note(f"{module}: {how}")
    peak = record.peak_flops(device, config.compute_dtype)
    self.peak = peak and peak * built.mesh.size

  def loop(self, preemption: Preemption) -> dict[str, float]:
    """Runs all steps, with logging, evaluation and checkpoints."""
    done, last = int(self.state.step), self.built.steps
    self.first = done + 1
    # A run may be made longer: which steps had which schedule is told here.
    of_run = json.loads(self.config.to_json())
    self.recorder.start(done, {key: of_run[key] for key in workdir_lib.LONGER})
    metrics: dict[str, float] = {}
    if done and self._is_due(done, "eval_every"):
      if self.checkpoints.metrics(done) is None:
        metrics = self._evaluate(done)  # It had failed, or was broken off.
    self.timer.restart(done)
    pending = None
    if done < last and preemption.reached(done):
      self._stop(preemption, done)
      return metrics
    with self._trace() as trace:
      for step in range(self.first, last + 1):
        trace.before(step)
        batch = self._next_batch(step)
        if step == self.first:
          self.recorder.note(f"compiling the step: {FIRST_TIME}")
        self.state, scalars = self.train_step(self.state, batch)
        # Numbers are read one step late, so that the devices never wait.
        if pending is not None:
          self._record(*pending, following=scalars)
        pending = (step, scalars)
        stop = preemption.reached(step) and step < last
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
          self._stop(preemption, step)
          break
      self.checkpoints.wait()
    if not self.stopped:
      self.recorder.done()
    return metrics

  def _stop(self, preemption: Preemption, step: int) -> None:
    self.stopped = True
    self.checkpoints.wait()
    # Of several processes, the signal may have come to another one.
    name = preemption.noticed or "SIGTERM"
    self.recorder.note(
        f"stopped by {name} after step {step}; the same command resumes"
    )

  def _is_due(self, step: int, every: str) -> bool:
    return step % self.config.run[every] == 0 or step == self.built.steps

  def _next_batch(self, step: int) -> dict[str, jax.Array]:
    try:
      with self.timer.waiting():
        batch = next(self.data, None)
    except RuntimeError as error:
      if not pipeline.is_lost_worker(error):
        raise
      raise UserError(
          f"stopped before step {step}: a process that prepares input was"
          " killed, perhaps because memory was short; the last checkpoint:"
          f" {self.checkpoints.last_good()}; the same command resumes"
      ) from error
    if batch is None:
      raise UserError(f"the training data ended before step {step}")
    if step == self.first:
      check_batch(batch, self.built.task.example)
      if self.built.task.draw:
        drawn = self.built.task.draw(batch)
        named = {f"train-{name}": what for name, what in drawn.items()}
        self.recorder.figures(step, named)
    return sharding.spread(batch, self.built.mesh)

  def _record(
      self,
      step: int,
      scalars: Mapping[str, jax.Array],
      following: Mapping[str, Any] | None = None,
  ) -> None:
    """Checks, writes and prints the metrics of a step.

    Args:
      step: its number.
      scalars: its metrics.
      following: metrics of the next step, if it was dispatched.
    """
    values = {k: float(v) for k, v in jax.device_get(scalars).items()}
    # Dispatch may return when the step is done, as it can on a CPU.
    done = step + bool(following and following["loss"].is_ready())
    finite = np.isfinite([values["loss"], values["grad_norm"]]).all()
    if not finite and not self.config.skip_nonfinite:
      raise UserError(
          f"at step {step} the loss is {values['loss']} and the gradient's norm"
          f" {values['grad_norm']}; the last good checkpoint:"
          f" {self.checkpoints.last_good()}"
      )
    speed, waited = self.timer.read(done)
    due = self._is_due(step, "log_every")
    if due or step == self.first:  # The first step compiles.
      self.timer.lap()
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
      numbers["speed/input_bound_fraction"] = waited
      if self.peak:
        numbers["speed/utilisation"] = achieved / self.peak
      self.recorder.scalars(step, numbers)

  def _evaluate(self, step: int) -> dict[str, float]:
    metrics, figures = self.evaluate(self.state.model)
    averaged = self.state.averaged()
    if averaged is not None:
      more_metrics, more_figures = self.evaluate(averaged, EMA)
      metrics, figures = metrics | more_metrics, figures | more_figures
    if self.config.best and self.config.best not in metrics:
      self.recorder.note(
          f"config.best = {self.config.best!r} is not one of {sorted(metrics)}:"
          " no best checkpoint is kept"
      )
    self.recorder.scalars(step, metrics)
    self.recorder.figures(step, figures)
    self.checkpoints.measured(step, metrics)
    shown = table(metrics, self.config.best)
    self.recorder.note(f"step {step}:\n{shown}")
    return metrics

  def _trace(self) -> record.Trace:
    run = self.config.run
    return record.Trace(
        self.profile,
        max(run.profile_from, self.first),
        run.profile_steps,
        wait=lambda: jax.block_until_ready(self.state),
        note=self.recorder.note,
    )


def main() -> int:
  """Runs the command; returns the exit code."""
  if not _WORKDIR.value:
    raise UserError("--workdir=DIR is missing")
  workdir = pathlib.Path(_WORKDIR.value)
  _, stopped = _train(command.config(), workdir, _PREEMPTION)
  return _STOPPED_CODE.value if stopped else 0


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
  _STOPPED_CODE = flags.DEFINE_integer(
      "stopped_code", 0, "exit code if a signal stops the run"
  )
  with Preemption() as _PREEMPTION:
    command.run(main)
