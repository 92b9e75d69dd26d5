"""Clips of spoken digits over moving images, in the layout of AudioSet.

    OUTPUT/{train,test}.csv, OUTPUT/class_labels_indices.csv
    OUTPUT/clips/ID_0.000.mp4, or .wav without images

Clips of class d have the digit d spoken at some time, in noise, and one of
CIFAR-10's images of class d, over which the camera moves. So neither the
sound nor the image alone says everything. Without images they are sound alone.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import io
import pathlib
import re
import wave

import cv2
import numpy as np

from experiments.data import archives
from experiments.data import atomic
from experiments.data import errors
from experiments.data import processes as processes_lib
from experiments.data.clips import video
from experiments.data.errors import DataError
from experiments.data.images import image

SECONDS = 2  # of a clip
_FPS, _SIZE = 12.5, 64  # frames per second; pixels a side
_RATE = 8000  # of the recordings, samples per second
_DIGITS = "zero one two three four five six seven eight nine".split()
# Of each speaker and digit, those before this are for testing, as the
# recordings' authors have it.
_TRAIN_FROM = 5
SNR = (0.0, 15.0)  # of the digit to the noise, in decibels
_SIDE = (0.6, 0.95)  # of what the camera sees, of the image's


@dataclasses.dataclass(frozen=True)
class Sources:
  """The recordings and images, by their names in zip files.

  The names are by split and class.
  """

  recordings: pathlib.Path
  images: pathlib.Path | None  # None: clips are sound alone.
  recording_names: Mapping[str, list[list[str]]]
  image_names: Mapping[str, list[list[str]]]
  classes: Sequence[str]  # Names of the digits and images.
  snr: tuple[float, float]  # As `SNR`.

  @property
  def ending(self) -> str:
    """Of a clip's file."""
    return ".mp4" if self.images else ".wav"


def write(
    recordings: pathlib.Path,
    images: pathlib.Path | None,
    output: pathlib.Path,
    *,
    clips: Mapping[str, int],
    seed: int = 0,
    snr: tuple[float, float] = SNR,
    processes: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
  """Writes missing clips, then the lists.

  Args:
    recordings: a ZIP file of the Free Spoken Digit Dataset, with
      recordings/DIGIT_SPEAKER_NUMBER.wav.
    images: a ZIP file of CIFAR-10, with {train,test}/CLASS/NUMBER.jpg; None:
      clips are sound alone.
    output: a folder.
    clips: how many of each split, "train" and "test". Nothing that is heard or
      seen in one is in the other; where there are more clips than recordings,
      these are used again.
    seed: random seed; equal seeds give equal clips.
    snr: least and largest ratio of the digit to the noise, in decibels.
    processes: that write; 0: one a core.
    progress: takes how many clips are done, and how many there are.

  Raises:
    DataError: if a file is not what it should be; names it.
  """
  if min(clips.values()) < 1:
    raise DataError(f"{dict(clips)} clips: at least 1 is needed")
  if not -100 <= snr[0] <= snr[1] <= 100:
    raise DataError(f"snr = {snr}: two ordered numbers from -100 to 100")
  sources = _sources(recordings, images, snr)
  numbered = [(split, i) for split, n in clips.items() for i in range(n)]
  make = functools.partial(_write, sources=sources, output=output, seed=seed)
  pairs = zip(*numbered, strict=True)
  made = processes_lib.each(make, *pairs, processes=processes, chunk=8)
  for done, _ in enumerate(made):
    progress(done + 1, len(numbered))
  _write_lists(output, clips, sources.classes)


def clip(
    sources: Sources, split: str, number: int, seed: int
) -> tuple[np.ndarray | None, np.ndarray]:
  """The frames and the sound of a clip.

  Returns:
    RGB, uint8 [T, 64, 64, 3], or None; and float32 [2 * 8000, 1] in [-1, 1].

  Raises:
    DataError: if the recording or the image cannot be read.
  """
  rng = np.random.default_rng([seed, *split.encode(), number])
  turn, label = divmod(number, len(_DIGITS))

  def chosen(names: list[str]) -> str:
    # Each of a class is used before one is used again.
    order = np.random.default_rng([seed, label]).permutation(len(names))
    return names[order[turn % len(names)]]

  spoken = _read_wave(
      sources.recordings, chosen(sources.recording_names[split][label])
  )
  if sources.images is None:
    return None, _in_noise(spoken, rng, sources.snr)
  name = chosen(sources.image_names[split][label])
  picture = image.decode(_content(sources.images, name), name)
  return _moved_over(picture, rng), _in_noise(spoken, rng, sources.snr)


def _in_noise(
    spoken: np.ndarray, rng: np.random.Generator, snr: tuple[float, float]
) -> np.ndarray:
  """A recording at a random time in noise, [S, 1]."""
  length = SECONDS * _RATE
  spoken = spoken[:length]
  spoken = spoken / max(np.abs(spoken).max(), 1e-3)
  loudness = np.sqrt(np.mean(spoken**2)) * 10 ** (-rng.uniform(*snr) / 20)
  sound = loudness * rng.normal(size=length)
  start = int(rng.integers(length - len(spoken), endpoint=True))
  sound[start : start + len(spoken)] += spoken
  sound *= 0.5 / max(1.0, np.abs(sound).max())
  return sound.astype(np.float32)[:, None]


def _moved_over(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Frames of a camera that moves between two squares of an image."""
  whole = min(picture.shape[:2])
  ends = []
  for _ in range(2):
    side = rng.uniform(*_SIDE) * whole
    ends.append((*rng.uniform(0, whole - side, 2), side))
  first, last = np.array(ends)
  frames = []
  for part in np.linspace(0, 1, round(SECONDS * _FPS)):
    left, top, side = (1 - part) * first + part * last
    scale = side / _SIZE
    middle = scale / 2 - 0.5  # Of a frame's first pixel, in the image's.
    place = np.array([[scale, 0, left + middle], [0, scale, top + middle]])
    frames.append(
        cv2.warpAffine(
            picture,
            place,
            (_SIZE, _SIZE),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )
  return np.stack(frames)


def _write(
    split: str, number: int, sources: Sources, output: pathlib.Path, seed: int
) -> None:
  path = output / "clips" / f"{_id(split, number)}_0.000{sources.ending}"
  if path.exists():
    return
  frames, sound = clip(sources, split, number, seed)
  with atomic.complete(path) as partial:
    if frames is None:
      _write_wave(partial, sound)
    else:
      video.write(partial, frames, _FPS, sound, _RATE)


def _write_lists(
    output: pathlib.Path, clips: Mapping[str, int], classes: Sequence[str]
) -> None:
  """Writes AudioSet's lists of classes and of the clips of each split."""
  mids = [f"/m/{name.replace(', ', '_')}" for name in classes]
  rows = [(i, *both) for i, both in enumerate(zip(mids, classes, strict=True))]
  atomic.write_table(
      output / "class_labels_indices.csv",
      [("index", "mid", "display_name"), *rows],
  )
  for split, count in clips.items():
    head = (
        f"# {split}.csv: spoken digits over moving images\n"
        f"# num_ytids={count}, num_unique_labels={len(mids)}\n"
        "# YTID, start_seconds, end_seconds, positive_labels\n"
    )
    end = f"0.000, {SECONDS:.3f}"
    lines = [
        f'{_id(split, i)}, {end}, "{mids[i % len(mids)]}"\n'
        for i in range(count)
    ]
    atomic.write(output / f"{split}.csv", (head + "".join(lines)).encode())


def _sources(
    recordings: pathlib.Path,
    images: pathlib.Path | None,
    snr: tuple[float, float] = SNR,
) -> Sources:
  """The content of the zip files.

  Raises:
    DataError: if it is something else.
  """
  spoken = {
      split: [[] for _ in _DIGITS] for split in ("train", "test")
  }  # By digit.
  for name in sorted(_opened(recordings).namelist()):
    found = re.fullmatch(r"(?:.*/)?(\d)_\w+_(\d+)\.wav", name)
    if found:
      digit, take = map(int, found.groups())
      spoken["train" if take >= _TRAIN_FROM else "test"][digit].append(name)
  if not all(all(names) for names in spoken.values()):
    raise DataError(
        f"{recordings} does not have recordings of all digits for training and"
        f" testing, DIGIT_SPEAKER_NUMBER.wav, {_TRAIN_FROM} numbers and more"
    )
  if images is None:
    return Sources(recordings, None, spoken, {}, _DIGITS, snr)
  shown: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
  for name in sorted(_opened(images).namelist()):
    found = re.fullmatch(r"(?:.*/)?(train|test)/(\w+)/\w+\.jpg", name)
    if found:
      shown[found[1]].setdefault(found[2], []).append(name)
  classes = sorted(shown["train"])
  if len(classes) != len(_DIGITS) or sorted(shown["test"]) != classes:
    raise DataError(
        f"{images} has images of {len(classes)} classes for training and"
        f" {len(shown['test'])} for testing; {len(_DIGITS)} are needed,"
        " {train,test}/CLASS/NUMBER.jpg"
    )
  by_label = {
      split: [names[name] for name in classes] for split, names in shown.items()
  }
  names = [
      f"{digit}, {name}" for digit, name in zip(_DIGITS, classes, strict=True)
  ]
  return Sources(recordings, images, spoken, by_label, names, snr)


# Once in each process: its table of contents is long.
_opened = functools.cache(archives.open_zip)


def _content(path: pathlib.Path, name: str) -> bytes:
  return archives.unzipped(_opened(path), name)


def _read_wave(path: pathlib.Path, name: str) -> np.ndarray:
  """Samples of a recording in [-1, 1], [S]."""
  where = f"{path}/{name}"
  with errors.naming(where):
    with wave.open(io.BytesIO(_content(path, name))) as file:
      about = file.getparams()
      content = file.readframes(about.nframes)
  form = (about.nchannels, about.sampwidth, about.framerate)
  if form != (1, 2, _RATE) or not content:
    raise DataError(
        f"{where} has {about.nframes} samples of {about.nchannels} channels of"
        f" {about.sampwidth} bytes at {about.framerate} Hz; it should have one"
        f" channel of 2 bytes at {_RATE} Hz"
    )
  return np.frombuffer(content, "<i2") / 32768.0


def _write_wave(path: pathlib.Path, sound: np.ndarray) -> None:
  with wave.open(str(path), "wb") as file:
    file.setparams((1, 2, _RATE, len(sound), "NONE", ""))
    file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())


def _id(split: str, number: int) -> str:
  return f"{split}-{number:05d}"
