"""Prints the papers' tables with the numbers of the models here.

    python -m scripts.reproduce --table=7 [--columns=params,flops,top1]
        [--markdown] [--json=FILE] [--runs=DIR,DIR]
    python -m scripts.reproduce --all
    python -m scripts.reproduce --table=7 --shell=FILE

Parameters and FLOPs are counted without data. Results of training are read from
finished runs, and the commands for each row are printed, beginning with its
data. --shell writes the commands of the small rows as a script. The exit code
is 1 if a count differs without a reason in configs/tables.py.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import functools
import importlib
import json
import pathlib
import shlex
import sys
from typing import Any

from absl import app
from absl import flags
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text

from configs import glue
from configs.tables import COLUMNS
from configs.tables import DATA
from configs.tables import METRICS
from configs.tables import PRETRAINED
from configs.tables import Row
from configs.tables import TABLES
from experiments.engine import command
from experiments.engine import settings
from experiments.engine.build import build_network
from experiments.engine.errors import UserError
from scripts.sweep import best_of
from scripts.sweep import flat

COUNTED = ("params", "flops")
TOLERANCE = 0.01  # Of the printed number.
NOTHING = "–"
FILLED = "These commands lead to it:"


@dataclasses.dataclass(frozen=True)
class Figure:
  """One number of a table, and ours."""

  table: str
  row: Row
  column: str
  paper: str | None  # As printed.
  ours: float | None  # None: training would tell.
  fit: float | None  # Ours by the reason: counted or changed as it says.

  @property
  def difference(self) -> float | None:
    """The relative difference from the paper's number."""
    if self.paper is None or self.ours is None:
      return None
    return self.ours / value_of(self.paper) - 1

  @property
  def agrees(self) -> bool:
    """Whether ours rounds to the paper's number, or is as good."""
    if self.column not in COUNTED or self.ours is None:
      return True
    return is_close(self.paper, self.ours)

  @property
  def reason(self) -> str | None:
    """Why they differ."""
    reason = self.row.reasons.get(self.column)
    if reason is None:
      return None
    changes = ", ".join(f"{k}={v}" for k, v in flat(reason.fits).items())
    return f"{reason.text} As noted: {changes}." if changes else reason.text


def value_of(printed: str) -> float:
  """407e9 of "407B"."""
  scale = {"M": 1e6, "B": 1e9, "T": 1e12}.get(printed[-1], 1.0)
  return float(printed.rstrip("MBT")) * scale


def shown(number: float | None) -> str:
  """Four digits: "406.1B" of 406.12e9."""
  if number is None:
    return NOTHING
  for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
    if number >= scale:
      return f"{number / scale:#.4g}".rstrip(".") + unit
  return f"{number:,.0f}"


def is_close(paper: str | None, ours: float) -> bool:
  """Whether a number rounds to the printed one, or is within the tolerance."""
  if paper is None:
    return True
  number = value_of(paper)
  digits = paper.rstrip("MBT")
  unit = number / float(digits) * 10.0 ** -len(digits.partition(".")[2])
  return abs(ours - number) <= max(unit / 2, TOLERANCE * number)


def config_of(row: Row, changes: Mapping[str, Any] | None = None) -> Any:
  """The config of a row, with more changes if there are any.

  Raises:
    UserError: if a change is to something that the config does not have.
  """
  name = row.config.replace("TASK", "cola")
  return settings.load(name, {**row.changes, **(changes or {})})


def counts(config: Any) -> Mapping[str, float]:
  """Parameters and FLOPs of a model."""
  network = build_network(config)
  return {
      "params": network.parameters(),
      "flops": network.flops_per_example(),
  }


def counts_of(
    row: Row, changes: Mapping[str, Any] | None = None
) -> Mapping[str, float]:
  """The counts of a row's model, with more changes if there are any."""
  changes = {**row.changes, **(changes or {})}
  return _counts_of(row.config, tuple(changes.items()))


@functools.cache  # Models stand in several tables.
def _counts_of(
    name: str, changes: tuple[tuple[str, Any], ...]
) -> Mapping[str, float]:
  return counts(config_of(Row("", name, {}, dict(changes))))


def masked_positions(config: Any, fraction: float = 0.15) -> float:
  """FLOPs of a language model that predicts masked positions alone.

  But the product with the embeddings is one of all positions, at one FLOP for
  each multiply-accumulate. This is what the FLOPs of most language models of
  Perceiver IO's Tables 1 and 15 agree with.
  """
  parts = build_network(config).flops_by_part()
  tokens = config.model.tokens
  product = 2 * tokens.max_length * tokens.channels * tokens.vocabulary_size
  latents = 0  # Their keys and values are computed once, not per position.
  if config.model.name == "perceiver_io":
    encoder, decoder = config.model.encoder, config.model.decoder
    width = decoder.qk_channels + decoder.v_channels
    latents = 2 * encoder.num_latents * encoder.latent_channels * width
  each = parts["decode"] + parts["head"] - latents - product
  before = parts["input"] + parts["encode"] + parts["process"]
  return before + latents + fraction * each + product / 2


def fit_of(row: Row, column: str) -> float | None:
  """Our number, counted as in the paper, if known."""
  reason = row.reasons.get(column)
  if reason is None:
    return None
  if reason.count:
    count = {"masked_positions": masked_positions}[reason.count]
    return count(config_of(row))
  if reason.fits:
    return counts_of(row, reason.fits)[column]
  return None


def figures(
    key: str, columns: Iterable[str] | None, roots: Iterable[str] = ()
) -> list[Figure]:
  """The numbers of a table, row by row.

  Args:
    key: a key of `TABLES`.
    columns: names of columns; None: those that the table prints.
    roots: folders of finished runs.
  """
  rows = TABLES[key].rows
  printed = {column for row in rows for column in row.paper}
  printed |= set(TABLES[key].columns)
  found = []
  for row in rows:
    ours = counts_of(row)
    for column in columns or [c for c in COLUMNS if c in printed]:
      if column in printed or column in COUNTED:
        trained = measured(row, column, roots)
        figure = Figure(
            table=key,
            row=row,
            column=column,
            paper=row.paper.get(column),
            ours=ours.get(column, trained),
            fit=fit_of(row, column),
        )
        found.append(figure)
  return found


def measured(row: Row, column: str, roots: Iterable[str]) -> float | None:
  """A number of finished training: the best of the runs that are there.

  Args:
    row: a model.
    column: of `METRICS`.
    roots: folders of runs; the first that has any of a config is taken.

  Returns:
    the mean over tasks where each has its own run; None if one is missing.
  """
  if column not in METRICS:
    return None
  found = []
  for each in runs_of(row, column):
    config = config_of(dataclasses.replace(row, config=each))
    folders = [pathlib.Path(root) / folder_of(row, each) for root in roots]
    files = [list(folder.rglob("metrics.jsonl")) for folder in folders]
    top = best_of(next(filter(None, files), []), config)
    found.append(top and top.get(METRICS[column] + row.ending))
  return float(np.mean(found)) if found and None not in found else None


def runs_of(row: Row, column: str) -> list[str]:
  """The configs that are trained for a number; one for each task of GLUE."""
  config = trained_config(row, column)
  if not config.endswith("TASK"):
    return [config]
  model = config.removeprefix("glue:").removesuffix("_TASK")
  tasks = glue.tasks_of(model)
  if column != "avg":  # mnli_m and mnli_mm are of one run.
    tasks = [task for task in tasks if task == column.partition("_")[0]]
  return [config.replace("TASK", task) for task in tasks]


def trained_config(row: Row, column: str) -> str:
  """A row's config, or where a model is measured by GLUE, the fine-tuning's."""
  is_of_glue = METRICS.get(column, "").startswith("dev/")
  if row.config.startswith("mlm:") and is_of_glue:
    return f"glue:{row.config.removeprefix('mlm:')}_TASK"
  return row.config


def folder_of(row: Row, config: str) -> str:
  """Where the runs of a row's config are, below the folder of all runs."""
  changes = [
      f"{k.rsplit('.', 1)[-1]}={v}" for k, v in flat(row.changes).items()
  ]
  folder = "-".join([config.replace(":", "/"), *changes])
  return f"{row.runs}/{folder}" if row.runs else folder


def trained_columns(row: Row) -> list[str]:
  """The columns of a row's tables that its runs have numbers for."""
  tables = [one for one in TABLES.values() if row in one.rows]
  printed = {name for one in tables for name in one.columns} | set(row.paper)
  return [name for name in METRICS if name in printed]


def chain_of(row: Row) -> list[str]:
  """The commands for a row, one per line, beginning with its data.

  What a person has to put somewhere first is a comment. There are none if no
  number of the row comes of training, or its task cannot be trained.
  """
  name = row.config.partition(":")[0]
  if not hasattr(importlib.import_module(f"experiments.{name}"), "task"):
    return []
  configs = [each for c in trained_columns(row) for each in runs_of(row, c)]
  lines = [line for each in configs for line in steps_of(row, each)]
  # What several need is done once, and what is needed stands first.
  return sorted(dict.fromkeys(lines), key=lambda line: line[0] != "#")


def steps_of(row: Row, config: str, is_measured: bool = True) -> list[str]:
  """The commands for a config: data, pretraining, training, evaluation.

  Args:
    row: of the config.
    config: one of `runs_of`.
    is_measured: whether it is evaluated in the end.
  """
  name, variant = config.split(":")
  lines, options = [], []
  before = PRETRAINED.get(config)
  if name == "glue" and not row.runs:
    before = f"mlm:{glue.MODEL_OF[variant]}"
  if before is not None:
    first = Row("", before, {})
    lines += steps_of(first, before, is_measured=False)
    options.append(f"--config.init.pretrained=runs/{folder_of(first, before)}")
  data = DATA[max((x for x in DATA if config.startswith(x)), key=len)]
  lines += [f"# {path}: {what}" for path, what in data.needs.items()]
  lines += [f"python -m {words}" for words in data.commands]
  folder = pathlib.Path("runs") / folder_of(row, config)
  named = f"--config=configs/{name}.py:{variant}"
  changes = [f"--config.{k}={v}" for k, v in flat(row.changes).items()]
  script = "experiments.train"
  if name == "glue":  # What is fine-tuned is swept over; the best counts.
    script, folder = "scripts.sweep", folder.parent
    if row.runs:
      options.append("--sweep=schedule.peak=1e-4,3e-4,1e-3,3e-3")
  options = [named, f"--workdir={folder}", *options, *changes]
  lines.append(shlex.join(["python", "-m", script, *options]))
  if is_measured and name != "glue":
    measure = [named, f"--workdir={folder}", *changes]
    if config_of(dataclasses.replace(row, config=config)).best:
      measure.append("--checkpoint=best")
    lines.append(shlex.join(["python", "-m", "experiments.evaluate", *measure]))
  return lines


def is_small(row: Row) -> bool:
  """Whether a row's model is of a size for two cores."""
  return row.config.partition(":")[2].startswith("mini")


def script_of(keys: Iterable[str]) -> str:
  """A shell script with the commands of the small rows of tables.

  Raises:
    UserError: if there are none.
  """
  keys = list(keys)
  rows = [row for key in keys for row in TABLES[key].rows if is_small(row)]
  chains = [line for row in rows for line in chain_of(row)]
  lines = list(dict.fromkeys(chains))
  if not lines:
    raise UserError(f"table {', '.join(keys)} has no small rows")
  commands = [line for line in lines if not line.startswith("#")]
  needs = [line[2:].partition(": ") for line in lines if line.startswith("#")]
  checks = [
      f"need {_in_shell(path)} {shlex.quote(what)}" for path, _, what in needs
  ]
  show = ["python", "-m", "scripts.reproduce", f"--table={','.join(keys)}"]
  return "\n".join(
      [
          "#!/bin/sh",
          f"# The small rows of table {', '.join(keys)}, from nothing.",
          "set -eu",
          "need() {",
          '  [ -e "$1" ] || { echo "missing: $1, $2" >&2; exit 2; }',
          "}",
          *checks,
          *commands,
          shlex.join(show),
          "",
      ]
  )


def _in_shell(path: str) -> str:
  if path.startswith("~/"):
    return f'"$HOME/{path[2:]}"'
  return shlex.quote(path)


@dataclasses.dataclass(frozen=True)
class Page:
  """A table as text: its title, headings, lines of cells, and notes."""

  title: str
  headings: list[str]
  lines: list[list[str]]
  notes: list[str]

  def markdown(self) -> str:
    """As Markdown."""
    dashes = ["---"] + ["---:"] * (len(self.headings) - 1)
    lines = [f"**{self.title}**", ""]
    for cells in (self.headings, dashes, *self.lines):
      lines.append(f"| {' | '.join(cells)} |")
    lines += [""] * bool(self.notes)
    for i, note in enumerate(self.notes, start=1):
      first, *others = note.splitlines()
      lines.append(f"{i}. {first}")
      if others:
        lines += ["", *(f"   {x}" for x in ("```sh", *others, "```")), ""]
    return "\n".join(lines)

  def print(self, console: rich.console.Console) -> None:
    """To a terminal."""
    table = rich.table.Table(
        title=self.title,
        title_justify="left",
        box=rich.box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, heading in enumerate(self.headings):
      heading = heading.replace(", ", ",\n")
      table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for cells in self.lines:
      # What looks like markup is none.
      table.add_row(*map(rich.text.Text, cells))
    # Wider than the terminal if need be: half a number is none.
    options = console.options.update(max_width=1000)
    width = console.measure(table, options=options).maximum
    rich.console.Console(file=console.file, width=width).print(table)
    for i, note in enumerate(self.notes, start=1):
      # A command that is wrapped cannot be run.
      text = f"[{i}] {note}"
      console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print()


def pages_of(found: list[Figure]) -> list[Page]:
  """Figures, table by table."""
  keys = dict.fromkeys(figure.table for figure in found)
  return [page_of(key, [f for f in found if f.table == key]) for key in keys]


def page_of(key: str, found: list[Figure]) -> Page:
  """The figures of a table; one that differs refers to its reason."""
  columns = list(dict.fromkeys(figure.column for figure in found))
  fitted = {figure.column for figure in found if figure.fit is not None}
  printed = {figure.column for figure in found if figure.paper is not None}
  headings = [""]
  for column in columns:
    if column in printed:
      headings += [f"{COLUMNS[column]}, paper", "ours"]
    else:
      headings.append(COLUMNS[column])
    headings += ["off by"] * (column in COUNTED)
    headings += ["as noted"] * (column in fitted)
  notes: list[str] = []

  def note(text: str | None) -> str:
    if text is None:
      return ""
    if text not in notes:
      notes.append(text)
    return f" [{notes.index(text) + 1}]"

  lines = []
  for row in TABLES[key].rows:
    line = [row.label]
    for figure in (f for f in found if f.row is row):
      if figure.column in printed:
        line.append(figure.paper or NOTHING)
      if figure.column in COUNTED:
        mark = note(figure.reason) or ("" if figure.agrees else " !")
        line += [shown(figure.ours), percentage(figure.difference) + mark]
      else:
        how = None
        if figure.column in METRICS:
          how = "\n".join([FILLED, *chain_of(row)])
        value = NOTHING if figure.ours is None else f"{figure.ours:.2f}"
        line.append(value + note(how if how != FILLED else None))
      if figure.column in fitted:
        line.append(shown(figure.fit))
    lines.append(line)
  return Page(TABLES[key].title, headings, lines, notes)


def percentage(fraction: float | None) -> str:
  """With its sign, but for zero."""
  if fraction is None:
    return NOTHING
  text = f"{100 * fraction:+.1f} %"
  return "0.0 %" if float(text[:-2]) == 0 else text


def as_json(figure: Figure) -> dict[str, Any]:
  """A figure as a line of numbers."""
  return {
      "table": figure.table,
      "row": figure.row.label,
      "config": figure.row.config,
      "changes": flat(figure.row.changes),
      "column": figure.column,
      "paper": figure.paper and value_of(figure.paper),
      "ours": figure.ours,
      "difference": figure.difference,
      "agrees": figure.agrees,
      "reason": figure.reason,
      "fit": figure.fit,
  }


def chosen(
    keys: Iterable[str],
    columns: Iterable[str] | None = None,
    roots: Iterable[str] = (),
) -> list[Figure]:
  """The figures of some tables.

  Raises:
    UserError: if there is no such table, or none of them has such a column.
  """
  keys, roots = list(keys), list(roots)
  for key in keys:
    if key not in TABLES:
      raise UserError(
          f"there is no table {key!r}; there are {', '.join(TABLES)}"
      )
  names = {c for key in keys for row in TABLES[key].rows for c in row.paper}
  names |= {column for key in keys for column in TABLES[key].columns}
  known = [name for name in COLUMNS if name in names or name in COUNTED]
  for column in columns or ():
    if column not in known:
      raise UserError(
          f"there is no column {column!r}; there are {', '.join(known)}"
      )
  return [figure for key in keys for figure in figures(key, columns, roots)]


def main(argv: list[str]) -> None:
  """Prints the tables that the flags name."""
  if len(argv) > 1:
    command.fail(f"unexpected arguments: {' '.join(argv[1:])}")
  named = [key for text in _TABLE.value for key in text.split(",")]
  keys = list(TABLES) if _ALL.value else list(dict.fromkeys(named))
  if not keys:
    command.fail(f"--table=... or --all; the tables are {', '.join(TABLES)}")
  if _SHELL.value:
    with command.one_line_errors():
      chosen(keys, ["params"])  # Whether there are such tables.
      pathlib.Path(_SHELL.value).write_text(script_of(keys))
    print(f"sh {_SHELL.value}")
    return
  with command.one_line_errors():
    found = chosen(keys, _COLUMNS.value, _RUNS.value)
  if _JSON.value:
    text = json.dumps([as_json(f) for f in found], indent=2) + "\n"
    if _JSON.value == "-":
      sys.stdout.write(text)
    else:
      with command.one_line_errors():
        pathlib.Path(_JSON.value).write_text(text)
  if _JSON.value != "-":
    pages = pages_of(found)
    if _MARKDOWN.value:
      print("\n\n".join(page.markdown() for page in pages))
    else:
      console = rich.console.Console()
      for page in pages:
        page.print(console)
  unexplained = [f for f in found if not f.agrees and f.reason is None]
  for figure in unexplained:
    print(
        f"table {figure.table}, {figure.row.label}: {figure.column} differs"
        " without a reason",
        file=sys.stderr,
    )
  sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
  _TABLE = flags.DEFINE_multi_string(
      "table", [], "7, or 7,8, or P5; repeatable"
  )
  _ALL = flags.DEFINE_bool("all", False, "every table")
  _COLUMNS = flags.DEFINE_list("columns", None, "some of the table's columns")
  _RUNS = flags.DEFINE_list(
      "runs", ["runs", "docs/results/runs"], "folders of finished runs"
  )
  _JSON = flags.DEFINE_string("json", None, "a file for the numbers; -: print")
  _SHELL = flags.DEFINE_string(
      "shell", None, "a file for a script that trains the tables' small rows"
  )
  _MARKDOWN = flags.DEFINE_bool("markdown", False, "print Markdown")
  command.quiet()
  app.run(main, flags_parser=command.parse)
