"""The folder of a run belongs to one config."""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import json
import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments.data import atomic
from experiments.engine import lock
from experiments.engine import settings
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.task import Config

# What of a config may differ when its run is continued.
MAY_DIFFER = (
    "run",
    "data_dir",
    "folder",  # Its name is in train.name.
    "mesh",
    "num_workers",
    "sweep",
    "class_names",  # Older runs have none of AudioSet's and Kinetics'.
)
# What may differ as well where a run is to be longer than it was.
LONGER = ("train_examples", "schedule")
# What a run's folder may hold under these names.
FILES = (
    "config.json",
    "metrics.jsonl",
    "starts.jsonl",
    lock.LOCK,
    lock.OWNER,
)
FOLDERS = (
    "checkpoints",
    "logs",
    "figures",
    "profile",
    "tensorboard",
    "wandb",
)


def check_kinds(workdir: pathlib.Path) -> None:
  """Looks whether all that is there could be a run's.

  Raises:
    UserError: if a file is where a folder should be, or the other way round.
  """
  for names, is_right, kind in (
      (FILES, pathlib.Path.is_file, "file"),
      (FOLDERS, pathlib.Path.is_dir, "folder"),
  ):
    for path in (workdir / name for name in names):
      if os.path.lexists(path) and not is_right(path):
        raise UserError(f"{path} is not a {kind}; move it away")


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: Config) -> Iterator[list[str]]:
  """Holds the folder for a run; makes it and config.json, or checks these.

  A run may be made longer: its folder has its new config then.

  Yields:
    what makes it longer, with both values; in a job, of process 0 alone.

  Raises:
    UserError: if another run holds the folder, it is of another config, or its
      config.json is damaged.
    OSError: if it cannot be written.
  """
  is_first = jax.process_index() == 0  # It holds it for all of a job.
  with lock.locked(workdir) if is_first else contextlib.nullcontext():
    yield _check(workdir, config)


def _check(workdir: pathlib.Path, config: Config) -> list[str]:
  path, longer = workdir / "config.json", []
  mine, theirs = json.loads(config.to_json()), None
  if path.exists():
    theirs = json.loads(read_config(path).to_json())
    found = list(differences(theirs, mine))
    if is_longer(theirs, mine):
      longer = list(_differences(theirs, mine, set(mine) - set(LONGER)))
    # Without its checkpoints the run would begin again.
    there, here = checkpoints(workdir, theirs), checkpoints(workdir, mine)
    if there != here:
      found.append(f"run.checkpoints is {there} there and {here} here")
    if found:
      raise UserError(
          f"{workdir} holds a run of another config: {'; '.join(found)}."
          " Use another --workdir, or the config of that run."
      )
  if jax.process_index() == 0 and mine != theirs:
    atomic.write_json(path, mine)
  return longer


def read_config(path: pathlib.Path) -> Config:
  """The config of a run, complete: older files leave out defaults.

  Raises:
    UserError: if it is damaged, or a setting in it is unknown.
  """
  written = read_object(path)
  try:
    if not isinstance(written.get("task"), str):
      raise UserError("it names no task")
    with user_errors("the config"):
      return settings.complete(ConfigDict(written))
  except UserError as error:
    raise UserError(f"{path}: {error}") from error


def completed(written: Mapping[str, Any]) -> Mapping[str, Any]:
  """A config as it is in JSON, with the settings that it lacks.

  One that this version cannot read stays as it is.
  """
  try:
    return json.loads(settings.complete(ConfigDict(written)).to_json())
  except (UserError, AttributeError):
    return written


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """What is in a config.json.

  Raises:
    UserError: if it is no JSON object.
  """
  try:
    written = atomic.read_json(path)
    if not isinstance(written, dict):
      raise ValueError("it is not a JSON object")
    return written
  except (ValueError, RecursionError) as error:
    raise UserError(
        f"{path} is damaged ({error}); remove it to resume with the config in"
        " the checkpoints"
    ) from error


def checkpoints(workdir: pathlib.Path, config: Mapping[str, Any]) -> str:
  """Where a config has a run's checkpoints: a folder or a URL."""
  # Older configs have no such key, and files of others not even "run".
  run = config.get("run")
  named = run.get("checkpoints") if isinstance(run, Mapping) else None
  return named or str(workdir / "checkpoints")


def find_checkpoints(workdir: pathlib.Path) -> str | None:
  """Where the checkpoints of a run are; None if the folder is not a run's.

  Raises:
    UserError: if its config.json is damaged.
  """
  written = workdir / "config.json"
  if written.is_file():
    config = read_object(written)
    if "run" in config:  # A folder of transformers has such a file as well.
      return checkpoints(workdir, config)
  folder = workdir / "checkpoints"
  return str(folder) if folder.is_dir() else None


def differences(
    theirs: Mapping[str, Any], mine: Mapping[str, Any]
) -> Iterator[str]:
  """What of two configs differs and may not, with both values.

  Args:
    theirs: of a run that has begun.
    mine: of how it is to continue; it may be longer, with another schedule.
  """
  longer = LONGER if is_longer(theirs, mine) else ()
  return _differences(theirs, mine, {*MAY_DIFFER, *longer})


def is_longer(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
  """Whether a run is to see more examples than it was to see before."""
  there, here = (config.get("train_examples") for config in (theirs, mine))
  return isinstance(there, int) and isinstance(here, int) and here > there


def _differences(
    theirs: Mapping[str, Any], mine: Mapping[str, Any], without: Collection[str]
) -> Iterator[str]:
  theirs, mine = _flat(theirs), _flat(mine)
  for key in sorted(theirs.keys() | mine.keys()):
    if key.split(".")[0] in without:
      continue
    if theirs.get(key) != mine.get(key):
      yield f"{key} is {theirs.get(key)!r} there and {mine.get(key)!r} here"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat
