"""Optimizers and schedules against the official release's, and stacks."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.engine import optim
from tests.conftest import GOLDEN


def tree(arrays, prefix: str):
  """{module: {name: array}} of the arrays "PREFIX:module|name"."""
  params = {}
  for key, value in arrays.items():
    if key.startswith(f"{prefix}:"):
      module, name = key.removeprefix(f"{prefix}:").split("|")
      params.setdefault(module, {})[name] = jnp.asarray(value)
  return params


class OptimizersTest(parameterized.TestCase):

  @parameterized.product(
      name_and_eps=[("lamb", 1e-6), ("adamw", 1e-8)], decay_positions=[0, 1]
  )
  def test_three_steps_equal_the_official_ones(
      self, name_and_eps, decay_positions
  ):
    name, eps = name_and_eps
    golden = {"lamb": "lamb", "adamw": "adam"}[name]
    file = f"comp_optimizer_{golden}_decaypos{decay_positions}.npz"
    arrays = np.load(GOLDEN / file)
    not_decayed = optim.NOT_DECAYED
    if not decay_positions:
      not_decayed = (*not_decayed, "pos_embs$")
    optimizer = optim.make_optimizer(
        {
            "name": name,
            "eps": eps,
            "weight_decay": 0.1,
            "not_decayed": not_decayed,
        },
        optax.constant_schedule(2e-3),
        max_grad_norm=10.0,
    )
    params = tree(arrays, "p0")
    state = optimizer.init(params)
    for i in range(3):
      updates, state = optimizer.update(tree(arrays, f"g{i}"), state, params)
      params = optax.apply_updates(params, updates)
      chex.assert_trees_all_close(
          params, tree(arrays, f"p{i + 1}"), rtol=2e-6, atol=2e-7
      )

  def test_lamb_treats_each_layer_of_a_stack_as_a_tensor_of_its_own(self):
    rng = np.random.default_rng(0)
    weights, grads = (
        jnp.asarray(rng.normal(size=(3, 5, 7)) * np.reshape(scales, (3, 1, 1)))
        for scales in ([0.01, 1, 50], [3, 0.1, 20])
    )
    optimizer = optim.make_optimizer(
        {"name": "lamb", "weight_decay": 0.1},
        optax.constant_schedule(1e-2),
        max_grad_norm=None,
    )

    def step(params, grads):
      updates, _ = optimizer.update(grads, optimizer.init(params), params)
      return updates

    stacked = step(
        {"processor/layers/mlp": {"w": weights}},
        {"processor/layers/mlp": {"w": grads}},
    )
    name = lambda i: f"processor/layer_{i}/mlp"
    apart = step(
        {name(i): {"w": weights[i]} for i in range(3)},
        {name(i): {"w": grads[i]} for i in range(3)},
    )
    chex.assert_trees_all_close(
        list(stacked["processor/layers/mlp"]["w"]),
        [apart[name(i)]["w"] for i in range(3)],
        rtol=1e-6,
    )

  def test_norms_and_biases_are_not_decayed(self):
    params = {
        "encoder/norm_x": {"scale": jnp.ones(3), "offset": jnp.ones(3)},
        "encoder/q": {"w": jnp.ones((3, 3)), "b": jnp.ones(3)},
        "encoder/latents": {"array": jnp.ones((2, 3))},
    }
    optimizer = optim.make_optimizer(
        {"name": "sgd", "weight_decay": 0.5}, optax.constant_schedule(1.0), None
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    decayed = jax.tree.map(lambda u: bool((u == -0.5).all()), updates)
    self.assertEqual(
        decayed,
        {
            "encoder/norm_x": {"scale": False, "offset": False},
            "encoder/q": {"w": True, "b": False},
            "encoder/latents": {"array": True},
        },
    )

  def test_gradients_are_cut_to_a_norm_together(self):
    optimizer = optim.make_optimizer(
        {"name": "sgd"}, optax.constant_schedule(1.0), max_grad_norm=1.0
    )
    grads = {"m": {"a": jnp.array([3.0]), "b": jnp.array([4.0])}}
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    self.assertAlmostEqual(float(updates["m"]["a"][0]), -0.6, places=6)
    self.assertAlmostEqual(float(updates["m"]["b"][0]), -0.8, places=6)

  def test_an_unknown_setting_names_the_one_that_was_meant(self):
    with self.assertRaisesRegex(TypeError, "Did you mean 'weight_decay'"):
      optim.make_optimizer(
          {"name": "lamb", "weigth_decay": 0.1}, lambda step: 0.1, None
      )


class SchedulesTest(parameterized.TestCase):

  @parameterized.parameters(
      ("lr_constant_cosine", {"name": "flat_then_cosine", "peak": 2e-3}),
      ("lr_cosine", {"name": "warmup_cosine", "peak": 2e-3, "warmup": 0}),
  )
  def test_equal_to_the_official_ones(self, key, spec):
    golden = np.load(GOLDEN / "comp_lr_schedules.npz")
    schedule = optim.make_schedule(spec, steps=100)
    ours = np.array([schedule(step) for step in golden["lr_steps"]])
    np.testing.assert_allclose(ours, golden[key], rtol=2e-6, atol=2e-10)

  def test_steps_divide_the_rate_by_ten_at_their_boundaries(self):
    schedule = optim.make_schedule({"name": "step_decay", "peak": 1.0}, 100)
    for step, rate in [(49, 1), (50, 0.1), (80, 0.01), (95, 1e-3), (99, 1e-3)]:
      self.assertAlmostEqual(float(schedule(step)), rate, places=7)

  def test_warm_up_rises_to_the_peak_and_ends_at_the_end(self):
    schedule = optim.make_schedule(
        {"name": "warmup_cosine", "peak": 0.5, "warmup": 10, "end": 0.1}, 110
    )
    for step, rate in [(0, 0), (5, 0.25), (10, 0.5), (60, 0.3), (110, 0.1)]:
      self.assertAlmostEqual(float(schedule(step)), rate, places=6)

  def test_warm_up_longer_than_the_run_is_refused(self):
    with self.assertRaisesRegex(ValueError, "20 steps of warm-up .* 20 steps"):
      optim.make_schedule(
          {"name": "warmup_cosine", "peak": 0.5, "warmup": 20}, 20
      )


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_norm_that_lets_nothing_be_learned_is_refused(norm):
  schedule = optim.make_schedule({"name": "constant", "peak": 1e-3}, 10)
  with pytest.raises(ValueError, match="max_grad_norm = .* above 0 was"):
    optim.make_optimizer({"name": "adam"}, schedule, norm)


@pytest.mark.parametrize("peak", [-1e-3, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(peak):
  with pytest.raises(ValueError, match="schedule.peak = .* of at least 0 was"):
    optim.make_schedule({"name": "constant", "peak": peak}, 10)


if __name__ == "__main__":
  absltest.main()
