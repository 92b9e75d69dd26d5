"""Noise in pairs of frames."""

import numpy as np
import pytest

from experiments.data.flow.disturbed import Disturbed

Y, X = 23, 31


@pytest.fixture
def pairs():
  """Two grey pairs."""
  frames = np.full([2, Y, X, 3], 90, np.uint8)
  flow = np.zeros([Y, X, 2], np.float32)
  return [{"frames": frames + np.uint8(i), "flow": flow} for i in range(2)]


def test_every_pair_comes_as_it_is_and_then_disturbed(pairs):
  source = Disturbed(pairs, side=0.5, deviation=40.0)
  found = [source[i] for i in range(len(source))]
  assert [bool(x["disturbed"]) for x in found] == [False, True, False, True]
  for i in (0, 1):
    assert (found[2 * i]["frames"] == pairs[i]["frames"]).all()
    assert found[2 * i + 1]["flow"] is pairs[i]["flow"]
  assert not np.array_equal(found[1]["frames"], found[3]["frames"])


def test_a_patch_is_one_square_at_the_same_place_of_both_frames(pairs):
  pair = Disturbed(pairs, side=0.5, deviation=40.0, seed=3)[1]
  changed = (pair["frames"] != pairs[0]["frames"]).any(-1)
  rows, columns = (np.flatnonzero(changed[0].any(axis)) for axis in (1, 0))
  assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == round(0.5 * Y)
  np.testing.assert_array_equal(
      pair["frames"][0][changed[0]], pair["frames"][1][changed[0]]
  )
  inside = pair["frames"][0][changed[0]]
  assert abs(inside.mean() - 127.5) < 15 and 30 < inside.std() < 50


def test_noise_everywhere_is_another_in_each_frame(pairs):
  first, second = Disturbed(pairs, side=0.0, deviation=10.0)[1]["frames"]
  for frame in (first, second):
    assert 8 < frame.std() < 12 and abs(frame.mean() - 90) < 2
  assert (first != second).mean() > 0.8


def test_the_seed_alone_decides(pairs):
  one, again, other = (
      Disturbed(pairs, 0.0, 10.0, seed)[1]["frames"] for seed in (1, 1, 2)
  )
  assert (one == again).all() and (one != other).any()
