"""The public data sets of optical flow in their published layouts."""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.data import errors
from experiments.data.errors import DataError
from experiments.data.flow import files as flow_files
from experiments.data.images import image
from experiments.data.pipeline import Example


class PairFiles(NamedTuple):
  """The files of a pair of frames."""

  first: pathlib.Path
  second: pathlib.Path
  flow: pathlib.Path
  # Images that are not black where a pixel of the first frame is occluded in
  # the second, and where its flow does not count.
  occluded: pathlib.Path | None = None
  invalid: pathlib.Path | None = None
  # A flow that is known only where nothing is occluded.
  unoccluded: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Pairs of frames with their flow, by index.

  Each is {"frames": [2, Y, X, 3] in uint8, "flow": [Y, X, 2] in pixels,
  "known": where it is, "visible": where it is and is not occluded in the second
  frame, as far as the data set says, both [Y, X]}.
  """

  files: Sequence[PairFiles]

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> Example:
    """One pair.

    Raises:
      FileNotFoundError: if a file of it is missing.
      DataError: if one is broken, or they are not of one size.
    """
    files = self.files[index]
    frames = [image.read(path) for path in files[:2]]
    flow, known = flow_files.read_flow(files.flow)
    if files.invalid:
      known &= ~_like(known, flow_files.read_marked(files.invalid), files)
    visible = known.copy()
    if files.occluded:
      visible &= ~_like(known, flow_files.read_marked(files.occluded), files)
    if files.unoccluded:
      visible &= _like(known, flow_files.read_flow(files.unoccluded)[1], files)
    for frame in frames:
      _like(known, frame[..., 0], files)
    return {
        "frames": np.stack(frames),
        "flow": flow,
        "known": known,
        "visible": visible,
    }


@dataclasses.dataclass(frozen=True)
class Chosen:
  """A subset of pairs."""

  pairs: Any  # By index.
  indices: Sequence[int]

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> Example:
    return self.pairs[self.indices[index]]


def by_size(pairs: Any) -> list[Any]:
  """The pairs grouped by the size of their frames.

  Args:
    pairs: `Pairs`, or others, by index, that are of one size.
  """
  if not isinstance(pairs, Pairs):
    return [pairs]
  found = collections.defaultdict(list)
  for i, files in enumerate(pairs.files):
    found[image.size_in(files.first)].append(i)
  return [Chosen(pairs, indices) for indices in found.values()]


def _like(known: np.ndarray, other: np.ndarray, files: PairFiles) -> np.ndarray:
  if known.shape != other.shape:
    raise DataError(
        f"{files.flow} is {_size(known)} pixels, but {files.first},"
        f" {files.second} or a file beside them is {_size(other)}"
    )
  return other


def _size(array: np.ndarray) -> str:
  return f"{array.shape[0]} × {array.shape[1]}"


def open_pairs(name: str, data_dir: str) -> Pairs:
  """All pairs of a data set.

  Args:
    name: of `SETS`; or another folder in `data_dir`, which has a folder for
      each pair with im0.png and im1.png, or other images, and forward.flo.
    data_dir: the folder with all data sets; "~" is the home folder.

  Raises:
    FileNotFoundError: if it has no pairs; says where they should be.
    DataError: if a list of its parts does not fit.
  """
  folder, expected, find = SETS.get(name, (name, *_OWN))
  root = pathlib.Path(data_dir).expanduser() / folder
  files = list(find(root))
  if not files:
    raise errors.not_there(
        f"pairs of {name!r}",
        root,
        f"put the data set there, so that it has {expected}; data sets with"
        f" names of their own are {', '.join(SETS)}",
    )
  return Pairs(files)


def _autoflow(root: pathlib.Path) -> Iterator[PairFiles]:
  for flow in sorted(root.glob("*/table_*/forward.flo")):
    yield PairFiles(flow.with_name("im0.png"), flow.with_name("im1.png"), flow)


def _own(root: pathlib.Path) -> Iterator[PairFiles]:
  for flow in sorted(root.rglob("forward.flo")):
    first, second = (
        next(iter(sorted(flow.parent.glob(f"im{i}.*"))), flow.parent / f"im{i}")
        for i in (0, 1)
    )
    yield PairFiles(first, second, flow)


def _sintel(root: pathlib.Path, render: str) -> Iterator[PairFiles]:
  root = root / "training"
  for flow in sorted((root / "flow").glob("*/frame_*.flo")):
    scene, number = flow.parent.name, int(flow.stem.rpartition("_")[2])
    first, second = (f"frame_{number + i:04d}.png" for i in (0, 1))
    masks = (root / kind / scene / first for kind in ("occlusions", "invalid"))
    frames = root / render / scene
    yield PairFiles(frames / first, frames / second, flow, *masks)


def _kitti(root: pathlib.Path, frames: str) -> Iterator[PairFiles]:
  root = root / "training"
  for flow in sorted((root / "flow_occ").glob("*_10.png")):
    yield PairFiles(
        root / frames / flow.name,
        root / frames / flow.name.replace("_10", "_11"),
        flow,
        unoccluded=root / "flow_noc" / flow.name,
    )


_PARTS = "FlyingChairs_train_val.txt"


def _chairs(root: pathlib.Path, part: str) -> Iterator[PairFiles]:
  flows = sorted((root / "data").glob("*_flow.flo"))
  if not flows:
    return
  parts = errors.text(root / _PARTS).split()
  if len(parts) != len(flows):
    raise DataError(
        f"{root / _PARTS} has {len(parts)} lines, and {root / 'data'} has"
        f" {len(flows)} flows"
    )
  for flow, its in zip(flows, parts, strict=True):
    if its == part:
      first, second = (
          flow.with_name(flow.name.replace("_flow.flo", f"_img{i}.ppm"))
          for i in (1, 2)
      )
      yield PairFiles(first, second, flow)


# What is in a folder of one's own, and what finds the pairs there.
_OWN = ("im0.png, im1.png and forward.flo in a folder for each pair", _own)
# Name: folder, what is in it, and what finds the pairs there.
SETS: dict[
    str, tuple[str, str, Callable[[pathlib.Path], Iterator[PairFiles]]]
] = {
    "autoflow": (
        "autoflow",
        "static_40k_png_1_of_4/table_0_batch_0/forward.flo, im0.png and"
        " im1.png, and so on",
        _autoflow,
    ),
    **{
        f"sintel_{render}": (
            "sintel",
            f"training/flow and training/{render} with a folder for each scene",
            functools.partial(_sintel, render=render),
        )
        for render in ("clean", "final")
    },
    **{
        f"kitti_{year}": (
            f"kitti_{year}",
            f"training/flow_occ, training/flow_noc and training/{frames}",
            functools.partial(_kitti, frames=frames),
        )
        for year, frames in (("2012", "colored_0"), ("2015", "image_2"))
    },
    **{
        f"chairs_{part}": (
            "chairs",
            f"data/00001_flow.flo, data/00001_img1.ppm, ..., and {_PARTS}",
            functools.partial(_chairs, part=number),
        )
        for part, number in (("train", "1"), ("validation", "2"))
    },
}
