"""Trains a task.

    python -m experiments.train --config=configs/X.py[:variant] --workdir=DIR
        [--config.key=value ...]

The same command again continues where the newest checkpoint left off.
"""

from collections.abc import Mapping
import pathlib

from absl import flags
import jax
import numpy as np

from experiments import command
from experiments import task as task_lib
from experiments.data.pipeline import Shard
from experiments.evaluate import make_evaluate
from experiments.task import plain
from experiments.task import PlainError
from experiments.training import optim
from experiments.training import record
from experiments.training import sharding
from experiments.training import state as state_lib
from experiments.training import step as step_lib
from experiments.training import workdir as workdir_lib
from experiments.training.checkpoint import Checkpoints
from experiments.training.preemption import Preemption
from experiments.training.state import TrainState
from perceiver import flops


def train(config: task_lib.Config, workdir: pathlib.Path) -> dict[str, float]:
  """Trains to the end, or until SIGTERM; returns the last metrics.

  Raises:
    PlainError: if the config, the data or the folder do not allow it, or the
      loss is not finite.
    FileNotFoundError: if the data set is not there.
  """
  run = _Run(config, workdir)
  try:
    return run.loop()
  finally:
    run.close()


def number_of_steps(config: task_lib.Config, devices: int) -> int:
  """Steps of a run.

  Raises:
    PlainError: if the devices do not divide the batch, or there is no step.
  """
  parts = devices * config.accumulate
  if (
      config.accumulate < 1
      or config.batch_size < 1
      or config.batch_size % parts
  ):
    raise PlainError(
        f"batch_size {config.batch_size} does not divide evenly among"
        f" {devices} devices × {config.accumulate} accumulated parts"
    )
  steps = config.train_examples // config.batch_size
  if steps < 1:
    raise PlainError(
        f"train_examples {config.train_examples} is less than one batch of"
        f" {config.batch_size}"
    )
  return steps


def check_batch(
    batch: Mapping[str, np.ndarray], example: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
  """Compares what the pipeline gives with what the task says it gives.

  Raises:
    PlainError: if they differ; names the key.
  """
  for name, expected in example.items():
    if name not in batch:
      raise PlainError(f"the batches have no {name!r}, but {sorted(batch)}")
    found = np.asarray(batch[name])
    if found.shape[1:] != expected.shape or found.dtype != expected.dtype:
      raise PlainError(
          f"the batches' {name!r} is {found.dtype}{list(found.shape[1:])} an"
          f" example, not {expected.dtype}{list(expected.shape)}"
      )


class _Run:
  """A run, from its checks to its end."""

  def __init__(self, config: task_lib.Config, workdir: pathlib.Path):
    self.config = config
    self.task = task_lib.load(config)
    self.mesh = sharding.make_mesh()
    self.steps = number_of_steps(config, self.mesh.size)
    self.net = state_lib.make_net(self.task.forward, config.compute_dtype)
    with plain("the config"):
      self.schedule = optim.make_schedule(config.schedule, self.steps)
      optimizer = optim.make_optimizer(
          config.optimizer, self.schedule, config.max_grad_norm
      )
    # Whatever is wrong with the model shows here, before anything is written.
    with plain("the model"):
      state_shape = jax.eval_shape(
          lambda: state_lib.initial_state(
              self.net, optimizer, self.task.example, config.seed
          )
      )
    shard = Shard(jax.process_index(), jax.process_count())
    self.data = iter(self.task.train_data(shard))
    for e in self.task.evals.values():
      e.data(shard)  # A missing data set shows here too.
    workdir_lib.claim(workdir, config)
    self.recorder = record.Recorder(workdir, self.steps)
    self.checkpoints = Checkpoints(
        workdir,
        keep=config.run.keep_checkpoints,
        best=config.best or None,
        best_is_largest=config.best_is_largest,
        note=self.recorder.note,
    )
    self.profile = workdir / "profile"
    like = sharding.with_shardings(state_shape, self.mesh)
    self.state = self._restore_or_start(like, optimizer)
    self.train_step = step_lib.compile_train_step(
        step_lib.make_train_step(
            self.net,
            self.task.loss,
            optimizer,
            seed=config.seed,
            accumulate=config.accumulate,
            skip_nonfinite=config.skip_nonfinite,
        ),
        jax.tree.map(lambda x: x.sharding, like),
        self.mesh,
    )
    self.evaluate = make_evaluate(self.task.evals, self.net, self.mesh)
    self.timer = record.Timer()
    self._introduce()

  def _restore_or_start(self, like: TrainState, optimizer) -> TrainState:
    state = self.checkpoints.restore(like, self.data)
    if state is not None:
      self.recorder.note(f"continues after step {int(state.step)}")
      return state
    start = jax.jit(
        lambda: state_lib.initial_state(
            self.net, optimizer, self.task.example, self.config.seed
        ),
        out_shardings=jax.tree.map(lambda x: x.sharding, like),
    )
    return start()

  def _introduce(self) -> None:
    """Says what runs where."""
    config, mesh = self.config, self.mesh
    self.flops = self._flops_per_example()
    device = mesh.devices.flat[0]
    parameters = flops.count_parameters(self.state.model.params)
    self.recorder.note(
        f"task {config.task}: {parameters:,} parameters,"
        f" {self.flops / 1e6:,.1f} MFLOPs an example (forward)"
    )
    self.recorder.note(
        f"{mesh.size} × {device.device_kind} in {jax.process_count()}"
        f" processes, mesh {dict(mesh.shape)}; batch {config.batch_size},"
        f" {self.steps} steps, {config.compute_dtype}"
    )
    peak = record.peak_flops(device, config.compute_dtype)
    self.peak = peak and peak * mesh.size

  def _flops_per_example(self) -> int:
    batch = {
        name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
        for name, x in self.task.example.items()
    }
    model = jax.eval_shape(lambda: self.state.model)
    return flops.count_flops(
        lambda model, batch: self.net.apply(
            *model, jax.random.key(0), batch, False
        ),
        model,
        batch,
    )

  def loop(self) -> dict[str, float]:
    """Steps, with what is due after each."""
    run = self.config.run
    done = int(self.state.step)
    self.first = done + 1
    self.recorder.start(done)
    metrics: dict[str, float] = {}
    pending = None
    with Preemption() as preemption:
      self.timer.restart(done)
      for step in range(self.first, self.steps + 1):
        self._profile(step)
        with self.timer.waiting():
          batch = next(self.data)
        if step == self.first:
          check_batch(batch, self.task.example)
        self.state, scalars = self.train_step(
            self.state, sharding.spread(batch, self.mesh)
        )
        # Numbers are read one step late, so that the devices never wait.
        if pending is not None:
          self._record(*pending)
        pending = (step, scalars)
        stop = preemption.reached(step)
        evaluate = step % run.eval_every == 0 or step == self.steps
        if evaluate or stop or step % run.checkpoint_every == 0:
          self._record(
              *pending
          )  # A state is saved once it is known to be good.
          pending = None
          if evaluate:
            metrics = self._evaluate(step)
          self.checkpoints.save(
              self.state, self.data, metrics if evaluate else None
          )
          self.timer.restart(step)
        if stop:
          self.checkpoints.wait()
          self.recorder.note(
              f"stopped by SIGTERM after step {step}; the same command goes on"
          )
          return metrics
    self.checkpoints.wait()
    return metrics

  def _record(self, step: int, scalars: Mapping[str, jax.Array]) -> None:
    """Checks, writes and shows the numbers of a step."""
    values = {k: float(v) for k, v in jax.device_get(scalars).items()}
    finite = np.isfinite([values["loss"], values["grad_norm"]]).all()
    if not finite and not self.config.skip_nonfinite:
      raise PlainError(
          f"at step {step} the loss is {values['loss']} and the gradient's norm"
          f" {values['grad_norm']}; the last good checkpoint:"
          f" {self.checkpoints.last_good()}"
      )
    speed, waited = self.timer.read(step)
    due = step % self.config.run.log_every == 0 or step == self.steps
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
          np.asarray(self.schedule(step - 1))
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
    if step == min(begin + run.profile_steps, self.steps):
      jax.block_until_ready(self.state)
      jax.profiler.stop_trace()
      self.recorder.note(f"profile of steps {begin} to {step}: {self.profile}")

  def close(self) -> None:
    """Ends what the run has opened."""
    self.recorder.close()
    self.checkpoints.close()


def main() -> None:
  """Trains what the flags say."""
  if _WORKDIR.value is None:
    raise PlainError("--workdir=DIR is missing")
  train(command.config(), pathlib.Path(_WORKDIR.value))


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "where the results go")
  command.run(main)
