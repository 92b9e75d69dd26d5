"""Errors that the person who started a command can do something about."""

from collections.abc import Iterator
import contextlib
import re


class UserError(Exception):
  """What went wrong, in one line for the person who started the command."""


def said(error: BaseException) -> str:
  """What an error says, without the system's number: it names the file."""
  return re.sub(r"^\[Errno -?\d+\] ", "", str(error))


@contextlib.contextmanager
def user_errors(what: str) -> Iterator[None]:
  """Turns what Python raises at wrong settings into a `UserError`."""
  try:
    yield
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    text = error.args[0] if isinstance(error, KeyError) else error
    raise UserError(f"{what}: {text}") from error
