"""What the code says of its settings: in docstrings and beside them."""

import ast
import dataclasses
import functools
import inspect
import io
import re
import textwrap
import tokenize
from typing import Any


def comments(source: str) -> dict[int, str]:
  """What comments say of each line of code, by its number from 1.

  Those right above a line come before the one behind it.
  """
  found, block, last = {}, [], 0
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    line = token.start[0]
    if token.type != tokenize.COMMENT:
      if token.string.strip() and block:
        found[line] = [*block, *found.get(line, [])]
        block = []
      continue
    words = token.string.lstrip("# ")
    if token.line[: token.start[1]].strip():
      found.setdefault(line, []).append(words)
    else:
      if line != last + 1:
        block = []
      block.append(words)
      last = line
  return {line: _sentences(parts) for line, parts in found.items()}


def _sentences(parts: list[str]) -> str:
  text = " ".join(parts).strip()
  return re.sub(r"\s+", " ", text)


def arguments(docstring: str) -> dict[str, str]:
  """What a docstring says of arguments, under "Args" or "Attributes"."""
  found = {}
  pattern = r"^(?:Args|Attributes):\n((?:[ ]+.*\n|\n)+)"
  for block in re.findall(pattern, docstring + "\n", re.MULTILINE):
    block = textwrap.dedent(block)
    entries = re.findall(
        r"^\**(\w+)(?: \(.*?\))?:(.*\n(?:[ ]+.*\n|\n)*)", block, re.MULTILINE
    )
    found |= {name: _sentences(text.split()) for name, text in entries}
  return found


def of_parameters(target: Any) -> dict[str, str]:
  """What is said of a callable's parameters, or of a dataclass's fields."""
  if isinstance(target, functools.partial):
    target = target.func
  found = {}
  if dataclasses.is_dataclass(target) and isinstance(target, type):
    for base in reversed(target.__mro__[:-1]):
      if dataclasses.is_dataclass(base) and "__annotations__" in vars(base):
        found |= _beside(base) | arguments(_doc(base))
    return found
  return _beside(target) | arguments(_doc(target))


def summary(target: Any) -> str:
  """The first paragraph of its docstring; "" if it has none of its own."""
  if isinstance(target, functools.partial):
    target = target.func
  text = _doc(target).split("\n\n")[0]
  # The docstring that Python gives a dataclass is its signature.
  return "" if text.startswith(f"{target.__name__}(") else _sentences([text])


def _doc(target: Any) -> str:
  return inspect.cleandoc(target.__doc__ or "")


def _beside(target: Any) -> dict[str, str]:
  try:
    source = textwrap.dedent(inspect.getsource(target))
  except (OSError, TypeError):
    return {}  # Not written in Python.
  beside, node = comments(source), ast.parse(source).body[0]
  if isinstance(node, ast.ClassDef):
    lines = {
        field.target.id: field.lineno
        for field in node.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
    }
  elif isinstance(node, ast.FunctionDef):
    args = node.args
    lines = {
        arg.arg: arg.lineno
        for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)
    }
  else:
    return {}
  return {name: beside[n] for name, n in lines.items() if n in beside}


def of_config(source: str) -> dict[str, str]:
  """What is said in a config file of each value: by dotted path.

  Args:
    source: the file; values are those that its functions give, in a literal or
      in assignments to `config`.
  """
  beside, found = comments(source), {}

  def walk(node: ast.expr, path: str) -> None:
    """Takes the literal that a path has."""
    if isinstance(node, ast.Call) and node.args:
      node = node.args[0]  # ConfigDict({...})
    if not isinstance(node, ast.Dict):
      return
    for key, value in zip(node.keys, node.values, strict=True):
      if isinstance(key, ast.Constant):
        inner = f"{path}.{key.value}" if path else str(key.value)
        # A comment behind a dict of one line is about all of it.
        if key.lineno in beside and key.lineno != node.lineno:
          found[inner] = beside[key.lineno]
        walk(value, inner)

  for function in ast.parse(source).body:
    if not isinstance(function, ast.FunctionDef):
      continue
    for node in function.body:
      if isinstance(node, ast.Return) and node.value is not None:
        walk(node.value, "")
      elif isinstance(node, ast.Assign):
        root, _, path = ast.unparse(node.targets[0]).partition(".")
        if root == "config":
          if path and node.lineno in beside:
            found[path] = beside[node.lineno]
          walk(node.value, path)
  return found
