"""Checkpoints: damage of every kind is found, and nothing good is lost."""

import pathlib
import shutil

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.engine import sharding
from experiments.engine import state as state_lib
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import UserError
from tests.experiments.engine.damage import KINDS

CONFIG = {"task": "none", "model": {"width": 7}}
EXAMPLE = {"x": jax.ShapeDtypeStruct((300,), jnp.float32)}


def start(width=7):
  """A state and what restoring needs to know of it."""
  net = state_lib.make_net(
      lambda batch: hk.Linear(width)(batch["x"]), "float32"
  )
  make = lambda: state_lib.initial_state(net, optax.adam(1e-3), EXAMPLE, 0)
  like = sharding.with_shardings(jax.eval_shape(make), sharding.make_mesh())
  return jax.jit(make)(), like


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Checkpoints of steps 1 to 3, and the state of the last."""
  workdir = tmp_path_factory.mktemp("saved")
  state, _ = start()
  checkpoints = Checkpoints(workdir, CONFIG, keep=3, best="score")
  for step in (1, 2, 3):
    state = state._replace(step=jnp.asarray(step))
    checkpoints.save(state)
    checkpoints.measured(step, {"score": float(step)})
  checkpoints.close()
  return workdir, state


@pytest.fixture
def folder(saved, tmp_path):
  """A copy to damage."""
  shutil.copytree(saved[0], tmp_path, dirs_exist_ok=True)
  return tmp_path


def largest(folder: pathlib.Path, step: int, item: str) -> pathlib.Path:
  files = (folder / str(step) / item / "d").iterdir()
  return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(folder, step, item="model"):
  path = largest(folder, step, item)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def cut_off(folder, step, item="model"):
  path = largest(folder, step, item)
  path.write_bytes(path.read_bytes()[:100])


def remove_the_optimizer(folder, step, item="rest"):
  shutil.rmtree(folder / str(step) / item)


def empty_the_metadata(folder, step, item="model"):
  path = folder / str(step) / item / "_METADATA"
  path.write_text("")


def test_a_restored_state_equals_the_saved_one(saved, folder):
  state = Checkpoints(folder).restore(start()[1])
  chex.assert_trees_all_equal(state, saved[1])


def test_what_else_an_older_version_has_saved_is_ignored(saved, folder):
  data = folder / "3" / "data"
  data.mkdir()
  (data / "process_0-of-1.json").write_text('{"next_index": 3}')
  state = Checkpoints(folder).restore(start()[1])
  chex.assert_trees_all_equal(state, saved[1])


def test_an_empty_folder_restores_nothing(tmp_path):
  assert Checkpoints(tmp_path).restore(start()[1]) is None


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, cut_off, remove_the_optimizer, empty_the_metadata],
    ids=lambda damage: damage.__name__,
)
def test_damage_is_reported_and_the_checkpoint_before_is_used(folder, damage):
  damage(folder, 3)
  notes = []
  checkpoints = Checkpoints(folder, keep=3, note=notes.append)
  state = checkpoints.restore(start()[1])
  assert int(state.step) == 2
  assert len(notes) == 1 and "3 is damaged" in notes[0]
  assert (folder / "damaged-3").is_dir()
  # The run comes to step 3 again.
  checkpoints.save(state._replace(step=jnp.asarray(3)))
  checkpoints.close()
  state = Checkpoints(folder).restore(start()[1])
  assert int(state.step) == 3


def small_files(checkpoint: pathlib.Path) -> list[str]:
  """What is in a checkpoint but for the numbers of its arrays."""
  return [
      str(path.relative_to(checkpoint))
      for path in sorted(checkpoint.rglob("*"))
      if path.is_file() and path.parent.name != "d"
  ]


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_to_any_small_file_is_survived(saved, tmp_path, kind):
  like = start()[1]
  for name in small_files(saved[0] / "3"):
    folder = tmp_path / name.replace("/", "-")
    shutil.copytree(saved[0], folder)
    KINDS[kind](folder / "3" / name)
    notes = []
    how = {"keep": 3, "best": "score", "note": notes.append}
    checkpoints = Checkpoints(folder, CONFIG, **how)
    state = checkpoints.restore(like)
    step = int(state.step)
    assert step == 3 or step == 2 and "3 is damaged" in notes[0], name
    assert len(notes) == 3 - step
    checkpoints.save(state._replace(step=jnp.asarray(4)))
    checkpoints.measured(4, {"score": 4.0})
    checkpoints.close()
    assert int(Checkpoints(folder, CONFIG, **how).restore(like).step) == 4
    checkpoints = Checkpoints(folder, best="score", read_only=True)
    assert checkpoints.restore_model(like.model, "best")[1] == 4


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_metrics_are_named_where_nothing_may_be_moved(folder, kind):
  file = folder / "3" / "metrics" / "metrics"
  KINDS[kind](file)
  try:
    checkpoints = Checkpoints(folder, best="score", read_only=True)
  except UserError as error:
    assert str(file) in str(error)
  else:  # It is as if the checkpoint had not been evaluated.
    assert kind in ("missing", "an empty object")
    assert checkpoints.restore_model(start()[1].model, "best")[1] == 2


def test_a_checkpoint_that_is_damaged_twice_is_moved_aside_twice(folder):
  for _ in range(2):
    cut_off(folder, 3)
    checkpoints = Checkpoints(folder, keep=3, note=lambda line: None)
    state = checkpoints.restore(start()[1])
    checkpoints.save(state._replace(step=jnp.asarray(3)))
    checkpoints.close()
  names = {path.name for path in folder.iterdir()}
  assert {"3", "damaged-3", "damaged-3-2"} <= names


def test_damage_to_the_optimizer_is_found_too(folder):
  cut_off(folder, 3, "rest")
  state = Checkpoints(folder, note=lambda line: None).restore(start()[1])
  assert int(state.step) == 2


def test_with_all_damaged_nothing_is_moved_and_the_reasons_are_given(folder):
  for step in (1, 2, 3):
    cut_off(folder, step)
  with pytest.raises(UserError, match="3: .*2: .*1: "):
    Checkpoints(folder).restore(start()[1])
  names = {path.name for path in (folder).iterdir()}
  assert {"1", "2", "3"} <= names


def test_another_models_checkpoint_is_not_taken_for_damaged(folder):
  with pytest.raises(UserError, match=r"linear/w is \(300, 7\) there"):
    Checkpoints(folder).restore(start(width=5)[1])
  assert (folder / "3").is_dir()


@pytest.mark.parametrize(
    ("scores", "largest", "expected"),
    [
        ((1.0, 5.0, 2.0, 3.0, 4.0), True, {"2", "4", "5"}),
        ((1.0, 5.0, 2.0, 3.0, 4.0), False, {"1", "4", "5"}),
        ((1.0, 5.0, 2.0, 3.0, 6.0), True, {"4", "5"}),
        ((1.0, 5.0, np.nan, np.nan, np.nan), True, {"2", "4", "5"}),
        ((1.0, None, None, None, None), True, {"1", "4", "5"}),
    ],
)
def test_the_newest_and_the_best_stay(tmp_path, scores, largest, expected):
  state, like = start()
  best = {"best": "score", "best_is_largest": largest}
  checkpoints = Checkpoints(tmp_path, keep=2, **best)
  for step, score in enumerate(scores, start=1):
    checkpoints.save(state._replace(step=jnp.asarray(step)))
    assert checkpoints.metrics(step) is None
    if score is not None:
      checkpoints.measured(step, {"score": score})
  checkpoints.close()
  assert {path.name for path in tmp_path.iterdir()} == expected
  checkpoints = Checkpoints(tmp_path, **best, read_only=True)
  _, step = checkpoints.restore_model(like.model, "best")
  assert scores[step - 1] == (max if largest else min)(
      score for score in scores if score == score and score is not None
  )
  assert checkpoints.metrics(step) == {"score": scores[step - 1]}


def test_values_that_are_restored_are_those_of_any_dtype(tmp_path):
  state, like = start()
  rng = np.random.default_rng(0)
  more = {
      "half": jnp.asarray(rng.normal(size=11), jnp.bfloat16),
      "flag": jnp.asarray([True, False]),
      "count": jnp.arange(5, dtype=jnp.int8),
  }
  model = state.model._replace(net_state={"m": more})
  state = state._replace(model=model)
  like = sharding.with_shardings(state, sharding.make_mesh())
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(state)
  checkpoints.close()
  restored = Checkpoints(tmp_path).restore(like)
  chex.assert_trees_all_equal(restored, state)
