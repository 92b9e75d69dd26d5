"""The training step."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.engine import optim
from experiments.engine import state as state_lib
from experiments.engine import step as step_lib
from perceiver import Processor

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


def make(forward, optimizer=None, **settings):
  net = state_lib.make_net(forward, "float32")
  optimizer = optimizer or optax.sgd(0.1)
  step = step_lib.make_train_step(net, loss, optimizer, seed=3, **settings)
  state = state_lib.initial_state(
      net,
      optimizer,
      EXAMPLE,
      0,
      settings.get("frozen", ""),
      "ema" in settings,
  )
  return jax.jit(step, donate_argnums=0), state


def layers(batch, is_training):
  """A network with a stack of layers, as `Processor` names it."""
  x = hk.Linear(6, name="first")(batch["x"])
  x = Processor(layers_per_block=2, num_heads=2)(x[:, None])[:, 0]
  return hk.Linear(3, name="logits")(x)


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
      expected, expected_scalars = whole(
          jax.tree.map(jnp.copy, state), batch(i)
      )
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
    other = state._replace(step=jnp.asarray(7))
    once, again, later = (
        step(jax.tree.map(jnp.copy, s), batch())[0]
        for s in (state, state, other)
    )
    chex.assert_trees_all_equal(once, again)
    with self.assertRaises(AssertionError):
      chex.assert_trees_all_close(once.model, later.model)

  def test_an_update_that_is_not_finite_changes_nothing_but_two_counts(self):
    step, state = make(forward, skip_nonfinite=True)
    state, _ = step(state, batch())
    bad = batch()
    bad["x"][3, 2] = np.nan
    new, scalars = step(jax.tree.map(jnp.copy, state), bad)
    chex.assert_trees_all_equal(new.model, state.model)
    chex.assert_trees_all_equal(new.opt_state, state.opt_state)
    self.assertEqual((int(new.step), int(new.skipped)), (2, 1))
    self.assertEqual(int(scalars["skipped"]), 1)
    self.assertTrue(np.isnan(scalars["loss"]))

  def test_scalars_of_the_task_and_the_gradients_norm_come_out(self):
    step, state = make(noiseless)
    linear = jax.tree.map(jnp.copy, state.model.params["linear"])
    _, scalars = step(state, batch())
    self.assertAlmostEqual(
        float(scalars["twice"]), 2 * float(scalars["loss"]), places=5
    )
    grads = jax.grad(
        lambda w, b: jnp.mean((batch()["x"] @ w + b - batch()["y"]) ** 2),
        argnums=(0, 1),
    )(linear["w"], linear["b"])
    np.testing.assert_allclose(
        scalars["grad_norm"], optax.tree.norm(grads), rtol=1e-5
    )

  @parameterized.parameters(0.5, 0.9999)
  def test_the_average_weighs_parameters_by_their_age(self, decay):
    step, state = make(forward, ema=decay)
    seen, ema = [], optax.ema(decay)
    of_optax = ema.init(state.model.params)
    for i in range(4):
      state, _ = step(state, batch(i))
      seen.insert(0, jax.tree.map(np.float64, state.model.params))
      mean = functools.partial(
          np.average, axis=0, weights=decay ** np.arange(i + 1)
      )
      expected = jax.tree.map(lambda *x, mean=mean: mean(x), *seen)
      chex.assert_trees_all_close(state.ema, expected, rtol=1e-5, atol=1e-7)
      same, of_optax = ema.update(state.model.params, of_optax)
      # Its 1 - decay ** steps has few digits.
      chex.assert_trees_all_close(state.ema, same, rtol=1e-3)
    chex.assert_trees_all_equal(
        state.averaged().net_state, state.model.net_state
    )

  def test_updates_that_are_left_out_do_not_count_in_the_average(self):
    step, state = make(noiseless, ema=0.5, skip_nonfinite=True)
    bad = batch()
    bad["x"][3, 2] = np.nan
    state, _ = step(state, bad)
    chex.assert_trees_all_equal(state.ema, state.model.params)
    _, expected = make(noiseless, ema=0.5)
    for i in range(3):
      state, _ = step(state, bad)
      state, _ = step(state, batch(i))
      expected, _ = make(noiseless, ema=0.5)[0](expected, batch(i))
    chex.assert_trees_all_close(state.ema, expected.ema, rtol=1e-6)

  @parameterized.parameters("lamb", "adamw", "adam", "sgd")
  def test_frozen_parameters_stay_and_have_no_state_of_the_optimizer(
      self, name
  ):
    optimizer = optim.make_optimizer({"name": name}, lambda step: 0.1, 1.0)
    step, state = make(layers, optimizer, frozen="processor|first/b")
    before = jax.tree.map(np.asarray, state.model.params)
    for i in range(2):
      state, scalars = step(state, batch(i))
    after, changed = state.model.params, set()
    for module, arrays in after.items():
      for key, x in arrays.items():
        if not np.array_equal(x, before[module][key]):
          changed.add(f"{module}/{key}")
    self.assertEqual(changed, {"first/w", "logits/w", "logits/b"})
    sizes = {np.shape(x) for x in jax.tree.leaves(state.opt_state)}
    self.assertContainsSubset(sizes, {(), (5, 6), (6, 3), (3,)})
    self.assertGreater(float(scalars["grad_norm"]), 0)

  def test_the_gradients_norm_is_that_of_what_is_trained(self):
    whole, state = make(layers)
    part, _ = make(layers, frozen="processor|first")
    _, all_of_it = whole(jax.tree.map(jnp.copy, state), batch())
    _, scalars = part(make(layers, frozen="processor|first")[1], batch())
    self.assertLess(float(scalars["grad_norm"]), float(all_of_it["grad_norm"]))


if __name__ == "__main__":
  absltest.main()
