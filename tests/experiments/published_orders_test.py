"""Published models at full size are the same function in both orders."""

import jax
import numpy as np
import pytest

from scripts.benchmarks import cases


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.CONFIGS)
def test_a_published_model_is_the_same_in_both_orders(name, optimized):
  outputs = []
  for products in ("cheapest", "written"):
    case = cases.make(name, 1, {"products": products})
    net = case.network.net
    # Drawn numbers are no variances of a batch norm.
    state = jax.jit(case.network.start)().net_state
    model = case.model._replace(net_state=state)

    def forward(model, batch, net=net):
      return net.apply(*model, jax.random.key(0), batch, False)[0]

    outputs.append(jax.tree.leaves(jax.jit(forward)(model, case.batch)))
  for ours, theirs in zip(*outputs, strict=True):
    deviation = np.abs(ours - theirs).max() / np.std(theirs)
    assert deviation < 2e-5
