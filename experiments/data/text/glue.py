"""GLUE: sentences or pairs, each with a class or a score.

Source: Wang et al., 2018, https://gluebenchmark.com. WNLI is left out, as in
Perceiver IO, Table 1. Labels of test sets are kept by GLUE's server.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from experiments.data import errors
from experiments.data import pipeline
from experiments.data.errors import DataError
from experiments.data.text import glue_files
from experiments.data.text.glue_files import GlueTask

_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

TASKS: Mapping[str, GlueTask] = {
    "cola": GlueTask(
        folder="CoLA",
        columns=("sentence", "label"),
        features=("sentence",),
        labels=("unacceptable", "acceptable"),
        headerless=("source", "label", "mark", "sentence"),
        tests={"test": ("CoLA", 1_063)},
    ),
    "mnli": GlueTask(
        folder="MNLI",
        columns=(*_PAIR, "gold_label"),
        features=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        spelled=True,
        evaluated=("validation_matched", "validation_mismatched"),
        tests={
            "test_matched": ("MNLI-m", 9_796),
            "test_mismatched": ("MNLI-mm", 9_847),
            "ax": ("AX", 1_104),
        },
    ),
    "mrpc": GlueTask(
        folder="MRPC",
        columns=("#1 String", "#2 String", "Quality"),
        features=_PAIR,
        labels=("not_equivalent", "equivalent"),
        tests={"test": ("MRPC", 1_725)},
    ),
    "qnli": GlueTask(
        folder="QNLI",
        columns=("question", "sentence", "label"),
        features=("question", "sentence"),
        labels=_ENTAILMENT,
        spelled=True,
        tests={"test": ("QNLI", 5_463)},
    ),
    "qqp": GlueTask(
        folder="QQP",
        columns=("question1", "question2", "is_duplicate"),
        features=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        skips_short=True,
        tests={"test": ("QQP", 390_965)},
    ),
    "rte": GlueTask(
        folder="RTE",
        columns=(*_PAIR, "label"),
        features=_PAIR,
        labels=_ENTAILMENT,
        spelled=True,
        tests={"test": ("RTE", 3_000)},
    ),
    "sst2": GlueTask(
        folder="SST-2",
        columns=("sentence", "label"),
        features=("sentence",),
        labels=("negative", "positive"),
        headerless=("sentence", "label"),
        tests={"test": ("SST-2", 1_821)},
    ),
    "stsb": GlueTask(
        folder="STS-B",
        columns=(*_PAIR, "score"),
        features=_PAIR,
        labels=None,
        tests={"test": ("STS-B", 1_379)},
    ),
}

# The server's file of the task that is left out, and how many answers it has.
LEFT_OUT = ("WNLI", 146)

# A file or folder of each split, in what GLUE was made from.
_Layout = Mapping[str, tuple[str, ...]]
_RAW: Mapping[str, _Layout] = {
    "cola": {
        "train": ("CoLA/in_domain_train.tsv",),
        "validation": ("CoLA/in_domain_dev.tsv", "CoLA/out_of_domain_dev.tsv"),
    },
    "mrpc": {
        "train": ("MRPC/msr_paraphrase_train.txt",),
        "validation": ("MRPC/msr_paraphrase_test.txt",),
    },
    "stsb": {"train": ("STS2012/train",), "validation": ("STS2012/test",)},
}
_RAW_NOTES = {
    "cola": "cola is read from the raw corpus",
    "mrpc": "mrpc is read from the raw corpus: validation is its test set",
    "stsb": "stsb is SemEval STS 2012 alone, one part of STS-B",
}


def read(
    task: str,
    split: str,
    data_dir: str,
    note: Callable[[str], None] = print,
) -> Any:
  """A split of a task.

  The first of these that has any file of the task is where all splits of it
  come from, because GLUE has cut some corpora otherwise than their authors:

  * DATA_DIR/glue/TASK, prepared by TFDS as ArrayRecord.
  * DATA_DIR/glue/{CoLA,MNLI,MRPC,QNLI,QQP,RTE,SST-2,STS-B}, as GLUE's archives
    unpack. SST-2 may lack its header, as the version does that has no phrases
    but only whole sentences to train on.
  * DATA_DIR/glue/{CoLA,MRPC,STS2012}, the raw corpora. CoLA's validation split
    is what is in the domain and then what is not. MRPC's is the corpus' test
    set. STS 2012 is a part of STS-B, served as "stsb" with its own train and
    test sets. Figures on these are not GLUE's, which a note says.

  Texts are as they are written, quotes and outer spaces included. QQP's file
  has line ends inside of some questions; the pieces, rows with missing columns,
  are left out and counted in a note, as TFDS leaves them out. In files with a
  header, columns that it does not name are ignored.

  Args:
    task: a task of `TASKS`.
    split: "train", one of the task's `evaluated`, or of its `tests`, which have
      no labels; "ax" are GLUE's diagnostic pairs, in DATA_DIR/glue/AX.tsv.
    data_dir: the folder with all data sets; "~" is the home folder.
    note: called with a line when a person should know something.

  Returns:
    examples by index: "first", a string; "second", a string, empty if the task
    has one sentence; "label", the class's number, or the score as a float. Of a
    test set, "label" means nothing, and "index" is the server's number.

  Raises:
    FileNotFoundError: if it is in none of the places; says how to get it.
    ValueError: for an unknown task or split.
    DataError: for a file with anything but what it should have; names the file,
      the line and what was expected.
  """
  if task not in TASKS:
    raise ValueError(f"task {task!r} is not one of {list(TASKS)}")
  settings = TASKS[task]
  splits = ("train", *settings.evaluated, *settings.tests)
  if split not in splits:
    raise ValueError(f"{task} has no split {split!r}, but {list(splits)}")
  try:
    name, part = _of_tfds(task, split)
    prepared = pipeline.source(f"glue/{name}", part, data_dir)
  except FileNotFoundError:
    pass
  else:
    return _Prepared(prepared, settings, split in settings.tests)
  examples = []
  for path in _files(task, split, data_dir, note):
    if split in settings.tests:
      part = glue_files.test_table(path, settings)
    elif path.is_dir():
      part = glue_files.pairs(path, settings)
    else:
      part = glue_files.table(path, settings, note)
    if not part:
      raise DataError(f"{path} line 1: expected examples, found none")
    examples += part
  return examples


def joined(
    first_ids: np.ndarray,
    second_ids: np.ndarray | None,
    length: int,
    separator: int,
) -> tuple[np.ndarray, int]:
  """A model's input: a text, or a separator between two.

  Nothing comes before or after: Perceiver IO reads no [CLS] (appendix F.4), and
  `tokenizers.framed` adds what BERT reads. What is too long loses ids from its
  end, one by one, each time from the longer text; from the second if both are
  as long.

  Args:
    first_ids: of the first text.
    second_ids: of the second one, which may be empty; None: there is only one.
    length: how many ids there may be.
    separator: its id.

  Returns:
    ids, int32, at most `length`, and how many were lost.

  Raises:
    ValueError: if the length is not positive.
  """
  if length < 1:
    raise ValueError(f"length {length} leaves no room for text")
  first = np.asarray(first_ids, np.int32)
  if second_ids is None:
    return first[:length], max(len(first) - length, 0)
  second = np.asarray(second_ids, np.int32)
  room = length - 1
  # The first has what the second leaves, and at least half, rounded up.
  half = room - room // 2
  num_first = min(len(first), max(room - len(second), half))
  num_second = min(len(second), room - num_first)
  middle = np.array([separator], np.int32)
  ids = np.concatenate([first[:num_first], middle, second[:num_second]])
  return ids, len(first) + len(second) - num_first - num_second


def constant_baseline(labels: Sequence[float], is_score: bool) -> float:
  """A constant prediction: the most common class, or the mean score.

  Args:
    labels: labels of the examples to train on.
    is_score: whether they are scores, and not numbers of classes.

  Returns:
    a class's number, the least of those that are as common; or a score.

  Raises:
    ValueError: if there are no labels.
  """
  if not len(labels):
    raise ValueError("no labels to choose from")
  if is_score:
    return float(np.mean(labels))
  return int(np.argmax(np.bincount(np.asarray(labels, np.int64))))


class _Prepared:
  """Examples of TFDS, named as ours."""

  def __init__(self, source: Any, task: GlueTask, is_test: bool):
    self._source = source
    self._task = task
    self._is_test = is_test

  def __len__(self) -> int:
    return len(self._source)

  def __iter__(self):
    return (self[i] for i in range(len(self)))

  def __getitem__(self, index: int) -> pipeline.Example:
    example = self._source[index]
    texts = [example[name].decode("utf-8") for name in self._task.features]
    number = float if self._task.labels is None else int
    if self._is_test:
      index = int(example["idx"])
      return {**glue_files.example(texts, 0), "index": index}
    return glue_files.example(texts, number(example["label"]))


def _of_tfds(task: str, split: str) -> tuple[str, str]:
  """TFDS's task and split: it has the diagnostic pairs as a task."""
  return ("ax", "test") if split == "ax" else (task, split)


def _files(
    task: str, split: str, data_dir: str, note: Callable[[str], None]
) -> list[pathlib.Path]:
  """The files of the first layout that has a file of the task."""
  root = pathlib.Path(data_dir).expanduser() / "glue"
  settings = TASKS[task]
  own = {"train": (f"{settings.folder}/train.tsv",)}
  for name in settings.evaluated:
    file = name.replace("validation", "dev")
    own[name] = (f"{settings.folder}/{file}.tsv",)
  layouts = (own, _RAW.get(task, {}))
  if split in settings.tests:  # There are none of raw corpora.
    name = "AX" if split == "ax" else f"{settings.folder}/{split}"
    own = {split: (f"{name}.tsv",)}
    layouts = (own,)
  of_tfds = _of_tfds(task, split)[0]
  places = [f"{root / of_tfds} (of TFDS)"]
  for layout in layouts:
    found = [(root / f).exists() for files in layout.values() for f in files]
    wanted = [root / file for file in layout.get(split, ())]
    places += map(str, wanted)
    if any(found):
      if not all(path.exists() for path in wanted):
        break
      if layout is not own:
        note(f"{_RAW_NOTES[task]}; there are no files of GLUE in {root}")
      return wanted
  raise errors.not_there(
      f"{split} split of GLUE's {task}",
      root,
      f"looked for {', '.join(places)}; `python -m scripts.prepare_data glue"
      f" --tasks={task} --data_dir={root.parent}` downloads the task",
  )
