"""Compares the rate of ImageNet's input pipeline with tf.data's.

    python -m tools.compare_tfdata [--seconds=20] [--ours]

Images are 500 x 375 JPEG files of scikit-image's photographs, with all that
ImageNet is trained with: random crops and flips, RandAugment, MixUp and CutMix.
Both pipelines run on one core, in turns. tf.data needs TensorFlow, the extra
`tensorflow`; `--ours` leaves it out.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import importlib
import os
import subprocess
import sys
import time
from typing import Any

import cv2
import numpy as np

from experiments.data import pipeline
from experiments.data.images import augment
from experiments.data.images import mixing
from experiments.data.images.image import ImageError
from experiments.data.pipeline import Example

SIZE, BATCH = 224, 32
# More batches than are prepared ahead: they are not counted.
_AHEAD = 6
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


class Files:
  """Files as examples, by index, each as often as ImageNet is larger.

  Grain takes milliseconds for an index of a small data set, when it shuffles.
  """

  def __init__(self, files: Sequence[bytes]):
    self._files = files

  def __len__(self) -> int:
    return 1_281_167

  def __getitem__(self, index: int) -> Example:
    file = self._files[index % len(self._files)]
    return {"image": file, "label": np.int32(index), "file": str(index)}


def photographs(height: int = 375, width: int = 500) -> list[bytes]:
  """JPEG files of real images, of about 70 kB, four of each photograph."""
  data = importlib.import_module("skimage.data")
  files = []
  for name in _PHOTOGRAPHS:
    photograph = getattr(data, name)()[..., ::-1]
    scale = max(height / photograph.shape[0], width / photograph.shape[1])
    size = [round(scale * side) for side in photograph.shape[1::-1]]
    image = cv2.resize(photograph, size, interpolation=cv2.INTER_CUBIC)
    image = image[:height, :width]
    for turned in (image, image[::-1], image[:, ::-1], image[::-1, ::-1]):
      quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
      files.append(cv2.imencode(".jpg", turned, quality)[1].tobytes())
  return files


def ours(files: Sequence[bytes]) -> Iterator[Any]:
  """Endless batches of our pipeline."""
  examples = pipeline.train(
      Files(files),
      augment.train_steps(SIZE),
      batch_size=BATCH,
      seed=0,
      shard=pipeline.Shard(),
      mix=mixing.Mix(),
      skip=ImageError,
  )
  return iter(examples)


def tfdata(files: Sequence[bytes]) -> Iterator[Any]:
  """Endless batches of tf.data."""
  module = importlib.import_module("tools.comparisons.tfdata")
  return module.batches(files, BATCH, SIZE, threads=1)


PIPELINES = {"ours": ours, "tf.data": tfdata}


def speed(iterator: Iterator[Any], seconds: float) -> float:
  """Images for each second that a core worked, in about so many seconds.

  An example is made of two images. What a core does for others is not counted,
  so that a machine need not be idle.
  """
  for _ in range(_AHEAD):
    next(iterator)
  end, start, count = time.perf_counter() + seconds, time.process_time(), 0
  while time.perf_counter() < end:
    next(iterator)
    count += 2 * BATCH
  return count / (time.process_time() - start)


def main() -> None:
  """Prints the images a second of each round, and of the fastest."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--seconds", type=float, default=10)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--ours", action="store_true")
  parser.add_argument("--only", choices=PIPELINES)  # One round of it.
  flags = parser.parse_args()

  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  if flags.only:
    iterator = PIPELINES[flags.only](photographs())
    print(speed(iterator, flags.seconds), flush=True)
    os._exit(0)  # Threads that prepare more are not waited for.
  speeds = {name: [] for name in PIPELINES if name == "ours" or not flags.ours}
  command = [sys.executable, "-m", "tools.compare_tfdata"]
  command += [f"--seconds={flags.seconds}"]
  for _ in range(flags.rounds):
    for name, every in speeds.items():
      output = subprocess.run(
          [*command, f"--only={name}"], check=True, stdout=subprocess.PIPE
      ).stdout
      every.append(float(output.split()[-1]))
  for name, every in speeds.items():
    rounds = " ".join(f"{images:.0f}" for images in every)
    print(f"{name}: {max(every):.0f} images/s on a core ({rounds})")


if __name__ == "__main__":
  main()
