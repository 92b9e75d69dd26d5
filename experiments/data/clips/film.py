"""Cuts a film into clips in the layout of Kinetics: small and real data.

    OUTPUT/{train,validate}.csv
    OUTPUT/SPLIT/part_NN/ID_START_END.mp4

The class of a clip is the part of the film that it is from. One clip in five,
spread over the whole film, is for validation.
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib

import cv2
import numpy as np

from experiments.data import atomic
from experiments.data import processes as processes_lib
from experiments.data.clips import index
from experiments.data.clips import video
from experiments.data.errors import DataError

_FPS, _RATE = 25.0, 48_000
_VALIDATION = 5


@dataclasses.dataclass(frozen=True)
class _Clip:
  film: str
  number: int
  seconds: int
  part: int

  @property
  def split(self) -> str:
    is_last = self.number % _VALIDATION == _VALIDATION - 1
    return "validate" if is_last else "train"

  @property
  def row(self) -> tuple[str, str, int, int, str]:
    begin = self.number * self.seconds
    label = f"part_{self.part:02d}"
    return label, self.film, begin, begin + self.seconds, self.split

  @property
  def file(self) -> pathlib.Path:
    label, name, begin, end, split = self.row
    return pathlib.Path(split) / label / f"{name}_{begin:06d}_{end:06d}.mp4"


def cut(
    film: pathlib.Path,
    output: pathlib.Path,
    *,
    seconds: float,
    parts: int,
    height: int,
    gain: float = 1.0,
    processes: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
  """Cuts a film into clips of 25 frames a second with sound of 48 kHz.

  Args:
    film: a video with sound.
    output: a folder.
    seconds: whole seconds of each clip; the rest of the film is not used.
    parts: number of parts of equal length.
    height: height of the frames; their width keeps its proportion.
    gain: factor of the sound, which is then clipped to [-1, 1].
    processes: that cut; 0: one a core.
    progress: takes how many clips are done, and how many there are.

  Returns:
    how many clips each split has.

  Raises:
    DataError: if the film cannot be read, or is too short for so many parts.
  """
  about = index.probe(film)
  if about.reason:
    raise DataError(f"{film} is {about.reason}")
  count = int(about.seconds / seconds)
  if seconds != int(seconds) or count < parts * _VALIDATION:
    raise DataError(
        f"{film} has {about.seconds:.1f} s: too short for {parts} parts of"
        f" {_VALIDATION} clips of {seconds} s, which must be whole seconds"
    )
  clips = [
      _Clip(film.stem, i, int(seconds), i * parts // count)
      for i in range(count)
  ]
  write = functools.partial(
      _write, film=film, output=output, height=height, gain=gain
  )
  made = processes_lib.each(write, clips, processes=processes)
  for done, _ in enumerate(made):
    progress(done + 1, count)
  head = ("label", "youtube_id", "time_start", "time_end", "split")
  splits = {}
  for split in ("train", "validate"):
    rows = [clip.row for clip in clips if clip.split == split]
    atomic.write_table(output / f"{split}.csv", [head, *rows])
    splits[split] = len(rows)
  return splits


def _write(
    clip: _Clip,
    film: pathlib.Path,
    output: pathlib.Path,
    height: int,
    gain: float,
) -> None:
  path = output / clip.file
  if path.exists():
    return
  start, frames = float(clip.number * clip.seconds), round(clip.seconds * _FPS)
  images = video.read_frames(film, frames, _FPS, start)
  width = round(images.shape[2] * height / images.shape[1])
  small = [
      cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
      for image in images
  ]
  sound = video.read_audio(film, clip.seconds * _RATE, _RATE, start)
  sound = np.clip(gain * sound, -1.0, 1.0)
  with atomic.complete(path) as partial:
    video.write(partial, np.stack(small), _FPS, sound, _RATE)
