"""Trains a config with every combination of the settings in `config.sweep`.

    python -m scripts.sweep --config=configs/glue.py:cola --workdir=DIR
        [--config.key=value ...]

Each run has a folder below DIR/VARIANT; the same command again resumes where it
was stopped. For each run the evaluation counts at which `config.best` is best.
DIR/sweep.json collects them; printed is what stands there of all variants that
were run with this DIR, the best of each, and the mean of those.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import itertools
import math
import pathlib
import re
from typing import Any

from absl import flags
import jax
import numpy as np
import rich.console
import rich.table

from experiments.data import atomic
from experiments.engine import command
from experiments.engine import record
from experiments.engine import settings
from experiments.engine.errors import UserError
from experiments.task import Config
from experiments.train import train

Row = dict[str, Any]
Found = dict[str, list[Row]]  # The rows of each variant.


def combinations(config: Config) -> Iterator[dict[str, Any]]:
  """Changes to the config, by flattened key, each with each.

  Raises:
    UserError: if the config has nothing to sweep over.
  """
  sweep = config.get("sweep")
  if not sweep:
    raise UserError(
        f"{command.CONFIG.value} has no section `sweep`, which says what is"
        " tried: {setting: (values, ...)}; configs/glue.py has one"
    )
  by_key = flat(sweep.to_dict())
  for values in itertools.product(*by_key.values()):
    yield dict(zip(by_key, values, strict=True))


def run(config: Config, changes: dict[str, Any], folder: pathlib.Path) -> Row:
  """Trains one combination, unless that is done; its best metrics."""
  config = settings.changed(config, changes)
  train(config.lock(), folder)
  # Compiled programs of other batch sizes are of no more use.
  jax.clear_caches()
  top = best_of([folder / "metrics.jsonl"], config)
  if top is None:
    raise UserError(f"{folder} has no {config.best!r}")
  return {
      "changes": changes,
      "step": top["step"],
      "metric": config.best,
      "score": top[config.best],
      "is_cost": not config.best_is_largest,
      "metrics": top,
  }


def best_of(files: Iterable[pathlib.Path], config: Config) -> Row | None:
  """All metrics of the evaluation at which `config.best` was best.

  Args:
    files: metrics.jsonl of one or more runs.
    config: theirs.

  Returns:
    None if none of them has measured it.
  """
  best, sign = config.best, 1 if config.best_is_largest else -1
  records = [
      found
      for file in files
      for found in record.read(file)
      if math.isfinite(found.get(best, math.nan))
  ]
  return max(records, key=lambda found: sign * found[best], default=None)


def flat(changes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Changes to single settings, of those to whole sections as well."""
  settings = {}
  for key, value in changes.items():
    if isinstance(value, Mapping):
      settings |= flat(value, f"{prefix}{key}.")
    else:
      settings[prefix + key] = value
  return settings


def shown(changes: Mapping[str, Any]) -> dict[str, str]:
  """Each change in short, without the sections of its key."""
  return {
      key.rpartition(".")[2]: value if isinstance(value, str) else f"{value:g}"
      for key, value in changes.items()
  }


def folder_name(changes: Mapping[str, Any]) -> str:
  """A folder's name that says what was changed."""
  text = "-".join("=".join(pair) for pair in shown(changes).items())
  return re.sub(r"[^\w.=-]+", "+", text)


def merged(file: pathlib.Path, variant: str, rows: list[Row]) -> Found:
  """All variants' rows in the file, with these added to it."""
  found = atomic.read_json(file) if file.exists() else {}
  found[variant] = rows
  atomic.write_json(file, found)
  return found


def best_row(rows: list[Row]) -> Row:
  """The run that is best by its own `config.best`."""
  return max(rows, key=lambda row: row["score"] * (-1) ** row["is_cost"])


def table(found: Found) -> rich.table.Table:
  """A line for each run, and one for the mean of the best ones."""
  lines = rich.table.Table("variant", "changes", "step", "metric", "score", "")
  tops = []
  for variant, rows in found.items():
    tops.append(best_row(rows))
    for row in rows:
      changes = ", ".join(map("=".join, shown(row["changes"]).items()))
      mark = "best" if row is tops[-1] else ""
      score = f"{row['score']:.2f}"
      lines.add_row(
          variant, changes, str(row["step"]), row["metric"], score, mark
      )
  if len(tops) > 1:
    mean = np.mean([row["score"] for row in tops])
    lines.add_row("", "", "", "mean of the best", f"{mean:.2f}", "")
  return lines


def main() -> None:
  """Runs what is missing, then prints."""
  if _WORKDIR.value is None:
    raise UserError("--workdir=DIR is missing")
  config, root = command.config(), pathlib.Path(_WORKDIR.value)
  file, _, variant = str(command.CONFIG.value).partition(":")
  variant = variant or pathlib.Path(file).stem
  rows = []
  for changes in combinations(config):
    folder = root / variant / folder_name(changes)
    rows.append(run(config, changes, folder))
    found = merged(root / "sweep.json", variant, rows)
  rich.console.Console().print(table(found))


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "where the results go")
  command.run(main)
