"""Selections of units by people, from replays of StarCraft II."""

import collections
from collections.abc import Iterator
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import tqdm_utils

from experiments.data import building
from experiments.data.errors import DataError
from experiments.data.starcraft import replays
from experiments.data.starcraft.features import REPLAY_UNITS

SPLITS = ("train", "validation")


class Starcraft2(tfds.core.GeneratorBasedBuilder):
  """Moments of games: all units that a player knew, and those he selected."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Initial release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = ".SC2Replay files; they may be in subfolders"
  pkg_dir_path = None  # It is no part of TFDS and ships no checksums.

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self,
        description=self.__doc__,
        features=features(len(REPLAY_UNITS), np.int16),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    folder = pathlib.Path(dl_manager.manual_dir)
    cache = pathlib.Path(self.data_path).parent / "games"
    paths = replays.files(folder)
    processes = min(os.cpu_count() or 1, len(paths))
    read = replays.read(paths, cache, processes)
    results = list(
        tqdm_utils.tqdm(read, desc="replays", unit=" files", total=len(paths))
    )
    _tell(results, len(paths))
    return {
        split: self._generate_examples(results, cache, split)
        for split in SPLITS
    }

  def _generate_examples(
      self, results: Any, cache: pathlib.Path, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    counts: collections.Counter[str] = collections.Counter()
    for game in replays.played(results, cache, split):
      counts.update({"games": 1, **game.info["counts"]})
      moments = zip(game.frames, game.units, game.selected, strict=True)
      for i, (frame, units, selected) in enumerate(moments):
        yield f"{game.info['key']}-{i:06}", {
            "units": units,
            "selected": selected,
            "frame": frame,
            "player": game.players[i],
            "game": game.info["file"],
        }
    if not counts["games"]:
      raise DataError(
          f"none of the games is for {split}: more replays are needed"
      )
    building.note(
        ", ".join(f"{count:,} {what}" for what, count in counts.items())
    )


def features(num_columns: int, dtype: Any) -> tfds.features.FeaturesDict:
  """The features of an example."""
  return tfds.features.FeaturesDict(
      {
          # Each a row of whole numbers, nearest to the camera first.
          "units": tfds.features.Tensor(
              shape=(None, num_columns), dtype=dtype, encoding="zlib"
          ),
          "selected": tfds.features.Tensor(
              shape=(None,), dtype=np.bool_, encoding="zlib"
          ),
          "frame": tfds.features.Scalar(np.int32),
          "player": tfds.features.Scalar(np.int32),
          "game": tfds.features.Text(),  # The name of its file.
      }
  )


def _tell(results: list[Any], num_files: int) -> None:
  """Prints the omitted files."""
  kinds: collections.Counter[str] = collections.Counter()
  for result in results:
    kinds.update(result.counts["dropped"])
    for _, _, message in result.notes:
      building.note(f"{message}; left out")
  if len(results) < num_files:
    kinds["the same file again"] = num_files - len(results)
  if kinds:
    reasons = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    building.note(f"{kinds.total()} of {num_files} files left out: {reasons}")
