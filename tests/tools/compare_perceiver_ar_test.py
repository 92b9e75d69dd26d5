"""Perceiver AR beside perceiver-io: what needs no PyTorch."""

import sys

import numpy as np
import pytest

from experiments.engine.errors import UserError
from tools import compare_perceiver_ar


def test_theirs_has_all_numbers_but_those_that_it_has_built_in():
  arrays = compare_perceiver_ar.random_arrays()
  size = lambda named: sum(x.size for x in named.values())
  built_in = {
      name: x
      for name, x in arrays.items()
      if name.startswith("encoder/latents")
      or name == "logits/w"
      or (name.endswith("/b") and not compare_perceiver_ar.has_bias(name))
  }
  named = compare_perceiver_ar.their_names(arrays)
  assert size(named) == size(arrays) - size(built_in)
  biases = [x for name, x in built_in.items() if name.endswith("/b")]
  assert len(biases) > 5 and not any(x.any() for x in biases)
  ids = np.full([2, compare_perceiver_ar.LENGTH], 9, np.int32)
  logits = compare_perceiver_ar.ours(arrays, ids, {}, "exact")
  assert logits.shape == (2, 11, 53) and logits.std() > 0.1


def test_a_python_without_their_package_is_named():
  ids = np.zeros([1, compare_perceiver_ar.LENGTH], np.int32)
  arrays = compare_perceiver_ar.random_arrays()
  with pytest.raises(UserError, match=r"krasser\.py: ModuleNotFoundError"):
    compare_perceiver_ar.theirs(arrays, ids, {}, sys.executable)
