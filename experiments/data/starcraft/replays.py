"""Folders of replays of StarCraft II: each game once, in parallel.

What a game gives is kept beside the data set, in `games`, under the check sum
of the replay's content: a preparation that was stopped resumes from there, and
one with more replays reads only the new ones.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import hashlib
import io
import json
import pathlib
from typing import Any, NamedTuple

# A type checker does not see that module: it is compiled.
from array_record.python import array_record_module  # pyright: ignore
import numpy as np

from experiments.data.starcraft import game as replay_game
from experiments.data.text import shards
from experiments.data.text.documents import Document
from experiments.data.text.documents import Dropped
from experiments.data.text.documents import split_of

# Of what is written: what an older version has left is not taken.
_VERSION = 1
HELD_OUT = 5  # One game in so many is for validation.


class Played(NamedTuple):
  """All moments of a game."""

  info: Mapping[str, Any]  # "key", "file", "map", "version", "races", "counts"
  frames: np.ndarray  # int32 [moments]
  players: np.ndarray  # int32 [moments]
  units: Sequence[np.ndarray]  # int16 [units, REPLAY_UNITS] each
  selected: Sequence[np.ndarray]  # bool [units] each


def files(folder: pathlib.Path) -> list[pathlib.Path]:
  """All replays in a folder, and in those below it.

  Raises:
    FileNotFoundError: if there is none.
  """
  found = sorted(
      path
      for path in folder.rglob("*")
      if path.suffix.lower() == ".sc2replay" and path.is_file()
  )
  if not found:
    raise FileNotFoundError(f"there is no .SC2Replay in {folder}")
  return found


def read(
    paths: Sequence[pathlib.Path], cache: pathlib.Path, processes: int
) -> Iterator[shards.Result]:
  """Reads each replay once; results come in any order.

  Args:
    paths: replays; of equal files one is read.
    cache: folder for the results.
    processes: as of `shards.run`.
  """
  folder = shards.Folder(cache / f"version-{_VERSION}")
  yield from shards.run(_jobs(paths), folder, processes)


def played(
    results: Sequence[shards.Result], cache: pathlib.Path, split: str
) -> Iterator[Played]:
  """The games of a split, in an order that depends on their content alone.

  Several replays of one game are in the same split; the first one counts.
  """
  folder = shards.Folder(cache / f"version-{_VERSION}")
  keys: set[str] = set()
  for name in sorted(result.counts["name"] for result in results):
    shard = folder.shard(split, name)
    if not shard.exists():
      continue
    reader = array_record_module.ArrayRecordReader(str(shard))
    game = unpacked(reader.read(0, 1)[0])
    reader.close()
    if game.info["key"] not in keys:
      keys.add(game.info["key"])
      yield game


def play(path: pathlib.Path) -> Played:
  """All moments of a replay.

  Raises:
    ReplayError: if it is of no use.
  """
  game = replay_game.Game(path)
  with replay_game.reading(path):
    moments = list(game.moments())
  if not moments:
    raise replay_game.ReplayError(path.name, "without selections")
  info = {
      "key": game.key,
      "file": path.name,
      **game.description,
      "counts": dict(game.counts),
  }
  return Played(
      info,
      frames=np.array([m.frame for m in moments], np.int32),
      players=np.array([m.player for m in moments], np.int32),
      units=[m.units for m in moments],
      selected=[m.selected for m in moments],
  )


def packed(game: Played) -> bytes:
  """A game as bytes."""
  file = io.BytesIO()
  np.savez_compressed(
      file,
      info=np.array(json.dumps(game.info)),
      frames=game.frames,
      players=game.players,
      lengths=np.array([len(each) for each in game.units]),
      units=np.concatenate(game.units),
      selected=np.concatenate(game.selected),
  )
  return file.getvalue()


def unpacked(content: bytes) -> Played:
  """What `packed` has packed."""
  arrays = np.load(io.BytesIO(content))
  borders = np.cumsum(arrays["lengths"])[:-1]
  return Played(
      json.loads(str(arrays["info"])),
      frames=arrays["frames"],
      players=arrays["players"],
      units=np.split(arrays["units"], borders),
      selected=np.split(arrays["selected"], borders),
  )


def _jobs(paths: Sequence[pathlib.Path]) -> Iterator[shards.Job]:
  names: set[str] = set()
  for path in paths:
    content = path.read_bytes()
    name = hashlib.sha256(content).hexdigest()[:24]
    if name not in names:
      names.add(name)
      yield shards.Job(name, len(content), functools.partial(_documents, path))


def _documents(path: pathlib.Path, dropped: Dropped) -> Iterator[Document]:
  try:
    game = play(path)
  except replay_game.ReplayError as error:
    dropped.add(error.kind)
    dropped.notes.append((path.name, error.kind, str(error)))
    return
  yield split_of(game.info["key"], HELD_OUT), packed(game)
