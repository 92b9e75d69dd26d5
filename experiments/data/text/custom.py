"""A folder of texts or pairs of texts, with classes or scores.

A folder has `train` and perhaps `dev`, as tables or JSON lines:

* `.tsv`: columns between tabs, in which nothing is quoted;
* `.csv`: columns between commas, quoted where a text needs it;
* `.jsonl` or `.json`: an object on each line.

The first line of a table names its columns.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import json
import math
import pathlib
from typing import Any, Literal

import numpy as np

from experiments.data import pipeline
from experiments.data.errors import DataError
from experiments.data.text import glue_files

# What the file of a split may be called; the first that is there is read.
_NAMES = {
    "train": ("train",),
    "validation": ("dev", "validation", "valid", "val", "test"),
}
_ENDINGS = (".tsv", ".csv", ".jsonl", ".json")
# What columns may be called; the first that are there are read.
_TEXTS = (
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("text",),
    ("sentence",),
)
_LABELS = ("label", "class", "score")
_HELD_OUT = 0.1  # Of a training set without a file beside it.
_SHOWN = 20  # Names of classes in a note.


@dataclasses.dataclass(frozen=True)
class Custom:
  """The settings of a folder of texts: a section of a config.

  Attributes:
    folder: where it is; "~" is the home folder.
    columns: the names of the text, or of both, and of the label; none: those
      that are usual.
    kind: of the labels; None: scores if their column is called "score", or if
      all are numbers and not all are whole.
    held_out: the share of the training file that is evaluated; 0: a file beside
      it is, or, where there is none, a tenth.
    class_names: what the classes are called, by number; found, not given.
    mean: of the scores to train on; likewise.
    deviation: of them, likewise.
  """

  folder: str
  columns: Sequence[str] = ()
  kind: Literal["class", "score"] | None = None
  held_out: float = 0.0
  class_names: Sequence[str] = ()
  mean: float = 0.0
  deviation: float = 1.0

  @property
  def has_two_texts(self) -> bool:
    """Whether an example is a pair."""
    return len(self.columns) == 3


@dataclasses.dataclass(frozen=True)
class _Row:
  """An example with its place in a file."""

  where: str
  texts: Sequence[str]
  label: str


def fitted(custom: Custom, note: Callable[[str], None]) -> tuple[Custom, int]:
  """Settings that depend on the folder: columns, kind, classes, held-out part.

  Args:
    custom: the settings.
    note: called with a line when a person should know something.

  Returns:
    it, complete, and how many examples there are to train on.

  Raises:
    FileNotFoundError: if there is no training file; says what is looked for.
    DataError: for a file with anything but what it should have; names the file,
      the line and what was expected.
  """
  if not 0 <= custom.held_out < 1:
    raise DataError(f"custom.held_out = {custom.held_out} is not in [0, 1]")
  path = _file(custom, "train")
  if path is None:
    raise FileNotFoundError(
        f"no texts in {custom.folder!r}: --config.custom.folder=DIR is a folder"
        f" with {', '.join(f'train{ending}' for ending in _ENDINGS)}"
    )
  columns, rows = _read(path, custom.columns)
  kind = custom.kind or _kind_of(columns[-1], rows)
  custom = dataclasses.replace(custom, columns=columns, kind=kind)
  if not custom.held_out and _file(custom, "validation") is None:
    custom = dataclasses.replace(custom, held_out=_HELD_OUT)
  scores = [_score(row) for row in rows] if kind == "score" else []
  if custom.held_out:
    training, held_out = _parted(rows, custom.held_out)
    note(
        f"{path}: {len(held_out):,} of {len(rows):,} examples are held out and"
        " evaluated"
    )
  else:
    training = rows
  read = f"{path}: {len(training):,} examples to train on, of the columns"
  read = f"{read} {', '.join(columns)};"
  if kind == "class":
    names = sorted({row.label for row in rows}, key=_order)
    if len(names) < 2:
      raise DataError(f"{path}: expected two classes or more, found {names}")
    custom = dataclasses.replace(custom, class_names=tuple(names))
    more = f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
    note(f"{read} {len(names)} classes: {', '.join(names[:_SHOWN])}{more}")
  else:
    scores = [_score(row) for row in training]
    mean, deviation = float(np.mean(scores)), float(np.std(scores))
    if not deviation:
      raise DataError(f"{path}: expected scores that differ, all are {mean}")
    custom = dataclasses.replace(custom, mean=mean, deviation=deviation)
    note(f"{read} scores from {min(scores):g} to {max(scores):g}")
  return custom, len(training)


def read(custom: Custom, split: str) -> list[pipeline.Example]:
  """A split of a folder.

  Args:
    custom: as `fitted` returns it.
    split: "train" or "validation".

  Returns:
    as `glue.read`.

  Raises:
    FileNotFoundError, DataError: as `fitted`.
  """
  of_file = "train" if custom.held_out else split
  path = _file(custom, of_file)
  if path is None:
    raise FileNotFoundError(
        f"no {split} file in {custom.folder!r}: looked for"
        f" {', '.join(_NAMES[of_file])} with {', '.join(_ENDINGS)}"
    )
  _, rows = _read(path, custom.columns)
  if custom.held_out:
    rows = _parted(rows, custom.held_out)[split != "train"]
  number_of = {name: number for number, name in enumerate(custom.class_names)}
  return [
      glue_files.example(
          row.texts,
          _score(row) if custom.kind == "score" else _number(row, number_of),
      )
      for row in rows
  ]


def _parted(
    rows: Sequence[_Row], held_out: float
) -> tuple[list[_Row], list[_Row]]:
  """The training part and the held-out part, always the same, in order."""
  if len(rows) < 2:
    raise DataError(
        f"{rows[0].where}: expected two examples or more, of which one is held"
        " out"
    )
  count = min(max(round(len(rows) * held_out), 1), len(rows) - 1)
  order = np.random.default_rng(0).permutation(len(rows))
  held = set(order[:count].tolist())
  parts: tuple[list[_Row], list[_Row]] = ([], [])
  for i, row in enumerate(rows):
    parts[i in held].append(row)
  return parts


def _file(custom: Custom, split: str) -> pathlib.Path | None:
  """The file of a split, if there is one.

  Raises:
    DataError: if there are two that could be meant.
  """
  folder = pathlib.Path(custom.folder).expanduser()
  for name in _NAMES[split]:
    files = [folder / f"{name}{ending}" for ending in _ENDINGS]
    found = [file for file in files if custom.folder and file.is_file()]
    if len(found) > 1:
      raise DataError(f"found both {found[0]} and {found[1]}: expected one")
    if found:
      return found[0]
  return None


def _kind_of(column: str, rows: Sequence[_Row]) -> Literal["class", "score"]:
  if column == "score":
    return "score"
  numbers = [_as_number(row.label) for row in rows]
  if not all(map(math.isfinite, numbers)):
    return "class"
  is_whole = all(row.label.lstrip("+-").isdecimal() for row in rows)
  return "class" if is_whole else "score"


def _as_number(text: str) -> float:
  """The number in a text, or NaN."""
  try:
    return float(text)
  except ValueError:
    return math.nan


def _score(row: _Row) -> float:
  score = _as_number(row.label)
  if not math.isfinite(score):
    raise DataError(f"{row.where}: expected a number, found {row.label!r}")
  return score


def _number(row: _Row, number_of: Mapping[str, int]) -> int:
  if row.label not in number_of:
    names = ", ".join(list(number_of)[:_SHOWN])
    raise DataError(
        f"{row.where}: {row.label!r} is not a class of the training set, as"
        f" {names}"
    )
  return number_of[row.label]


def _order(name: str) -> tuple[float, str]:
  """A sort key in which "10" comes after "9", and both after names."""
  number = _as_number(name)
  return (number if math.isfinite(number) else -math.inf), name


def _read(
    path: pathlib.Path, columns: Sequence[str]
) -> tuple[tuple[str, ...], list[_Row]]:
  """The columns that are read, and the examples."""
  kinds = {".tsv": _of_tsv, ".csv": _of_csv}
  lines = kinds.get(path.suffix, _of_json)(path)
  chosen, rows = tuple(columns), []
  for number, values in lines:
    where = f"{path} line {number}"
    if not rows:
      is_table = path.suffix in kinds
      head = f"{path} line 1" if is_table else where
      chosen = _columns(values, columns, head)
    missing = [name for name in chosen if name not in values]
    if missing:
      raise DataError(f"{where}: expected {list(chosen)}, without {missing[0]}")
    *texts, label = (values[name] for name in chosen)
    if not all(isinstance(text, str) for text in texts) or not texts[0].strip():
      raise DataError(f"{where}: expected a text as {chosen[0]!r}, found none")
    rows.append(_Row(where, texts, _label(label, chosen[-1], where)))
  if not rows:
    raise DataError(f"{path}: expected examples, found none")
  return chosen, rows


def _columns(
    found: Iterable[str], given: Sequence[str], where: str
) -> tuple[str, ...]:
  """The columns to read."""
  names = list(found)
  if given:
    if len(given) not in (2, 3) or not set(given) <= set(names):
      raise DataError(
          f"{where}: custom.columns = {tuple(given)}, expected one or two texts"
          f" and a label of the columns {names}"
      )
    return tuple(given)
  texts = [pair for pair in _TEXTS if set(pair) <= set(names)]
  labels = [name for name in _LABELS if name in names]
  if not texts or not labels:
    raise DataError(
        f"{where}: expected columns such as text, or text1 and text2, and label"
        f" or score, found {names}; --config.custom.columns=TEXT,LABEL"
        " names them"
    )
  return (*texts[0], labels[0])


def _label(value: Any, column: str, where: str) -> str:
  """A label as a text."""
  if isinstance(value, bool):
    return str(value).lower()
  text = str(value).strip() if isinstance(value, str | int | float) else ""
  if not text:
    raise DataError(f"{where}: expected a label as {column!r}, found none")
  return text


# Each reader yields the number of an example's line, and its values by column.
_Lines = Iterator[tuple[int, Mapping[str, Any]]]


def _of_tsv(path: pathlib.Path) -> _Lines:
  rows = (
      (i, x.split("\t")) for i, x in enumerate(glue_files.lines_of(path), 1)
  )
  yield from _named((row for row in rows if row[1] != [""]), path)


def _of_csv(path: pathlib.Path) -> _Lines:
  content = "\n".join(glue_files.lines_of(path))
  reader = csv.reader(io.StringIO(content, newline=""), strict=True)

  def rows():
    first = 1  # A quoted text may have several lines.
    try:
      for row in reader:
        if row:
          yield first, row
        first = reader.line_num + 1
    except csv.Error as error:
      raise DataError(
          f"{path} line {first}: expected columns between commas: {error}"
      ) from error

  yield from _named(rows(), path)


def _named(rows: Iterator[tuple[int, list[str]]], path: pathlib.Path) -> _Lines:
  """The rows of a table by the names in its first one."""
  number, header = next(rows, (1, []))
  header = [name.strip() for name in header]
  if len(set(header)) < len(header):
    raise DataError(
        f"{path} line {number}: expected columns of different names, found"
        f" {header}"
    )
  for number, row in rows:
    if len(row) != len(header):
      raise DataError(
          f"{path} line {number}: expected {len(header)} columns {header},"
          f" found {len(row)}"
      )
    yield number, dict(zip(header, row, strict=True))


def _of_json(path: pathlib.Path) -> _Lines:
  for number, line in enumerate(glue_files.lines_of(path), 1):
    if not line.strip():
      continue
    try:
      values = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise DataError(
          f"{path} line {number}: expected a JSON object: {error}"
      ) from error
    if not isinstance(values, dict):
      raise DataError(
          f"{path} line {number}: expected a JSON object, found"
          f" {type(values).__name__}"
      )
    yield number, values
