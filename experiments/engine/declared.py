"""Looks up names in the files of tasks; `experiments.task` lists them."""

import importlib
import importlib.util
import pathlib
import re
import sys
from typing import Any
import warnings

from experiments.engine import extras
from experiments.engine.errors import UserError

_TASKS = pathlib.Path(__file__).parent.parent


def module(task: str) -> Any:
  """The module of a task: experiments.TASK, or one with a dot in its name.

  A module outside of experiments is not imported here, since the name may come
  from a file of weights: it is there because somebody imported it, or because
  a config file that was named on the command line says so (`import_outside`).

  Raises:
    UserError: if there is none, or what it imports is not installed.
  """
  if "." in task:
    if task not in sys.modules:
      raise UserError(
          f"config.task = {task!r} is a module outside of experiments, and is"
          " not imported: name its config, --config=FILE, or import it first"
      )
    return sys.modules[task]
  name = f"experiments.{task}"
  if not task.isidentifier() or importlib.util.find_spec(name) is None:
    raise UserError(
        f"config.task = {task!r}: there is no {name.replace('.', '/')}.py."
    )
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    told = extras.missing(error)
    if told is None:
      raise
    raise UserError(f"task {task!r}: {told}") from error


def import_outside(task: Any, folder: pathlib.Path) -> None:
  """Imports the module that a config file names as its task, if it has a dot.

  Args:
    task: `config.task`.
    folder: folder of the config file; modules are found in it as well.

  Raises:
    UserError: if there is no such module.
  """
  if not isinstance(task, str) or "." not in task or task in sys.modules:
    return
  sys.path.append(str(folder.resolve()))
  try:
    importlib.import_module(task)
  except ModuleNotFoundError as error:
    if error.name is None or not f"{task}.".startswith(f"{error.name}."):
      raise
    raise UserError(
        f"config.task = {task!r}: there is no such module in {folder}, nor in a"
        " folder of PYTHONPATH"
    ) from error


def declared(task: str, name: str, without: str) -> Any:
  """The object that a task's file defines under a name.

  Args:
    task: the task.
    name: the name.
    without: what that means if it does not, as in "there is no such command".

  Raises:
    UserError: if it does not define it.
  """
  found = getattr(module(task), name, None)
  if found is None:
    raise UserError(
        f"{without} for {task!r}: {module(task).__name__} defines no {name}"
    )
  return found


def of_every_task(name: str) -> dict[str, Any]:
  """The values that the files of tasks assign to a name: task -> value.

  Only files in which it stands are imported: all of them take seconds. A task
  whose packages are not installed is left out, and a warning names its extra.
  """
  tasks = [
      file.stem
      for file in sorted(_TASKS.glob("*.py"))
      if re.search(rf"^{name} = ", file.read_text("utf-8"), re.MULTILINE)
  ]
  found = {}
  for task in tasks:
    try:
      found[task] = getattr(module(task), name)
    except UserError as error:
      warnings.warn(str(error), stacklevel=1)
  return found
