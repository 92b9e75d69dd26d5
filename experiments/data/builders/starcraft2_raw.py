"""Selections of units from games that AlphaStar Unplugged has converted."""

from collections.abc import Iterator
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import building
from experiments.data.builders import starcraft2
from experiments.data.errors import DataError
from experiments.data.starcraft import raw_units
from experiments.data.starcraft import replays
from experiments.data.starcraft.features import CONVERTED_UNITS
from experiments.data.text.documents import split_of


class Starcraft2Raw(tfds.core.GeneratorBasedBuilder):
  """Steps of games: all units that a player saw, and those he commanded."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Initial release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "the files HASH_PLAYER.tfrecord, as AlphaStar Unplugged's"
      " generate_dataset writes them with the game"
  )
  pkg_dir_path = None  # It is no part of TFDS and ships no checksums.

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self,
        description=self.__doc__,
        features=starcraft2.features(len(CONVERTED_UNITS), np.int32),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    folder = pathlib.Path(dl_manager.manual_dir)
    paths = sorted(folder.rglob("*_[12].tfrecord"))
    if not paths:
      raise FileNotFoundError(f"there is no HASH_PLAYER.tfrecord in {folder}")
    # Both players of a game are in the same split.
    split = {path: split_of(path.stem[:-2], replays.HELD_OUT) for path in paths}
    return {
        name: self._generate_examples([p for p in paths if split[p] == name])
        for name in starcraft2.SPLITS
    }

  def _generate_examples(
      self, paths: list[pathlib.Path]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    left_out = 0
    for path in paths:
      try:
        for step, units, selected in raw_units.moments(path):
          yield f"{path.stem}-{step:06}", {
              "units": units,
              "selected": selected,
              "frame": step,
              "player": int(path.stem[-1]),
              "game": path.name,
          }
      except DataError as error:
        left_out += 1
        building.note(f"{error}; left out")
    if left_out:
      building.note(f"{left_out} of {len(paths)} files left out")
