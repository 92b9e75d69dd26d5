"""Bounds of settings."""

import math
from typing import Any


def check(
    name: str,
    value: Any,
    low: int | float,
    high: int | float = math.inf,
    above: bool = False,
) -> None:
  """Checks that a setting is a finite number from `low` to `high`.

  Args:
    name: name of the setting, for the message.
    value: the setting's.
    low: the least.
    high: the most.
    above: whether `low` itself is too little.

  Raises:
    ValueError: if it is not; names the setting and its bounds.
  """
  try:
    is_within = math.isfinite(value) and low <= value <= high
  except OverflowError:  # A whole number that is larger than all floats.
    is_within = low <= value <= high
  except TypeError:
    is_within = False
  if is_within and not (above and value == low):
    return
  if math.isfinite(high):
    expected = f"from {low} to {high}" + " (not the first)" * above
  else:
    expected = f"above {low}" if above else f"of at least {low}"
  raise ValueError(f"{name} = {value}: a finite number {expected} was expected")
