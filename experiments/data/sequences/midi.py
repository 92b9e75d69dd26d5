"""Music as events: note on, note off, velocity and time.

An id is one of 128 notes that begin, 128 that end, 100 steps of time, of 10 ms
to 1 s, or 32 loudnesses, in which later notes begin; after the special ids.

Source: Oore et al., 2018; Huang et al., 2019, who have the sustain pedal hold
notes; MAESTRO (Hawthorne et al., 2019).
"""

import csv
import dataclasses
import io
import os
import pathlib
from typing import Any

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
_LOWEST, _KEYS = 21, 88  # Those of a piano.
COLUMNS = 50  # Of a piano roll, in a second.


def read(path: str | os.PathLike[str]) -> np.ndarray:
  """A MIDI file as ids, int32, from BOS to EOS, without drums.

  Raises:
    FileNotFoundError: if there is no such file.
    DataError: if it is no MIDI file, or has no notes.
  """
  import pretty_midi  # pyright: ignore[reportMissingImports]

  content = errors.opened(path)
  with content, errors.naming(path):
    music = pretty_midi.PrettyMIDI(content)
  notes = [
      (note.pitch, note.velocity, note.start, end)
      for instrument in music.instruments
      if not instrument.is_drum
      for note, end in _held(instrument)
  ]
  if not notes:
    raise DataError(f"{os.fspath(path)}: expected notes, found none")
  return encode(notes)


def content(ids: np.ndarray) -> bytes:
  """Events as a MIDI file, for a piano."""
  import pretty_midi  # pyright: ignore[reportMissingImports]

  piano = pretty_midi.Instrument(program=0)
  piano.notes = [
      pretty_midi.Note(velocity=velocity, pitch=pitch, start=start, end=end)
      for pitch, velocity, start, end in decode(ids)
  ]
  music = pretty_midi.PrettyMIDI()
  music.instruments.append(piano)
  file = io.BytesIO()
  music.write(file)
  return file.getvalue()


def played(ids: np.ndarray, rate: int) -> np.ndarray:
  """Synthesised events, float32 [S, 1] in [-1, 1], with a sine per note.

  Args:
    ids: the events.
    rate: samples per second.
  """
  notes = decode(ids)
  length = int(rate * (duration(notes) + 0.5))
  sound = np.zeros(length)
  for pitch, velocity, start, end in notes:
    first, last = int(rate * start), int(rate * end)
    time = np.arange(last - first) / rate
    tone = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)
    fade = np.exp(-2 * time) * np.minimum((last - first) / rate - time, 0.01)
    sound[first:last] += velocity * 100 * fade * tone
  sound *= 0.9 / max(np.abs(sound).max(initial=0), 1e-9)
  return sound[:, None].astype(np.float32)


def roll(ids: np.ndarray, given: int, columns: int) -> np.ndarray:
  """A piano roll of events, RGB, uint8 [4 · 88, columns, 3].

  The lowest key is at the bottom. What was given is white, what comes after it
  orange; the louder the brighter.

  Args:
    ids: the events.
    given: how many of them were given.
    columns: its width, `COLUMNS` a second; what is later is left out.
  """
  picture = np.zeros([_KEYS, columns, 3], np.float64)
  before = len(decode(ids[:given]))
  for i, (pitch, velocity, start, end) in enumerate(decode(ids)):
    key = _LOWEST + _KEYS - 1 - pitch
    if 0 <= key < _KEYS:
      color = (1.0, 1.0, 1.0) if i < before else (1.0, 0.6, 0.1)
      first, last = round(start * COLUMNS), round(end * COLUMNS)
      shade = 80 + 175 * velocity / 127
      picture[key, first : max(last, first + 1)] = shade * np.array(color)
  return picture.astype(np.uint8).repeat(4, axis=0)


def duration(notes: "list[Note]") -> float:
  """Seconds until the last note ends."""
  return max((note[3] for note in notes), default=0.0)


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
  """Notes of an instrument with their ends, including the sustain pedal.

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
class Pieces:
  """The pieces of a split, by index: {"ids": int32 [events]}."""

  folder: pathlib.Path
  files: list[str]

  @classmethod
  def opened(cls, name: str, split: str, data_dir: str) -> "Pieces":
    """The pieces that the folder DATA_DIR/NAME has for a split.

    As the table in it says, if there is one, as in MAESTRO; else the MIDI files
    in its folder of the split's name.

    Args:
      name: name of the folder, such as "maestro-v3.0.0".
      split: "train", "validation" or "test".
      data_dir: the folder with all data sets; "~" is the home folder.

    Raises:
      FileNotFoundError: if it is not there; says how it comes to be there.
      DataError: if its table says something else.
    """
    folder = pathlib.Path(data_dir).expanduser() / name
    tables = sorted(folder.glob("*.csv"))
    if not tables:
      found = sorted((folder / split).glob("*.mid*"))
      if found:
        return cls(folder, [f"{split}/{file.name}" for file in found])
      raise errors.not_there(
          "table .csv",
          folder,
          f"and there are no MIDI files in {folder / split}: put your own"
          f" there, or in {folder} {name}-midi.zip of"
          " magenta.tensorflow.org/datasets/maestro, unpacked",
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
