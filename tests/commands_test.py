"""Commands that the documentation shows can be given: modules, flags, settings.

Nothing is run here; docs_test.py runs the smaller ones.
"""

import ast
from collections.abc import Iterator
import functools
import importlib
import importlib.util
import pathlib
import re
import shlex
import textwrap

import pytest

from experiments.engine import settings
from experiments.engine.errors import UserError
from experiments.task import Config
from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/tasks/*.md")),
    ROOT / "docs" / "results" / "README.md",
    ROOT / "docs" / "results" / "reports.md",
]
MODULES = [
    *sorted(ROOT.glob("scripts/*.py")),
    *sorted(ROOT.glob("tools/*.py")),
    ROOT / "experiments" / "train.py",
    ROOT / "experiments" / "evaluate.py",
    *sorted(ROOT.glob("configs/*.py")),
]
COMMAND = r"(?:\w+=\S*\s+)*python -m\s"  # Variables may stand before it.
ANY = {"mini_TASK": "mini_cola", "mini_VARIANT": "mini_fourier", "VARIANT": ""}
OF_TUTORIAL = "configs/halves.py"  # docs/adding_a_task.md has it.
OUTSIDE = "/path/lab_halves.py"  # Likewise; of another project.
ELLIPSES = ("...", "…")


def joined(lines: list[str]) -> Iterator[str]:
  """The commands in lines of text, each with its continuation lines."""
  command, indent = "", 0
  for line in [*lines, ""]:
    words = line.strip()
    deeper = len(line) - len(line.lstrip()) > indent
    if command and words and (command.endswith("\\") or deeper):
      command = " ".join([command.removesuffix("\\").strip(), words])
      continue
    if command:
      yield command
    found = re.match(rf"\s*{COMMAND}", line)
    command = words if found else ""
    indent = len(line) - len(line.lstrip())


def of_page(text: str) -> Iterator[str]:
  """The commands of a Markdown page: in its blocks, then in its sentences."""
  fence = r"^```\w*\n(.*?)^```"
  for block in re.findall(fence, text, re.DOTALL | re.MULTILINE):
    yield from joined(block.splitlines())
  rest = re.sub(fence, "", text, flags=re.DOTALL | re.MULTILINE)
  for span in re.findall(r"`([^`]+)`", rest):
    if re.match(COMMAND, span):
      yield " ".join(span.split())


def of_features() -> Iterator[str]:
  """The commands of the rows that are added to their section's command."""
  text = (ROOT / "docs" / "features.md").read_text()
  for section in text.split("\n## "):
    base = re.search(r"These are added to\n\n```\n(.*?)\n```", section)
    for row in re.findall(r"^\| [^|]+ \| `(--.+?)` \|", section, re.MULTILINE):
      assert base, row
      yield f"{base[1]} {row}".replace("\\|", "|")


def of_module(path: pathlib.Path) -> Iterator[str]:
  """The commands of a module's docstring."""
  text = ast.get_docstring(ast.parse(path.read_text())) or ""
  yield from joined(textwrap.dedent(text).splitlines())
  for span in re.findall(r"`([^`]+)`", text):
    if re.match(COMMAND, span):
      yield " ".join(span.split())


def commands() -> Iterator[pytest.param]:
  """(command) for each one that is shown."""
  for path in PAGES:
    for command in of_page(path.read_text()):
      yield shown(path, command)
  for command in of_features():
    yield shown(ROOT / "docs" / "features.md", command)
  for path in MODULES:
    for command in of_module(path):
      yield shown(path, command)


# Commands whose own parser tells.
WITH_PARSER = ("scripts.predict", "scripts.prepare_data")


def shown(path: pathlib.Path, command: str) -> pytest.param:
  short = re.sub(r".*?python -m ", "", command)
  return pytest.param(command, id=f"{path.relative_to(ROOT)}: {short[:60]}")


def words_of(command: str) -> tuple[str, list[str]]:
  """(module, arguments): brackets around what may be left out are gone."""
  words = shlex.split(command, comments=True)
  start = words.index("-m")
  words = [re.sub(r"[\[\]]", "", word) for word in words[start + 1 :]]
  return words[0], [word for word in words[1:] if word not in ELLIPSES]


def file_of(module: str) -> pathlib.Path:
  return ROOT / (module.replace(".", "/") + ".py")


@functools.cache
def flags_of(path: pathlib.Path) -> frozenset[str]:
  """The flags that a module defines, and those that every command has."""
  tree = ast.parse(path.read_text())
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and node.args:
      function = getattr(node.func, "attr", "")
      first = getattr(node.args[0], "value", None)
      if function.startswith("DEFINE_") and first:
        names.add(first)
        if function == "DEFINE_bool":
          names.add(f"no{first}")
      elif function == "add_argument" and str(first).startswith("--"):
        names.add(first.removeprefix("--"))
    elif isinstance(node, ast.ImportFrom):
      shared = node.module == "experiments.engine"
      if shared and "command" in [alias.name for alias in node.names]:
        names |= flags_of(ROOT / "experiments" / "engine" / "command.py")
  return frozenset(names)


def config_of(name: str) -> Config | None:
  """The config that a command names; None: the name stands for any.

  A variant with capitals stands for any: one is taken.
  """
  file, _, variant = name.partition(":")
  if file in ("configs/X.py", OF_TUTORIAL, OUTSIDE, *ELLIPSES):
    return None
  assert re.fullmatch(r"configs/\w+\.py", file), name
  assert (ROOT / file).exists(), file
  module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
  variant = ANY.get(variant, variant)
  return module.get_config(variant) if variant else module.get_config()


def check(command: str) -> None:
  """Fails if a command cannot be given as it is written."""
  module, args = words_of(command)
  path = file_of(module)
  if not path.exists():
    top = module.split(".")[0]
    assert not (ROOT / top).exists(), f"there is no {module}"
    assert importlib.util.find_spec(module), f"there is no {module}"
    return  # Of Python or of another package.
  named = [a.split("=", 1)[1] for a in args if a.startswith("--config=")]
  config = config_of(named[-1]) if named else None
  changes = {}
  for arg in args:
    if not arg.startswith("--"):
      continue
    name, _, value = arg.removeprefix("--").partition("=")
    if name.startswith("config."):
      assert "config" in flags_of(path), f"{module} takes no config"
      if value not in ELLIPSES and name != "config.key":
        changes[name.removeprefix("config.")] = value
    elif module not in WITH_PARSER:
      assert name in flags_of(path), f"{module} has no --{name}"
  if config is not None:
    settings.changed(config, changes, are_texts=True)
  if module in WITH_PARSER:
    args = [re.sub("=N$", "=1", arg) for arg in args]
    args = [arg.replace("NAME", "digits") for arg in args]
    importlib.import_module(module).parser().parse_args(args)


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_that_is_shown_can_be_given(command):
  check(command)


def test_commands_are_found_with_their_continuations():
  page = """
```bash
A=1 python -m experiments.train --config=configs/mlm.py \\
  --workdir=DIR  # here
python -m scripts.describe
ls
```
Or `python -m
scripts.benchmark --peers`.
"""
  assert list(of_page(page)) == [
      "A=1 python -m experiments.train --config=configs/mlm.py --workdir=DIR"
      "  # here",
      "python -m scripts.describe",
      "python -m scripts.benchmark --peers",
  ]
  assert len(list(commands())) > 80


@pytest.mark.parametrize(
    "command",
    [
        "python -m scripts.nothing",
        "python -m experiments.train --works=DIR",
        "python -m experiments.train --config=configs/nothing.py",
        "python -m experiments.train --config=configs/mlm.py:nothing",
        "python -m experiments.train --config=configs/mlm.py --config.a=1",
        "python -m experiments.train --config=configs/mlm.py --config.seed=a",
        "python -m scripts.prepare_data nothing",
        "python -m scripts.predict flow a.png --weights=FILE --mask=a",
    ],
)
def test_commands_that_cannot_be_given_are_noticed(command):
  with pytest.raises((AssertionError, UserError, ValueError, SystemExit)):
    check(command)
