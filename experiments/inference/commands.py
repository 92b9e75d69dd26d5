"""Shared code of predictions: raw inputs, classes, flags, files."""

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import json
import os
import pathlib
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np
import rich.console
import rich.progress

from experiments.data import errors
from experiments.data.images import image
from experiments.engine.errors import said
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError

TOP = 5  # How many candidates are shown of each thing.


def add_output(parser: argparse.ArgumentParser) -> None:
  """Adds the flag for output files."""
  parser.add_argument(
      "--output",
      type=pathlib.Path,
      action="append",
      default=[],
      help="a file, whose suffix selects the format; may be repeated",
  )


def add_side_by_side(parser: argparse.ArgumentParser) -> None:
  """Adds the flag for images side by side."""
  parser.add_argument(
      "--side_by_side",
      action="store_true",
      help="write input and output side by side",
  )


def add_labels(parser: argparse.ArgumentParser) -> None:
  """Adds the flag for names of classes."""
  parser.add_argument("--labels", help="a file of class names: lines or JSON")


def check_outputs(
    files: Sequence[pathlib.Path], kinds: Sequence[str], inputs: Sequence[str]
) -> None:
  """Checks the output files and makes their folders.

  Raises:
    UserError: if there is none, or of another kind, or it is an input.
  """
  read = {pathlib.Path(file).resolve() for file in inputs}
  if not files:
    raise UserError(f"--output=FILE{' or '.join(kinds)} is missing")
  for file in files:
    if file.suffix not in kinds:
      raise UserError(f"{file}: the suffix must be {' or '.join(kinds)}")
    if file.resolve() in read:
      raise UserError(f"{file} is an input: write to another file")
    with using(str(file)):
      file.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def using(*files: str) -> Iterator[None]:
  """Turns errors of files into a UserError that names them."""
  try:
    yield
  except (OSError, ValueError, UserError) as error:
    message = said(error)
    if not all(file in message for file in files):
      message = f"{' and '.join(files)}: {message}"
    raise UserError(message) from error


def write_png(file: pathlib.Path, image: np.ndarray) -> None:
  """Writes an image, RGB, uint8 [Y, X, 3]."""
  bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
  file.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())


def beside(
    left: Iterable[np.ndarray], right: Iterable[np.ndarray]
) -> list[np.ndarray]:
  """Images next to each other, as many as the shorter one has."""
  pairs = zip(left, right, strict=False)
  return [np.concatenate(pair, axis=1) for pair in pairs]


def read_names(
    file: str | None, count: int, known: Sequence[str] = ()
) -> list[str]:
  """Names of the classes, one a line, or JSON.

  JSON is a list, or names by number, as in transformers' `config.json`.

  Args:
    file: the file.
    count: number of classes.
    known: the model's own names, without a file; if it has none, numbers.

  Raises:
    UserError: if the file is something else, or has more or fewer.
  """
  if file is None:
    return list(known) or [f"class {i}" for i in range(count)]
  with using(f"--labels={file}"), user_errors(f"--labels={file}"):
    names = errors.text(file)
    if file.endswith(".json"):
      names = json.loads(names)
      if isinstance(names, dict):
        names = names.get("id2label", names)
        names = [names[str(i)] for i in range(len(names))]
      # Some have an identifier before the name.
      names = [str(x if isinstance(x, str) else x[-1]) for x in names]
    else:
      names = names.splitlines()
    if len(names) != count:
      raise ValueError(f"{len(names)} names for the model's {count} classes")
  return names


class Scored(NamedTuple):
  """A class, and how likely it is."""

  name: str
  probability: float  # From 0 to 1.


def ranked(probabilities: Any, names: Sequence[str]) -> list[Scored]:
  """All classes, the most likely first.

  Args:
    probabilities: [classes]; where several may be right, of each by itself.
    names: names of the classes.
  """
  values = np.asarray(probabilities)
  order = np.argsort(-values, kind="stable")
  return [Scored(names[int(i)], float(values[i])) for i in order]


def one_of(logits: Any, names: Sequence[str]) -> list[Scored]:
  """`ranked`, for logits [classes] of exclusive classes."""
  return ranked(jax.nn.softmax(logits.astype(np.float32)), names)


def print_classes(classes: Sequence[Scored]) -> None:
  """Prints the most likely classes."""
  for name, probability in classes[:TOP]:
    print(f"    {percent(probability):>10}  {name}")


def name_of(raw: Any) -> str:
  """The name of a raw input: its file, or its type."""
  if isinstance(raw, str | os.PathLike):
    return os.fspath(raw)
  return f"the {type(raw).__name__}"


def stem_of(raw: Any) -> str:
  """The name of a raw input without folder and ending, for files and titles."""
  is_file = isinstance(raw, str | os.PathLike)
  return pathlib.Path(raw).stem if is_file else "input"


def encoded(raw: Any) -> bytes:
  """An image file's bytes: of a path, or of pixels, RGB uint8 [Y, X, 3].

  Raises:
    FileNotFoundError, DataError: if there is no such file.
    UserError: if it is neither.
  """
  if isinstance(raw, str | os.PathLike):
    return errors.content(raw)
  # Nothing is lost in a PNG.
  return cv2.imencode(".png", cv2.cvtColor(_pixels(raw), cv2.COLOR_RGB2BGR))[
      1
  ].tobytes()


def rgb(raw: Any) -> np.ndarray:
  """RGB, uint8 [Y, X, 3], of a path, or as it is given.

  Raises:
    FileNotFoundError, DataError: if there is no such image.
    UserError: if it is neither.
  """
  if isinstance(raw, str | os.PathLike):
    return image.read(raw)
  return _pixels(raw)


def _pixels(raw: Any) -> np.ndarray:
  pixels = np.asarray(raw)
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
    raise UserError(
        f"an image is a file, or RGB uint8 [height, width, 3], not"
        f" {pixels.dtype}{list(pixels.shape)}"
    )
  return pixels


def percent(probability: float) -> str:
  """A probability, however small."""
  return f"{100 * probability:.3g} %"


def tracked(items: Sequence[Any]) -> Iterable[Any]:
  """The items, with a progress bar on a terminal."""
  console = rich.console.Console(stderr=True)
  hidden = len(items) < 2 or not console.is_terminal
  return rich.progress.track(items, "", console=console, disable=hidden)
