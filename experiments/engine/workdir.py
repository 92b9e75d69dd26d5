"""The folder of a run belongs to one config."""

from collections.abc import Iterator
from collections.abc import Mapping
import json
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments.engine import settings
from experiments.engine.errors import UserError
from experiments.task import Config

# What of a config may differ when its run is continued.
MAY_DIFFER = ("run", "data_dir", "mesh", "num_workers", "sweep")


def claim(workdir: pathlib.Path, config: Config) -> None:
  """Makes the folder and writes config.json, or checks the one that is there.

  Raises:
    UserError: if the folder holds the run of another config.
    OSError: if it cannot be written.
  """
  path = workdir / "config.json"
  mine = json.loads(config.to_json())
  if path.exists():
    theirs = json.loads(read_config(path).to_json())
    found = list(differences(theirs, mine))
    # Without its checkpoints the run would begin anew.
    there, here = checkpoints(workdir, theirs), checkpoints(workdir, mine)
    if there != here:
      found.append(f"run.checkpoints is {there} there and {here} here")
    if found:
      raise UserError(
          f"{workdir} holds a run of another config: {'; '.join(found)}."
          " Take another --workdir, or the config of that run."
      )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    # Renaming is atomic: a kill in between leaves no half of a file.
    new = path.with_suffix(".new")
    new.write_text(json.dumps(mine, indent=2) + "\n")
    new.replace(path)


def read_config(path: pathlib.Path) -> Config:
  """The config of a run, complete: older files leave out defaults.

  Raises:
    UserError: if a setting in it is unknown.
  """
  config = ConfigDict(json.loads(path.read_text()))
  try:
    return settings.complete(config)
  except UserError as error:
    raise UserError(f"{path}: {error}") from error


def checkpoints(workdir: pathlib.Path, config: Mapping[str, Any]) -> str:
  """Where a config has a run's checkpoints: a folder or a URL."""
  # Older configs have no such key, and files of others not even "run".
  named = config.get("run", {}).get("checkpoints")
  return named or str(workdir / "checkpoints")


def find_checkpoints(workdir: pathlib.Path) -> str | None:
  """Where the checkpoints of a run are; None if the folder is not a run's."""
  written = workdir / "config.json"
  if written.is_file():
    config = json.loads(written.read_text())
    if "run" in config:  # A folder of transformers has such a file as well.
      return checkpoints(workdir, config)
  folder = workdir / "checkpoints"
  return str(folder) if folder.is_dir() else None


def differences(
    theirs: Mapping[str, Any], mine: Mapping[str, Any]
) -> Iterator[str]:
  """What of two configs differs and may not, with both values."""
  theirs, mine = _flat(theirs), _flat(mine)
  for key in sorted(theirs.keys() | mine.keys()):
    if key.split(".")[0] in MAY_DIFFER:
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
