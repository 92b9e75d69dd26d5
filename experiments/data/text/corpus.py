"""Corpora of text: prepared once, in parallel, and read by index.

    DATA_DIR/NAME/sources.json            what it is made of; written first
    DATA_DIR/NAME/jobs/JOB.json           what a job has kept and dropped
    DATA_DIR/NAME/SPLIT/JOB.array_record  one document a record, in UTF-8
    DATA_DIR/NAME/corpus.json             all shards; written last

A preparation that was stopped at any moment resumes from there; that of other
files into the same folder is refused.
"""

import collections
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import resource
from typing import Any

from array_record.python import array_record_data_source
import numpy as np

from experiments.data import atomic
from experiments.data import errors
from experiments.data import processes as processes_lib
from experiments.data.errors import DataError
from experiments.data.text import documents
from experiments.data.text import shards as shards_lib
from experiments.data.text.shards import Counts
from experiments.data.text.shards import Folder
from experiments.data.text.shards import Result
from experiments.data.text.sources import Sources

_SPLITS = (documents.TRAIN, documents.VALIDATION)
_HELD_OUT_OF = 20  # Documents, where preparing has held out none.
_FORMAT = 1  # Of all that is written; another is refused.


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a preparation is."""

  jobs: int
  total_jobs: int | None  # None: it turns out.
  bytes: int  # Of the sources.
  total_bytes: int
  documents: int
  new_documents: int  # Without those of an earlier run.


def prepare(
    sources: Sources,
    data_dir: str,
    *,
    processes: int = 0,
    note: Callable[[str], None] = print,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Mapping[str, Any]:
  """Prepares a corpus, or resumes a stopped preparation.

  Args:
    sources: one of the functions of `sources`.
    data_dir: the folder with all data sets; "~" is the home folder.
    processes: they change nothing of what comes out; 0: one a core.
    note: takes a line about bad input, at most ten of a kind for each file.
    progress: called when a job is done.

  Returns:
    what `corpus.json` holds: "splits" with "documents", "bytes" and "shards" of
    each, and "dropped" with how many documents of each kind were left out.

  Raises:
    DataError: if it was made of something else before, or no text is left.
  """
  folder = Folder(pathlib.Path(data_dir).expanduser() / sources.name)
  sizes = {name: file.stat().st_size for name, file in sources.files.items()}
  folder.begin({"format": _FORMAT, "files": sizes, **sources.settings})
  if folder.index.exists():
    return _read_index(folder)
  processes = processes or processes_lib.cores()
  done = Progress(0, sources.num_jobs, 0, sum(sizes.values()), 0, 0)
  told, counts = collections.Counter(), []
  progress(done)
  for result in shards_lib.run(sources.jobs(folder), folder, processes):
    counts.append(result.counts)
    done = _advanced(done, result)
    progress(done)
    _tell(result, told, note)
  index = _index(counts)
  if not index["splits"]:
    left = ", ".join(f"{n} {why}" for why, n in index["dropped"].items())
    raise DataError(
        f"corpus {sources.name!r}: expected texts in UTF-8, nothing is left of"
        f" {len(sources.files)} files ({left}); {folder.path} can be deleted"
    )
  atomic.write_json(folder.index, index)
  return _read_index(folder)


def open_documents(
    name: str,
    split: str,
    data_dir: str,
    note: Callable[[str], None] = lambda line: None,
) -> Any:
  """The documents of a corpus.

  Args:
    name: of a corpus that was prepared here, or of a data set of TFDS that has
      a "text", such as "c4/en".
    split: "train" or "validation"; of TFDS also slices. Where preparing a
      corpus has held nothing out, one training document in 20 is "validation".
    data_dir: the folder with all data sets; "~" is the home folder.
    note: takes a line if that is so.

  Returns:
    the documents by index, each as bytes of UTF-8; they can be pickled.

  Raises:
    FileNotFoundError: if it is not there; says which command prepares it.
    DataError: if it has no such split, or another format.
  """
  folder = Folder(pathlib.Path(data_dir).expanduser() / name)
  if not folder.index.exists():
    if list(folder.path.glob("[0-9]*/dataset_info.json")):
      from experiments.data import pipeline  # Takes seconds to import.

      return _Texts(pipeline.source(name, split, data_dir))
    raise _missing(name, data_dir, folder)
  index = _read_index(folder)
  with errors.naming(folder.index):
    splits = index["splits"]
    if list(splits) == [documents.TRAIN] and split in _SPLITS:
      every = _of_shards(folder, documents.TRAIN, splits)
      at = len(every) // 2 % _HELD_OUT_OF  # There is one among any two.
      held_out = np.arange(len(every)) % _HELD_OUT_OF == at
      if len(every) < 2:
        raise DataError(
            f"{folder.path} has {len(every)} document: one for training and"
            " one for evaluation are needed"
        )
      if split == documents.VALIDATION:
        note(
            f"{name}: no document was held out when it was prepared;"
            f" {held_out.sum()} of {len(every)} are held out now"
        )
        return _Some(every, np.flatnonzero(held_out))
      return _Some(every, np.flatnonzero(~held_out))
    if split not in splits:
      having = " and ".join(sorted(splits)) or "no split"
      raise DataError(f"{folder.path} has documents in {having}, not {split!r}")
    return _of_shards(folder, split, splits)


def _of_shards(
    folder: Folder, split: str, splits: Mapping[str, Any]
) -> errors.Named:
  shards = splits[split]["shards"]
  _allow_open_files(len(shards))
  # With the numbers of documents, no file is opened before it is read.
  found = array_record_data_source.ArrayRecordDataSource(
      [
          f"{folder.path / split / shard['name']}[0:{shard['documents']:d}]"
          for shard in shards
      ]
  )
  if not len(found):
    raise DataError(f"{folder.path} has no documents in {split!r}")
  return errors.Named(found, f"{folder.path / split}")


def _missing(name: str, data_dir: str, folder: Folder) -> FileNotFoundError:
  own = "python -m scripts.prepare_data mlm"
  command = f"{own} --text={name}=FILES"
  if "/" in name:
    command = f"tfds build {name} --file_format=array_record"
  elif name in ("c4", "wikipedia"):
    command = f"{own} --{name}=FILES"
  complete = " that is complete" if folder.sources.exists() else ""
  return errors.not_there(
      f"corpus {name!r}{complete}",
      pathlib.Path(data_dir).expanduser(),
      f"prepare it with `{command} --data_dir={data_dir}`",
  )


@dataclasses.dataclass(frozen=True)
class _Some:
  """Some of the documents."""

  documents: Any  # By index.
  which: np.ndarray

  def __len__(self) -> int:
    return len(self.which)

  def __getitem__(self, index: int) -> bytes:
    return self.documents[int(self.which[index])]


class _Texts:
  """The texts of a data set of TFDS."""

  def __init__(self, source: Any):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> bytes:
    return self._source[index]["text"]


def _allow_open_files(count: int) -> None:
  """Raises the limit of open files, since readers stay open."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = count + 1024  # Some are for others.
  if hard != resource.RLIM_INFINITY:
    wanted = min(wanted, hard)
  if soft != resource.RLIM_INFINITY and soft < wanted:
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tell(
    result: Result, told: collections.Counter, note: Callable[[str], None]
) -> None:
  """Prints the first notes of each kind for a file."""
  for file, kind, message in result.notes:
    told[file, kind] += 1
    if told[file, kind] <= documents.TOLD:
      note(message)


def _advanced(done: Progress, result: Result) -> Progress:
  shards = result.counts["shards"].values()
  documents = sum(shard["documents"] for shard in shards)
  return dataclasses.replace(
      done,
      jobs=done.jobs + 1,
      bytes=done.bytes + result.counts["source_bytes"],
      documents=done.documents + documents,
      new_documents=done.new_documents + documents * result.is_new,
  )


def _index(counts: Sequence[Counts]) -> dict[str, Any]:
  """All shards, in a fixed order."""
  splits, dropped = {}, collections.Counter()
  for job in sorted(counts, key=lambda job: job["name"]):
    dropped.update(job["dropped"])
    for name, shard in job["shards"].items():
      empty = {"documents": 0, "bytes": 0, "shards": []}
      split = splits.setdefault(name, empty)
      split["documents"] += shard["documents"]
      split["bytes"] += shard["bytes"]
      file = Folder(pathlib.Path()).shard(name, job["name"]).name
      split["shards"].append({"name": file, **shard})
  return {"format": _FORMAT, "splits": splits, "dropped": dict(dropped)}


def _read_index(folder: Folder) -> dict[str, Any]:
  index = atomic.read_json(folder.index)
  if index.get("format") != _FORMAT:
    raise DataError(
        f"{folder.path} has format {index.get('format')}, not {_FORMAT}: delete"
        " it, and prepare it again"
    )
  return index
