"""Data sets of images with labels, prepared by TFDS or as folders."""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import errors
from experiments.data import pipeline
from experiments.data import tfrecord
from experiments.data.errors import DataError
from experiments.data.images import folders
from experiments.data.images.image import ImageError
from experiments.data.pipeline import Example

# Which configuration is meant if none is named.
_DEFAULT = {"imagenet_v2": "imagenet_v2/matched-frequency"}
# What the only split of a folder of classes is, if not "train".
_ONLY_SPLIT = {"imagenet_v2": "test"}
# What the labels of an example may be called.
_LABELS = ("labels", "real_label", "label")

_BUILD = (
    "`pip install -e '.[tensorflow]'` and `tfds build {name} --data_dir={root}"
    " --file_format=array_record"
)
_FOLDERS = "{root}/{name}/{{train,validation,test}}/<class>/*.jpg"
_PREPARE = "`python -m scripts.prepare_data {} --data_dir={{root}}`"
# How a data set comes to be there.
_HINTS = {
    "cifar10": f"{_PREPARE.format('cifar10')} downloads it",
    "imagenet2012": (
        f"{_PREPARE.format('imagenet')} says what to fetch from image-net.org,"
        " and unpacks it; or put its images at"
        " {root}/{name}/{{train,validation}}/n01440764/*.JPEG and so on,"
        " or the validation images without folders, with the unpacked"
        " ILSVRC2012_devkit_t12 beside theirs"
    ),
    "imagenet2012_real": (
        "download ILSVRC2012_img_val.tar from image-net.org, then"
        f" {_BUILD} --manual_dir=FOLDER_OF_THE_ARCHIVE`"
    ),
    "imagenet_v2": (
        f"{_BUILD}`; or unpack imagenetv2-matched-frequency-format-val as"
        " {root}/imagenet_v2/0/*.jpeg and so on"
    ),
    "imagenet21k": ("unpack it as {root}/{name}/n01440764/*.JPEG and so on"),
}
_HINT = f"{_BUILD}`, if TFDS has it; or put its images at {_FOLDERS}"


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Images with their labels, by index.

  Each is {"image": what its file holds, or uint8 [Y, X, C], "label": int32, or
  "labels": int32 [max_labels], then -1, "file": what to call it in an error}.
  """

  images: Any  # By index: what a file holds or pixels, its labels, its name.
  num_classes: int
  max_labels: int | None

  def note(self) -> str:
    """A note about omitted files, or nothing."""
    left_out = getattr(self.images, "left_out", {})
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(left_out.items()))
    empty = ", ".join(getattr(self.images, "empty", ()))
    return "; ".join(
        [f"left out, as no images that can be read: {kinds}"] * bool(kinds)
        + [f"classes without an image: {empty}"] * bool(empty)
    )

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> Example:
    """One image.

    Raises:
      ImageError: if it cannot be read, or a label is out of range.
      OSError: if its file is missing.
    """
    image, labels, file = self.images[index]
    for label in labels:
      if not 0 <= label < self.num_classes:
        raise ImageError(
            f"{file} has label {label}, which is not one of 0 to"
            f" {self.num_classes - 1}"
        )
    if self.max_labels is None:
      (label,) = labels
      return {"image": image, "label": np.int32(label), "file": file}
    if len(labels) > self.max_labels:
      raise ImageError(
          f"{file} has {len(labels)} labels, more than {self.max_labels}"
      )
    padded = np.full(self.max_labels, -1, np.int32)
    padded[: len(labels)] = labels
    return {"image": image, "labels": padded, "file": file}


class About(NamedTuple):
  """The splits and classes of a data set."""

  splits: Sequence[str]
  classes: Sequence[str]  # Their names, by label; without names, numbers.


def about(name: str, data_dir: str) -> About:
  """The splits and classes of a data set that `open_images` can open.

  Raises:
    FileNotFoundError, DataError: as `open_images`.
  """
  root = pathlib.Path(data_dir).expanduser()
  prepared = _DEFAULT.get(name, name)
  if any((root / prepared).glob("[0-9]*/dataset_info.json")):
    info = pipeline.prepared(prepared, str(root)).info
    key = next((key for key in _LABELS if key in info.features), "")
    kind = info.features[key] if key else None
    kind = getattr(kind, "feature", kind)  # Of a sequence.
    count = getattr(kind, "num_classes", None)
    if count is None:
      raise DataError(f"{name} in {root} does not name its classes")
    classes = getattr(kind, "names", None) or [str(i) for i in range(count)]
    return About(sorted(info.splits), tuple(classes))
  found = folders.about(root / name, _only_split(name))
  if found is None:
    raise _missing(name, root)
  return About(*found)


def open_images(
    name: str,
    split: str,
    data_dir: str,
    *,
    num_classes: int | None = None,
    max_labels: int | None = None,
    classes: Sequence[int] | None = None,
) -> Labelled:
  """A split of a data set; the first of these that is there:

  * DATA_DIR/NAME/VERSION, from TFDS, as ArrayRecord or TFRecord files.
  * DATA_DIR/NAME/SPLIT/CLASS/*.jpg, any other image too, also in folders in
    CLASS, the label being the number of the class in their order; "validation"
    may be called "val". Images of a split besides the training set may lie in
    no classes if a list has them: the only .txt or .csv in the split's folder,
    or beside it with "val" in its name. Its lines are classes, in the order of
    the images, or images and their classes. ImageNet's development kit may lie
    beside the splits: its list of numbers is read with its meta.mat.
  * DATA_DIR/NAME/CLASS/*.jpg, if there is only one split: "train", but "test"
    of imagenet_v2.
  * DATA_DIR/NAME.zip or the only zip in DATA_DIR/NAME, with one of the last
    two in it.

  Args:
    name: "imagenet2012", "imagenet2012_real", "imagenet_v2" (which is
      "imagenet_v2/matched-frequency"), "imagenet21k", or any other.
    split: such as "train", or a slice such as "train[:80%]". Slices of folders
      are of a random order, which is always the same.
    data_dir: the folder with all data sets; "~" is the home folder.
    num_classes: number of classes; None: that of the data set.
    max_labels: how many "labels" an image has at most, for images with any
      number of them; None: each has one "label".
    classes: the only ones to be read, whose labels become 0, 1 and so on; None:
      all. Only of folders.

  Returns:
    its images by index, in an order that is always the same.

  Raises:
    FileNotFoundError: if it is not there; says how it comes to be there.
    DataError: if it has no such split, another number of classes, or labels of
      another kind; or if a file of it is cut off.
  """
  root = pathlib.Path(data_dir).expanduser()
  prepared = _DEFAULT.get(name, name)
  if any((root / prepared).glob("[0-9]*/dataset_info.json")):
    if classes is not None:
      raise DataError(
          f"classes of {root / prepared} cannot be chosen: no folders"
      )
    images = _Prepared(root, prepared, split, several=max_labels is not None)
  else:
    images = folders.find(root / name, split, _only_split(name), classes)
    if images is None:
      raise _missing(name, root)
  has = images.num_classes
  if None not in (has, num_classes) and has != num_classes:
    raise DataError(
        f"{name} in {root} has {has} classes, and num_classes is {num_classes}"
    )
  count = num_classes or has
  if count is None:
    raise DataError(f"{name} in {root} needs num_classes: it does not say")
  return Labelled(images, count, max_labels)


def _only_split(name: str) -> str:
  return _ONLY_SPLIT.get(name.partition("/")[0], "train")


def _missing(name: str, root: pathlib.Path) -> FileNotFoundError:
  hint = _HINTS.get(name.partition("/")[0], _HINT)
  hint = hint.format(root=root, name=_DEFAULT.get(name, name))
  return errors.not_there(f"data set {name!r}", root, hint)


class _Prepared:
  """Images, their labels and names from files of TFDS, by index."""

  def __init__(self, root: pathlib.Path, name: str, split: str, several: bool):
    builder = pipeline.prepared(name, str(root))
    features = builder.info.features
    self._where = f"{builder.data_path} ({split})"
    self._key = next((key for key in _LABELS if key in features), "")
    if not self._key:
      raise DataError(f"{self._where} has none of {', '.join(_LABELS)}")
    kind = features[self._key]
    listed = isinstance(kind, tfds.features.Sequence)
    if listed and not several:
      raise DataError(
          f"{self._where} has several labels per image: set max_labels"
      )
    kind = kind.feature if listed else kind
    self.num_classes: int | None = getattr(kind, "num_classes", None)
    decoders = None
    if isinstance(features["image"], tfds.features.Image):
      decoders = {"image": tfds.decode.SkipDecoding()}
    with errors.naming(self._where):
      if builder.info.file_format.value == "tfrecord":
        self._examples = tfrecord.Records(builder, split, decoders)
      else:
        self._examples = builder.as_data_source(split, decoders=decoders)

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> tuple[Any, Sequence[int], str]:
    where = f"example {index} of {self._where}"
    try:
      with errors.naming(where):
        example = self._examples[index]
    except DataError as error:
      raise ImageError(f"{where} cannot be read: {error}") from error
    with errors.naming(where, ImageError):
      if "file_name" in example:
        name = example["file_name"]
        where += f", {name.decode() if isinstance(name, bytes) else name}"
      labels = np.atleast_1d(example[self._key]).astype(int).tolist()
      return example["image"], labels, where
