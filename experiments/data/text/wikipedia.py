"""Articles of Wikipedia, from the XML dumps of their wikitext."""

import bz2
from collections.abc import Iterator
import dataclasses
import pathlib
from typing import Any, BinaryIO
from xml.etree import ElementTree

from experiments.data.text import wikitext
from experiments.data.text.documents import Document
from experiments.data.text.documents import Dropped
from experiments.data.text.documents import split_of
from experiments.data.text.documents import until_broken

# Namespaces whose links show an image or a file, or sort the article.
_HIDDEN_KEYS = {"-2", "6", "14"}


@dataclasses.dataclass(frozen=True)
class Block:
  """Consecutive articles of a dump."""

  file: str
  pages: list[tuple[str, bytes]]  # Title, and wikitext in UTF-8.
  dropped: Dropped  # What was left out between them.
  hidden_links: frozenset[str]  # As `wikitext.clean` takes them.
  source_bytes: int  # How much of the file this is.
  is_last: bool = False


def blocks(path: pathlib.Path, block_bytes: int) -> Iterator[Block]:
  """The articles of a dump, without redirects; the last block may be empty.

  Args:
    path: pages-articles, .xml or .xml.bz2. No more than a block is in memory.
    block_bytes: bytes of wikitext per block, rounded up to articles.
  """
  dropped, hidden = Dropped(), set(wikitext.HIDDEN_LINKS)
  pages: list[tuple[str, bytes]] = []
  size = begin = 0
  with path.open("rb") as raw:

    def block(is_last: bool = False) -> Block:
      before = Dropped()
      before.take(dropped)
      links, end = frozenset(hidden), raw.tell()
      return Block(path.name, pages, before, links, end - begin, is_last)

    opened: Any = bz2.BZ2File(raw) if path.suffix == ".bz2" else raw
    for title, text in _articles(opened, path.name, dropped, hidden):
      pages.append((title, text.encode("utf-8")))
      size += len(pages[-1][1])
      if size >= block_bytes:
        yield block()
        pages, size, begin = [], 0, raw.tell()
    yield block(is_last=True)


def articles(
    block: Block, held_out: int, dropped: Dropped
) -> Iterator[Document]:
  """The prose of a block.

  Args:
    block: one of `blocks`.
    held_out: one article in so many is for validation.
    dropped: counts omitted documents.
  """
  dropped.take(block.dropped)
  for title, text in block.pages:
    where = f"page {title!r}"
    try:
      prose = wikitext.clean(text.decode("utf-8"), block.hidden_links)
    except wikitext.Malformed as error:
      dropped.add("malformed wikitext", block.file, where, error)
      continue
    if prose:
      yield split_of(title, held_out), prose.encode("utf-8", "ignore")
    else:
      dropped.add("empty", block.file, where)


def _articles(
    file: BinaryIO, name: str, dropped: Dropped, hidden: set[str]
) -> Iterator[tuple[str, str]]:
  """Titles and wikitext; also counts dropped pages and finds hidden links."""
  title, root = "", None
  where = lambda: f"after page {title!r}"
  try:
    with until_broken(name, dropped, where):
      for event, element in ElementTree.iterparse(file, ("start", "end")):
        root = element if root is None else root
        if event == "start":
          continue
        if element.tag.endswith("siteinfo"):
          hidden |= set(_hidden_links(element))
        elif element.tag.endswith("page"):
          title, text, reason = _article(element)
          root.clear()  # It would hold all pages of the file.
          if reason:
            dropped.add(reason)
          else:
            yield title, text
  except ElementTree.ParseError as error:
    why = f"{str(error).partition(':')[0]}; what follows is left out"
    dropped.add("malformed XML", name, f"line {error.position[0]}", why)


def _article(page: ElementTree.Element) -> tuple[str, str, str]:
  """Title, wikitext, and the kind of page if it is not an article."""
  schema = page.tag.removesuffix("page")
  title = page.findtext(f"{schema}title", "")
  text = page.findtext(f"{schema}revision/{schema}text", "")
  reason = ""
  if page.findtext(f"{schema}ns", "0") != "0":
    reason = "not an article"
  elif page.find(f"{schema}redirect") is not None:
    reason = "redirect"
  return title, text, reason


def _hidden_links(siteinfo: ElementTree.Element) -> Iterator[str]:
  """The names of hidden namespaces in the dump's language."""
  for element in siteinfo.iter():
    if element.tag.endswith("namespace") and element.get("key") in _HIDDEN_KEYS:
      yield (element.text or "").lower()
