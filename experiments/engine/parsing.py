"""Command lines with subcommands and one-line errors."""

import argparse
import difflib
import re
from typing import NoReturn


class Parser(argparse.ArgumentParser):
  """A parser with one-line errors that name the closest choice."""

  def error(self, message: str) -> NoReturn:
    """Ends the process."""
    # JAX takes a second to import, and workers import whatever has a parser.
    from experiments.engine import command

    for action in self._actions:
      name = action.metavar or action.dest
      if action.choices and message.endswith(f"required: {name}"):
        message += f" (one of {', '.join(action.choices)})"
    command.fail(with_hint(message))


def with_hint(message: str) -> str:
  """A message of argparse with the closest of its choices."""
  found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
  if found is None:
    return message
  choices = [choice.strip("' ") for choice in found[2].split(",")]
  close = difflib.get_close_matches(found[1], choices, n=1)
  hint = f" (did you mean {close[0]!r}?)" if close else ""
  return f"{message[: found.end(1) + 1]}{hint} {message[found.end(1) + 2 :]}"
