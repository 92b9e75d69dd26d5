"""A config names a function and gives its settings."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import difflib
import functools
import inspect
from typing import Any

from ml_collections import ConfigDict


def choose(
    options: Iterable[Callable[..., Any]], spec: Mapping[str, Any]
) -> Callable[..., Any]:
  """Binds `{"name": "pixels", **settings}` to the option called `pixels`.

  Options that do not depend on `is_training` need not take it: they are called
  without.

  Raises:
    KeyError: if no option has that name.
    TypeError: if the option does not take one of the settings.
  """
  by_name = {option.__name__: option for option in options}
  # A section of settings reaches the library as a plain mapping.
  settings = spec.to_dict() if isinstance(spec, ConfigDict) else dict(spec)
  name = settings.pop("name")
  if name not in by_name:
    raise KeyError(f"{name!r} is not one of {sorted(by_name)}")
  accepted = inspect.signature(by_name[name]).parameters
  for setting in settings:
    if setting not in accepted:
      close = difflib.get_close_matches(setting, accepted, n=1)
      hint = f" Did you mean {close[0]!r}?" if close else ""
      raise TypeError(f"{name}() takes no setting {setting!r}.{hint}")
  return without_is_training(functools.partial(by_name[name], **settings))


def without_is_training(function: Callable[..., Any]) -> Callable[..., Any]:
  """The function, or one that drops `is_training` if it does not take it."""
  if "is_training" in inspect.signature(function).parameters:
    return function

  def called(*args, is_training: bool = False, **settings):
    del is_training
    return function(*args, **settings)

  return called
