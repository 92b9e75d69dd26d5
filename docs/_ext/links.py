"""Links to folders, which a site cannot show.

A link to a folder leads to its README.md, or to its index.md; to the recorded
runs, to their report, which `scripts/docs.sh` adds to the site. Of another
folder, the link's words stay.
"""

from __future__ import annotations

import os
import pathlib
import re
import typing

if typing.TYPE_CHECKING:
  from sphinx.application import Sphinx

RUNS = pathlib.Path("docs", "results", "runs")


def to_pages(text: str, folder: pathlib.Path) -> str:
  """A Markdown page in which no link leads to a folder.

  Args:
    text: the page.
    folder: where it is.
  """

  def instead(match: re.Match[str]) -> str:
    words, target = match.groups()
    if "://" in target or not (folder / target).is_dir():
      return match[0]
    for name in ("README.md", "index.md"):
      if (folder / target / name).exists():
        return f"[{words}]({target.rstrip('/')}/{name})"
    path = (folder / target).resolve()
    for root in (path, *path.parents):
      if root.parts[-3:] == RUNS.parts:
        report = os.path.relpath(root, folder.resolve())
        return f'<a href="{report}/index.html">{words}</a>'
    return words

  return re.sub(r"(?<!!)\[([^\[\]]*)\]\(([^()#\s]+)\)", instead, text)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
  path = pathlib.Path(app.env.doc2path(docname))
  if path.suffix == ".md":
    source[0] = to_pages(source[0], path.parent)


def setup(app: Sphinx) -> dict[str, bool]:
  """Registers the extension."""
  app.connect("source-read", _read)
  return {"parallel_read_safe": True}
