"""The site: its generated reference is complete, and it builds."""

import dataclasses
import functools
import importlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from experiments.engine import settings
from tests.conftest import ENVIRONMENT
from tests.conftest import ROOT

EXTENSION = ROOT / "docs" / "_ext"
CONFIGS = sorted(
    path.stem
    for path in (ROOT / "configs").glob("*.py")
    if re.search("^VARIANTS = ", path.read_text(), re.MULTILINE)
)


@pytest.fixture(scope="module")
def extension():
  """Imports a module of docs/_ext."""
  sys.path.insert(0, str(EXTENSION))
  yield importlib.import_module
  sys.path.remove(str(EXTENSION))


@pytest.fixture(scope="module")
def pages(extension):
  """Path -> text of the generated pages."""
  return dict(extension("pages").pages())


@pytest.mark.parametrize("name", CONFIGS)
def test_every_variant_and_every_setting_of_a_config_has_its_row(pages, name):
  page = pages[f"configs/{name}.md"]
  module = importlib.import_module(f"configs.{name}")
  for variant in module.VARIANTS:
    assert f"| `{variant}` |" in page
  complete = settings.complete(module.get_config())
  patterns = [p for p in settings._Tree(complete)._specs if "*" in p]
  for path, _ in settings.settable(complete):
    for pattern in patterns:
      parent = pattern.replace(".", r"\.").replace("*", r"\w+")
      path = re.sub(rf"^{parent}(?=\.)", lambda _, p=pattern: p, path)
    assert f"| `{path}` |" in page or path.endswith(".name"), path


def test_a_setting_has_its_value_default_type_and_words(pages):
  page = pages["configs/imagenet.md"]
  assert "| `model.processor.num_blocks` | `8` | `1` | a whole number |" in page
  assert (
      "| `model.encoder.num_latents` | `512` | required | a whole number | N,"
      in page
  )
  assert "| `batch_size` | `1024` | a whole number | examples, over" in page
  assert '**`optimizer.name="adamw"`**' in page  # Not what the config takes.


def test_every_command_has_a_page_with_its_flags(pages):
  for path in (ROOT / "scripts").glob("*.py"):
    if '"__main__"' in path.read_text():
      assert f"commands/scripts.{path.stem}.md" in pages
  page = pages["commands/scripts.benchmark.md"]
  assert "| `--most` | `4096` | for --published: largest batch |" in page
  assert "../flags.md" in page
  assert "| `--process_id` |" in pages["flags.md"]
  assert "--textures TEXTURES" in pages["commands/scripts.prepare_data.md"]


def test_flags_are_read_in_every_form(extension):
  source = """
A = flags.DEFINE_integer("a", 3, "how " "many")
B = flags.DEFINE_enum("b", None, ["x", "y"], "which")
C = config_flags.DEFINE_config_file("c", default=None, help="a file")
"""
  flags = [dataclasses.astuple(f) for f in extension("pages").flags_of(source)]
  assert flags == [
      ("a", "integer", "3", "how many"),
      ("b", "enum", "None", "which; one of ['x', 'y']"),
      ("c", "config_file", "None", "a file"),
  ]


def test_every_module_of_the_library_has_a_page(pages):
  for path in (ROOT / "perceiver").rglob("*.py"):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if path.stem != "__init__":
      assert f"automodule:: {module}\n" in pages[f"api/{module}.md"]


def test_words_come_from_docstrings_and_from_comments(extension):
  words = extension("words")

  @dataclasses.dataclass
  class Fields:
    """Some fields."""

    first: int  # Behind it.
    # Above it.
    second: int = 2
    third: int = 3

  def function(one, two=2, three=3):
    """Does a thing.

    Args:
      one: a number,
        over two lines.
      two: another: with a colon.
    """

  assert words.of_parameters(Fields) == {
      "first": "Behind it.",
      "second": "Above it.",
  }
  said = {"one": "a number, over two lines.", "two": "another: with a colon."}
  assert words.of_parameters(function) == said
  assert words.of_parameters(functools.partial(function, 1)) == said
  assert words.summary(function) == "Does a thing."
  config = """
def numbers():
  config.size = 3  # Of all.
  config.model = ConfigDict({
      # Wide.
      "width": 4,
      "pair": {"a": 1, "b": 2},  # Both.
  })
"""
  assert words.of_config(config) == {
      "size": "Of all.",
      "model.width": "Wide.",
      "model.pair": "Both.",
  }


def test_a_link_to_a_folder_leads_to_its_page_or_is_none(extension, tmp_path):
  (tmp_path / "with").mkdir()
  (tmp_path / "with" / "README.md").touch()
  (tmp_path / "without").mkdir()
  text = "[a](with) [b](without) [c](https://d.e) ![f](g.png)"
  assert extension("links").to_pages(text, tmp_path) == (
      "[a](with/README.md) b [c](https://d.e) ![f](g.png)"
  )
  results = tmp_path / "docs" / "results"
  (results / "runs" / "flow").mkdir(parents=True)
  found = extension("links").to_pages("[a](runs), [b](runs/flow)", results)
  report = '<a href="runs/index.html">'
  assert found == f"{report}a</a>, {report}b</a>"


def build(folder) -> subprocess.CompletedProcess:
  return subprocess.run(
      ["bash", "scripts/docs.sh"],
      cwd=folder,
      env={**ENVIRONMENT, "PYTHON_DOCS": sys.executable},
      capture_output=True,
      text=True,
      check=False,
  )


@pytest.mark.slow
def test_the_site_builds_and_a_link_that_leads_nowhere_does_not(tmp_path):
  pytest.importorskip("sphinx_book_theme")
  copy = tmp_path / "copy"
  leave = shutil.ignore_patterns(".*", "build", "runs", "__pycache__")
  shutil.copytree(
      ROOT,
      copy,
      ignore=lambda folder, names: (
          leave(folder, names) if folder == str(ROOT) else ()
      ),
  )
  done = build(copy)
  assert done.returncode == 0, done.stderr
  site = copy / "build" / "docs" / "html"
  assert "docs/index.html" in (site / "index.html").read_text()
  for page in site.rglob("*.html"):
    for image in re.findall(r'<img[^>]*src="([^"]+)"', page.read_text()):
      local = os.path.normpath(page.parent / image)
      assert "://" in image or os.path.exists(local), (page, image)
  shapes = site / "docs/reference/generated/api/perceiver.perceiver_io.html"
  text = re.sub("<[^>]+>", "", shapes.read_text())
  assert "x: Float[jax.Array, 'B M C']" in text
  with (copy / "docs" / "tasks" / "flow.md").open("a") as page:
    page.write("\n[a](../scaling.md#nothing) and [b](nothing.md)\n")
  done = build(copy)
  assert done.returncode != 0
  assert "nothing" in done.stderr
