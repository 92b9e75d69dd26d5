"""A start that reads what is near, against the usual one."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver import Decoder
from perceiver import Encoder
from perceiver import LearnedArray
from perceiver import record_weights
from perceiver import start_nearby

M, C, N, D, NUM_QUERIES = 211, 131, 37, 139, 53


def model(sharpness):
  """Initial parameters, and what each cross-attend reads at first."""

  def forward():
    with start_nearby(sharpness):
      x = LearnedArray(M, C, name="positions")(1)
      z = Encoder(N, D, num_heads=4, qk_channels=128)(x)
      query = LearnedArray(NUM_QUERIES, C, name="queries")(1)
      lone = LearnedArray(1, C, name="lone")(1)
      settings = {"num_heads": 4, "qk_channels": 128, "v_channels": 4 * N}
      return Decoder(**settings)(query, z) + lone

  def recorded():
    with record_weights() as weights:
      forward()
    return weights

  params = hk.transform(forward).init(jax.random.key(0))
  weights = hk.transform(recorded).apply(params, None)
  return params, {
      name.partition("/")[0]: np.asarray(w[0]) for name, w in weights.items()
  }


def distance(weights):
  """How far from its own place an element reads, on average; 1: everything."""
  own, read = (
      (np.arange(n) + 0.5) / n for n in (weights.shape[1], weights.shape[2])
  )
  return np.mean((weights * np.abs(own[:, None] - read)).sum(-1))


def test_every_cross_attend_starts_near_its_place():
  _, usual = model(0.0)
  _, near = model(4.0)
  assert {"encoder", "decoder"} == set(usual)
  for name, weights in usual.items():
    assert distance(weights) > 0.3
    # The decoder's keys are latents that have read.
    assert distance(near[name]) < {"encoder": 0.05, "decoder": 0.15}[name]
  assert distance(model(1.0)[1]["encoder"]) > distance(near["encoder"])


def test_all_else_starts_as_usual():
  usual, near = model(0.0)[0], model(4.0)[0]
  changed = {
      f"{module}/{name}"
      for module, arrays in usual.items()
      for name, array in arrays.items()
      if not np.array_equal(array, near[module][name])
  }
  reads = {f"{x}/cross_attention/attention" for x in ("encoder", "decoder")}
  assert changed == {
      *(f"{read}/{map_}/w" for read in reads for map_ in "qk"),
      *("positions/array", "queries/array", "encoder/latents/array"),
  }
  assert jax.tree.map(jnp.shape, usual) == jax.tree.map(jnp.shape, near)
