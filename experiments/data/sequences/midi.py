"""Music as events: notes that begin and end, how loud, and time that passes.

An id is one of 128 notes that begin, 128 that end, 100 steps of time, of 10 ms
to 1 s, or 32 loudnesses, in which later notes begin; after the special ids.

Source: Oore et al., 2018; Huang et al., 2019, who have the sustain pedal hold
notes; MAESTRO (Hawthorne et al., 2019).
"""

import csv
import dataclasses
import os
import pathlib
from typing import Any
import wave

import numpy as np

from experiments.data import errors
from experiments.data.errors import DataError
from experiments.data.pipeline import Example
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL

NOTES, STEPS, VELOCITIES = 128, 100, 32
STEP = 0.01  # Seconds.
_BEGIN = NUM_SPECIAL
_END = _BEGIN + NOTES
_WAIT = _END + NOTES
_LOUD = _WAIT + STEPS
VOCABULARY = _LOUD + VELOCITIES
_PEDAL = 64  # The number of its control; from this value on it is down.


def read(path: str | os.PathLike[str]) -> np.ndarray:
  """A MIDI file as ids, int32, from BOS to EOS; drums are left out.

  Raises:
    FileNotFoundError: if there is no such file.
    DataError: if it is no MIDI file, or has no notes.
  """
  library = _library()
  content = errors.opened(path)
  with content, errors.naming(path):
    music = library.PrettyMIDI(content)
  notes = [
      (note.pitch, note.velocity, note.start, end)
      for instrument in music.instruments
      if not instrument.is_drum
      for note, end in _held(instrument)
  ]
  if not notes:
    raise DataError(f"{os.fspath(path)}: expected notes, found none")
  return encode(notes)


def write(path: str | os.PathLike[str], ids: np.ndarray) -> None:
  """Writes events as a MIDI file, for a piano."""
  library = _library()
  piano = library.Instrument(program=0)
  piano.notes = [
      library.Note(velocity=velocity, pitch=pitch, start=start, end=end)
      for pitch, velocity, start, end in decode(ids)
  ]
  music = library.PrettyMIDI()
  music.instruments.append(piano)
  music.write(os.fspath(path))


def write_sound(
    path: str | os.PathLike[str], ids: np.ndarray, rate: int = 22_050
) -> None:
  """Writes events as a WAV file: a sine for each note, 16 bits, one channel."""
  notes = decode(ids)
  length = int(rate * (max((note[3] for note in notes), default=0) + 0.5))
  sound = np.zeros(length)
  for pitch, velocity, start, end in notes:
    first, last = int(rate * start), int(rate * end)
    time = np.arange(last - first) / rate
    tone = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)
    fade = np.exp(-2 * time) * np.minimum((last - first) / rate - time, 0.01)
    sound[first:last] += velocity * 100 * fade * tone
  sound *= 0.9 / max(np.abs(sound).max(initial=0), 1e-9)
  with wave.open(os.fspath(path), "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes((32767 * sound).astype("<i2").tobytes())


Note = tuple[int, int, float, float]  # Pitch, velocity, first and last second.


def encode(notes: list[Note]) -> np.ndarray:
  """Notes as ids, int32, from BOS to EOS.

  What is at the same time stands in the order: ends, then beginnings, from low
  to high. A note that ends where it begins lasts one step.
  """
  events = []
  for pitch, velocity, start, end in notes:
    first = round(start / STEP)
    last = max(round(end / STEP), first + 1)
    loud = min(velocity * VELOCITIES // 128, VELOCITIES - 1)
    events += [(first, 1, pitch, loud), (last, 0, pitch, 0)]
  ids, now, before = [BOS], 0, None
  for at, begins, pitch, loud in sorted(events):
    while at > now:
      steps = min(at - now, STEPS)
      ids.append(_WAIT + steps - 1)
      now += steps
    if begins:
      if loud != before:
        ids.append(_LOUD + loud)
        before = loud
      ids.append(_BEGIN + pitch)
    else:
      ids.append(_END + pitch)
  return np.asarray([*ids, EOS], np.int32)


def decode(ids: np.ndarray) -> list[Note]:
  """The notes of ids, by their beginnings.

  A note that is not ended lasts to the last moment; an end without a beginning
  is nothing, and a beginning of a note that sounds ends it first.
  """
  now, loud, sounding, notes = 0, 64, {}, []

  def ended(pitch):
    start, velocity = sounding.pop(pitch)
    notes.append((pitch, velocity, start * STEP, max(now, start + 1) * STEP))

  for event in np.asarray(ids).tolist():
    if _BEGIN <= event < _END:
      if event - _BEGIN in sounding:
        ended(event - _BEGIN)
      sounding[event - _BEGIN] = now, loud
    elif _END <= event < _WAIT:
      if event - _END in sounding:
        ended(event - _END)
    elif _WAIT <= event < _LOUD:
      now += event - _WAIT + 1
    elif _LOUD <= event < VOCABULARY:
      loud = (event - _LOUD) * 128 // VELOCITIES + 128 // VELOCITIES // 2
  for pitch in list(sounding):
    ended(pitch)
  return sorted(notes, key=lambda note: (note[2], note[0]))


def _held(instrument: Any):
  """Notes of an instrument, and when each ends, with the sustain pedal.

  What sounds while the pedal is down lasts until it is up, or until the same
  note begins again.
  """
  changes = sorted(
      (change.time, change.value >= _PEDAL)
      for change in instrument.control_changes
      if change.number == _PEDAL
  )
  times = np.array([time for time, _ in changes])
  again: dict[int, float] = {}
  for note in sorted(instrument.notes, key=lambda n: n.start, reverse=True):
    end = note.end
    at = int(np.searchsorted(times, end, "right")) - 1
    if at >= 0 and changes[at][1]:
      ups = (time for time, down in changes[at + 1 :] if not down)
      end = max(end, next(ups, end))
    yield note, max(min(end, again.get(note.pitch, end)), note.start)
    again[note.pitch] = note.start


@dataclasses.dataclass(frozen=True)
class Maestro:
  """The pieces of a split of MAESTRO, by index: {"ids": int32 [events]}."""

  folder: pathlib.Path
  files: list[str]

  @classmethod
  def opened(cls, name: str, split: str, data_dir: str) -> "Maestro":
    """The pieces that the table in the folder DATA_DIR/NAME has for a split.

    Args:
      name: of the folder, such as "maestro-v3.0.0".
      split: "train", "validation" or "test".
      data_dir: the folder with all data sets; "~" is the home folder.

    Raises:
      FileNotFoundError: if it is not there; says how it comes to be there.
      DataError: if its table says something else.
    """
    folder = pathlib.Path(data_dir).expanduser() / name
    tables = sorted(folder.glob("*.csv"))
    if not tables:
      raise FileNotFoundError(
          f"no table .csv in {folder}: unpack {name}-midi.zip of"
          " magenta.tensorflow.org/datasets/maestro there"
      )
    rows = list(csv.DictReader(errors.text(tables[0]).splitlines()))
    for key in ("split", "midi_filename"):
      if not rows or not rows[0].get(key):
        raise DataError(f"{tables[0]}: expected a column {key!r}, found none")
    files = [row["midi_filename"] for row in rows if row["split"] == split]
    if not files:
      raise DataError(f"{tables[0]}: expected pieces of {split!r}, found none")
    return cls(folder, files)

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> Example:
    """A piece.

    Raises:
      FileNotFoundError, DataError: as `read`.
    """
    return {"ids": read(self.folder / self.files[int(index)])}


def _library() -> Any:
  try:
    import pretty_midi  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise DataError(
        "MIDI files are read by pretty_midi: `pip install -e '.[music]'`"
    ) from error
  return pretty_midi
