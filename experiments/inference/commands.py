"""What the commands of `scripts.predict` share: flags, files, classes."""

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import json
import pathlib
from typing import Any

import cv2
import jax
import numpy as np
import rich.console
import rich.progress

from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError

TOP = 5  # How many candidates are shown of each thing.


def add_output(parser: argparse.ArgumentParser) -> None:
  """Flags for what is written."""
  parser.add_argument(
      "--output",
      type=pathlib.Path,
      action="append",
      default=[],
      help="a file; its ending says what of; may be repeated",
  )


def add_side_by_side(parser: argparse.ArgumentParser) -> None:
  """A flag for pictures."""
  parser.add_argument(
      "--side_by_side", action="store_true", help="the input beside it"
  )


def add_labels(parser: argparse.ArgumentParser) -> None:
  """A flag for classifiers."""
  parser.add_argument("--labels", help="names of the classes: lines or JSON")


def check_outputs(
    files: Sequence[pathlib.Path], kinds: Sequence[str], inputs: Sequence[str]
) -> None:
  """Makes the folders of what will be written, if it can be.

  Raises:
    UserError: if there is none, or of another kind, or it is an input.
  """
  read = {pathlib.Path(file).resolve() for file in inputs}
  if not files:
    raise UserError(f"--output=FILE{' or '.join(kinds)} is missing")
  for file in files:
    if file.suffix not in kinds:
      raise UserError(f"{file}: what is written is {' or '.join(kinds)}")
    if file.resolve() in read:
      raise UserError(f"{file} is read: write to another file")
    with using(str(file)):
      file.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def using(*files: str) -> Iterator[None]:
  """Makes plain what is wrong with files: a UserError that names them."""
  try:
    yield
  except (OSError, ValueError, UserError) as error:
    message = str(error)
    if not all(file in message for file in files):
      message = f"{' and '.join(files)}: {message}"
    raise UserError(message) from error


def write_png(file: pathlib.Path, picture: np.ndarray) -> None:
  """Writes a picture, RGB, uint8 [Y, X, 3]."""
  bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
  file.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())


def beside(
    left: Iterable[np.ndarray], right: Iterable[np.ndarray]
) -> list[np.ndarray]:
  """Pictures next to each other, as many as the shorter one has."""
  pairs = zip(left, right, strict=False)
  return [np.concatenate(pair, axis=1) for pair in pairs]


def read_names(
    file: str | None, count: int, known: Sequence[str] = ()
) -> list[str]:
  """Names of the classes, one a line, or JSON.

  JSON is a list, or names by number, as in transformers' `config.json`.

  Args:
    file: the file.
    count: how many classes there are.
    known: the model's own names, without a file; if it has none, numbers.

  Raises:
    UserError: if the file is something else, or has more or fewer.
  """
  if file is None:
    return list(known) or [f"class {i}" for i in range(count)]
  with user_errors(file):
    names = pathlib.Path(file).read_text(encoding="utf-8")
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


def print_labels(logits: Any, names: Sequence[str]) -> None:
  """Prints the likeliest classes of logits [classes]."""
  probs = np.asarray(jax.nn.softmax(logits.astype(np.float32)))
  for i in np.argsort(-probs)[:TOP]:
    print(f"    {percent(float(probs[i])):>10}  {names[i]}")


def percent(probability: float) -> str:
  """A probability, however small."""
  return f"{100 * probability:.3g} %"


def tracked(items: Sequence[Any]) -> Iterable[Any]:
  """The items, with a bar for who looks at a terminal."""
  console = rich.console.Console(stderr=True)
  hidden = len(items) < 2 or not console.is_terminal
  return rich.progress.track(items, "", console=console, disable=hidden)
