"""Checkpoints that survive kills, full disks and damaged files.

A checkpoint holds the model, the rest of the training state, the config, and a
checksum of every array, which restoring compares. The position in the data is
the step: nothing in a checkpoint depends on the number of devices, processes or
workers.
"""

from collections.abc import Mapping
import itertools
import json
import math
import os
from typing import Any

from etils import epath
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from experiments.engine import storage
from experiments.engine import workdir as workdir_lib
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.engine.state import TrainState

# Of a checkpoint, JSON: what Orbax says of it; what evaluation has measured.
METADATA, METRICS = "_CHECKPOINT_METADATA", "metrics/metrics"


class Checkpoints:
  """The checkpoints of one run, in PLACE/STEP."""

  def __init__(
      self,
      place: str | os.PathLike[str],
      config: Mapping[str, Any] | None = None,
      keep: int = 2,
      best: str | None = None,
      best_is_largest: bool = True,
      note=print,
      read_only: bool = False,
  ):
    """Opens the folder.

    Args:
      place: a folder, or a URL that `storage.place` knows.
      config: what the run is made of; saved with every checkpoint.
      keep: number of the newest checkpoints to keep.
      best: the metric whose best checkpoint stays too; None: no such one.
      best_is_largest: whether more of that metric is better.
      note: called with a line when a person should know something.
      read_only: leave everything as it is, for a run may be writing there.

    Raises:
      UserError: if the place cannot be used, or has another run's checkpoints.
    """
    self._note = note
    self._config = config
    policies: list[Any] = [checkpoint_managers.LatestN(keep)]
    best_fn: Any = None
    if best is not None and not read_only:
      worst = -math.inf if best_is_largest else math.inf

      def value_of(metrics: Mapping[str, float]) -> float:
        value = metrics.get(best, math.nan)
        return value if math.isfinite(value) else worst

      best_fn = value_of
      policies.append(
          checkpoint_managers.BestN(
              get_metric_fn=best_fn,
              reverse=not best_is_largest,
              n=1,
              keep_checkpoints_without_metrics=False,
          )
      )
    self._best, self._best_is_largest = best, best_is_largest
    self._keep = keep
    self._folder = storage.place(place)
    if read_only and not self._folder.is_dir():
      raise UserError(f"there are no checkpoints in {self._folder}")
    if config is not None:
      self._check_owner(config)
    self._check_side_files(read_only)
    handlers: Any = {
        "model": ocp.StandardCheckpointHandler(),
        "ema": ocp.StandardCheckpointHandler(),
        "rest": ocp.StandardCheckpointHandler(),
        "about": ocp.JsonCheckpointHandler(),
    }
    self._manager = ocp.CheckpointManager(
        self._folder,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                policies
            ),
            best_fn=best_fn,
            best_mode="max" if best_is_largest else "min",
            atomicity_options=storage.atomicity(self._folder),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        ),
        item_handlers=handlers,
    )

  def save(self, state: TrainState) -> None:
    """Starts to write a checkpoint; returns once the arrays may change again.

    Raises:
      OSError, ValueError: if the one before could not be written.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    checksums = {k: int(v) for k, v in _checksums(state._asdict()).items()}
    averaged = state.averaged()
    ema = {} if averaged is None else {"ema": averaged._asdict()}
    self._manager.save(
        step,
        args=ocp.args.Composite(
            model=ocp.args.StandardSave(state.model._asdict()),
            **{name: ocp.args.StandardSave(x) for name, x in ema.items()},
            rest=ocp.args.StandardSave(_rest(state)),
            about=ocp.args.JsonSave(
                {"checksums": checksums, "config": self._config}
            ),
        ),
    )

  def measured(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds metrics to a checkpoint.

    Raises:
      OSError, ValueError: if it could not be written.
    """
    self._manager.wait_until_finished()
    if jax.process_index() == 0:
      file = self._folder / str(step) / METRICS
      file.parent.mkdir(exist_ok=True)
      part = file.parent / "part"  # The whole file appears at once.
      part.write_text(json.dumps(dict(metrics)))
      part.replace(file)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"measured step {step}")
    self._manager.reload()
    steps = sorted(self._manager.all_steps())
    stays = {*steps[-self._keep :], self._manager.best_step()}
    for other in set(steps) - stays:  # It was the best until now.
      self._manager.delete(other)

  def metrics(self, step: int) -> Mapping[str, float] | None:
    """The metrics of a checkpoint, or None."""
    return self._manager.metrics(step)

  def restore(self, like: TrainState) -> TrainState | None:
    """The newest intact checkpoint; None if there are no checkpoints.

    Those that are newer, and damaged, are reported and moved aside.

    Args:
      like: shapes and shardings of the state; the saved one's may have been
        others.

    Raises:
      UserError: if there are checkpoints and none can be read.
    """
    damaged: list[tuple[int, str]] = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      state, problem = self._try(step, like)
      if state is not None:
        if damaged:
          if jax.process_index() == 0:
            self._move_aside(damaged)
          _wait_for_process_0()
          self._manager.reload()
        return state
      damaged.append((step, problem))
    if damaged:
      reasons = "; ".join(f"{step}: {problem}" for step, problem in damaged)
      raise UserError(f"no checkpoint in {self._folder} can be read: {reasons}")
    return None

  def restore_model(self, like: Model, which: str = "latest"):
    """A model to evaluate, with the step that it was saved at.

    Args:
      like: shapes and shardings of the model.
      which: "latest", "best", or a step. With ":ema" behind it, parameters
        are those that were averaged.

    Raises:
      UserError: if there is no such checkpoint, or it cannot be read.
    """
    which, _, kind = which.partition(":")
    if kind not in ("", "ema"):
      raise UserError(f"checkpoint {which}:{kind}: only :ema is possible")
    step, item = self._find(which), kind or "model"
    try:
      if not (self._folder / str(step) / item).is_dir() and item == "ema":
        raise UserError(
            f"{self._folder / str(step)} has no average of the parameters:"
            " config.ema was 0"
        )
      self._check_shapes(step, like, item)
      restored = self._manager.restore(
          step,
          args=ocp.args.Composite(
              **{item: ocp.args.StandardRestore(like._asdict())},
              about=ocp.args.JsonRestore(),
          ),
      )
      model = Model(**restored[item])
      held: dict[str, Any] = {"model": model}
      if item == "ema":
        held = {"model": Model({}, model.net_state), "ema": model.params}
      problem = _difference(_checksums(held), restored["about"]["checksums"])
    except UserError:
      raise
    except Exception as error:  # Whatever the libraries raise at bad files.
      raise UserError(f"{self._folder / str(step)}: {_line(error)}") from error
    if problem:
      raise UserError(f"{self._folder / str(step)}: {problem}")
    return model, step

  def last_good(self) -> str:
    """Names the newest finished checkpoint, for messages."""
    self._manager.wait_until_finished()
    step = self._manager.latest_step()
    return "none" if step is None else str(self._folder / str(step))

  def wait(self) -> None:
    """Waits until everything is written.

    Raises:
      OSError, ValueError: if something could not be.
    """
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits until everything is written, and closes the folder."""
    self._manager.close()

  def _check_owner(self, config: Mapping[str, Any]) -> None:
    """Compares the config with that of the newest readable checkpoint."""
    steps = [int(p.name) for p in _listed(self._folder) if p.name.isdigit()]
    for step in sorted(steps, reverse=True):
      file = self._folder / str(step) / "about" / "metadata"
      try:
        theirs = workdir_lib.completed(_read_object(file)["config"])
        differences = list(workdir_lib.differences(theirs, config))
      except (OSError, ValueError, KeyError, AttributeError):
        continue  # Restoring says what is damaged.
      if differences:
        raise UserError(
            f"{self._folder} has checkpoints of another config:"
            f" {'; '.join(differences)}. Use another --config.run.checkpoints."
        )
      return

  def _check_side_files(self, read_only: bool) -> None:
    """Moves checkpoints with damaged JSON files aside.

    It reads those of all checkpoints when it opens the folder.
    """
    if jax.process_index() == 0:
      best = None if read_only else self._best
      found = {
          int(path.name): _side_problem(path, best)
          for path in _listed(self._folder)
          if path.name.isdigit()
      }
      damaged = [(step, text) for step, text in found.items() if text]
      if damaged and (read_only or len(damaged) == len(found)):
        reasons = "; ".join(problem for _, problem in sorted(damaged))
        raise UserError(f"checkpoints are damaged: {reasons}")
      self._move_aside(damaged)
    _wait_for_process_0()

  def _find(self, which: str) -> int:
    steps = sorted(self._manager.all_steps())
    if not steps:
      raise UserError(f"there is no checkpoint in {self._folder}")
    if which == "latest":
      return steps[-1]
    if which == "best":
      scores = {step: self._score(step) for step in steps}
      evaluated = {k: v for k, v in scores.items() if v is not None}
      if not evaluated:
        raise UserError(
            f"no checkpoint in {self._folder} was evaluated with config.best ="
            f" {self._best!r}"
        )
      sign = 1 if self._best_is_largest else -1
      return max(evaluated, key=lambda step: (sign * evaluated[step], step))
    if which not in map(str, steps):
      raise UserError(f"{self._folder} has steps {steps}, not {which!r}")
    return int(which)

  def _score(self, step: int) -> float | None:
    """The metric that selects the best checkpoint; None if not measured."""
    file = self._folder / str(step) / METRICS
    metrics = _read_object(file) if file.exists() else {}
    score = metrics.get(self._best or "")
    is_score = isinstance(score, int | float) and math.isfinite(score)
    return score if is_score else None

  def _check_shapes(self, step: int, like: Model, item: str = "model") -> None:
    saved = _shapes(self._manager.item_metadata(step)[item])
    if not saved:
      raise ValueError("it lists no arrays")
    wanted = _shapes(like._asdict())
    wrong = [
        f"{path} is {saved.get(path)} there and {wanted.get(path)} here"
        for path in sorted(saved.keys() | wanted.keys())
        if saved.get(path) != wanted.get(path)
    ]
    if wrong:
      raise UserError(
          f"{self._folder / str(step)} is of another model: {len(wrong)} arrays"
          f" differ: {'; '.join(wrong[:10])}"
      )

  def _try(self, step, like):
    """(state, "") if every process could read the checkpoint whole."""
    state, problem = None, ""
    try:
      self._check_shapes(step, like.model)
      averaged = like.averaged()
      ema = {} if averaged is None else {"ema": averaged._asdict()}
      restored = self._manager.restore(
          step,
          args=ocp.args.Composite(
              model=ocp.args.StandardRestore(like.model._asdict()),
              **{name: ocp.args.StandardRestore(x) for name, x in ema.items()},
              rest=ocp.args.StandardRestore(_rest(like)),
              about=ocp.args.JsonRestore(),
          ),
      )
      state = TrainState(
          model=Model(**restored["model"]),
          ema=restored["ema"]["params"] if ema else None,
          **restored["rest"],
      )
      problem = _difference(
          _checksums(state._asdict()), restored["about"]["checksums"]
      )
    except UserError:
      raise
    except Exception as error:  # Whatever the libraries raise at bad files.
      problem = _line(error)
    if jax.process_count() > 1:
      all_good = multihost_utils.process_allgather(np.asarray(not problem))
      if not np.all(all_good):
        problem = problem or "another process could not read it"
    return (None, problem) if problem else (state, "")

  def _move_aside(self, damaged) -> None:
    for step, problem in damaged:
      path = self._folder / str(step)
      aside = _free(path.with_name(f"damaged-{step}"))
      self._note(
          f"checkpoint {path} is damaged ({problem}); moved to {aside.name}"
      )
      storage.move(path, aside)


def _wait_for_process_0() -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("moved damaged checkpoints aside")


def _free(path: epath.Path) -> epath.Path:
  """An unused path: the path itself, or the path with a number."""
  names = (path.with_name(f"{path.name}-{i}") for i in itertools.count(2))
  return next(p for p in itertools.chain([path], names) if not p.exists())


def _read_object(path: epath.Path) -> dict[str, Any]:
  """The JSON object in a file.

  Raises:
    ValueError: if there is none.
  """
  try:
    value = json.loads(path.read_text())
  except RecursionError as error:
    raise ValueError("nested too deeply") from error
  if not isinstance(value, dict):
    raise ValueError("it is not a JSON object")
  return value


def _side_problem(checkpoint: epath.Path, best: str | None) -> str:
  """The problem of a checkpoint's JSON files; "" if there is none."""
  path = checkpoint
  try:
    if not checkpoint.is_dir():
      return f"{checkpoint} is no folder"
    for path in (checkpoint / METADATA, checkpoint / METRICS):
      found = _read_object(path) if path.exists() else {}
    if path.exists() and best and not isinstance(found.get(best), int | float):
      return f"{path}: {best} is {found.get(best)!r}, no number"
  except (OSError, ValueError) as error:
    return f"{path}: {_line(error)}"
  return ""


def _listed(folder: epath.Path) -> list[epath.Path]:
  return list(folder.iterdir()) if folder.is_dir() else []


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
      jax.tree_util.keystr(path, simple=True, separator="/"): tuple(x.shape)
      for path, x in leaves
  }


def _rest(state: TrainState) -> dict[str, Any]:
  rest = state._asdict()
  del rest["model"], rest["ema"]  # Items of their own.
  return rest


@jax.jit
def _checksums(tree) -> dict[str, jax.Array]:
  """By path, the sum of each array's bits as unsigned words, modulo 2³²."""

  def checksum(x):
    if x.dtype == jnp.bool_:
      x = x.astype(jnp.uint8)
    words = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    x = jax.lax.bitcast_convert_type(x, words)
    return jnp.sum(x.astype(jnp.uint32), dtype=jnp.uint32)

  return {
      jax.tree_util.keystr(path): checksum(x)
      for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


def _difference(found, saved: Mapping[str, int]) -> str:
  wrong = [path for path, value in found.items() if int(value) != saved[path]]
  return f"{len(wrong)} arrays changed, the first {wrong[0]}" if wrong else ""


def _line(error: Exception) -> str:
  """The gist of an error that may have a page of text."""
  text = " ".join(str(error).split())
  return f"{type(error).__name__}: {text[:200]}"
