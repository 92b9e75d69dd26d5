"""The source files of corpora, and their jobs."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import glob
import itertools
import os
import pathlib

from experiments.data.errors import DataError
from experiments.data.text import documents
from experiments.data.text.shards import Folder
from experiments.data.text.shards import Job

HELD_OUT = 200  # One document in so many is for validation.
# Many times what a model reads at once, so that few windows meet an end.
MAX_BYTES = 20_000
JOB_BYTES = 16 << 20  # Of text in one job and its shards.


@dataclasses.dataclass(frozen=True)
class Sources:
  """The sources of a corpus."""

  name: str
  # By names that stay the same when the folder of all of them is moved.
  files: Mapping[str, pathlib.Path]
  settings: Mapping[str, int]  # What else decides what comes out.
  jobs: Callable[[Folder], Iterable[Job]]
  num_jobs: int | None = None  # None: it turns out.


def c4(places: Sequence[str]) -> Sources:
  """The corpus "c4", of files of the allenai/c4 release.

  Args:
    places: files, folders and globs.

  Raises:
    FileNotFoundError: if one of the places has no such file.
    DataError: if the name of a file does not tell its split.
  """
  files = _find(places, ["c4-*.json.gz"])
  jobs = []
  for name, file in files.items():
    if not documents.C4_NAME.fullmatch(file.name):
      raise DataError(
          f"{file}: a file of C4 has a name as c4-train.00000-of-01024.json.gz"
          " or c4-validation.00000-of-00008.json.gz"
      )
    read = functools.partial(documents.c4, [(name, file)])
    stem = file.name.removesuffix(".json.gz")
    jobs.append(Job(stem, file.stat().st_size, read))
  _require_different_names(files)
  return Sources("c4", files, {}, lambda _: jobs, len(jobs))


def wikipedia_dumps(
    places: Sequence[str],
    *,
    held_out: int = HELD_OUT,
    job_bytes: int = JOB_BYTES,
) -> Sources:
  """The corpus "wikipedia", of dumps of one language.

  Args:
    places: files, folders and globs of pages-articles, .xml or .bz2.
    held_out: one article in so many is for validation; 0: none.
    job_bytes: bytes of wikitext per job.

  Raises: as `c4`.
  """
  files = _find(places, ["*.xml", "*.xml*.bz2"])
  _require_different_names(files)
  return Sources(
      "wikipedia",
      files,
      {"held_out": held_out, "job_bytes": job_bytes},
      functools.partial(_blocks, list(files.values()), held_out, job_bytes),
  )


def text(
    name: str,
    places: Sequence[str],
    *,
    held_out: int = HELD_OUT,
    max_bytes: int = MAX_BYTES,
    job_bytes: int = JOB_BYTES,
) -> Sources:
  """A corpus of text files, each with one or several documents.

  Args:
    name: the corpus.
    places: files, folders and globs of .txt or .txt.gz.
    held_out: one document in so many is for validation; 0: none.
    max_bytes: longer files are split, between paragraphs if possible.
    job_bytes: bytes of files per job.

  Raises: as `c4`.
  """
  files = _find(places, ["*.txt", "*.txt.gz"])
  jobs, group, size = [], [], 0
  for number, (shown, file) in enumerate(files.items(), 1):
    group.append((shown, file))
    size += file.stat().st_size
    if size >= job_bytes or number == len(files):
      read = functools.partial(documents.plain, group, max_bytes, held_out)
      jobs.append(Job(f"{len(jobs):05d}", size, read))
      group, size = [], 0
  settings = dict(held_out=held_out, max_bytes=max_bytes, job_bytes=job_bytes)
  return Sources(name, files, settings, lambda _: jobs, len(jobs))


def _find(
    places: Sequence[str], patterns: Sequence[str]
) -> dict[str, pathlib.Path]:
  """Files of places, each once and in order; those in folders have patterns."""
  found = {}
  for place in places:
    path = pathlib.Path(place).expanduser()
    if path.is_dir():
      matches = [match for p in patterns for match in path.rglob(p)]
    elif path.exists():  # Its name may look like a glob.
      matches = [path]
    else:
      matches = map(pathlib.Path, glob.glob(str(path), recursive=True))
    files = {match.resolve(): match for match in matches if match.is_file()}
    if not files:
      what = f"no {' or '.join(patterns)} in it" if path.is_dir() else "no file"
      raise FileNotFoundError(f"{place}: there is {what}")
    found |= files
  files = sorted(file.absolute() for file in found.values())
  root = os.path.commonpath([file.parent for file in files])
  return {os.path.relpath(file, root): file for file in files}


def _require_different_names(files: Mapping[str, pathlib.Path]) -> None:
  """Checks that names differ, since jobs have the names of their files."""
  count = collections.Counter(file.name for file in files.values())
  for name, times in count.items():
    if times > 1:
      raise DataError(f"there are {times} files {name}")


def _blocks(
    files: Sequence[pathlib.Path], held_out: int, job_bytes: int, folder: Folder
) -> Iterator[Job]:
  """A job for each block; finished dumps are not read again."""
  from experiments.data.text import wikipedia  # Of the extra `text`.

  for file in files:
    stem = file.name.removesuffix(".bz2").removesuffix(".xml")
    done = _done_blocks(stem, folder)
    if done:
      yield from done
      continue
    for i, block in enumerate(wikipedia.blocks(file, job_bytes)):
      read = functools.partial(wikipedia.articles, block, held_out)
      yield Job(f"{stem}-{i:05d}", block.source_bytes, read, block.is_last)


def _done_blocks(stem: str, folder: Folder) -> list[Job]:
  """All jobs of a finished dump, or none."""
  jobs = []
  for i in itertools.count():
    counts = folder.done(f"{stem}-{i:05d}")
    if counts is None:
      break
    jobs.append(Job(counts["name"], counts["source_bytes"], _nothing))
    if counts["is_last"]:
      return jobs
  return []


def _nothing(dropped: documents.Dropped) -> Iterator[documents.Document]:
  """The input of a finished job: nothing."""
  del dropped
  return iter(())
