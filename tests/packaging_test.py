"""What is installed is the library, with what it imports."""

import ast
import dataclasses
import pydoc
import re
import sys

import pytest

import perceiver
from tests.conftest import ROOT

# Imported under another name than it is installed by.
INSTALLED_AS = {"haiku": "dm-haiku"}
# Imported where a user has it: the extra `huggingface`.
OPTIONAL = {"torch"}


@pytest.fixture
def given(monkeypatch):
  """What setup.py says."""
  setuptools = pytest.importorskip("setuptools")
  found = {}
  monkeypatch.setattr(setuptools, "setup", lambda **given: found.update(given))
  monkeypatch.chdir(ROOT)
  exec((ROOT / "setup.py").read_text(), {"__doc__": ""})
  return found


def names(requirements):
  return {re.split(r"[<>=\[]", r)[0] for r in requirements}


def imported():
  for file in (ROOT / "perceiver").rglob("*.py"):
    for node in ast.walk(ast.parse(file.read_text())):
      if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
      elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module.split(".")[0]


def test_the_library_requires_what_it_imports(given):
  others = set(imported()) - sys.stdlib_module_names - {"perceiver"} - OPTIONAL
  expected = {INSTALLED_AS.get(name, name) for name in others}
  assert names(given["install_requires"]) == expected


def test_the_library_alone_lands_in_site_packages(given):
  assert {name.split(".")[0] for name in given["packages"]} == {"perceiver"}
  folders = {file.parent for file in (ROOT / "perceiver").rglob("*.py")}
  assert len(given["packages"]) == len(folders)


def test_the_version_is_the_librarys_and_its_types_come_with_it(given):
  assert given["version"] == perceiver.__version__
  assert given["package_data"] == {"perceiver": ["py.typed"]}
  assert (ROOT / "perceiver" / "py.typed").is_file()


def test_the_citation_and_the_newest_release_have_the_librarys_version():
  changes = (ROOT / "CHANGELOG.md").read_text()
  citation = (ROOT / "CITATION.cff").read_text()
  version, date = re.findall(r"^## (\d\S*) – (\S+)$", changes, re.MULTILINE)[0]
  assert version == perceiver.__version__
  assert f"\nversion: {version}\ndate-released: {date}\n" in citation


PUBLIC = [
    kind
    for kind in map(perceiver.__dict__.get, perceiver.__all__)
    if dataclasses.is_dataclass(kind)
]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_help_tells_every_setting_of_a_module(kind):
  text = pydoc.render_doc(kind, renderer=pydoc.plaintext)
  about = text.partition("Attributes:\n")[2].partition("Methods defined")[0]
  for field in dataclasses.fields(kind):
    assert re.search(
        rf"^ .*\b{field.name}: \w", about, re.MULTILINE
    ), field.name


def test_who_tests_can_train_and_who_develops_can_test(given):
  extras = {key: names(value) for key, value in given["extras_require"].items()}
  assert extras["train"] < extras["test"] < extras["dev"]


def test_the_bounds_include_the_versions_that_the_tests_ran_with(given):
  requirements = pytest.importorskip("packaging.requirements")
  pinned = dict(
      line.split("==")
      for line in (ROOT / "constraints.txt").read_text().split()
  )
  pinned = {re.sub("[-_.]+", "-", k).lower(): v for k, v in pinned.items()}
  extras = given["extras_require"]
  for line in [*given["install_requires"], *extras["dev"]]:
    wanted = requirements.Requirement(line)
    name = re.sub("[-_.]+", "-", wanted.name).lower()
    assert pinned[name] in wanted.specifier, line


def test_who_cites_names_the_version_that_is_installed(given):
  yaml = pytest.importorskip("yaml")
  cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  assert cited["version"] == given["version"]
  assert cited["license"] == given["license"]
