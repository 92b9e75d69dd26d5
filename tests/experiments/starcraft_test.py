"""Selections of units as a task: models, data, measures, and that it trains."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import starcraft as configs
from experiments import evaluate
from experiments import starcraft
from experiments.data.pipeline import Shard
from experiments.data.starcraft import replays
from experiments.data.starcraft.features import CONVERTED_UNITS
from experiments.data.starcraft.features import REPLAY_UNITS
from experiments.data.starcraft.features import type_index
from experiments.engine import build
from experiments.engine.build import load
from experiments.engine.errors import UserError
from perceiver.starcraft import OneHot
from scripts import prepare_data

SLOTS, SIDE = 29, REPLAY_UNITS.index("alliance")


def tiny(encode=None, **changes):
  config = configs.get_config("tiny")
  config.attention = "plain"  # Compiles faster.
  if encode == "transformer":
    config.model.encode = configs.TRANSFORMER
  config.update_from_flattened_dict(changes)
  return config


def moment(rng, num_units=23, num_own=9):
  """Units at random; of the player's own, those of one kind are selected."""
  units = rng.integers(0, 100, [num_units, len(REPLAY_UNITS)])
  units[:, SIDE] = np.where(np.arange(num_units) < num_own, 1, 3)
  kinds = [type_index(name) for name in ("Marine", "SCV")]
  units[:, 0] = rng.choice(kinds, num_units)
  units[:2, 0] = kinds
  units = units[rng.permutation(num_units)].astype(np.int16)
  selected = (units[:, SIDE] == 1) & (units[:, 0] == kinds[0])
  return {"units": units, "selected": selected}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Two games, one for each split."""
  folder = tmp_path_factory.mktemp("data")
  (folder / "game.SC2Replay").touch()

  def played(results, cache, split):
    rng = np.random.default_rng(len(split))
    moments = [moment(rng) for _ in range(8)]
    info = {"key": split, "file": f"{split}.SC2Replay", "counts": {}}
    yield replays.Played(
        info,
        frames=np.arange(8, dtype=np.int32),
        players=np.ones(8, np.int32),
        units=[m["units"] for m in moments],
        selected=[m["selected"] for m in moments],
    )

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(replays, "files", lambda folder: [])
    patch.setattr(replays, "read", lambda *args: [])
    patch.setattr(replays, "played", played)
    prepare_data.main(
        ["starcraft2", f"--data_dir={folder}", f"--manual_dir={folder}"]
    )
  return str(folder)


def model_of(config, seed=0):
  """The network with random numbers in it, from units to outputs."""
  built = build.build_network(config)
  rng = np.random.default_rng(seed)
  model = jax.tree.map(
      lambda x: np.float32(0.3 * rng.normal(size=x.shape)), built.like
  )
  apply = jax.jit(lambda batch: built.net.apply(*model, None, batch, False)[0])
  return lambda units, **more: apply({"units": units, **more})


def batch_of(num=2):
  """Slots with units, the last six empty."""
  rng = np.random.default_rng(3)
  steps = [
      starcraft.padded(moment(rng), REPLAY_UNITS, SLOTS, 5) for _ in range(num)
  ]
  return jax.tree.map(lambda *x: jnp.stack([*map(jnp.asarray, x)]), *steps)


ENCODERS = pytest.mark.parametrize("encode", ["perceiver_io", "transformer"])


@ENCODERS
def test_both_encoders_have_the_same_interface(encode):
  outputs = model_of(tiny(encode))(**batch_of())
  assert outputs["entity_embeddings"].shape == (2, SLOTS, 14)
  assert outputs["embedded_entity"].shape == (2, 14)
  assert outputs["log_probs"].shape == (2, 5, SLOTS + 1)
  assert outputs["picks"].shape == (2, 5)
  assert outputs["probability"].shape == (2, SLOTS)


@ENCODERS
def test_empty_slots_influence_nothing(encode):
  run, batch = model_of(tiny(encode)), batch_of()
  outputs = run(**batch)
  units = batch["units"]
  empty = units[..., SIDE] == 0
  assert empty.sum() == 2 * 6
  noise = np.random.default_rng(0).integers(0, 100, units.shape)
  noise[..., SIDE] = 0
  other = jnp.where(empty[..., None], noise, units)
  for name, value in run(other, picks=batch["picks"]).items():
    np.testing.assert_array_equal(value, outputs[name], err_msg=name)
  # And fewer of them change nothing either.
  fewer = model_of(tiny(encode, num_units=23))(units[:, :23])
  for name in ("embedded_entity", "picks"):
    expected = outputs[name]
    if name == "picks":
      expected = jnp.where(expected == SLOTS, 23, expected)
    np.testing.assert_allclose(fewer[name], expected, atol=1e-5)


@ENCODERS
def test_units_are_in_no_order(encode):
  run, units = model_of(tiny(encode)), batch_of()["units"]
  order = np.random.default_rng(1).permutation(SLOTS)
  outputs, moved = run(units), run(units[:, order])
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)
  close(moved["embedded_entity"], outputs["embedded_entity"])
  close(moved["entity_embeddings"], outputs["entity_embeddings"][:, order])
  close(moved["probability"], outputs["probability"][:, order])
  # One that differs does matter.
  other = run(units.at[:, 0, 0].add(1))
  assert (
      jnp.abs(other["embedded_entity"] - outputs["embedded_entity"]).max() > 0
  )


@ENCODERS
def test_all_is_computed_in_the_dtype_that_is_asked_for(encode):
  built = build.build_network(tiny(encode, compute_dtype="bfloat16"))
  outputs, _ = jax.eval_shape(
      lambda model, batch: built.net.apply(*model, None, batch, False),
      built.like,
      batch_of(),
  )
  assert outputs["entity_embeddings"].dtype == jnp.bfloat16
  assert outputs["embedded_entity"].dtype == jnp.bfloat16
  assert outputs["log_probs"].dtype == jnp.float32


def test_only_own_units_are_picked():
  units = batch_of()["units"]
  outputs = model_of(tiny())(units)
  own = units[..., SIDE] == 1
  assert (outputs["probability"][~own] == 0).all()
  for row, picks in zip(own, outputs["picks"].tolist(), strict=True):
    assert all(row[i] for i in picks if i < SLOTS)


def test_every_feature_has_a_code_or_a_reason_to_have_none():
  unused = {
      "owner",  # Who is whose is in alliance.
      "facing",
      "radius",
      "tag",
      "buff_duration_max",
  }
  for columns in (REPLAY_UNITS, CONVERTED_UNITS):
    assert set(columns) - starcraft.CODES.keys() <= unused
  assert starcraft.CODES.keys() <= {*REPLAY_UNITS, *CONVERTED_UNITS}


@pytest.mark.parametrize("dataset", starcraft.COLUMNS)
def test_each_data_sets_units_are_read(dataset):
  columns = starcraft.columns_of(dataset)
  config = tiny(dataset=dataset)
  rng = np.random.default_rng(0)
  units = jnp.asarray(rng.integers(0, 2, [2, SLOTS, len(columns)]), jnp.int32)
  run = model_of(config)
  first = run(units)["embedded_entity"]
  changed = []
  for i, name in enumerate(columns):
    other = run(units.at[:, :, i].set(1 - units[:, :, i]))["embedded_entity"]
    if np.abs(other - first).max() > 1e-6:
      changed.append(name)
  telling = starcraft.TELLING.get(dataset, ())
  assert set(telling).isdisjoint(changed)
  used = set(columns) & starcraft.CODES.keys() - set(telling)
  # What is scaled down or a root shows between larger numbers.
  coarse = {
      name
      for name in used
      if all(
          isinstance(code, OneHot) and code.divide > 1
          for code in starcraft.CODES[name]
      )
  }
  assert used - coarse <= set(changed)


def test_slots_hold_own_units_first_and_then_the_nearest():
  example = moment(np.random.default_rng(0), num_units=23, num_own=9)
  step = starcraft.padded(example, REPLAY_UNITS, 13, 3)
  sides = step["units"][:, SIDE]
  assert (sides == 1).sum() == 9 and (sides == 3).sum() == 4
  others = example["units"][example["units"][:, SIDE] == 3]
  kept = step["units"][sides == 3]
  np.testing.assert_array_equal(kept, others[:4])
  chosen = np.flatnonzero(example["selected"])[:3]
  np.testing.assert_array_equal(
      step["units"][step["picks"]], example["units"][chosen]
  )
  # Even if only others fit.
  far = starcraft.padded(example, REPLAY_UNITS, 1, 3)
  assert far["picks"].tolist() == [0, 1, 1]
  np.testing.assert_array_equal(
      far["units"][0], example["units"][example["selected"]][0]
  )


def test_the_majority_is_the_type_that_was_selected_most():
  rng = np.random.default_rng(0)
  source = [moment(rng) for _ in range(5)]
  rank = starcraft.ranks(source, REPLAY_UNITS)
  assert rank == {type_index("Marine"): 5}
  step = starcraft.padded(source[0], REPLAY_UNITS, SLOTS, 9)
  majority = starcraft.with_majority(step, REPLAY_UNITS, rank)["majority"]
  np.testing.assert_array_equal(majority[:23], source[0]["selected"])
  none = starcraft.with_majority(step, REPLAY_UNITS, {})["majority"]
  assert none.any() and (step["units"][none, SIDE] == 1).all()


def test_even_chances_are_counted_by_hand():
  # Of 4 units one, then of 3 and the end another, then of 2 and the end the
  # end; and of 4 all, the last step with the end alone left.
  picks = jnp.array([[2, 0, 9, 9, 9], [0, 1, 2, 3, 9]])
  count = (picks < 9).sum(-1)
  found = starcraft.uniform_log_likelihood(jnp.array([4, 4]), count, picks)
  expected = -np.log([4 * 4 * 3, 4 * 4 * 3 * 2 * 1])
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  # A selection that fills all steps has no end.
  full = starcraft.uniform_log_likelihood(
      jnp.array([4]), jnp.array([2]), jnp.array([[2, 0]])
  )
  np.testing.assert_allclose(full, -np.log([4 * 4]), rtol=1e-6)


def test_the_probability_of_a_unit_is_that_of_any_step():
  # Steps: unit 0 or 1; then the rest, or the end.
  probs = jnp.array([[[0.7, 0.3, 0.0], [0.0, 0.4, 0.6], [0.2, 0.2, 0.6]]])
  log_probs = jnp.log(probs)
  ended = starcraft.probability(log_probs, jnp.array([[0, 2, 2]]))
  second = 0.7 * 0.4  # It was not picked first.
  np.testing.assert_allclose(ended, [[0.7, 0.3 + second]], rtol=1e-5)
  longer = starcraft.probability(log_probs, jnp.array([[0, 1, 2]]))
  third = (
      0.4 * 0.2
  )  # The second step was not the end, the third is unit 0 or 1.
  expected = [[0.7 + 0.3 * third, 0.3 + second + 0.7 * 0.6 * third]]
  np.testing.assert_allclose(longer, expected, rtol=1e-5)


def test_a_unit_that_every_step_may_pick_has_a_probability_below_one():
  log_probs = jnp.log(jnp.full((1, 31, 3), 1 / 3))
  picks = jnp.zeros((1, 31), int)
  (found,) = starcraft.probability(log_probs, picks)
  assert 0.4 < float(found.max()) <= 1


def test_likelihoods_are_of_each_selected_unit():
  measured = {
      "log_likelihood": np.array([-6.0, -2.0]),
      "log_likelihood_uniform": np.array([-9.0, -3.0]),
      "selected": np.array([3, 1]),
      "iou": np.array([50.0, 100.0]),
  }
  assert starcraft.summarize(measured) == {
      "log_likelihood": -2.0,
      "log_likelihood_uniform": -3.0,
      "selected": 2.0,
      "iou": 75.0,
  }


@ENCODERS
def test_both_encoders_learn(encode, data_dir):
  changes = {"train_examples": 900, "schedule.peak": 5e-3}
  built = build.build(tiny(encode, data_dir=data_dir, **changes))
  state, data = built.initial_state(), iter(built.task.train_data(Shard()))
  step, losses, batch = built.train_step(), [], next(data)
  for _ in range(40):  # The same moments.
    state, scalars = step(state, batch)
    losses.append(float(scalars["loss"]))
  assert np.isfinite(losses).all()
  assert losses[-1] < 0.7 * losses[0]


def test_a_model_is_measured_beside_the_baselines(data_dir):
  built = build.build(tiny(data_dir=data_dir))
  run = evaluate.Evaluate(built.task.evals, built.net, built.layout)
  metrics, pictures = run(built.initial_state().model)
  assert np.isfinite(list(metrics.values())).all()
  # At first, chances are about even.
  even = metrics["validation/log_likelihood_uniform"]
  assert metrics["validation/log_likelihood"] == pytest.approx(even, rel=0.5)
  # All Marines are selected, and up to five of them are asked for.
  assert metrics["validation/iou_majority"] > 80
  assert metrics["validation/exact_current"] == 0
  picture = pictures["validation-selections"]
  assert picture.dtype == np.uint8 and picture.std() > 1


def test_the_encoders_flops_are_those_of_table_9():
  parts = {}
  for variant in ("transformer", "perceiver_io", "perceiver_io_64"):
    built = build.build_network(configs.get_config(variant))
    parts[variant] = dict(built.flops_by_part())
    # In the head, one map of each unit to 256 is the encoder's.
    encoder = sum(parts[variant][x] for x in ("encode", "process", "decode"))
    parts[variant]["encoder"] = encoder + 2 * 512 * 256 * 256
  assert parts["transformer"]["encoder"] == pytest.approx(3.3e9, rel=0.01)
  assert parts["perceiver_io"]["encoder"] == pytest.approx(0.95e9, rel=0.01)
  more = parts["perceiver_io_64"]["encoder"] / parts["perceiver_io"]["encoder"]
  assert 1.1 < more < 1.5


def test_mini_models_have_the_same_budget():
  variants = ("mini_perceiver_io", "mini_perceiver_io_64", "mini_transformer")
  minis = [configs.get_config(variant) for variant in variants]
  for config in minis:
    assert config.train_examples == minis[0].train_examples
    assert config.batch_size == minis[0].batch_size


def test_a_wrong_data_set_is_named():
  with pytest.raises(UserError, match="'starcraft' is not one of"):
    load(tiny(dataset="starcraft"))
  with pytest.raises(FileNotFoundError, match="prepare_data starcraft2"):
    load(tiny(data_dir="nowhere")).train_data(Shard())
  with pytest.raises(ValueError, match="variant 'mini' is not one of"):
    importlib.import_module("configs.starcraft").get_config("mini")
