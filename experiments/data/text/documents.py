"""Reads documents from the source files of corpora.

What cannot be used is left out, counted by kind, and told: nothing is lost in
silence.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import gzip
import hashlib
import json
import pathlib
import re
from typing import Any, BinaryIO
import zlib

TOLD = 10  # So many of a kind are told for each file; all are counted.
TRAIN, VALIDATION = "train", "validation"
# A file of C4 by its name, and its split.
C4_NAME = re.compile(r"c4-(train|validation)\.\d+-of-\d+\.json\.gz")

Document = tuple[str, bytes]  # Its split, and its text in UTF-8.


class Dropped:
  """Counts of omitted documents by kind, with the places of the first ones."""

  def __init__(self):
    self.counts: collections.Counter[str] = collections.Counter()
    self.notes: list[tuple[str, str, str]] = []  # File, kind, message.
    self._told: collections.Counter[tuple[str, str]] = collections.Counter()

  def add(self, kind: str, file: str = "", where: str = "", why: Any = ""):
    """Counts an omitted document."""
    self.counts[kind] += 1
    if file and self._told[file, kind] < TOLD:
      reason = f" ({why})" if why else ""
      self.notes.append((file, kind, f"{file}, {where}: {kind}{reason}"))
      self._told[file, kind] += 1

  def take(self, other: "Dropped") -> None:
    """Moves the counts of another object here."""
    self.counts += other.counts
    self.notes += other.notes
    other.counts, other.notes = collections.Counter(), []


def split_of(key: str, held_out: int) -> str:
  """The split of a document, by a hash that never changes.

  Args:
    key: what names the document, such as its title.
    held_out: one document in so many is for validation; 0: none is.
  """
  digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
  number = int.from_bytes(digest[:8], "big")
  return VALIDATION if held_out and number % held_out == 0 else TRAIN


@contextlib.contextmanager
def until_broken(
    file: str, dropped: Dropped, where: Callable[[], str]
) -> Iterator[None]:
  """Ends reading where an archive is truncated or damaged, with a note."""
  try:
    yield
  except (EOFError, OSError, zlib.error) as error:
    if getattr(error, "errno", None):  # It is the disk and not the archive.
      raise
    why = f"{error}; what follows is left out"
    dropped.add("broken archive", file, where(), why)


def c4(
    files: list[tuple[str, pathlib.Path]], dropped: Dropped
) -> Iterator[Document]:
  """The text of each line of files of C4.

  Args:
    files: their names and places.
    dropped: counts omitted documents.
  """
  for name, path in files:
    match = C4_NAME.fullmatch(path.name)
    split = match[1] if match else TRAIN
    line = 0
    where = lambda: f"line {line}"  # noqa: B023  It is called at once.
    with gzip.open(path) as file, until_broken(name, dropped, where):
      for raw in file:
        line += 1
        try:
          yield split, _text_of(raw)
        except _BadLineError as error:
          dropped.add(error.args[0], name, where(), error.args[1])


class _BadLineError(Exception):
  """A kind of bad input, with the reason."""


def _text_of(line: bytes) -> bytes:
  """The text of a line of JSON, in UTF-8.

  Raises:
    _BadLineError: if it has none.
  """
  try:
    record = json.loads(line.decode("utf-8"))
  except UnicodeDecodeError as error:
    raise _BadLineError("invalid UTF-8", error.reason) from error
  except (ValueError, RecursionError) as error:
    raise _BadLineError("malformed JSON", error) from error
  text = record.get("text") if isinstance(record, dict) else None
  if not isinstance(text, str):
    raise _BadLineError("JSON without text", "")
  if not text.strip():
    raise _BadLineError("empty", "")
  try:
    return text.encode("utf-8")
  except UnicodeEncodeError as error:  # JSON can name half a character.
    raise _BadLineError("invalid UTF-8", error.reason) from error


def plain(
    files: list[tuple[str, pathlib.Path]],
    max_bytes: int,
    held_out: int,
    dropped: Dropped,
) -> Iterator[Document]:
  """The pieces of text files, .txt or .txt.gz.

  Args:
    files: names that tell them apart, and their places.
    max_bytes: longer files are split, between paragraphs if possible.
    held_out: one piece in so many is for validation.
    dropped: counts omitted documents.
  """
  for name, path in files:
    before = dropped.counts.total()
    found = False
    for i, text in enumerate(_texts(name, path, max_bytes, dropped)):
      found = True
      yield split_of(f"{name}#{i}", held_out), text
    if not found and dropped.counts.total() == before:
      dropped.add("empty", name, "line 1")


def _texts(
    name: str, path: pathlib.Path, max_bytes: int, dropped: Dropped
) -> Iterator[bytes]:
  """The usable pieces of a file."""
  line = 1
  where = lambda: f"line {line}"
  opened: Any = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
  with opened as file, until_broken(name, dropped, where):
    for piece in _pieces(file, max_bytes):
      try:
        text = piece.decode("utf-8").removeprefix("\ufeff").strip()
        if text:
          yield text.replace("\r\n", "\n").encode("utf-8")
      except UnicodeDecodeError as error:
        bad = line + piece.count(b"\n", 0, error.start)
        dropped.add("invalid UTF-8", name, f"line {bad}", error.reason)
      line += piece.count(b"\n")


def _pieces(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
  """A file in pieces of limited size."""
  rest = file.read(max_bytes + 1)
  while len(rest) > max_bytes:
    cut = _border(rest[:max_bytes])
    yield rest[:cut]
    rest = rest[cut:]
    rest += file.read(max_bytes + 1 - len(rest))
  yield rest


_PARAGRAPHS = re.compile(rb".*\n[ \t\r]*\n", re.DOTALL)


def _border(text: bytes) -> int:
  """Where to split: after a paragraph, or a line, a word, a character."""
  paragraphs = _PARAGRAPHS.match(text)
  if paragraphs:
    return paragraphs.end()
  for border in (b"\n", b" "):
    if border in text:
      return text.rindex(border) + 1
  cut = len(text) - 1
  while cut > 0 and text[cut] & 0xC0 == 0x80:  # Inside of a character.
    cut -= 1
  return cut or len(text)
