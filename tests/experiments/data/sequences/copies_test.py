import numpy as np
import pytest

from experiments.data.sequences.copies import Copies
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL


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


@pytest.mark.parametrize("size", [2, 31])
def test_a_size_without_halves_is_refused(size):
  with pytest.raises(ValueError, match=f"data.size = {size}: an even number"):
    Copies(size)
