"""Trains a config with every combination of some settings, including seeds.

    python -m scripts.sweep --config=configs/quickstart.py --workdir=DIR
        --sweep='seed=0,1,2;schedule.peak=1e-3,3e-3' [--config.key=value ...]
    python -m scripts.sweep --config=configs/glue.py:cola --workdir=DIR

--sweep has settings with their values, separated by semicolons. Commas in
brackets or quotes belong to a value. The default is the config's section
`sweep`, which GLUE's configs have.

Each run has a folder below DIR/VARIANT, and the same command resumes a stopped
sweep. The result of a run is its best evaluation by `config.best`.
DIR/sweep.json collects the results. The command prints means over seeds with
standard errors, and the best combination of each variant in DIR.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
import math
import operator
import pathlib
import re
from typing import Any

from absl import flags
import jax
from ml_collections import ConfigDict
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
SEED = "seed"  # The setting whose values are repetitions of one run.


def parsed(text: str) -> dict[str, list[str]]:
  """The values of each setting, as they are written in --sweep.

  Raises:
    UserError: if it is written otherwise.
  """
  grid = {}
  for part in filter(str.strip, _split(text, ";")):
    path, equals, values = part.partition("=")
    path = path.strip().removeprefix("config.")
    if not equals or not path or path in grid:
      raise UserError(
          f"--sweep: {part.strip()!r} is not SETTING=VALUE,VALUE; settings are"
          " separated by semicolons, and each is there once"
      )
    grid[path] = [value.strip() for value in _split(values, ",")]
  if not grid:
    raise UserError("--sweep has no settings: 'seed=0,1,2;schedule.peak=1e-3'")
  return grid


def _split(text: str, separator: str) -> list[str]:
  """A text at each separator that is in no brackets and no quotes."""
  parts, depth, quote = [""], 0, ""
  for letter in text:
    if letter == quote:
      quote = ""
    elif not quote:
      quote = letter if letter in "\"'" else ""
      depth += (letter in "([{") - (letter in ")]}")
      if letter == separator and depth == 0:
        parts.append("")
        continue
    parts[-1] += letter
  return parts


def combinations(
    config: Config, text: str | None = None
) -> Iterator[tuple[dict[str, Any], Config]]:
  """(changes by flattened key, the changed config), each value with each.

  Args:
    config: complete.
    text: as of --sweep; None: what the config's own section says.

  Raises:
    UserError: if there is nothing to sweep over, or a setting cannot be set.
  """
  grid: Mapping[str, Sequence[Any]]
  if text is not None:
    grid = parsed(text)
  elif config.get("sweep"):
    grid = flat(config.sweep.to_dict())
  else:
    raise UserError(
        "--sweep='SETTING=VALUE,VALUE;...' is missing, and"
        f" {command.CONFIG.value} has no section `sweep`"
    )
  for values in itertools.product(*grid.values()):
    changes = dict(zip(grid, values, strict=True))
    changed = settings.changed(config, changes, are_texts=text is not None)
    yield {path: _value(changed, path) for path in changes}, changed


def _value(config: Config, path: str) -> Any:
  value = functools.reduce(operator.getitem, path.split("."), config)
  return value.to_dict() if isinstance(value, ConfigDict) else value


def run(config: Config, changes: dict[str, Any], folder: pathlib.Path) -> Row:
  """Trains one combination, unless that is done; its best metrics."""
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
      key.rpartition(".")[2]: f"{value:g}"
      if type(value) in (int, float)
      else str(value)
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


def by_seed(rows: Iterable[Row]) -> list[list[Row]]:
  """The rows of each combination, which differ in their seeds alone."""
  groups: dict[str, list[Row]] = {}
  for row in rows:
    others = {k: v for k, v in row["changes"].items() if k != SEED}
    groups.setdefault(folder_name(others), []).append(row)
  return list(groups.values())


def mean_of(rows: Sequence[Row]) -> tuple[float, float]:
  """(mean, its standard error) of scores; of one run, the error is NaN."""
  scores = [row["score"] for row in rows]
  error = math.nan
  if len(scores) > 1:
    error = float(np.std(scores, ddof=1) / math.sqrt(len(scores)))
  return float(np.mean(scores)), error


def best_group(groups: Sequence[list[Row]]) -> list[Row]:
  """The combination whose mean is best by its own `config.best`."""
  return max(
      groups, key=lambda rows: mean_of(rows)[0] * (-1) ** rows[0]["is_cost"]
  )


def table(found: Found) -> rich.table.Table:
  """A line for each combination, and one for the mean of the best ones."""
  lines = rich.table.Table("variant", "changes", "metric")
  for column in ("runs", "mean", "standard error", ""):
    lines.add_column(column, justify="right")
  tops = []
  for variant, rows in found.items():
    groups = by_seed(rows)
    top = best_group(groups)
    for group in groups:
      mean, error = mean_of(group)
      others = {k: v for k, v in group[0]["changes"].items() if k != SEED}
      lines.add_row(
          variant,
          ", ".join(map("=".join, shown(others).items())),
          group[0]["metric"],
          str(len(group)),
          f"{mean:.4g}",
          "–" if math.isnan(error) else f"{error:.2g}",
          "best" if group is top else "",
      )
    tops.append(mean_of(top)[0])
  if len(tops) > 1:
    lines.add_row(
        "", "", "mean of the best", "", f"{np.mean(tops):.4g}", "", ""
    )
  return lines


def main() -> None:
  """Runs what is missing, then prints."""
  if _WORKDIR.value is None:
    raise UserError("--workdir=DIR is missing")
  config, root = command.config(), pathlib.Path(_WORKDIR.value)
  file, _, variant = str(command.CONFIG.value).partition(":")
  variant = variant or pathlib.Path(file).stem
  rows: list[Row] = []
  # All of them are looked at before the first one is trained.
  every = list(combinations(config, _SWEEP.value))
  for number, (changes, changed) in enumerate(every, start=1):
    folder = root / variant / folder_name(changes)
    print(f"run {number} of {len(every)}: {folder}", flush=True)
    rows.append(run(changed, changes, folder))
    found = merged(root / "sweep.json", variant, rows)
  rich.console.Console().print(table(found))


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "folder of the runs")
  _SWEEP = flags.DEFINE_string(
      "sweep",
      None,
      "grid: 'SETTING=VALUE,VALUE;SETTING=VALUE,VALUE'",
  )
  command.run(main)
