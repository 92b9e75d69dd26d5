"""Generated shapes, which need no download, as points on their surfaces."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from experiments.data.builders import modelnet40
from experiments.data.points import shapes

EACH = {"train": 400, "test": 100}  # Shapes of a kind.


class Shapes(tfds.core.GeneratorBasedBuilder):
  """4,800 and 1,200 shapes of 12 kinds; 2,048 points on each, centred."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Initial release."}
  pkg_dir_path = None  # It is no part of TFDS and ships no checksums.

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self,
        description=self.__doc__,
        features=modelnet40.features(shapes.SHAPES),
        supervised_keys=("points", "label"),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    del dl_manager  # There is nothing to download.
    return {split: self._generate_examples(split) for split in EACH}

  def _generate_examples(
      self, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    made = shapes.files(split, EACH[split])
    yield from modelnet40.examples(made, shapes.SHAPES)
