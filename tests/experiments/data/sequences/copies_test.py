import numpy as np
import pytest

from experiments.data.sequences.copies import Copies
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL
from experiments.data.text.tokenizers import PAD


@pytest.mark.parametrize("mirrored", [True, False])
def test_the_second_half_is_the_first_once_more(mirrored):
  every = Copies(30, values=256, mirrored=mirrored)
  ids = every[5]["ids"]
  assert ids.shape == (30,)
  assert ids[0] == BOS and ids[-1] == EOS
  first, second = ids[1:15], ids[15:-1]
  np.testing.assert_array_equal(second, first[::-1] if mirrored else first)
  assert (ids[1:-1] >= NUM_SPECIAL).all()
  np.testing.assert_array_equal(ids, every[5]["ids"])
  assert (ids != every[6]["ids"]).any()
  assert (ids != Copies(30, mirrored=mirrored, seed=1)[5]["ids"]).any()


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_curriculum_grows_and_each_value_keeps_its_place(mirrored):
  growing = Copies(38, mirrored=mirrored, growing=20)
  whole, before = Copies(38, mirrored=mirrored), 0
  for i in range(24):
    ids, expected = growing[i]["ids"], whole[i]["ids"]
    copied = len(ids) - 19 - (i >= 20)  # Without EOS.
    assert copied == (18 if i >= 20 else min(max(copied, before, 1), 18))
    before = copied
    shown = np.arange(1, 19) > 18 - copied
    shown = shown if mirrored else shown[::-1]
    np.testing.assert_array_equal(
        ids[1:19], np.where(shown, expected[1:19], PAD)
    )
    np.testing.assert_array_equal(ids[19:], expected[19 : len(ids)])
    assert ids[0] == BOS
  assert len(growing[0]["ids"]) == 19 + 1
  with pytest.raises(ValueError, match="ramp_examples = -1"):
    Copies(38, growing=-1)


@pytest.mark.parametrize("size", [2, 31])
def test_a_size_without_halves_is_refused(size):
  with pytest.raises(ValueError, match=f"data.size = {size}: an even number"):
    Copies(size)
