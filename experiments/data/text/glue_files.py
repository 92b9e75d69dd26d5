"""GLUE's files: tables of tab-separated columns, in which nothing is quoted."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np

from experiments.data import pipeline
from experiments.data.errors import DataError


@dataclasses.dataclass(frozen=True)
class GlueTask:
  """A task as GLUE and TFDS publish it.

  Attributes:
    folder: folder of GLUE's own files.
    columns: their names there: of the text, or both, and of the label.
    features: TFDS's names of the text, or both.
    labels: what the classes mean, by number; None: a score from 0 to 5.
    spelled: whether files have the labels' names, and not their numbers.
    headerless: all columns of a file that has no header, where some have none.
    skips_short: whether rows with missing columns are known and left out.
    evaluated: the splits that figures are about.
    tests: the splits whose labels GLUE's server keeps: the server's name of the
      file of answers, and how many it expects.
  """

  folder: str
  columns: tuple[str, ...]
  features: tuple[str, ...]
  labels: tuple[str, ...] | None
  spelled: bool = False
  headerless: tuple[str, ...] = ()
  skips_short: bool = False
  evaluated: tuple[str, ...] = ("validation",)
  tests: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=dict)

  @property
  def has_two_sentences(self) -> bool:
    """Whether an example is a pair."""
    return len(self.features) == 2


def table(
    path: pathlib.Path, task: GlueTask, note: Callable[[str], None]
) -> list[pipeline.Example]:
  """Examples of a file, found by its header or, without one, by the task's.

  Raises:
    DataError: for a header or a row that is not what it should be.
  """
  lines = lines_of(path)
  header = lines[0].split("\t") if lines else []
  has_header = set(task.columns) <= set(header)
  if not has_header:
    if not task.headerless:
      raise DataError(
          f"{path} line 1: expected a header with {list(task.columns)}, found"
          f" {header}"
      )
    header = list(task.headerless)
  *texts_at, label_at = (header.index(name) for name in task.columns)
  examples, short = [], []
  first = 1 if has_header else 0
  for number, line in enumerate(lines[first:], first + 1):
    row = line.split("\t")
    if len(row) < len(header) and task.skips_short:
      short.append(number)
      continue
    where = f"{path} line {number}"
    if len(row) < len(header) or len(row) > len(header) and not has_header:
      raise DataError(
          f"{where}: expected {len(header)} columns {header}, found {len(row)}"
      )
    label = _label(row[label_at], task, where)
    examples.append(example([row[i] for i in texts_at], label))
  if short:
    note(
        f"{path}: left out {len(short)} rows with missing columns, the first in"
        f" line {short[0]}"
    )
  return examples


def test_table(path: pathlib.Path, task: GlueTask) -> list[pipeline.Example]:
  """Examples of a file without labels: each has its "index" and label 0.

  Raises:
    DataError: for a header or a row that is not what it should be.
  """
  lines = lines_of(path)
  header = lines[0].split("\t") if lines else []
  numbers = [name for name in ("index", "id") if name in header]
  if not numbers or not set(task.columns[:-1]) <= set(header):
    raise DataError(
        f"{path} line 1: expected a header with"
        f" {['index', *task.columns[:-1]]}, found {header}"
    )
  texts_at = [header.index(name) for name in task.columns[:-1]]
  index_at, examples = header.index(numbers[0]), []
  for number, line in enumerate(lines[1:], 2):
    row = line.split("\t")
    where = f"{path} line {number}"
    if len(row) < len(header):
      raise DataError(
          f"{where}: expected {len(header)} columns {header}, found {len(row)}"
      )
    if not row[index_at].isdecimal():
      raise DataError(f"{where}: expected a number, found {row[index_at]!r}")
    texts = example([row[i] for i in texts_at], 0)
    examples.append({**texts, "index": int(row[index_at])})
  return examples


def pairs(folder: pathlib.Path, task: GlueTask) -> list[pipeline.Example]:
  """Examples of SemEval's sources, in the order of the sources' names.

  A source's texts are in one file and its scores in another, line by line.

  Raises:
    DataError: for lines that are not what they should be.
  """
  kinds = ("input", "gs")
  names = {
      path.name.removeprefix(f"STS.{kind}.").removesuffix(".txt")
      for kind in kinds
      for path in folder.glob(f"STS.{kind}.*.txt")
  }
  examples = []
  for name in sorted(names - {"ALL"}):  # All scores a second time.
    texts_path, scores_path = (folder / f"STS.{k}.{name}.txt" for k in kinds)
    texts, scores = lines_of(texts_path), lines_of(scores_path)
    if len(texts) != len(scores):
      raise DataError(
          f"{scores_path} line {min(len(texts), len(scores)) + 1}: expected"
          f" {len(texts)} lines as in {texts_path.name}, found {len(scores)}"
      )
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
      pair = text.split("\t")
      if len(pair) != 2:
        raise DataError(
            f"{texts_path} line {i + 1}: expected 2 columns, found {len(pair)}"
        )
      label = _label(score, task, f"{scores_path} line {i + 1}")
      examples.append(example(pair, label))
  return examples


def example(texts: Sequence[str], label: float) -> pipeline.Example:
  """An example of one text or two; the second is empty if there is one."""
  first, second = [*texts, ""][:2]
  return {"first": first, "second": second, "label": label}


def spelled(prediction: float, task: GlueTask) -> str:
  """A class or a score in the server's format."""
  if task.labels is None:
    return f"{min(max(prediction, 0.0), 5.0):.3f}"
  number = int(prediction)
  return task.labels[number] if task.spelled else str(number)


def lines_of(path: pathlib.Path) -> list[str]:
  """The lines of a text file in UTF-8, with or without a mark at its beginning.

  A line ends as Unix, Windows or old Macs end it, and at nothing else that
  `splitlines` splits at.

  Raises:
    DataError: if it is no UTF-8; names the line.
  """
  content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
  content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
  try:
    lines = content.decode("utf-8").split("\n")
  except UnicodeDecodeError as error:
    number = 1 + content.count(b"\n", 0, error.start)
    raise DataError(
        f"{path} line {number}: expected UTF-8, found {error.reason}"
    ) from error
  return lines[:-1] if not lines[-1] else lines


def _label(text: str, task: GlueTask, where: str) -> float:
  """The index of a class, or the score, from a text."""
  if task.labels is None:
    try:
      score = float(text)
    except ValueError:
      score = np.nan
    if not 0.0 <= score <= 5.0:
      raise DataError(f"{where}: expected a score from 0 to 5, found {text!r}")
    return score
  labels = list(task.labels)
  if not task.spelled:
    labels = [str(i) for i in range(len(labels))]
  if text not in labels:
    raise DataError(f"{where}: expected a label of {labels}, found {text!r}")
  return labels.index(text)
