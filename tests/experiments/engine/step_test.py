"""The training step."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.engine import state as state_lib
from experiments.engine import step as step_lib

EXAMPLE = {
    "x": jax.ShapeDtypeStruct((5,), jnp.float32),
    "y": jax.ShapeDtypeStruct((3,), jnp.float32),
}


def forward(batch, is_training):
  x = hk.BatchNorm(True, True, 0.9)(batch["x"], is_training)
  noise = 0.0
  if is_training:
    noise = jax.random.normal(hk.next_rng_key(), ()) * 0.01
  return hk.Linear(3)(x) + noise


def noiseless(batch, is_training):
  return hk.Linear(3)(batch["x"])


def loss(outputs, batch):
  error = jnp.mean((outputs - batch["y"]) ** 2)
  return error, {"twice": 2 * error}


def make(forward, **settings):
  net = state_lib.make_net(forward, "float32")
  optimizer = optax.sgd(0.1)
  step = step_lib.make_train_step(net, loss, optimizer, seed=3, **settings)
  state = state_lib.initial_state(net, optimizer, EXAMPLE, 0)
  return jax.jit(step), state


def batch(seed=0, rows=12):
  rng = np.random.default_rng(seed)
  return {
      name: rng.normal(size=(rows, *x.shape)).astype(x.dtype)
      for name, x in EXAMPLE.items()
  }


class TrainStepTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 12)
  def test_accumulated_parts_equal_the_whole_batch(self, accumulate):
    whole, state = make(noiseless)
    parts, _ = make(noiseless, accumulate=accumulate)
    for i in range(3):
      expected, expected_scalars = whole(state, batch(i))
      found, scalars = parts(state, batch(i))
      chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
      chex.assert_trees_all_close(scalars, expected_scalars, rtol=1e-5)
      state = expected

  def test_accumulation_goes_through_the_networks_state_part_by_part(self):
    step, state = make(forward, accumulate=3)
    new, _ = step(state, batch())
    (counter,) = [
        value["counter"]
        for name, value in new.model.net_state.items()
        if name.endswith("mean_ema")
    ]
    self.assertEqual(int(counter), 3)

  def test_the_random_numbers_depend_on_the_step_alone(self):
    step, state = make(forward)
    once, _ = step(state, batch())
    again, _ = step(state, batch())
    chex.assert_trees_all_equal(once, again)
    later, _ = step(state._replace(step=jnp.asarray(7)), batch())
    with self.assertRaises(AssertionError):
      chex.assert_trees_all_close(once.model, later.model)

  def test_an_update_that_is_not_finite_changes_nothing_but_two_counts(self):
    step, state = make(forward, skip_nonfinite=True)
    state, _ = step(state, batch())
    bad = batch()
    bad["x"][3, 2] = np.nan
    new, scalars = step(state, bad)
    chex.assert_trees_all_equal(new.model, state.model)
    chex.assert_trees_all_equal(new.opt_state, state.opt_state)
    self.assertEqual((int(new.step), int(new.skipped)), (2, 1))
    self.assertEqual(int(scalars["skipped"]), 1)
    self.assertTrue(np.isnan(scalars["loss"]))

  def test_scalars_of_the_task_and_the_gradients_norm_come_out(self):
    step, state = make(noiseless)
    _, scalars = step(state, batch())
    self.assertAlmostEqual(
        float(scalars["twice"]), 2 * float(scalars["loss"]), places=5
    )
    grads = jax.grad(
        lambda w, b: jnp.mean((batch()["x"] @ w + b - batch()["y"]) ** 2),
        argnums=(0, 1),
    )(state.model.params["linear"]["w"], state.model.params["linear"]["b"])
    np.testing.assert_allclose(
        scalars["grad_norm"], optax.tree.norm(grads), rtol=1e-5
    )


if __name__ == "__main__":
  absltest.main()
