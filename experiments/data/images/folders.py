"""Images in folders that are their classes, on a disk or in a zip file."""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
import re
from typing import Any
import zipfile

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import archives
from experiments.data import errors
from experiments.data.errors import DataError
from experiments.data.images.image import ENDINGS
from experiments.data.images.image import ImageError

# What the folder of a split may be called.
_FOLDERS = {
    "train": ("train",),
    "validation": ("validation", "val"),
    "test": ("test",),
}


@dataclasses.dataclass(frozen=True)
class Files:
  """What files hold, their labels and their names, by index."""

  place: Any  # A `_Folder` or `_Zip`.
  names: np.ndarray  # Inside of the place, as bytes: there may be millions.
  labels: np.ndarray  # int32
  num_classes: int
  left_out: Mapping[str, int]  # By ending: files that are no images.

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: int) -> tuple[bytes, Sequence[int], str]:
    """One of them.

    Raises:
      FileNotFoundError: if it is no longer there.
      ImageError: if it is broken inside of a zip file.
    """
    name = os.fsdecode(self.names[index])
    content = self.place.read(name)
    return content, [int(self.labels[index])], f"{self.place.path}/{name}"


def find(
    path: pathlib.Path,
    split: str,
    only_split: str = "train",
    classes: Sequence[int] | None = None,
) -> Files | None:
  """The images of a split.

  Args:
    path: a folder; or a zip file, without its ending or by its folder, if that
      has no other.
    split: "train", "validation", "test" or a slice of one.
    only_split: which of them it is if there are only folders of classes.
    classes: which to take, in the order of their new numbers; None: all.

  Returns:
    its files, class by class; those of a slice in a random order that is always
    the same. The classes are those of the training set, in the order of their
    names, or of their numbers if they are numbers. None if there is nothing.

  Raises:
    DataError: if there is no such split, or nothing in it, or a class that is
      not one of the training set's.
  """
  place = _opened(path)
  if place is None:
    return None
  here = _splits(place, only_split)
  name = split.partition("[")[0]
  if name not in here:
    raise DataError(f"{place.path} has no split {name!r}, but {sorted(here)}")
  own = set(place.folders(here[name]))
  ordered = _classes(place, here, name)
  known = set(ordered)
  listed = None if own and own <= known else _list_of(place, here[name])
  if listed:
    own = set()
  elif own - known:
    raise DataError(
        f"{place.path}/{here[name]}{min(own - known)} is no class of the"
        " training set"
    )
  if classes is not None:
    wrong = [n for n in classes if not 0 <= n < len(ordered)]
    if wrong:
      raise DataError(
          f"classes {wrong} of {place.path}: it has {len(ordered)}, and their"
          " numbers begin with 0"
      )
    ordered = [ordered[number] for number in classes]
  names, labels = [], []
  left_out: collections.Counter[str] = collections.Counter()
  label_of = {kind: label for label, kind in enumerate(ordered)}
  for kind in [""] if listed else [kind for kind in ordered if kind in own]:
    files = sorted(place.files(f"{here[name]}{kind}/" if kind else here[name]))
    left_out.update(_ending(file) for file in files if not _is_image(file))
    files = [file for file in files if _is_image(file)]
    names += [os.fsencode(file) for file in files]
    if listed:
      labels += _labels_of(files, place, listed, label_of)
    else:
      labels += [label_of[kind]] * len(files)
  if not names:
    raise DataError(
        f"{place.path}/{here[name]} has no folders of classes with images"
    )
  part = _part(split, name, len(names))
  return Files(
      place,
      np.array(names)[part],
      np.array(labels, np.int32)[part],
      len(ordered),
      left_out - collections.Counter({_ending(listed or ""): 1}),
  )


def _list_of(place: Any, split: str) -> str | None:
  """The list of the labels of a split whose images are not in classes.

  It is the only text or table in the split's folder; or the one beside it whose
  name has that of the folder in it.
  """
  lists = [f for f in place.direct(split) if f.endswith((".txt", ".csv"))]
  if not lists and split:
    lists = [
        file
        for file in place.direct("")
        if file.endswith((".txt", ".csv")) and split[:-1] in file
    ]
  return lists[0] if len(lists) == 1 else None


def _labels_of(
    files: Sequence[str], place: Any, listed: str, label_of: Mapping[str, int]
) -> list[int]:
  """The label of each file by a list.

  A line is the class of the next file, in their order; or a file's name, with
  its ending or without, and its class. After it may stand more.

  Raises:
    DataError: if a class or a file is unknown, or a file is not in it.
  """
  where = f"{place.path}/{listed}"
  text = place.read(listed).decode("utf-8", "replace")
  lines = [re.split(r"[\s,]+", line.strip()) for line in text.splitlines()]
  lines = [line for line in lines if line != [""]]
  if lines and all(len(line) == 1 for line in lines):
    if len(lines) != len(files):
      raise DataError(f"{where} has {len(lines)} lines for {len(files)} images")
    named = [line[0] for line in lines]
  else:
    kinds = {_stem(line[0]): line[1] for line in lines if len(line) > 1}
    missing = [file for file in files if _stem(file) not in kinds]
    if missing:
      raise DataError(f"{where} does not name {missing[0]}")
    named = [kinds[_stem(file)] for file in files]
  unknown = sorted(set(named) - label_of.keys())
  if unknown:
    raise DataError(
        f"{where}: {unknown[0]!r} is no class of the training set, such as"
        f" {min(label_of)!r}"
    )
  return [label_of[kind] for kind in named]


def _stem(file: str) -> str:
  name = file.rpartition("/")[2]
  return name.rpartition(".")[0] if _is_image(name) else name


def _ending(file: str) -> str:
  return os.path.splitext(file)[1].lower()


def about(
    path: pathlib.Path, only_split: str = "train"
) -> tuple[list[str], list[str]] | None:
  """The splits, and the names of the classes by label, at a place of `find`."""
  place = _opened(path)
  if place is None:
    return None
  here = _splits(place, only_split)
  return sorted(here), _classes(place, here, next(iter(here)))


def _splits(place: Any, only_split: str) -> dict[str, str]:
  """Each split, and what its files' names begin with."""
  folders = place.folders("")
  return {
      split: f"{folder}/"
      for split, names in _FOLDERS.items()
      for folder in names
      if folder in folders
  } or {only_split: ""}


def _classes(place: Any, here: Mapping[str, str], split: str) -> list[str]:
  """The classes of the training set; without one, of the split."""
  return sorted(place.folders(here.get("train", here[split])), key=_order)


def _order(name: str) -> tuple[int, str]:
  """So that "10" comes after "9"."""
  return (int(name) if name.isdecimal() else -1), name


def _part(split: str, name: str, length: int) -> np.ndarray:
  if split == name:
    return np.arange(length)
  info = tfds.core.SplitInfo(name=name, shard_lengths=[length], num_bytes=0)
  instruction = tfds.core.ReadInstruction.from_spec(split)
  (part,) = instruction.to_absolute({name: info})
  order = np.random.default_rng(0).permutation(length)
  return order[part.from_ : part.to]


def _is_image(name: str) -> bool:
  return name.lower().endswith(ENDINGS)


def _is_shown(name: str) -> bool:
  """Not what is hidden, nor what Macs add to archives."""
  return not name.startswith(".") and name != "__MACOSX"


def _opened(path: pathlib.Path) -> Any:
  zips = [path.with_name(f"{path.name}.zip"), *sorted(path.glob("*.zip"))]
  zips = [file for file in zips if file.is_file()]
  folder = _Folder(path)
  if path.is_dir() and folder.folders(""):
    return folder
  return _Zip(zips[0]) if len(zips) == 1 else None


@dataclasses.dataclass(frozen=True)
class _Folder:
  """Files on a disk."""

  path: pathlib.Path

  def folders(self, inside: str) -> list[str]:
    """Those that are directly in one, which is empty or ends with a slash."""
    entries = os.scandir(self.path / inside)
    return [e.name for e in entries if e.is_dir() and _is_shown(e.name)]

  def direct(self, inside: str) -> list[str]:
    """Files that are directly in a folder."""
    entries = os.scandir(self.path / inside)
    return [
        f"{inside}{e.name}"
        for e in entries
        if _is_shown(e.name) and not e.is_dir()
    ]

  def files(self, inside: str) -> list[str]:
    """Files in a folder, and in the folders in it."""
    found = self.direct(inside)
    for folder in self.folders(inside):
      found += self.files(f"{inside}{folder}/")
    return found

  def read(self, name: str) -> bytes:
    """What a file holds."""
    return errors.content(self.path / name)


@dataclasses.dataclass(frozen=True)
class _Zip:
  """Files in a zip file; as `_Folder`."""

  path: pathlib.Path

  @functools.cached_property
  def _archive(self) -> zipfile.ZipFile:
    return archives.open_zip(self.path)

  @functools.cached_property
  def _tree(self) -> Mapping[str, dict[str, None]]:
    """What is in each folder, in order; folders end with a slash."""
    tree: dict[str, dict[str, None]] = {"": {}}
    for name in self._archive.namelist():
      parts = name.split("/")
      for i, part in enumerate(parts):
        entry = f"{part}/" if i < len(parts) - 1 else part
        if entry:
          tree.setdefault("".join(f"{p}/" for p in parts[:i]), {})[entry] = None
    return tree

  def __getstate__(self) -> dict[str, Any]:
    return {"path": self.path}  # Each process opens it for itself.

  def folders(self, inside: str) -> list[str]:
    return [
        e[:-1]
        for e in self._tree.get(inside, ())
        if e[-1] == "/" and _is_shown(e[:-1])
    ]

  def direct(self, inside: str) -> list[str]:
    return [
        f"{inside}{e}"
        for e in self._tree.get(inside, ())
        if e[-1] != "/" and _is_shown(e)
    ]

  def files(self, inside: str) -> list[str]:
    found = self.direct(inside)
    for folder in self.folders(inside):
      found += self.files(f"{inside}{folder}/")
    return found

  def read(self, name: str) -> bytes:
    try:
      return archives.unzipped(self._archive, name)
    except DataError as error:
      raise ImageError(str(error)) from error
