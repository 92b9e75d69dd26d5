"""Writes the reference when a build begins, and makes docstrings readable.

Its pages are in docs/reference/generated, which is not kept in git: a setting,
a flag or a module that is new has its entry.
"""

import dataclasses
import pathlib
import re

import pages
from sphinx.application import Sphinx
import words

GENERATED = pathlib.Path("docs", "reference", "generated")


def _docstring(app, what, name, target, options, lines: list[str]) -> None:
  """Adds what is said beside a dataclass's fields to its docstring.

  A module's is Markdown, and its page has it.
  """
  if what == "module":
    lines.clear()
  if what != "class" or not dataclasses.is_dataclass(target):
    return
  if any(line.strip() in ("Args:", "Attributes:") for line in lines):
    return
  if said := words.of_parameters(target):
    lines += ["", "Args:", *(f"  {k}: {text}" for k, text in said.items()), ""]


def _signature(app, what, name, target, options, signature, returned):
  """Names JAX's arrays as users do."""
  return tuple(
      text and re.sub(r"(jax\.)?jaxlib\._jax\.Array", "jax.Array", text)
      for text in (signature, returned)
  )


def setup(app: Sphinx) -> dict[str, bool]:
  """Registers the extension."""
  app.connect("builder-inited", lambda app: pages.write(app.srcdir / GENERATED))
  # Before napoleon reads the docstring.
  app.connect("autodoc-process-docstring", _docstring, priority=400)
  app.connect("autodoc-process-signature", _signature)
  return {"parallel_read_safe": True}
