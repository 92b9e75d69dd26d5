"""Reads and decodes clips of video with sound, by an index.

An index of a data set's files is made by `index`. Nothing is unpacked: a
clip is decoded, seeking to where it begins, whenever it is needed.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

from array_record.python import array_record_data_source
import numpy as np

from experiments.data import atomic
from experiments.data import errors
from experiments.data.clips import video
from experiments.data.errors import DataError
from experiments.data.pipeline import Example

_SHOWN = 20  # Names of classes in a note.


class ClipError(DataError):
  """An unreadable clip; the message names the file."""


@dataclasses.dataclass(frozen=True)
class Clips:
  """Files with their labels, by index.

  Each is {"file": its path, "labels": int32 [L], the numbers of its classes,
  "seconds": how long it is}.
  """

  classes: Sequence[str]
  left_out: dict[str, int]  # Why, and how many rows of the list.
  without_sound: int
  root: pathlib.Path
  records: Any  # JSON by index; can be pickled.
  where: str  # They are.

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Example:
    record = self.records[index]
    with errors.naming(f"clip {index} of {self.where}"):
      file, labels, seconds = json.loads(record)
      return {
          "file": str(self.root / file),
          "labels": np.array(labels, np.int32),
          "seconds": seconds,
      }

  @property
  def coverage(self) -> float:
    """The readable fraction of the list."""
    return len(self) / (len(self) + sum(self.left_out.values()))

  def note(self) -> str:
    """A note about omitted clips, in one line."""
    left_out = [f"{count:,} {why}" for why, count in self.left_out.items()]
    return (
        f"{len(self):,} clips, {self.without_sound:,} of them without sound; "
        + (f"left out: {', '.join(left_out)}" if left_out else "none left out")
    )


def class_names(
    lists: Iterable[tuple[str, str]], data_dir: str
) -> tuple[str, ...]:
  """The names of the classes, from the first existing index.

  Args:
    lists: data sets and splits, as of `open_clips`.
    data_dir: the folder with all data sets.

  Returns:
    none, if none of them is there.

  Raises:
    DataError: if it is damaged.
  """
  for name, split in lists:
    file = pathlib.Path(data_dir).expanduser() / name / f"{split}.json"
    if file.exists():
      index = atomic.read_json(file)
      with errors.naming(file):
        return tuple(str(name) for name in index["classes"])
  return ()


def decided(config: Any, note: Callable[[str], None]) -> dict[str, Any]:
  """What the data of a config with `train` and `sets` decides of it.

  Args:
    config: complete. A set without a name is the training set's.
    note: takes a line for people.

  Returns:
    changes: names of `sets`; "class_names"; and "num_classes", if these are to
    be counted (`count_classes`).

  Raises:
    DataError: if an index is damaged.
  """
  changes: dict[str, Any] = {
      f"sets.{row}.name": config.train.name
      for row, own in config.sets.items()
      if not own.name
  }
  lists = [config.train, *(config.sets[row] for row in config.evals)]
  names = class_names(
      [(one.name or config.train.name, one.split) for one in lists],
      config.data_dir,
  )
  if config.class_names or not names:
    return changes
  if config.count_classes:
    changes["num_classes"] = len(names)
    some = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
    note(f"{config.train.name}: {len(names)} classes: {some}{more}")
  # Whoever opens the data says if there are others than the model's.
  if len(names) == changes.get("num_classes", config.num_classes):
    changes["class_names"] = names
  return changes


def open_clips(
    name: str,
    split: str,
    data_dir: str,
    *,
    num_classes: int,
    skip_missing: bool = True,
) -> Clips:
  """The clips of a list that was indexed.

  Args:
    name: the data set: "kinetics", "audioset" or any other.
    split: what the list is called, such as "train" for train.csv.
    data_dir: the folder with all data sets; "~" is the home folder.
    num_classes: required number of classes.
    skip_missing: whether some that the list names may be missing or damaged.

  Raises:
    FileNotFoundError: if there is no such index; says what makes it.
    DataError: if there are other classes; or if clips are missing and must not
      be: says how many, and where they are listed.
  """
  folder = pathlib.Path(data_dir).expanduser() / name
  file = folder / f"{split}.json"
  if not file.exists():
    having = sorted(path.stem for path in folder.glob("*.json"))
    there = f"; there are {', '.join(having)}" if having else ""
    raise errors.not_there(
        f"index {file.name}",
        folder,
        f"`{_command(name, split)} --videos=FOLDER --data_dir={data_dir}` makes"
        f" it{there}",
    )
  index = atomic.read_json(file)
  with errors.naming(file):
    classes = [str(name) for name in index["classes"]]
    if len(classes) != num_classes:
      raise DataError(
          f"{file} has {len(classes)} classes, and num_classes is {num_classes}"
      )
    count, without_sound = int(index["clips"]), int(index["without_sound"])
    left_out = {str(why): int(n) for why, n in index["left_out"].items()}
    if min(count, without_sound, *left_out.values()) < 0:
      raise DataError(f"{file} has negative counts")
    records = f"{folder / split}.array_record"
    source = array_record_data_source.ArrayRecordDataSource(
        f"{records}[0:{count}]"
    )
    clips = Clips(
        classes=classes,
        left_out=left_out,
        without_sound=without_sound,
        root=pathlib.Path(index["root"]),
        records=errors.Named(source, records),
        where=records,
    )
    if not len(clips):
      raise DataError(f"{file} has no clips: {clips.note()}")
  if clips.left_out and not skip_missing:
    raise DataError(
        f"{name} {split}: only {clips.coverage:.1%} can be read"
        f" ({clips.note()}; all in {folder / split}.left_out.csv)."
        " skip_missing=True evaluates only those and reports their fraction"
    )
  return clips


def _command(name: str, split: str) -> str:
  """What indexes a split."""
  own = "python -m scripts.prepare_data"
  if name in ("kinetics", "audioset"):
    return f"{own} {name} --csv={split}.csv"
  return f"{own} kinetics --as_name={name}"


@dataclasses.dataclass(frozen=True)
class Windows:
  """Each clip as `count` consecutive windows.

  They have "window", from 0 to `count` - 1, and "windows", the count.
  """

  clips: Any
  count: int

  def __len__(self) -> int:
    return len(self.clips) * self.count

  def __getitem__(self, index: int) -> Example:
    clip, window = divmod(index, self.count)
    return {**self.clips[clip], "window": window, "windows": self.count}


def read(
    example: Example,
    rng: np.random.Generator,
    *,
    num_frames: int,
    fps: float,
    samples_per_frame: int,
    where: str,
    has_frames: bool = True,
) -> Example:
  """A part of a clip, with sound of exactly the length of its frames.

  Args:
    example: an example of `Clips` or `Windows`.
    rng: draws where a random part begins.
    num_frames: number of frames.
    fps: frames per second, whatever the file has.
    samples_per_frame: of sound, of which there are `fps` times as many in a
      second.
    where: "random"; "center"; or "window", evenly spaced from the beginning to
      the end by the example's "window".
    has_frames: whether frames are decoded; without, only sound is.

  Returns:
    the example with "video": RGB, uint8 [T, Y, X, 3] in the file's own size,
    and "audio": its first channel, float32 [T * samples_per_frame, 1] in
    [-1, 1], silence where the file has none.

  Raises:
    ClipError: if it is too short, or cannot be decoded.
  """
  file = example["file"]
  spare = max(example["seconds"] - num_frames / fps, 0.0)
  if where == "random":
    part = rng.uniform()
  elif where == "center":
    part = 0.5
  elif where == "window":
    part = example["window"] / max(example["windows"] - 1, 1)
  else:
    raise ValueError(f"where={where!r} is not random, center or window")
  start = part * spare
  rate = round(fps * samples_per_frame)
  length = num_frames * samples_per_frame
  try:
    read = {"audio": video.read_audio(file, length, rate, start)}
    if has_frames:
      read["video"] = video.read_frames(file, num_frames, fps, start)
  except (DataError, OSError) as error:
    raise ClipError(f"{file} from {start:.2f} s on: {error}") from error
  return {**example, **read}
