"""CIFAR-10 from its publisher's archive, as a zip file of PNGs.

Source: Krizhevsky, 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import tarfile
import zipfile

import cv2
import numpy as np

from experiments.data import atomic
from experiments.data import errors
from experiments.data import published
from experiments.data.errors import DataError

ARCHIVE = published.File(
    "cifar-10-binary.tar.gz",
    170_052_171,
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
SPLITS = {"train": 50_000, "test": 10_000}
_ROW = 1 + 3 * 32 * 32  # bytes: a label, then red, green and blue.


def write(
    archive: pathlib.Path,
    file: pathlib.Path,
    progress: Callable[[int, int], None],
) -> None:
  """Writes {train,test}/CLASS/NUMBER.png into a zip file, whole or not at all.

  Args:
    archive: as `ARCHIVE`.
    file: output file.
    progress: called with how many pictures are written, of how many.

  Raises:
    DataError: if the archive is damaged or another one.
  """
  done, total = 0, sum(SPLITS.values())
  with (
      errors.naming(archive),
      tarfile.open(archive) as opened,
      atomic.complete(file) as partial,
      zipfile.ZipFile(partial, "w") as made,
  ):
    names = _member(opened, "batches.meta.txt").decode("utf-8").split()
    for split, batches in (
        ("train", [f"data_batch_{i}.bin" for i in range(1, 6)]),
        ("test", ["test_batch.bin"]),
    ):
      number = 0
      for label, picture in _rows(opened, batches):
        if label >= len(names):
          raise DataError(f"{archive}: a label is {label} of {len(names)}")
        _, encoded = cv2.imencode(".png", picture[..., ::-1])
        number += 1
        made.writestr(
            f"{split}/{names[label]}/{number:05}.png", encoded.tobytes()
        )
        done += 1
        if done % 1000 == 0:
          progress(done, total)


def _rows(
    opened: tarfile.TarFile, batches: list[str]
) -> Iterator[tuple[int, np.ndarray]]:
  """(label, RGB uint8 [32, 32, 3]) of each picture."""
  for batch in batches:
    content = _member(opened, batch)
    if len(content) % _ROW:
      raise DataError(f"{opened.name}/{batch} is not a file of CIFAR-10")
    for row in np.frombuffer(content, np.uint8).reshape(-1, _ROW):
      picture = row[1:].reshape(3, 32, 32).transpose(1, 2, 0)
      yield int(row[0]), picture


def _member(opened: tarfile.TarFile, name: str) -> bytes:
  stream = opened.extractfile(f"cifar-10-batches-bin/{name}")
  if stream is None:
    raise DataError(f"{opened.name}/{name} is not a regular file")
  return stream.read()
