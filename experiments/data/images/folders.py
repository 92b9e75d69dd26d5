"""Files in folders that are their classes, on a disk or in a zip file."""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import io
import os
import pathlib
import re
from typing import Any, NamedTuple
import zipfile

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from experiments.data import archives
from experiments.data import errors
from experiments.data.errors import DataError
from experiments.data.images.image import ENDINGS
from experiments.data.images.image import ImageError

# What the folder of a split may be called.
_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


class Kind(NamedTuple):
  """What files are looked for."""

  what: str  # They are, for errors.
  endings: tuple[str, ...]  # In small letters.


IMAGES = Kind("images", ENDINGS)


@dataclasses.dataclass(frozen=True)
class Files:
  """Contents, labels and names of files, by index."""

  place: Any  # A `_Folder` or `_Zip`.
  names: np.ndarray  # Inside of the place, as bytes: there may be millions.
  labels: np.ndarray  # int32
  num_classes: int
  left_out: Mapping[str, int]  # By ending: files of another kind.
  empty: Sequence[str] = ()  # Folders of classes in which nothing is read.

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
    kind: Kind = IMAGES,
) -> Files | None:
  """The files of a split, images or others.

  Args:
    path: a folder; or a zip file, without its ending or by its folder, if that
      has no other.
    split: "train", "validation", "test" or a slice of one.
    only_split: which of them it is if there are only folders of classes.
    classes: which to take, in the order of their new numbers; None: all.
    kind: of the files; others are left out.

  Returns:
    its files, class by class; those of a slice in a random order that is always
    the same. The classes are those of the training set, in the order of their
    names, or of their numbers if they are numbers. None if there is nothing.

  Raises:
    DataError: if there is no such split, or nothing in it, or a class that is
      not one of the training set's.
  """
  place = _opened(path, kind)
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
        f"{place.path}/{here[name]}{min(own - known)} is not a class of"
        " the training set"
    )
  if classes is not None:
    wrong = [n for n in classes if not 0 <= n < len(ordered)]
    if wrong:
      raise DataError(
          f"classes {wrong} of {place.path}: it has {len(ordered)}, and their"
          " numbers begin with 0"
      )
    ordered = [ordered[number] for number in classes]
  names, labels, empty = [], [], []
  left_out: collections.Counter[str] = collections.Counter()
  label_of = {group: label for label, group in enumerate(ordered)}
  for group in [""] if listed else [group for group in ordered if group in own]:
    files = sorted(
        place.files(f"{here[name]}{group}/" if group else here[name])
    )
    left_out.update(_ending(file) for file in files if not place.reads(file))
    files = [file for file in files if place.reads(file)]
    empty += [group] if group and not files else []
    names += [os.fsencode(file) for file in files]
    if listed:
      labels += _labels_of(files, place, listed, label_of)
    else:
      labels += [label_of[group]] * len(files)
  if not names:
    raise DataError(
        f"{place.path}/{here[name]} has no folders of classes with {kind.what}"
    )
  part = _part(split, name, len(names))
  if not len(part):
    raise DataError(
        f"{split!r} selects none of the {len(names)} {kind.what} of"
        f" {place.path}/{here[name]}: a larger part is needed"
    )
  return Files(
      place,
      np.array(names)[part],
      np.array(labels, np.int32)[part],
      len(ordered),
      left_out - collections.Counter({_ending(listed or ""): 1}),
      empty,
  )


def _list_of(place: Any, split: str) -> str | None:
  """The list of labels of a split without class folders.

  It is the only text or table in the split's folder; or the one beside it, or
  in ImageNet's development kit beside it, whose name has that of the folder in
  it.
  """
  lists = [f for f in place.direct(split) if f.endswith((".txt", ".csv"))]
  top, _, name = split[:-1].rpartition("/")
  for folder in _beside(place, f"{top}/" if top else "") if split else ():
    lists = lists or [
        file
        for file in place.direct(folder)
        if file.endswith((".txt", ".csv"))
        and name.lower() in file.rpartition("/")[2].lower()
    ]
  return lists[0] if len(lists) == 1 else None


def _beside(place: Any, top: str) -> list[str]:
  """Possible places of a list: beside the splits, or in ImageNet's kit."""
  kits = [
      f"{top}{name}/"
      for name in place.folders(top)
      if name.startswith("ILSVRC2012_devkit")
  ]
  return [
      top,
      *(f"{kit}data/" for kit in kits if "data" in place.folders(kit)),
  ]


def _labels_of(
    files: Sequence[str], place: Any, listed: str, label_of: Mapping[str, int]
) -> list[int]:
  """The label of each file by a list.

  A line is the class of the next file, in their order; or a file's name, with
  its ending or without, and its class. After it may stand more. Classes may be
  numbers of ImageNet's development kit, if its meta.mat is beside the list.

  Raises:
    DataError: if a class or a file is unknown, or a file is not in it.
  """
  where = f"{place.path}/{listed}"
  text = place.read(listed).decode("utf-8-sig", "replace")
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  if all(line in label_of or not re.search(r"[\s,]", line) for line in lines):
    if len(lines) != len(files):
      raise DataError(
          f"{where} has {len(lines)} lines for {len(files)} {place.kind.what}"
      )
    named = lines
  else:
    both = [_file_and_class(line, label_of, place) for line in lines]
    kinds = {name: kind for name, kind in both if kind}
    missing = [file for file in files if _stem(file, place) not in kinds]
    if missing:
      raise DataError(f"{where} does not name {missing[0]}")
    named = [kinds[_stem(file, place)] for file in files]
  if not all(kind in label_of for kind in named) and all(
      kind.isdecimal() for kind in named
  ):
    numbered = _numbered(place, listed)
    named = [numbered.get(int(kind), kind) for kind in named]
  unknown = sorted(set(named) - label_of.keys())
  if unknown:
    raise DataError(
        f"{where}: {unknown[0]!r} is not a class of the training set, such as"
        f" {min(label_of)!r}"
    )
  return [label_of[kind] for kind in named]


def _file_and_class(
    line: str, label_of: Mapping[str, int], place: Any
) -> tuple[str, str]:
  """A file's name without its ending, and its class, from a line of a list."""
  separator = r"[,\t]" if re.search(r"[,\t]", line) else r"\s+"
  name, *rest = (part.strip(' "') for part in re.split(separator, line))
  # A class may have spaces in its name, and more may stand behind it.
  kinds = [" ".join(rest), *rest[:1], *(rest[0].split()[:1] if rest else ())]
  kind = next((kind for kind in kinds if kind in label_of), kinds[-1])
  return _stem(name, place), kind


def _numbered(place: Any, listed: str) -> dict[int, str]:
  """The classes of ImageNet's numbers, by meta.mat beside a list.

  Its `synsets` have a field ILSVRC2012_ID, from 1, and one WNID.

  Raises:
    DataError: if there is none, or it is damaged.
  """
  beside = f"{listed.rpartition('/')[0]}/".lstrip("/")
  for folder in (beside, *_beside(place, _top(place))):
    file = f"{folder}meta.mat"
    if file in place.direct(folder):
      where = f"{place.path}/{file}"
      with errors.naming(where):
        read = scipy.io.loadmat(
            io.BytesIO(place.read(file)), squeeze_me=True, struct_as_record=True
        )
        synsets = np.atleast_1d(read["synsets"])
        return {
            int(number): str(kind)
            for number, kind in zip(
                synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True
            )
        }
  raise DataError(
      f"{place.path}/{listed} has numbers of classes: put meta.mat of"
      " ImageNet's development kit beside it"
  )


def _stem(file: str, place: Any) -> str:
  name = file.rpartition("/")[2]
  return name.rpartition(".")[0] if place.reads(name) else name


def _ending(file: str) -> str:
  return os.path.splitext(file)[1].lower()


def about(
    path: pathlib.Path, only_split: str = "train", kind: Kind = IMAGES
) -> tuple[list[str], list[str]] | None:
  """The splits, and the names of the classes by label, at a place of `find`.

  Of splits besides the training set, those whose files have labels.
  """
  place = _opened(path, kind)
  if place is None:
    return None
  here = _splits(place, only_split)
  classes = _classes(place, here, next(iter(here)))
  has_labels = lambda split: (
      "train" not in here
      or not set(classes).isdisjoint(place.folders(here[split]))
      or _list_of(place, here[split])
  )
  # Names of folders may be of any bytes.
  names = [os.fsencode(name).decode("utf-8", "replace") for name in classes]
  return (
      sorted(filter(has_labels, here)),
      [" ".join(name.split()) for name in names],
  )


def parts(splits: Sequence[str]) -> tuple[str, str]:
  """What is trained on and what is held out: a split, or else a tenth."""
  held_out = [split for split in ("validation", "test") if split in splits]
  return ("train", held_out[0]) if held_out else ("train[:90%]", "train[90%:]")


def below(path: pathlib.Path, kind: Kind) -> list[str]:
  """Files of a kind in a folder and in the folders in it, in order."""
  place = _Folder(path, kind)
  return sorted(filter(place.reads, place.files("")))


def _splits(place: Any, only_split: str) -> dict[str, str]:
  """Each split with the prefix of its files."""
  top = _top(place)
  folders = {name.lower(): name for name in place.folders(top)}
  return {
      split: f"{top}{next(folders[name] for name in names if name in folders)}/"
      for split, names in _FOLDERS.items()
      if not folders.keys().isdisjoint(names)
  } or {only_split: top}


def _top(place: Any) -> str:
  """The common top folder, as of a zip file of one folder."""
  folders, top = place.folders(""), ""
  known = [name for names in _FOLDERS.values() for name in names]
  if len(folders) == 1 and folders[0].lower() not in known:
    inside = f"{folders[0]}/"
    files = place.direct("") + place.direct(inside)
    if len(place.folders(inside)) > 1 and not any(map(place.reads, files)):
      top = inside
  return top


def _classes(place: Any, here: Mapping[str, str], split: str) -> list[str]:
  """The classes of the training set; without one, of the split."""
  return sorted(place.folders(here.get("train", here[split])), key=_order)


def _order(name: str) -> tuple[int, str]:
  """A sort key in which "10" comes after "9"."""
  return (int(name) if name.isdecimal() else -1), name


def _part(split: str, name: str, length: int) -> np.ndarray:
  if split == name:
    return np.arange(length)
  info = tfds.core.SplitInfo(name=name, shard_lengths=[length], num_bytes=0)
  instruction = tfds.core.ReadInstruction.from_spec(split)
  (part,) = instruction.to_absolute({name: info})
  order = np.random.default_rng(0).permutation(length)
  return order[part.from_ : part.to]


def _is_shown(name: str) -> bool:
  """Whether a name is neither hidden nor added by macOS to archives."""
  return not name.startswith(".") and name != "__MACOSX"


def _opened(path: pathlib.Path, kind: Kind) -> Any:
  zips = [path.with_name(f"{path.name}.zip"), *sorted(path.glob("*.zip"))]
  zips = [file for file in zips if file.is_file()]
  folder = _Folder(path, kind)
  if path.is_dir() and folder.folders(""):
    return folder
  return _Zip(zips[0], kind) if len(zips) == 1 else None


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where files are, and which of them are read."""

  path: pathlib.Path
  kind: Kind

  def reads(self, name: str) -> bool:
    """Whether a file is of the kind that is looked for."""
    return name.lower().endswith(self.kind.endings)


@dataclasses.dataclass(frozen=True)
class _Folder(_Place):
  """Files on a disk."""

  def folders(self, inside: str) -> list[str]:
    """The direct subfolders of a folder, which is "" or ends with a slash."""
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
    found, waiting, seen = [], [inside], set()
    while waiting:
      folder = waiting.pop()
      what = os.stat(self.path / folder)
      if (what.st_dev, what.st_ino) in seen:
        continue  # A link leads back.
      seen.add((what.st_dev, what.st_ino))
      found += self.direct(folder)
      waiting += [f"{folder}{name}/" for name in self.folders(folder)]
    return found

  def read(self, name: str) -> bytes:
    """The content of a file."""
    return errors.content(self.path / name)


@dataclasses.dataclass(frozen=True)
class _Zip(_Place):
  """Files in a zip file; as `_Folder`."""

  @functools.cached_property
  def _archive(self) -> zipfile.ZipFile:
    return archives.open_zip(self.path)

  @functools.cached_property
  def _tree(self) -> Mapping[str, dict[str, None]]:
    """The entries of each folder, in order; folders end with a slash."""
    tree: dict[str, dict[str, None]] = {"": {}}
    for name in self._archive.namelist():
      parts = name.split("/")
      for i, part in enumerate(parts):
        entry = f"{part}/" if i < len(parts) - 1 else part
        if entry:
          tree.setdefault("".join(f"{p}/" for p in parts[:i]), {})[entry] = None
    return tree

  def __getstate__(self) -> dict[str, Any]:
    # Each process opens it for itself.
    return {"path": self.path, "kind": self.kind}

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
