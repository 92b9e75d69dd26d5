"""Unpacks ImageNet's archives of 2012 to folders that `sets` reads.

Source: Russakovsky et al., 2015; https://image-net.org.
"""

from collections.abc import Callable
import io
import pathlib
import re
import shutil
import tarfile

import scipy.io

from experiments.data import atomic
from experiments.data import errors
from experiments.data import published
from experiments.data.errors import DataError

NAME = "imagenet2012"  # Of its folder.
_PAGE = "https://image-net.org/download-images, with an account"
TRAIN = published.File("ILSVRC2012_img_train.tar", 147_897_477_120, _PAGE)
VALIDATION = published.File("ILSVRC2012_img_val.tar", 6_744_924_160, _PAGE)
# It says what the validation images show.
KIT = published.File("ILSVRC2012_devkit_t12.tar.gz", 0, _PAGE)
SPLITS = {"train": 1_281_167, "validation": 50_000}

Progress = Callable[[int, int], None]  # How many images are written, of all.


def unpack_train(
    archive: pathlib.Path, folder: pathlib.Path, progress: Progress
) -> None:
  """Writes train/CLASS/*.JPEG.

  What was broken off goes on with the next class: `train` is complete when it
  is there.

  Args:
    archive: as `TRAIN`: an archive of archives, one for each class.
    folder: folder for `train`.
    progress: is called with how many images are done.

  Raises:
    DataError: if the archive is damaged or another one.
  """
  done, growing = 0, folder / f"{atomic.PARTIAL}train"
  with errors.naming(archive), tarfile.open(archive) as opened:
    for inner in opened:
      name = re.fullmatch(r"(n\d{8})\.tar", inner.name)
      stream = opened.extractfile(inner)
      if name is None or stream is None:
        raise DataError(f"{archive} has {inner.name}, which is not a class")
      whole = growing / name[1]
      if not whole.exists():
        partial = growing / f"{atomic.PARTIAL}{name[1]}"
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(fileobj=stream) as images:
          _unpack(images, partial)
        partial.rename(whole)
      done += sum(1 for _ in whole.iterdir())
      progress(done, SPLITS["train"])
  growing.rename(folder / "train")


def unpack_validation(
    archive: pathlib.Path,
    kit: pathlib.Path,
    folder: pathlib.Path,
    progress: Progress,
) -> None:
  """Writes validation/*.JPEG, and beside it a list of their classes.

  Args:
    archive: as `VALIDATION`.
    kit: as `KIT`.
    folder: folder for `validation` and `validation.csv`.
    progress: is called with how many images are done.

  Raises:
    DataError: if an archive is damaged or another one, or they do not fit.
  """
  classes = _validation_classes(kit)
  whole = folder / "validation"
  partial = whole.with_name(f"{atomic.PARTIAL}validation")
  shutil.rmtree(partial, ignore_errors=True)
  with errors.naming(archive), tarfile.open(archive) as images:
    _unpack(images, partial)
  names = sorted(path.name for path in partial.iterdir())
  if len(names) != len(classes):
    raise DataError(
        f"{archive} has {len(names)} images, and {kit} the classes of"
        f" {len(classes)}"
    )
  rows = zip(names, classes, strict=True)
  atomic.write_table(folder / "validation.csv", rows)
  partial.rename(whole)
  progress(len(names), SPLITS["validation"])


def _unpack(images: tarfile.TarFile, folder: pathlib.Path) -> None:
  """Writes the images of an archive into a folder."""
  folder.mkdir(parents=True)
  for image in images:
    stream = images.extractfile(image)
    # A name with a folder in it could lead anywhere.
    if not re.fullmatch(r"[\w-]+\.JPEG", image.name) or stream is None:
      raise DataError(f"{images.name} has {image.name}, which is not an image")
    with (folder / image.name).open("wb") as file:
      shutil.copyfileobj(stream, file)


def _validation_classes(kit: pathlib.Path) -> list[str]:
  """The class of each validation image, in the order of their names."""
  with errors.naming(kit), tarfile.open(kit) as opened:
    members = {pathlib.PurePath(m.name).name: m for m in opened}
    contents = []
    for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
      stream = opened.extractfile(members[name])
      if stream is None:
        raise DataError(f"{kit}: {name} is not a regular file")
      contents.append(stream.read())
    synsets = scipy.io.loadmat(io.BytesIO(contents[0]), squeeze_me=True)[
        "synsets"
    ]
    class_of = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets}
    return [class_of[int(number)] for number in contents[1].split()]
