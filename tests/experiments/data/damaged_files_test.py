"""Every reader, on files that are damaged in a few hundred ways."""

import pytest

from tests import fuzzing
from tests import readers

SLOW = ("weights, .npz", "clip", "video")  # Minutes for hundreds.


@pytest.mark.parametrize("name", readers.READERS)
def test_damaged_files_are_read_or_refused_in_a_line(tmp_path, name):
  before = fuzzing.peak_mib()
  count = 20 if name in SLOW else 200
  assert not readers.damage(name, tmp_path, count)
  assert fuzzing.peak_mib() < before + 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", readers.READERS)
def test_many_damaged_files_are_read_or_refused_in_a_line(tmp_path, name):
  count = 500 if name in SLOW else 5000
  assert not readers.damage(name, tmp_path, count, seed=1)
