"""Evaluates a checkpoint on a task's evals.

python -m experiments.evaluate --workdir=DIR [--config=configs/X.py]
    [--checkpoint=latest|best|STEP[:ema]] [--json=FILE|-]

By default the config is that of the run. --config.key=value changes it.
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
import pathlib
from typing import Any
import warnings

from absl import flags
import haiku as hk
import jax
import numpy as np

from experiments import task as task_lib
from experiments.data import pipeline
from experiments.engine import command
from experiments.engine import positions
from experiments.engine import sharding
from experiments.engine import step as step_lib
from experiments.engine import workdir as workdir_lib
from experiments.engine.build import build
from experiments.engine.build import fitted
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.screen import FIRST_TIME
from experiments.engine.screen import Screen
from experiments.engine.screen import table
from experiments.engine.state import Model

Figures = dict[str, task_lib.Drawn]


class Evaluate:
  """A function model -> (metrics, figures), named EVAL/METRIC, EVAL/FIGURE.

  Rows that only fill a batch count for nothing, so the metrics are those of the
  split, whatever the batch size and the number of devices. Data is read once:
  figures are of the first batch that is measured.
  """

  def __init__(
      self,
      evals: Mapping[str, task_lib.Eval],
      net: hk.TransformedWithState,
      layout: sharding.Layout,
      screen: Screen | None = None,
  ):
    """Prepares it.

    Args:
      evals: the evaluations.
      net: the forward function.
      layout: layout of the devices.
      screen: shows the progress; None: no output.
    """
    self._evals, self._mesh = evals, layout.mesh
    self._screen = screen or Screen(is_active=False)
    self._compiled: set[str] = set()
    self._shard = sharding.part_of_batches(layout.mesh)
    self._steps = {
        name: step_lib.compile_eval_step(
            net, functools.partial(measured_and_drawn, e), layout
        )
        for name, e in evals.items()
    }

  def __call__(
      self, model: Model, ending: str = ""
  ) -> tuple[dict[str, float], Figures]:
    """Evaluates a model.

    Args:
      model: with numbers.
      ending: added to the names of the evals.

    Raises:
      UserError: if an eval has no examples.
    """
    metrics, figures = {}, {}
    for name, e in self._evals.items():
      values, drawn = self._run(name, model)
      for key, value in e.summarize(values).items():
        metrics[f"{name}{ending}/{key}"] = value
      if e.draw is not None:
        for key, figure in e.draw(*drawn).items():
          figures[f"{name}{ending}-{key}"] = figure
      if e.draw_all is not None:
        for key, figure in e.draw_all(values).items():
          figures[f"{name}{ending}-{key}"] = figure
    if any(e.sample is not None for e in self._evals.values()):
      model = sharding.on_one_device(model, self._mesh)
    for name, e in self._evals.items():
      if e.sample is not None and jax.process_index() == 0:
        self._screen.line(f"generating samples of {name!r}")
        for key, sample in e.sample(model).items():
          figures[f"{name}{ending}-{key}"] = sample
    return metrics, figures

  def trace(self, like: Model) -> dict[str, list[str] | None]:
    """Traces each eval with the shapes of its first batch.

    Args:
      like: shapes and shardings of the model.

    Returns:
      the names of what each eval measures; None if they depend on numbers.

    Raises:
      UserError: if an eval has no examples, or a batch that the model, or what
        is measured, does not fit.
    """
    found = {}
    for name, step in self._steps.items():
      e = self._evals[name]
      with user_errors(f"eval {name!r}"):
        batch = next(iter(e.data(self._shard)), None)
        if batch is None:
          raise UserError(f"eval {name!r} has no examples")
        shapes, *_ = step.eval_shape(like, sharding.spread(batch, self._mesh))
      found[name] = _metric_names(e, shapes)
    return found

  def _run(self, name: str, model: Model):
    """The measurements of all examples, and figures."""
    parts: list[dict[str, np.ndarray]] = []
    drawn: Any = None
    data = self._evals[name].data(self._shard)
    total = pipeline.number_of_batches(data)
    if name not in self._compiled:
      self._compiled.add(name)
      batches = f", {total} batches" if total else ""
      self._screen.line(
          f"compiling the evaluation {name!r}{batches}: {FIRST_TIME}"
      )
    for batch in self._screen.tracked(f"evaluating {name}", data, total):
      batch = sharding.spread(batch, self._mesh)
      *measured, some = self._steps[name](model, batch)
      if not parts:
        drawn = jax.device_get(some)
      values, real = jax.device_get(measured)
      parts.append({key: value[real] for key, value in values.items()})
    if not parts:
      raise UserError(f"eval {name!r} has no examples")
    values = {
        key: np.concatenate([part[key] for part in parts]) for key in parts[0]
    }
    return values, drawn


def measured_and_drawn(e: task_lib.Eval, outputs, batch):
  """The outputs of the devices: measurements, "real", and rows to draw.

  Outputs may be far larger than what is measured of them, so they are cut here,
  where the compiler sees that no more is needed.
  """
  rows = None
  if e.draw is not None:
    rows = jax.tree.map(lambda x: x[e.draw_rows], (outputs, batch))
  return e.measure(outputs, batch), batch["real"], rows


def _metric_names(e: task_lib.Eval, shapes: Any) -> list[str] | None:
  # Of zeros, some could not be divided by how many there are.
  ones = {key: np.ones(x.shape, x.dtype) for key, x in shapes.items()}
  try:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
      warnings.simplefilter("ignore")  # Means of nothing.
      return list(e.summarize(ones))
  except Exception:  # Whatever a task's code raises at numbers that are none.
    return None


def evaluate(
    config,
    workdir: pathlib.Path,
    which: str,
    screen: Screen | None = None,
) -> dict[str, float]:
  """Metrics of a checkpoint; `config` may differ from that of its training.

  Args:
    config: config of the evaluation.
    workdir: the run's folder.
    which: checkpoint.
    screen: as of `Evaluate`.

  Raises:
    UserError: if there is no such checkpoint, or it is another model's.
  """
  place = config.run.checkpoints or workdir_lib.find_checkpoints(workdir)
  if place is None:
    raise UserError(f"there are no checkpoints in {workdir}")
  config, _ = fitted(config)
  written = workdir / "config.json"
  trained = workdir_lib.read_config(written) if written.exists() else config
  config, notes = positions.keep_resolutions(config, trained, workdir)
  built = build(config)
  checkpoints = Checkpoints(
      place,
      best=config.best or None,
      best_is_largest=config.best_is_largest,
      read_only=True,
  )
  like = built.like.model
  saved, step = checkpoints.restore_model(
      positions.as_saved(like, trained, config), which
  )
  model, more = positions.fitted(saved, like, trained, config)
  screen = screen or Screen(is_active=False)
  for note in (*notes, *more):
    screen.line(note)
  evals = {  # Nobody would see their samples.
      name: dataclasses.replace(e, sample=None)
      for name, e in built.task.evals.items()
  }
  run = Evaluate(evals, built.net, built.layout, screen)
  metrics, _ = run(model)
  return {"step": step, **metrics}


def main() -> None:
  """Prints the metrics: as a table, or as JSON."""
  if not _WORKDIR.value:
    raise UserError("--workdir=DIR is missing")
  workdir = pathlib.Path(_WORKDIR.value)
  is_first = jax.process_index() == 0
  config, is_only_json = command.config(), _JSON.value == "-"
  if config is None:
    file = workdir / "config.json"
    if not file.is_file():
      raise UserError(f"there is no {file}: --config=configs/FILE.py[:variant]")
    config = command.changed(workdir_lib.read_config(file))
  with Screen(is_first and not is_only_json) as screen:
    metrics = evaluate(config, workdir, _CHECKPOINT.value, screen)
    step = metrics["step"]
    shown = {name: x for name, x in metrics.items() if name != "step"}
    screen.line(f"step {step}:\n{table(shown, config.best)}")
  if is_first and is_only_json:
    print(json.dumps(metrics))
  elif is_first and _JSON.value:
    pathlib.Path(_JSON.value).write_text(json.dumps(metrics) + "\n")


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder")
  _CHECKPOINT = flags.DEFINE_string(
      "checkpoint",
      "latest",
      '"latest", "best" or a step; ":ema" after it: averaged parameters',
  )
  _JSON = flags.DEFINE_string(
      "json", None, "a file for the metrics; -: print only the metrics"
  )
  command.run(main, needs_config=False)
