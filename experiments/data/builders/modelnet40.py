"""ModelNet40 as points on the surfaces of its meshes."""

from collections.abc import Iterable
from collections.abc import Iterator
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import archives
from experiments.data import building
from experiments.data import errors
from experiments.data.errors import DataError
from experiments.data.points import meshes

NUM_POINTS = 2048
CLASSES = tuple(
    "airplane bathtub bed bench bookshelf bottle bowl car chair cone cup"
    " curtain desk door dresser flower_pot glass_box guitar keyboard lamp"
    " laptop mantel monitor night_stand person piano plant radio range_hood"
    " sink sofa stairs stool table tent toilet tv_stand vase wardrobe"
    " xbox".split()
)
# The archive also has a Mac's "._" files, which are no meshes.
_NAME = re.compile(r"(?:.*/)?((\w+)/(train|test)/\2_\d+\.off)")


class Modelnet40(tfds.core.GeneratorBasedBuilder):
  """9,843 and 2,468 objects of 40 classes; 2,048 points on each, centred."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Initial release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "ModelNet40.zip (https://modelnet.cs.princeton.edu) or of the folders"
      " CLASS/{train,test} in it"
  )
  pkg_dir_path = None  # It is no part of TFDS and ships no checksums.

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self,
        description=self.__doc__,
        homepage="https://modelnet.cs.princeton.edu",
        features=features(CLASSES),
        supervised_keys=("points", "label"),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    folder = pathlib.Path(dl_manager.manual_dir)
    return {
        split: self._generate_examples(folder, split)
        for split in ("train", "test")
    }

  def _generate_examples(
      self, folder: pathlib.Path, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from examples(files(folder, split), CLASSES)


def features(classes: Iterable[str]) -> tfds.features.FeaturesDict:
  """The features of an example."""
  return tfds.features.FeaturesDict(
      {
          "points": tfds.features.Tensor(
              shape=(NUM_POINTS, 3), dtype=np.float32, encoding="bytes"
          ),
          "label": tfds.features.ClassLabel(names=list(classes)),
          "file": tfds.features.Text(),
      }
  )


def files(folder: pathlib.Path, split: str) -> Iterator[tuple[str, bytes]]:
  """The OFF files of a split: CLASS/SPLIT/CLASS_0001.off, and the content.

  Raises:
    FileNotFoundError: if there is none, in the folder or in ModelNet40.zip.
  """
  archive = folder / "ModelNet40.zip"
  if archive.exists():
    with archives.open_zip(archive) as opened:
      names = _of_split(opened.namelist(), split)
      for name in sorted(names):
        yield name, archives.unzipped(opened, names[name])
  else:
    names = _of_split(map(str, folder.rglob("*.off")), split)
    for name in sorted(names):
      yield name, errors.content(names[name])
  if not names:
    raise FileNotFoundError(
        f"there is neither ModelNet40.zip nor CLASS/{split}/CLASS_0001.off in"
        f" {folder}"
    )


def examples(
    found: Iterable[tuple[str, bytes]], classes: Iterable[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Points of each file, determined by its name and content.

  A damaged file is named, counted and left out.
  """
  classes, damaged, count = set(classes), 0, 0
  for name, data in found:
    count += 1
    try:
      yield name, _example(name, data, classes)
    except DataError as error:
      damaged += 1
      building.note(f"{error}; left out")
  if damaged:
    building.note(f"{damaged} of {count} files left out")


def _example(name: str, data: bytes, classes: set[str]) -> dict[str, Any]:
  label = name.partition("/")[0]
  if label not in classes:
    raise DataError(f"{name}: there is no class {label!r}")
  return {"points": points_of(data, name), "label": label, "file": name}


def points_of(data: bytes, name: str) -> np.ndarray:
  """Points on the surface of an OFF file, around 0, float32 [NUM_POINTS, 3].

  They are a function of the file's content and name, of which the last folders
  count as those of the data set: CLASS/SPLIT/FILE.

  Raises:
    DataError: if it holds no surface.
  """
  mesh = meshes.read_off(data, name)
  rng = np.random.default_rng(list(_in_set(name).encode()))
  points = meshes.sample(mesh, NUM_POINTS, rng, name)
  # Some objects are far from the origin, where float32 is coarse.
  points -= points.mean(axis=0)
  return points.astype(np.float32)


def _in_set(name: str) -> str:
  """The name of a file in the data set, for any location."""
  match = _NAME.fullmatch(name)
  return match[1] if match else name


def _of_split(paths: Iterable[str], split: str) -> dict[str, str]:
  """The names of a split's files in ModelNet40, and their paths here."""
  matches = [_NAME.fullmatch(path) for path in paths]
  return {m[1]: m[0] for m in matches if m and m[3] == split}
