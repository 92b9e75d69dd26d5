"""Jobs that each write shards of a corpus, in processes, once.

A job is done when its counts and its shards are there. Both get their names
when they are complete, so a run that was killed at any moment goes on from
there, and what a job writes depends on nothing but the job.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent import futures
import contextlib
import dataclasses
import json
import multiprocessing
from multiprocessing import connection
import os
import pathlib
import signal
import threading
from typing import Any

# A type checker does not see that module: it is compiled.
from array_record.python import array_record_module  # pyright: ignore

from experiments.data.text.documents import Document
from experiments.data.text.documents import Dropped

Counts = Mapping[str, Any]


class CorpusError(ValueError):
  """What somebody who prepares or reads a corpus can do something about."""


@dataclasses.dataclass(frozen=True)
class Job:
  """Documents that one process reads and writes, at most a shard a split."""

  name: str
  source_bytes: int  # How much of the sources this is.
  read: Callable[[Dropped], Iterator[Document]]  # Can be pickled.
  is_last: bool = False  # Of its file.


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of a job."""

  counts: Counts
  notes: list[tuple[str, str, str]]  # As in `Dropped`.
  is_new: bool  # No earlier run has done it.


@dataclasses.dataclass(frozen=True)
class Folder:
  """Where everything of a corpus is."""

  path: pathlib.Path

  @property
  def sources(self) -> pathlib.Path:
    """What it is made of."""
    return self.path / "sources.json"

  @property
  def index(self) -> pathlib.Path:
    """All its shards, when it is complete."""
    return self.path / "corpus.json"

  def counts(self, job: str) -> pathlib.Path:
    """What a job has kept and dropped."""
    return self.path / "jobs" / f"{job}.json"

  def shard(self, split: str, job: str) -> pathlib.Path:
    """The documents of a job."""
    return self.path / split / f"{job}.array_record"

  def done(self, job: str) -> Counts | None:
    """The counts of a job; None: it has to be done."""
    counts = self.counts(job)
    if not counts.exists():
      return None
    read = read_json(counts)
    shards = [self.shard(split, job) for split in read["shards"]]
    return read if all(shard.exists() for shard in shards) else None

  def begin(self, sources: Mapping[str, Any]) -> None:
    """Notes what the corpus is made of, and clears what a killed run left.

    Raises:
      CorpusError: if it was made of something else.
    """
    if not self.sources.exists():
      write_json(self.sources, sources)
    before = read_json(self.sources)
    for key in sources.keys() | before.keys():
      if before.get(key) != sources.get(key):
        raise CorpusError(
            f"{self.path} was begun with {_difference(before, sources, key)}:"
            " delete it, or prepare into another --data_dir"
        )
    for partial in self.path.glob("*/*.partial"):
      partial.unlink(missing_ok=True)


def _difference(before: Counts, now: Counts, key: str) -> str:
  """What differs most visibly."""
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
  """Does what is not done yet; results come in any order.

  Args:
    jobs: they are made while others are done, a few ahead.
    folder: of the corpus.
    processes: 1: all is done in this one.
  """
  with _pool(processes) as pool:
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


def each(
    function: Callable[..., Any],
    *items: Iterable[Any],
    processes: int = 0,
    chunk: int = 1,
) -> Iterator[Any]:
  """What a function gives for each item, in order, as `map` does.

  Args:
    function: it and the items can be pickled.
    *items: its arguments.
    processes: in which it is called; 0: one a core; 1: this one.
    chunk: items that a process gets at once.
  """
  with _pool(processes or len(os.sched_getaffinity(0))) as pool:
    if pool is None:
      yield from map(function, *items)
    else:
      yield from pool.map(function, *items, chunksize=chunk)


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[futures.Executor | None]:
  if processes == 1:
    yield None
    return
  # A fork would copy the threads of whoever calls, in the middle of anything.
  spawn = multiprocessing.get_context("spawn")
  # Only this process can write to the pipe, and never does.
  reader, writer = spawn.Pipe(duplex=False)
  pool = futures.ProcessPoolExecutor(
      processes, spawn, _end_with_pipe, (reader,)
  )
  try:
    yield pool
  except BaseException:
    writer.close()  # What the workers are doing is in vain.
    raise
  finally:
    pool.shutdown(cancel_futures=True)
    writer.close()
    reader.close()


def _end_with_pipe(reader: connection.Connection) -> None:
  """Ends a worker when its parent does; it would wait for jobs for ever."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is for the parent.

  def watch():
    reader.poll(None)  # Until nobody can write any more.
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def _do(folder: Folder, job: Job) -> Result:
  dropped = Dropped()
  shards: dict[str, _Shard] = {}
  try:
    for split, document in job.read(dropped):
      if split not in shards:
        shards[split] = _Shard(folder.shard(split, job.name))
      shards[split].write(document)
  finally:
    for shard in shards.values():
      shard.close()
  counts = {
      "name": job.name,
      "source_bytes": job.source_bytes,
      "is_last": job.is_last,
      "shards": {split: shard.counts for split, shard in shards.items()},
      "dropped": dict(dropped.counts),
  }
  write_json(folder.counts(job.name), counts)
  for shard in shards.values():
    _publish(shard.partial, shard.path)
  return Result(counts, dropped.notes, is_new=True)


class _Shard:
  """A file of records that is being written."""

  def __init__(self, path: pathlib.Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    self.path, self.partial = path, _partial(path)
    self.counts = {"documents": 0, "bytes": 0}
    # Each record can be read without the ones beside it.
    self._writer = array_record_module.ArrayRecordWriter(
        str(self.partial), "group_size:1"
    )
    self.close = self._writer.close

  def write(self, document: bytes) -> None:
    """Adds a record."""
    self._writer.write(document)
    self.counts["documents"] += 1
    self.counts["bytes"] += len(document)


def _partial(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f"{path.name}.{os.getpid()}.partial")


def _publish(partial: pathlib.Path, path: pathlib.Path) -> None:
  """Gives a complete file its name."""
  with partial.open("rb") as file:
    os.fsync(file.fileno())  # Its name must not outlive its content.
  partial.replace(path)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """What `write_json` has written."""
  return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  """Writes a file for `read_json`, as `write`."""
  write(path, (json.dumps(value, indent=1) + "\n").encode("utf-8"))


def write(path: pathlib.Path, content: bytes) -> None:
  """Writes a file that is complete whenever it is there."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = _partial(path)
  partial.write_bytes(content)
  _publish(partial, path)
