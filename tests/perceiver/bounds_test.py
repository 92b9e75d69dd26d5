"""What is out of bounds is named with its bounds."""

import math

import pytest

from perceiver import bounds


def test_what_is_within_bounds_passes():
  bounds.check("a", 1, 1)
  bounds.check("a", 10**400, 1)
  bounds.check("a", 0.0, 0)
  bounds.check("a", 1e-9, 0, above=True)
  bounds.check("a", 1.0, 0, 1)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, None, "1"])
def test_what_is_not_is_named_with_its_bounds(value):
  with pytest.raises(ValueError) as raised:
    bounds.check("heads", value, 1)
  message = str(raised.value)
  assert message == (
      f"heads = {value}: a finite number of at least 1 was expected"
  )


def test_the_message_has_both_bounds_and_says_which_are_left_out():
  with pytest.raises(ValueError, match="above 0 was"):
    bounds.check("a", 0, 0, above=True)
  with pytest.raises(ValueError, match="from 0 to 1 was"):
    bounds.check("a", 2, 0, 1)
  with pytest.raises(ValueError, match=r"from 0 to 1 \(not the first\) was"):
    bounds.check("a", 0, 0, 1, above=True)
