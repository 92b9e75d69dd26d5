"""The folder of a run belongs to one config."""

from collections.abc import Iterator
from collections.abc import Mapping
import json
import pathlib
from typing import Any

import jax

from experiments.task import Config
from experiments.task import PlainError

# What of a config may differ when its run is continued.
MAY_DIFFER = ("run", "data_dir", "mesh", "num_workers", "sweep")


def claim(workdir: pathlib.Path, config: Config) -> None:
  """Makes the folder and writes config.json, or checks the one that is there.

  Raises:
    PlainError: if the folder holds the run of another config.
    OSError: if it cannot be written.
  """
  path = workdir / "config.json"
  mine = json.loads(config.to_json())
  if path.exists():
    theirs = json.loads(path.read_text())
    differences = list(_differences(theirs, mine))
    if differences:
      raise PlainError(
          f"{workdir} holds a run of another config: {'; '.join(differences)}."
          " Take another --workdir, or the config of that run."
      )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    # Renaming is atomic: a kill in between leaves no half of a file.
    new = path.with_suffix(".new")
    new.write_text(json.dumps(mine, indent=2) + "\n")
    new.replace(path)


def _differences(
    theirs: Mapping[str, Any], mine: Mapping[str, Any]
) -> Iterator[str]:
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
