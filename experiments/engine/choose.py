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
  return functools.partial(by_name[name], **settings)
