"""The settings of a config: keys, types and defaults.

A config has the numbers of one experiment and leaves out what stays at its
default. Most sections of it are the arguments of one callable: a module, a
dataclass or a function. The engine and each task say of which, in a table
`SETTINGS` from a section's path to the callable. Its parameters are the keys of
the section, their annotations the types, and their defaults the defaults, which
stand nowhere else.

In such a table:

* the key "sets.*" means every entry of the section `sets`, which takes new
  entries;
* a tuple of callables means that the section's "name" chooses one of them;
* `Optional(callable)` means that an empty section stays empty;
* a type, such as `float | None`, is that of a single value.

Not settings are: positional-only parameters and those that a
`functools.partial` binds, since the caller gives them; `is_training`, `rng` and
the name of a Haiku module; whatever is neither a number, a text, a bool, nor a
sequence or a mapping of these. A parameter that is annotated
`Annotated[Mapping[str, Any], Module]` is a section with the module's settings.
"""

import ast
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import inspect
import pathlib
import traceback
import types
import typing
from typing import Annotated, Any, Literal, Union

import haiku as hk
from ml_collections import ConfigDict

from experiments.engine import declared
from experiments.engine import optim
from experiments.engine.errors import UserError
from experiments.engine.locality import Grid
from experiments.task import Config


@dataclasses.dataclass(frozen=True)
class Optional:
  """A section that may be empty, which turns its feature off."""

  target: Any


# What the engine reads of every config.
SETTINGS = {
    "ema": float,
    "max_grad_norm": float | None,
    "optimizer": optim.OPTIMIZERS,
    "schedule": optim.SCHEDULES,
    "init.grids.*": Grid,
}
# What older configs lack, and what it was for them.
ADDED = {"ema": 0.0, "run.wandb": "", "init.frozen": "", "init.zeros": ""}
# Old names of settings and sections, and their names now. Configs of older runs
# and files may have them; a command line may not.
RENAMED = {
    "curriculum.growing_examples": "curriculum.ramp_examples",
    "curriculum.plain_examples": "curriculum.unaugmented_examples",
    "data.pieces": "data.sentencepiece",
    "hide_label": "label_mask_rate",
    "max_hidden": "max_masked",
    "mesh.elements": "mesh.context",
    "mesh.split_from": "mesh.fsdp_min_size",
    "own": "custom",
    "start.fresh": "init.reinitialize",
    "start.frozen": "init.frozen",
    "start.grids": "init.grids",
    "start.nearby": "init.locality_bias",
    "start.weights": "init.pretrained",
}
_GIVEN = {"is_training", "rng"}
_LEAVES = (int, float, bool, str)
_MISSING = inspect.Parameter.empty


def load(name: str, changes: Mapping[str, Any] | None = None) -> Config:
  """A config by its name, complete.

  Args:
    name: as of `named`.
    changes: as of `changed`.

  Raises:
    UserError: as `named` and `changed`.
  """
  return changed(named(name), changes or {})


def named(name: str) -> Config:
  """The config of a config file, before defaults are added.

  Args:
    name: FILE:VARIANT. The file is one of configs/, "mlm:bytes" or
      "configs/mlm.py:bytes" from any folder, or the path of any other; without
      a variant, the default one.

  Raises:
    UserError: if there is no such file or variant, with the closest that there
      is; or the file has an error, with its line.
  """
  file, _, variant = name.partition(":")
  module = _config_module(file)
  get = getattr(module, "get_config", None)
  if get is None:
    raise UserError(f"{file} defines no get_config")
  if variant and not inspect.signature(get).parameters:
    raise UserError(f"{file} has no variants, and {variant!r} was given")
  with _telling_line(pathlib.Path(module.__file__ or file)):
    config = get(*[variant] * bool(variant))
  if not isinstance(config, ConfigDict):
    raise UserError(f"{file} returns {config!r}, not a config")
  folder = pathlib.Path(module.__file__ or file).parent
  declared.import_outside(config.get("task"), folder)
  return config


def _config_module(file: str) -> types.ModuleType:
  """The module of a config file."""
  path = pathlib.Path(file)
  package: Any = importlib.util.find_spec("configs")
  folder = pathlib.Path(package.submodule_search_locations[0])
  if not path.is_file():
    path = folder / f"{path.stem}.py"
    is_ours = pathlib.Path(file).parent.name in ("", "configs")
    if not is_ours or not path.is_file():
      ours = {
          p.stem
          for p in folder.glob("*.py")
          if p.stem != "base"  # The settings that all tasks share.
          and "\ndef get_config(" in p.read_text("utf-8")
      }
      shape = "configs/{}.py" if file.endswith(".py") else "{}"
      known = [shape.format(stem) for stem in sorted(ours)]
      raise UserError(
          f"there is no config {file!r}{hint(file, known)}; there are"
          f" {', '.join(known)}"
      )
  found = f"configs.{path.stem}"
  if path.resolve() == (folder / path.name).resolve():
    with _telling_line(path):
      return importlib.import_module(found)
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if spec is None or spec.loader is None:
    raise UserError(f"{file} is not a Python file")
  module = importlib.util.module_from_spec(spec)
  with _telling_line(path):
    spec.loader.exec_module(module)
  return module


@contextlib.contextmanager
def _telling_line(path: pathlib.Path) -> Iterator[None]:
  """Reports errors in a config file as one line."""
  try:
    yield
  except Exception as error:  # It is anybody's code.
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if pathlib.Path(frame.filename).resolve() == path.resolve()
    ]
    if isinstance(error, SyntaxError):
      lines.append(error.lineno)
    where = f"{path} line {lines[-1]}" if lines else str(path)
    if type(error) is ValueError:  # Says itself what is wrong: of a variant.
      raise UserError(f"{path}: {error}") from error
    raise UserError(f"{where}: {type(error).__name__}: {error}") from error


def complete(config: Config) -> Config:
  """The config with every setting, including defaults.

  Lists become tuples where a sequence is expected. What is complete stays so.

  Raises:
    UserError: if a setting is unknown, missing, or of another type.
  """
  return changed(config, {})


def changed(
    config: Config, changes: Mapping[str, Any], are_texts: bool = False
) -> Config:
  """A complete config with changes.

  Where a "name" changes, settings that the new choice does not have are
  dropped, and its own defaults are filled in.

  Args:
    config: as `get_config` of a file in configs/ gives it; it stays as it is.
    changes: values by dotted path, "model.encoder.num_latents". A mapping
      replaces a whole section.
    are_texts: whether the values are written as on a command line: `3`, `1e-3`,
      `None`, `a,b`, `{"name": "constant"}`.

  Raises:
    UserError: if there is no such setting, or a value is of another type. It
      names the section, what can be set there, and the closest name.
  """
  tree = _Tree(config)
  # A section before what is in it; a choice before what it decides.
  for path in sorted(changes, key=lambda p: (p.count("."), p[-5:] != ".name")):
    tree.set(path, changes[path], are_texts)
  tree.fill()
  return ConfigDict(tree.values)


def settable(config: Config) -> Iterator[tuple[str, Any]]:
  """(dotted path, type) of every value of a complete config that can be set."""
  tree = _Tree(config)
  for path, section in tree.sections():
    for key in section:
      inner = f"{path}.{key}" if path else key
      if not isinstance(section[key], dict):
        yield inner, tree.kind_of(inner)


@dataclasses.dataclass(frozen=True)
class _Field:
  """One parameter of a callable."""

  kind: Any
  default: Any = _MISSING


class _Tree:
  """A config with the callable of each section."""

  def __init__(self, config: Config):
    of_task = getattr(declared.module(config.task), "SETTINGS", {})
    self._specs = {**SETTINGS, **of_task}
    self.values: dict[str, Any] = _unpacked(config)
    self._rename()
    for path, value in ADDED.items():
      parent, _, key = path.rpartition(".")
      section = self._section(parent)
      if section:  # Not of a config that has no such section at all.
        section.setdefault(key, value)

  def sections(self) -> Iterator[tuple[str, dict[str, Any]]]:
    """All sections with their paths, each before those inside of it."""
    waiting: list[tuple[str, dict[str, Any]]] = [("", self.values)]
    while waiting:
      path, section = waiting.pop(0)
      yield path, section
      waiting += [
          (f"{path}.{key}" if path else key, section[key])
          for key in section
          if isinstance(section[key], dict)
      ]

  def _rename(self) -> None:
    """Renames settings of older configs."""
    for old, new in RENAMED.items():
      (*parents, key), (*targets, target) = old.split("."), new.split(".")
      section: Any = self.values
      for part in parents:
        section = section.get(part) if isinstance(section, dict) else None
      if not isinstance(section, dict) or key not in section:
        continue
      place = self.values
      for part in targets:
        place = place.setdefault(part, {})
      place[target] = section.pop(key)
      if not section:
        self.values.pop(parents[0], None)

  def fill(self) -> None:
    """Checks every section and adds missing settings."""
    for path, section in self.sections():
      for key in section:
        inner = f"{path}.{key}" if path else key
        if not isinstance(section[key], dict):
          kind = self._spec(inner) or Any
          section[key] = _converted(section[key], kind, inner)
      spec = self._spec(path)
      if spec is None or isinstance(spec, Optional) and not len(section):
        continue
      fields = self._fields(path)
      for key in section:
        if key not in fields:
          raise self._unknown(path, key)
      for key, field in fields.items():
        inner = f"{path}.{key}"
        if key in section:
          value = section[key]
          if not isinstance(value, dict):
            section[key] = _converted(value, field.kind, inner)
        elif field.default is _MISSING:
          raise UserError(
              f"config.{path} lacks {key!r}, {_named(field.kind)}:"
              f" --config.{inner}=..."
          )
        else:
          section[key] = field.default

  def set(self, path: str, value: Any, is_text: bool) -> None:
    """Sets one value, or replaces a section."""
    for old, new in RENAMED.items():
      if path == old or path.startswith(f"{old}."):
        now = new + path.removeprefix(old)
        raise UserError(f"config.{path} is now config.{now}")
    *parents, key = path.split(".")
    section, parent = self.values, ""
    for part in parents:
      inner = f"{parent}.{part}" if parent else part
      if part not in section and self._may_be_section(inner):
        section[part] = {}
      if not isinstance(section.get(part), dict):
        raise self._unknown(parent, part)
      section, parent = section[part], inner
    is_section = isinstance(section.get(key), dict)
    if key not in section and not self._may_be_set(parent, key):
      raise self._unknown(parent, key)
    if is_section or self._may_be_section(path):
      value = _evaluated(value) if is_text else value
      if not isinstance(value, Mapping):
        raise UserError(
            f"config.{path} is a section: set one of its keys,"
            f" {self._listed(path)}, or all of it, '{{\"KEY\": VALUE}}'"
        )
      section[key] = _unpacked(value)
      return
    kind = self.kind_of(path)
    convert = _read if is_text else _converted
    section[key] = convert(value, kind, path)
    if key == "name" and isinstance(self._spec(parent), tuple):
      fields = self._fields(parent)
      for other in list(section):
        if other not in fields:
          del section[other]

  def kind_of(self, path: str) -> Any:
    """The declared type of a value, or the type of its present value."""
    parent, _, key = path.rpartition(".")
    if self._spec(path) is not None:
      return self._spec(path)
    fields = self._fields(parent)
    if key in fields:
      return fields[key].kind
    value = self._section(parent)[key]
    return Any if value is None else _kind_of_value(value)

  def _section(self, path: str) -> dict[str, Any]:
    section = self.values
    for part in path.split(".") if path else ():
      section = section.get(part, {})
    return section

  def _spec(self, path: str) -> Any:
    """The declaration of a path, or None."""
    parts = path.split(".")
    for pattern, spec in self._specs.items():
      wanted = pattern.split(".")
      if len(wanted) == len(parts) and all(
          a in ("*", b) for a, b in zip(wanted, parts, strict=True)
      ):
        return spec
    parent, _, key = path.rpartition(".")
    if not parent:
      return None
    field = self._fields(parent).get(key)
    return None if field is None else _section_of(field.kind)

  def _fields(self, path: str) -> Mapping[str, _Field]:
    """The settings of a section that are declared."""
    if not path:
      return {}
    spec = self._spec(path)
    if isinstance(spec, Optional):
      spec = spec.target
    if spec is None or _is_kind(spec):
      return {}
    if not isinstance(spec, tuple):
      return _parameters(spec)
    by_name = {option.__name__: option for option in spec}
    name = self._section(path).get("name")
    if name not in by_name:
      raise UserError(
          f"config.{path}.name = {name!r}{hint(str(name), by_name)} is not one"
          f" of {', '.join(sorted(by_name))}"
      )
    return {"name": _Field(str), **_parameters(by_name[name])}

  def _may_be_section(self, path: str) -> bool:
    spec = self._spec(path)
    return spec is not None and not _is_kind(spec)

  def _may_be_set(self, parent: str, key: str) -> bool:
    path = f"{parent}.{key}" if parent else key
    return key in self._fields(parent) or self._spec(path) is not None

  def _keys(self, path: str) -> list[str]:
    return sorted(self._fields(path) or self._section(path))

  def _listed(self, path: str) -> str:
    return ", ".join(self._keys(path))

  def _unknown(self, path: str, key: str) -> UserError:
    where = f"config.{path}" if path else "config"
    keys = self._keys(path)
    return UserError(
        f"{where} has no {key!r}{hint(key, keys)}; it has {', '.join(keys)}"
    )


def _unpacked(tree: Any) -> dict[str, Any]:
  """Sections as new plain dicts."""
  return {
      key: _unpacked(value)
      if isinstance(value, Mapping | ConfigDict)
      else value
      for key, value in tree.items()
  }


@functools.cache
def _parameters(target: Any) -> Mapping[str, _Field]:
  """The settings of a callable."""
  given, count = set(_GIVEN), 0
  if isinstance(target, functools.partial):
    given |= target.keywords.keys()
    target, count = target.func, len(target.args)
  if dataclasses.is_dataclass(target):
    if isinstance(target, type) and issubclass(target, hk.Module):
      given.add("name")
    fields = {
        field.name: field.default
        for field in dataclasses.fields(target)[count:]
        if field.init
    }
    fields = {
        name: _MISSING if default is dataclasses.MISSING else default
        for name, default in fields.items()
    }
  else:
    parameters = list(inspect.signature(target).parameters.values())[count:]
    fields = {
        p.name: p.default
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
  hints = typing.get_type_hints(target, include_extras=True)
  return {
      name: _Field(hints[name], default)
      for name, default in fields.items()
      if name not in given and name in hints and _is_kind(hints[name])
  }


def _is_kind(kind: Any) -> bool:
  """Whether a value of this type can stand in a config."""
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin is Annotated:
    return _section_of(kind) is not None
  if origin in (Union, types.UnionType):
    return any(_is_kind(arg) for arg in args)
  if origin in (tuple, Sequence, Mapping):
    return all(arg in (..., str) or _is_kind(arg) for arg in args)
  return kind in _LEAVES or origin is Literal


def _section_of(kind: Any) -> Any:
  """The callable of a parameter that is a section."""
  if typing.get_origin(kind) is Annotated:
    return kind.__metadata__[0]
  return None


def _kind_of_value(value: Any) -> Any:
  if isinstance(value, (tuple, list)):
    kinds = {_kind_of_value(x) for x in value}
    return Sequence[kinds.pop()] if len(kinds) == 1 else Sequence[Any]
  return type(value)


def _evaluated(text: Any) -> Any:
  """The Python value of a literal; any other text is unchanged."""
  words = {"true": True, "false": False, "none": None}
  if str(text).lower() in words:
    return words[str(text).lower()]
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text


def _read(text: str, kind: Any, path: str) -> Any:
  """A value of a type, from a command line."""
  attempts = [_evaluated(text), text]
  if "," in text:  # Words without quotes.
    words = text.strip("()[]").split(",")
    attempts.append([_evaluated(x.strip()) for x in words if x.strip()])
  else:
    attempts.append([_evaluated(text)])
  for value in attempts:
    try:
      return _converted(value, kind, path)
    except UserError:
      continue
  return _converted(text, kind, path)


def _converted(value: Any, kind: Any, path: str) -> Any:
  """The value as one of a type.

  Raises:
    UserError: if it is none.
  """
  try:
    return _as(value, kind)
  except ValueError:
    raise UserError(
        f"config.{path} = {value!r}: {_named(kind)} was expected"
    ) from None


def _as(value: Any, kind: Any) -> Any:
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if kind is Any:
    return tuple(value) if isinstance(value, list) else value
  if origin in (Union, types.UnionType):
    for arg in args:
      try:
        return _as(value, arg)
      except ValueError:
        continue
  elif origin is Literal:
    if value in args:
      return value
  elif origin in (tuple, Sequence):
    if isinstance(value, (list, tuple)):
      if origin is Sequence or args[1:] == (...,):
        return tuple(_as(x, args[0]) for x in value)
      if len(value) == len(args):
        return tuple(map(_as, value, args))
  elif origin is Mapping:
    if isinstance(value, (Mapping, ConfigDict)):
      return {key: _as(x, args[1]) for key, x in value.items()}
  elif kind in (None, type(None)):
    if value is None:
      return None
  elif isinstance(value, bool) or kind is bool:
    if isinstance(value, bool) and kind is bool:
      return value
  elif kind is float and isinstance(value, int):
    return float(value)
  elif kind is int and isinstance(value, float) and value.is_integer():
    return int(value)
  elif isinstance(kind, type) and isinstance(value, kind):
    return value
  raise ValueError(value)


def _named(kind: Any) -> str:
  """A type in words."""
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin in (Union, types.UnionType):
    none = type(None)
    return " or ".join(_named(x) for x in args if x is none or _is_kind(x))
  if origin is Literal:
    return " or ".join(map(repr, args))
  if origin is Annotated:
    return "a section"
  if origin is Mapping:
    return "a mapping"
  if origin is tuple and ... not in args:
    return f"({', '.join(map(_named, args))})"
  if origin in (tuple, Sequence):
    return f"a sequence, each {_named(args[0])}"
  names = {
      int: "a whole number",
      float: "a number",
      bool: "True or False",
      str: "a text",
      type(None): "None",
  }
  return names.get(kind, "a value")


def hint(key: str, keys: Any) -> str:
  """A hint with the closest of some keys; "" if none is close."""
  close = difflib.get_close_matches(key, list(keys), n=1)
  return f" (did you mean {close[0]!r}?)" if close else ""
