"""The reference's pages, from the code: configs, command lines, modules."""

import ast
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import importlib
import os
import pathlib
import pkgutil
import re
from typing import Any

import words

ROOT = pathlib.Path(__file__).parent.parent.parent
COMMANDS = ("experiments", "scripts", "tools")


def table(header: list[str], rows: list[list[str]]) -> str:
  """A table in Markdown; "" if it has no rows."""
  if not rows:
    return ""
  lines = [header, ["---"] * len(header), *rows]
  cells = [[_cell(cell) for cell in line] for line in lines]
  return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def _cell(text: str) -> str:
  return " ".join(text.split()).replace("|", r"\|")


def code(value: Any) -> str:
  """A value as it is written in a config."""
  return f"`{value!r}`".replace("\n", " ")


# Configs.


def config_page(name: str) -> str:
  """The variants and settings of a file of configs/, in Markdown."""
  module = importlib.import_module(f"configs.{name}")
  base = (ROOT / "configs" / "base.py").read_text()
  own = (ROOT / "configs" / f"{name}.py").read_text()
  said = words.of_config(base) | words.of_config(own)
  parts = [
      f"# `configs/{name}.py`",
      module.__doc__ or "",
      "## Variants",
      f"`{module.DEFAULT}` is taken where a command names none.\n",
      _variants(module.VARIANTS),
      "## Settings",
      "Each is changed on the command line by `--config.SETTING=VALUE`. The"
      f" column `{module.DEFAULT}` has the value in this variant.\n",
      *_sections(module.get_config(), module.DEFAULT, said),
  ]
  return "\n\n".join(parts)


def _variants(variants: Mapping[str, tuple[str | None, Mapping]]) -> str:
  rows = []
  for name, (base, changes) in variants.items():
    made = ", ".join(
        f"`{key}={dict(value) if isinstance(value, Mapping) else value!r}`"
        for key, value in changes.items()
    )
    rows.append([f"`{name}`", f"`{base}`" if base else "", made])
  return table(["variant", "starts from", "changes"], rows)


def _sections(config: Any, variant: str, said: Mapping[str, str]) -> list[str]:
  """Every section of a config, each with its table."""
  from experiments.engine import settings

  complete = settings.complete(config)
  tree = settings._Tree(complete)
  patterns = [key for key in tree._specs if "*" in key]
  seen, parts = set(), []
  for path, section in tree.sections():
    spec = tree._spec(path) if path else None
    pattern = next((p for p in patterns if _matches(p, path)), None)
    values = {k: v for k, v in section.items() if not isinstance(v, Mapping)}
    if pattern is not None:
      if pattern not in seen:
        seen.add(pattern)
        entries = tree._section(pattern.rpartition(".")[0])
        parts += _described(pattern, spec, {}, variant, said)
        parts.append(_entries(pattern, entries))
      continue
    if spec is None and not values:
      continue
    if spec is None:
      parts.append(f"### `{path}`" if path else "### Everywhere")
      if path in said:
        parts.append(f"{said[path]}\n")
      rows = []
      for key, value in values.items():
        inner = f"{path}.{key}" if path else key
        kind = settings._named(tree.kind_of(inner))
        rows.append([f"`{inner}`", code(value), kind, said.get(inner, "")])
      parts.append(table(["setting", f"`{variant}`", "type", ""], rows))
    else:
      parts += _described(path, spec, section, variant, said)
  return parts


def _matches(pattern: str, path: str) -> bool:
  expected = pattern.replace(".", r"\.").replace("*", r"\w+")
  return bool(re.fullmatch(expected, path))


def _entries(pattern: str, entries: Mapping[str, Mapping]) -> str:
  lines = []
  for name, entry in entries.items():
    listed = ", ".join(f"`{key}={value!r}`" for key, value in entry.items())
    lines.append(f"- `{pattern.replace('*', name)}`: {listed}")
  return "\n".join(lines)


def _described(
    path: str,
    spec: Any,
    values: Mapping[str, Any],
    variant: str,
    said: Mapping[str, str],
) -> list[str]:
  """A section of the arguments of a callable, or of one of several."""
  from experiments.engine import settings

  parts = [f"### `{path}`"]
  if isinstance(spec, settings.Optional):
    spec = spec.target
    parts.append("This section may be empty.\n")
  if path in said:
    parts.append(f"{said[path]}\n")
  options = spec if isinstance(spec, tuple) else (spec,)
  for option in options:
    function = option.func if isinstance(option, functools.partial) else option
    is_choice = isinstance(spec, tuple)
    chosen = not is_choice or values.get("name") == function.__name__
    where = f"`{function.__module__}.{function.__qualname__}`"
    if is_choice:
      taken = f", as in `{variant}`" if chosen else ""
      parts.append(f'**`{path}.name="{function.__name__}"`**{taken}\n')
    parts.append(f"{words.summary(option)} ({where})\n")
    of_parameters = words.of_parameters(option)
    rows = []
    for name, field in settings._parameters(option).items():
      is_section = isinstance(values.get(name), Mapping)
      missing = field.default is settings._MISSING
      value = ""
      if chosen and name in values and not is_section:
        value = code(values[name])
      about = [of_parameters.get(name, ""), said.get(f"{path}.{name}", "")]
      rows.append(
          [
              f"`{path}.{name}`",
              value,
              "required" if missing else code(field.default),
              settings._named(field.kind),
              "; ".join(dict.fromkeys(filter(None, about))),
          ]
      )
    parts.append(
        table(["setting", f"`{variant}`", "default", "type", ""], rows)
    )
  return parts


# Command lines.


@dataclasses.dataclass(frozen=True)
class Flag:
  """A flag of absl's, as a module defines it."""

  name: str
  kind: str
  default: str
  help: str


def flags_of(source: str) -> list[Flag]:
  """The flags that a module defines."""
  found = []
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.Call) or not node.args:
      continue
    kind = re.fullmatch(r".*\bDEFINE_(\w+)", ast.unparse(node.func))
    if kind is None or not isinstance(node.args[0], ast.Constant):
      continue
    given = dict(zip(("name", "default", "help"), node.args, strict=False))
    given |= {k.arg: k.value for k in node.keywords if k.arg}
    if kind[1] == "enum":  # Its values stand before its help.
      given["enum_values"], given["help"] = node.args[2:4]
    said = _text(given["help"])
    if "enum_values" in given:
      said = f"{said}; one of {ast.unparse(given['enum_values'])}"
    default = ast.unparse(given["default"])
    found.append(Flag(_text(given["name"]), kind[1], default, said))
  return found


def _text(node: ast.expr) -> str:
  """A text, also one that is put together from constants."""
  try:
    return str(ast.literal_eval(node))
  except ValueError:
    return ast.unparse(node)


def commands() -> Iterator[tuple[str, pathlib.Path]]:
  """(module, file) of all that can be run."""
  for folder in COMMANDS:
    for path in sorted((ROOT / folder).glob("*.py")):
      if '__name__ == "__main__"' in path.read_text():
        yield f"{folder}.{path.stem}", path


def command_page(module: str, path: pathlib.Path) -> str:
  """What a command does and its flags, in Markdown."""
  source = path.read_text()
  tree = ast.parse(source)
  parts = [f"# `{module}`", ast.get_docstring(tree) or ""]
  if flags := flags_of(source):
    parts += ["## Flags", _flags(flags)]
  if any(
      isinstance(n, ast.FunctionDef) and n.name == "parser" for n in tree.body
  ):
    parts += ["## Arguments", *_parsers(module)]
  if re.search(
      r"^from experiments\.engine import command$", source, re.MULTILINE
  ):
    parts.append("It takes [the flags of every command](../flags.md), too.")
  return "\n\n".join(parts)


def _flags(flags: list[Flag]) -> str:
  rows = [[f"`--{f.name}`", f"`{f.default}`", f.help] for f in flags]
  return table(["flag", "default", ""], rows)


def _parsers(module: str) -> Iterator[str]:
  """The help of a command of argparse's and of what stands below it."""
  os.environ["COLUMNS"] = "80"
  top = importlib.import_module(module).parser()
  yield f"```text\n{top.format_help()}```"
  for action in top._actions:
    for name, below in (getattr(action, "choices", None) or {}).items():
      if hasattr(below, "format_help"):
        yield f"### `{name}`\n\n```text\n{below.format_help()}```"


# The library.


def modules() -> list[str]:
  """The modules of the library."""
  folder = str(ROOT / "perceiver")
  found = pkgutil.walk_packages([folder], "perceiver.")
  return sorted(module.name for module in found if not module.ispkg)


def module_page(name: str) -> str:
  """A module's docstring and its public names, in Markdown."""
  path = ROOT / f"{name.replace('.', '/')}.py"
  about = ast.get_docstring(ast.parse(path.read_text())) or ""
  names = f""".. automodule:: {name}
   :members:
   :special-members: __call__"""
  return f"# `{name}`\n\n{about}\n\n```{{eval-rst}}\n{names}\n```\n"


# All.


def pages() -> Iterator[tuple[str, str]]:
  """(path below docs/reference/generated, text) of all pages."""
  for path in sorted((ROOT / "configs").glob("*.py")):
    if re.search("^VARIANTS = ", path.read_text(), re.MULTILINE):
      yield f"configs/{path.stem}.md", config_page(path.stem)
  for module, path in commands():
    yield f"commands/{module}.md", command_page(module, path)
  shared = (ROOT / "experiments" / "engine" / "command.py").read_text()
  yield "flags.md", "\n\n".join(
      ["# Flags of every command", _flags(flags_of(shared))]
  )
  for name in modules():
    yield f"api/{name}.md", module_page(name)


def write(folder: pathlib.Path) -> None:
  """Writes all pages below a folder; what no page is anymore goes."""
  written = set()
  for name, text in pages():
    path = folder / name
    written.add(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:  # Else Sphinx rereads.
      path.write_text(text)
  for path in set(folder.rglob("*.md")) - written:
    path.unlink()
