"""Indexes of the clips that lists name or folders hold, made once, in parallel.

    DATA_DIR/NAME/SPLIT.array_record   a clip a record: file, classes, seconds
    DATA_DIR/NAME/SPLIT.left_out.csv   what is left out, and why
    DATA_DIR/NAME/SPLIT.json           classes and counts; written last

A split is called as its list. Every file is opened, and all of its packets are
read, so that what is missing, no video, or cut off is known before training. If
this is stopped, what was looked at is not looked at again.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import csv
import dataclasses
import functools
import io
import json
import os
import pathlib
from typing import Any

# A type checker does not see that module: it is compiled.
from array_record.python import array_record_module  # pyright: ignore
import av
import av.error

from experiments.data import atomic
from experiments.data import errors
from experiments.data import processes as processes_lib
from experiments.data.errors import DataError
from experiments.data.images import folders

# A file whose last packet comes so many seconds too early is cut off.
_CUT_OFF = 0.5
CLIPS = folders.Kind("clips", (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v"))
# What is read where only sound is.
SOUNDS = folders.Kind(
    "sounds",
    (*CLIPS.endings, ".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"),
)


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a list."""

  where: str
  stems: Sequence[str]  # What its file may be called, without its ending.
  labels: Sequence[str]
  file: str = ""  # Where it is below the folder, if that is known.


@dataclasses.dataclass(frozen=True)
class Probed:
  """The properties of a file."""

  seconds: float = 0.0
  has_sound: bool = False
  reason: str = ""  # Why it is of no use.


def kinetics_rows(path: pathlib.Path) -> Iterator[Row]:
  """Rows of Kinetics' lists, with files named ID_START_END in six digits.

  Source: https://github.com/cvdfoundation/kinetics-dataset
  """
  needed = ["label", "youtube_id", "time_start", "time_end"]
  with _opened(path) as file, errors.naming(path):
    reader = csv.DictReader(file)
    missing = [name for name in needed if name not in (reader.fieldnames or [])]
    if missing:
      raise DataError(
          f"{path} has no column {', '.join(missing)}: Kinetics' lists have"
          f" {','.join(needed)}, and those of test clips no labels"
      )
    for row in reader:
      where = f"{path.name}, line {reader.line_num}"
      if None in [row[name] for name in needed]:
        raise DataError(f"{where} has fewer columns than {','.join(needed)}")
      label, name, *times = (row[name] for name in needed)
      begin, end = _numbers(times, where)
      stem = f"{name}_{int(begin):06d}_{int(end):06d}"
      yield Row(where, [stem], [label])


def audioset_rows(path: pathlib.Path) -> Iterator[Row]:
  """Rows of AudioSet's lists, with files named ID_START or ID.

  Source: https://research.google.com/audioset/download.html
  """
  with _opened(path) as file, errors.naming(path):
    reader = csv.reader(file, skipinitialspace=True)
    for row in reader:
      where = f"{path.name}, line {reader.line_num}"
      if not row or row[0].startswith("#"):
        continue
      if len(row) != 4:
        raise DataError(
            f"{where} has {len(row)} columns, not ID, start, end and labels"
        )
      name, begin, end, labels = row
      begin, _ = _numbers([begin, end], where)
      stems = [f"{name}_{begin:.3f}", f"{name}_{int(begin)}", name]
      yield Row(where, stems, labels.split(","))


def audioset_classes(path: pathlib.Path) -> dict[str, str]:
  """The classes of class_labels_indices.csv by their names in the lists."""
  needed = {"index", "mid", "display_name"}
  with _opened(path) as file, errors.naming(path):
    reader = csv.DictReader(file)
    missing = needed - set(reader.fieldnames or [])
    if missing:
      raise DataError(f"{path} has no column {', '.join(sorted(missing))}")
    rows = sorted(reader, key=lambda row: int(row["index"]))
    return {row["mid"]: row["display_name"] for row in rows}


def kinetics_classes(path: pathlib.Path) -> dict[str, str]:
  """All labels of a list in alphabetical order."""
  labels = {label for row in kinetics_rows(path) for label in row.labels}
  return {label: label for label in sorted(labels)}


def folder_rows(
    videos: pathlib.Path, kind: folders.Kind = CLIPS
) -> tuple[list[Row], list[Row], dict[str, str]]:
  """Rows of clips that lie in folders which are their classes.

  Args:
    videos: has a folder for each class, perhaps in `train` and `validation`, or
      `test`; without those a tenth of the clips is held out.
    kind: of the files.

  Returns:
    rows to train on, rows that are held out, and classes as of
    `kinetics_classes`.

  Raises:
    DataError: if there are no such folders, or fewer than two.
  """
  found = folders.about(videos, kind=kind)
  if found is None or len(found[1]) < 2:
    raise DataError(
        f"{videos} has {len(found[1]) if found else 0} folders of classes: two"
        f" or more are expected, each with {kind.what}"
        f" ({', '.join(kind.endings)})"
    )
  splits, classes = found
  rows: list[list[Row]] = []
  for part in folders.parts(splits):
    files = folders.find(videos, part, kind=kind)
    assert files is not None  # It was there above.
    names = [os.fsdecode(name) for name in files.names]
    labels = [[str(label)] for label in files.labels]
    rows.append([Row(x, [x], y, x) for x, y in zip(names, labels, strict=True)])
  return rows[0], rows[1], {str(i): name for i, name in enumerate(classes)}


def prepare(
    rows: Iterable[Row],
    classes: Mapping[str, str],
    videos: pathlib.Path,
    index: pathlib.Path,
    *,
    min_seconds: float,
    kind: folders.Kind = CLIPS,
    processes: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
  """Writes the index of a list.

  Args:
    rows: rows of the list.
    classes: by their labels what they are called, in the order of their
      numbers.
    videos: a folder; files may be anywhere below.
    index: DATA_DIR/NAME/SPLIT.json.
    min_seconds: shorter clips are left out.
    kind: of the files; `SOUNDS` need no frames.
    processes: that look at files; 0: one a core.
    progress: takes how many files were looked at, and how many there are.

  Returns:
    what the index says: "clips", "without_sound", and "left_out", a count for
    each reason.

  Raises:
    DataError: if a row is not as it should be, or no file is there.
  """
  files = _files(videos, kind)
  number = {name: i for i, name in enumerate(classes)}
  found: list[tuple[Row, str]] = []
  left_out: list[tuple[str, str, str]] = []
  for row in rows:
    file = row.file or next((files[x] for x in row.stems if x in files), None)
    if file is None:
      left_out.append((row.where, row.stems[0], "missing"))
    elif not all(label in number for label in row.labels):
      left_out.append((row.where, file, "of an unknown class"))
    else:
      found.append((row, file))
  if not found:
    example = f", for example no {left_out[0][1]}.mp4" if left_out else ""
    raise DataError(
        f"none of the {len(left_out):,} clips of {index.stem} is below"
        f" {videos}{example}"
    )
  look = functools.partial(_probe_below, videos, kind is not SOUNDS)
  probed = _probe_all(
      look, [file for _, file in found], index, processes, progress
  )
  records = []
  for row, file in found:
    what = probed[file]
    reason = what.reason or ("short" if what.seconds < min_seconds else "")
    if reason:
      left_out.append((row.where, file, reason))
    else:
      labels = [number[label] for label in row.labels]
      records.append((file, labels, what.seconds))
  _write_records(index.with_suffix(".array_record"), records)
  head = ("row", "file", "reason")
  atomic.write_table(index.with_suffix(".left_out.csv"), [head, *left_out])
  reasons = sorted({reason for *_, reason in left_out})
  summary = {
      "root": str(videos.absolute()),
      "clips": len(records),
      "without_sound": sum(not probed[file].has_sound for file, *_ in records),
      "left_out": {
          reason: sum(other == reason for *_, other in left_out)
          for reason in reasons
      },
      "classes": list(classes.values()),
  }
  atomic.write_json(index, summary)
  _looked_at(index).unlink()
  return summary


def probe(path: pathlib.Path, needs_frames: bool = True) -> Probed:
  """What a file is like, from what is decoded first and the times of all.

  Args:
    path: the file.
    needs_frames: whether its length is that of its frames; or of its sound.
  """
  try:
    errors.opened(path).close()  # A pipe would be waited for.
    with av.open(str(path)) as container:
      stream = container.streams.best("video" if needs_frames else "audio")
      if stream is None:
        return Probed(reason=f"without {'frames' if needs_frames else 'sound'}")
      if next(container.decode(stream), None) is None:
        return Probed(reason="empty")
      has_sound = container.streams.best("audio") is not None
      container.seek(0)
      ends = {True: 0.0, False: 0.0}  # Of that stream, and of all else.
      for packet in container.demux():
        if packet.pts is not None and packet.time_base is not None:
          end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
          is_its = packet.stream == stream
          ends[is_its] = max(ends[is_its], end)
      begin = float((stream.start_time or 0) * (stream.time_base or 0))
      said = (container.duration or 0) / av.time_base
  except (av.error.FFmpegError, OSError, ValueError):
    return Probed(reason="no video")
  if max(ends.values()) < said - _CUT_OFF:
    return Probed(reason="cut off")
  return Probed(ends[True] - begin, has_sound)


def _probe_all(
    look: Callable[[str], Probed],
    files: Sequence[str],
    index: pathlib.Path,
    processes: int,
    progress: Callable[[int, int], None],
) -> dict[str, Probed]:
  """The properties of each file; a file is inspected once over all runs."""
  probed = {}
  notes = _looked_at(index)
  notes.parent.mkdir(parents=True, exist_ok=True)
  if notes.exists():
    for line in errors.content(notes).splitlines(keepends=True):
      # What is damaged is looked at again.
      with contextlib.suppress(DataError), errors.naming(notes):
        file, seconds, has_sound, reason = json.loads(line)
        what = Probed(float(seconds), bool(has_sound), str(reason))
        if line.endswith(b"\n"):
          probed[str(file)] = what
    _write_lines(notes, probed.items())
  left = sorted(set(files) - probed.keys())
  total = len(probed) + len(left)
  progress(len(probed), total)
  with notes.open("a") as log:
    results = processes_lib.each(look, left, processes=processes, chunk=16)
    for file, what in zip(left, results, strict=True):
      probed[file] = what
      log.write(_line(file, what))
      log.flush()
      progress(len(probed), total)
  return probed


def _probe_below(videos: pathlib.Path, needs_frames: bool, file: str) -> Probed:
  return probe(videos / file, needs_frames)


def _looked_at(index: pathlib.Path) -> pathlib.Path:
  return index.with_suffix(".looked_at")


def _line(file: str, what: Probed) -> str:
  return json.dumps([file, *dataclasses.astuple(what)]) + "\n"


def _write_lines(
    path: pathlib.Path, probed: Iterable[tuple[str, Probed]]
) -> None:
  atomic.write(path, "".join(_line(*each) for each in probed).encode())


def _files(videos: pathlib.Path, kind: folders.Kind) -> dict[str, str]:
  """Paths below a folder by their names without endings."""
  if not videos.is_dir():
    raise DataError(f"{videos} is not a folder")
  files = {}
  for path in folders.below(videos, kind):
    files.setdefault(pathlib.PurePath(path).stem, path)
  return files


def _opened(path: pathlib.Path) -> Any:
  try:
    return io.StringIO(errors.text(path), newline="")
  except OSError as error:
    raise DataError(f"{path}: {error.strerror}") from error


def _numbers(texts: Iterable[str], where: str) -> list[float]:
  try:
    numbers = [float(text) for text in texts]
  except ValueError as error:
    raise DataError(f"{where}: a time is not a number: {error}") from error
  if not all(0 <= number < 1e9 for number in numbers):
    raise DataError(f"{where}: a time is not within 0 and 1e9 seconds")
  return numbers


def _write_records(
    path: pathlib.Path, records: Iterable[tuple[str, list[int], float]]
) -> None:
  with atomic.complete(path) as partial:
    writer = array_record_module.ArrayRecordWriter(str(partial), "group_size:1")
    for record in records:
      writer.write(json.dumps(record).encode())
    writer.close()
