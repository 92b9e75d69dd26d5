"""Errors that a user can correct."""

from collections.abc import Iterator
import contextlib
import re


class UserError(Exception):
  """An error of the user, in one line."""


def said(error: BaseException) -> str:
  """The message of an error without its number, with the file."""
  return re.sub(r"^\[Errno -?\d+\] ", "", str(error))


@contextlib.contextmanager
def user_errors(what: str) -> Iterator[None]:
  """Turns exceptions caused by wrong settings into a `UserError`."""
  try:
    yield
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    text = error.args[0] if isinstance(error, KeyError) else error
    raise UserError(f"{what}: {text}") from error
