"""What tasks' files define, found by name; `experiments.task` lists them."""

import importlib
import importlib.util
import pathlib
import re
from typing import Any

from experiments.engine.errors import UserError

_TASKS = pathlib.Path(__file__).parent.parent


def module(task: str) -> Any:
  """The module experiments.TASK.

  Raises:
    UserError: if there is none.
  """
  name = f"experiments.{task}"
  if not task.isidentifier() or importlib.util.find_spec(name) is None:
    raise UserError(
        f"config.task = {task!r}: there is no {name.replace('.', '/')}.py."
    )
  return importlib.import_module(name)


def declared(task: str, name: str, without: str) -> Any:
  """What a task's file defines under a name.

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
        f"{without} for {task!r}: experiments/{task}.py defines no {name}"
    )
  return found


def of_every_task(name: str) -> dict[str, Any]:
  """What tasks' files assign to a name: task -> value.

  Only files in which it stands are imported: all of them take seconds.
  """
  tasks = [
      file.stem
      for file in sorted(_TASKS.glob("*.py"))
      if re.search(rf"^{name} = ", file.read_text("utf-8"), re.MULTILINE)
  ]
  return {task: getattr(module(task), name) for task in tasks}
