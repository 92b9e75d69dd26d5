"""Jobs that each write shards of a corpus, in processes, once.

A job is done when its counts and its shards are there. Both get their names
when they are complete, so a run that was killed at any moment resumes from
there, and what a job writes depends on nothing but the job.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent import futures
import contextlib
import dataclasses
import pathlib
from typing import Any

# A type checker does not see that module: it is compiled.
from array_record.python import array_record_module  # pyright: ignore

from experiments.data import atomic
from experiments.data import errors
from experiments.data import processes as processes_lib
from experiments.data.errors import DataError
from experiments.data.text.documents import Document
from experiments.data.text.documents import Dropped

Counts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Job:
  """Documents that one process reads and writes, at most a shard a split."""

  name: str
  source_bytes: int  # How much of the sources this is.
  read: Callable[[Dropped], Iterator[Document]]  # Can be pickled.
  is_last: bool = False  # Of its file.


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a job."""

  counts: Counts
  notes: list[tuple[str, str, str]]  # As in `Dropped`.
  is_new: bool  # No earlier run has done it.


@dataclasses.dataclass(frozen=True)
class Folder:
  """The files of a corpus."""

  path: pathlib.Path

  @property
  def sources(self) -> pathlib.Path:
    """The sources of the corpus."""
    return self.path / "sources.json"

  @property
  def index(self) -> pathlib.Path:
    """The index of all shards, which completes the corpus."""
    return self.path / "corpus.json"

  def counts(self, job: str) -> pathlib.Path:
    """The counts of a job."""
    return self.path / "jobs" / f"{job}.json"

  def shard(self, split: str, job: str) -> pathlib.Path:
    """The documents of a job."""
    return self.path / split / f"{job}.array_record"

  def done(self, job: str) -> Counts | None:
    """The counts of a finished job, or None."""
    file = self.counts(job)
    if not file.exists():
      return None
    # What is damaged is done again.
    with contextlib.suppress(DataError), errors.naming(file):
      read = atomic.read_json(file)
      numbers = [read["source_bytes"], *read["dropped"].values()]
      for shard in read["shards"].values():
        numbers += [shard["documents"], shard["bytes"]]
      is_whole = all(type(number) is int for number in numbers)
      is_whole &= read["name"] == job and type(read["is_last"]) is bool
      shards = [self.shard(split, job) for split in read["shards"]]
      if is_whole and all(shard.exists() for shard in shards):
        return read
    return None

  def begin(self, sources: Mapping[str, Any]) -> None:
    """Writes the sources of the corpus, and removes files of a killed run.

    Raises:
      DataError: if it was made of something else.
    """
    if not self.sources.exists():
      atomic.write_json(self.sources, sources)
    before = atomic.read_json(self.sources)
    for key in sources.keys() | before.keys():
      if before.get(key) != sources.get(key):
        raise DataError(
            f"{self.path} was begun with {_difference(before, sources, key)}:"
            " delete it, or prepare into another --data_dir"
        )
    for partial in self.path.glob(f"*/{atomic.PARTIAL}*"):
      partial.unlink(missing_ok=True)


def _difference(before: Counts, now: Counts, key: str) -> str:
  """The first difference between sources."""
  old, new = before.get(key), now.get(key)
  if not isinstance(old, dict) or not isinstance(new, dict):
    return f"{key} {old} instead of {new}"
  file = min(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
  if file not in new:
    return f"the file {file}, which is not named now"
  if file not in old:
    return f"other files, without {file}"
  return f"a file {file} of {old[file]} bytes instead of {new[file]}"


def run(
    jobs: Iterable[Job], folder: Folder, processes: int
) -> Iterator[Result]:
  """Runs unfinished jobs; results come in any order.

  Args:
    jobs: they are made while others are done, a few ahead.
    folder: folder of the corpus.
    processes: 1: all is done in this one.
  """
  with processes_lib.pool(processes) as pool:
    running = set()
    for job in jobs:
      counts = folder.done(job.name)
      if counts is not None:
        yield Result(counts, [], is_new=False)
      elif pool is None:
        yield _do(folder, job)
      else:
        running.add(pool.submit(_do, folder, job))
      if len(running) > processes:  # One waits for whoever is ready first.
        ready, running = futures.wait(running, None, futures.FIRST_COMPLETED)
        yield from (future.result() for future in ready)
    for future in futures.as_completed(running):
      yield future.result()


def _do(folder: Folder, job: Job) -> Result:
  dropped = Dropped()
  shards: dict[str, _Shard] = {}
  with contextlib.ExitStack() as names:  # Of the shards, which get them last.
    with contextlib.ExitStack() as opened:
      for split, document in job.read(dropped):
        if split not in shards:
          path = atomic.complete(folder.shard(split, job.name))
          shards[split] = _Shard(names.enter_context(path))
          opened.callback(shards[split].close)
        shards[split].write(document)
    counts = {
        "name": job.name,
        "source_bytes": job.source_bytes,
        "is_last": job.is_last,
        "shards": {split: shard.counts for split, shard in shards.items()},
        "dropped": dict(dropped.counts),
    }
    atomic.write_json(folder.counts(job.name), counts)
  return Result(counts, dropped.notes, is_new=True)


class _Shard:
  """A file of records that is being written."""

  def __init__(self, path: pathlib.Path):
    self.counts = {"documents": 0, "bytes": 0}
    # Each record can be read without the ones beside it.
    self._writer = array_record_module.ArrayRecordWriter(
        str(path), "group_size:1"
    )
    self.close = self._writer.close

  def write(self, document: bytes) -> None:
    """Adds a record."""
    self._writer.write(document)
    self.counts["documents"] += 1
    self.counts["bytes"] += len(document)
