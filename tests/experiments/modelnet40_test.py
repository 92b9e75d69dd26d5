"""Point clouds as a task: what is made of them, and that it trains."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate
from experiments import modelnet40
from experiments.data import pipeline
from experiments.data.builders import shapes as shapes_builder
from experiments.data.errors import DataError
from experiments.data.pipeline import Shard
from experiments.data.points import meshes
from experiments.engine import build
from experiments.engine.build import load
from experiments.engine.errors import UserError
from scripts import prepare_data


def tiny(**changes):
  config = importlib.import_module("configs.modelnet40").get_config("tiny")
  config.attention = "plain"  # Compiles faster.
  config.update_from_flattened_dict(changes)
  return config


def cloud(num_points=2048, seed=0):
  rng = np.random.default_rng(seed)
  points = np.float32(rng.normal(size=[num_points, 3]) * [1, 3, 7])
  return {"points": points, "label": 5}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Two shapes of each kind to learn from, one to be tested with."""
  folder = tmp_path_factory.mktemp("data")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(shapes_builder, "EACH", {"train": 2, "test": 1})
    prepare_data.main(["shapes", f"--data_dir={folder}"])
  return str(folder)


def test_points_are_scaled_one_by_one_by_a_hundredth():
  example, rng = cloud(), np.random.default_rng(0)
  points = modelnet40.points_scaled(example, rng)["points"]
  factor = points / example["points"]
  # All coordinates of a point by the same: it moves along its direction.
  np.testing.assert_allclose(factor[:, 1:], factor[:, :1] * [1, 1], rtol=1e-5)
  assert factor.min() == pytest.approx(0.99, abs=1e-4)
  assert factor.max() == pytest.approx(1.01, abs=1e-4)
  assert factor[:, 0].mean() == pytest.approx(1, abs=5e-4)
  assert points.dtype == np.float32


def test_normalized_points_fill_the_cube_about_their_mean():
  example = cloud()
  example["points"] += np.float32([100, -30, 0])
  points = modelnet40.normalized(example)["points"]
  np.testing.assert_allclose(points.mean(0), 0, atol=1e-5)
  assert np.abs(points).max() == 1
  # One scale for all axes: an object keeps its proportions.
  ratio = np.ptp(points, axis=0) / np.ptp(example["points"], axis=0)
  np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_some_points_are_others_each_time_and_none_is_there_twice():
  example, rng = cloud(29), np.random.default_rng(0)
  first, again = (modelnet40.some_points(example, rng, 13) for _ in range(2))
  rows = [set(map(tuple, x["points"])) for x in (first, again)]
  assert len(rows[0]) == len(rows[1]) == 13 and rows[0] != rows[1]
  assert rows[0] | rows[1] <= set(map(tuple, example["points"]))
  assert first["label"] == 5 and first["label"].dtype == np.int32


def test_training_jitters_and_evaluation_does_not(data_dir):
  task = load(tiny(data_dir=data_dir, num_points=2048, batch_size=24))
  train = next(iter(task.train_data(Shard())))
  (test,) = list(task.evals["test"].data(Shard()))[:1]
  for batch in (train, test):
    np.testing.assert_allclose(batch["points"].mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(np.abs(batch["points"]).max((1, 2)), 1)
  stored = pipeline.source("shapes", "test", data_dir)
  for i, points in enumerate(test["points"][test["real"]]):
    expected = modelnet40.normalized(stored[i])["points"]
    np.testing.assert_allclose(
        np.sort(points, axis=0), np.sort(expected, axis=0), atol=1e-6
    )
  stored = pipeline.source("shapes", "train", data_dir)
  sizes = {
      np.float32(np.linalg.norm(modelnet40.normalized(x)["points"]))
      for x in map(stored.__getitem__, range(len(stored)))
  }
  for points in train["points"]:  # Each is near to one of them, and is none.
    nearest = min(sizes, key=lambda s: abs(s - np.linalg.norm(points)))
    assert 0 < abs(np.linalg.norm(points) / nearest - 1) < 0.02


def test_the_order_of_points_does_not_matter():
  built = build.build_network(tiny())
  rng = np.random.default_rng(0)
  model = jax.tree.map(
      lambda x: np.float32(0.3 * rng.normal(size=x.shape)), built.like
  )
  points = jnp.asarray(rng.uniform(-1, 1, [2, 17, 3]), jnp.float32)
  predict = jax.jit(
      lambda points: built.net.apply(*model, None, {"points": points}, False)[
          0
      ]["logits"]
  )
  logits = predict(points)
  assert logits.shape == (2, 12) and logits.std() > 1e-3
  np.testing.assert_allclose(predict(points[:, ::-1]), logits, atol=1e-5)
  assert np.abs(predict(points.at[0, 0].add(0.1)) - logits)[0].max() > 1e-5


def test_every_step_is_finite_and_the_score_starts_at_chance(data_dir):
  built = build.build(tiny(data_dir=data_dir))
  state, data = built.initial_state(), iter(built.task.train_data(Shard()))
  run = evaluate.Evaluate(built.task.evals, built.net, built.layout)
  metrics, pictures = run(state.model)
  # Its head starts at zero: all classes are as likely.
  assert metrics["test/loss"] == pytest.approx(np.log(12), abs=1e-4)
  assert metrics["test/top1"] == pytest.approx(100 / 12)
  picture = pictures["test-predictions"]
  assert picture.dtype == np.uint8 and picture.std() > 1
  step = built.train_step()
  for _ in range(4):
    state, scalars = step(state, next(data))
    assert np.isfinite(float(scalars["loss"]))


def test_the_papers_model_has_two_reads_and_twelve_layers():
  config = importlib.import_module("configs.modelnet40").get_config()
  parts = build.build_network(config).flops_by_part()
  n, d = 512, 1024
  # Queries, keys, values, their mix, and an MLP of two layers; the two products
  # of attention; a multiply-accumulate is two.
  layer = 2 * (6 * n * d * d + 2 * n * n * d)
  assert parts["process"] == pytest.approx(2 * 6 * layer, rel=0.01)


def test_a_wrong_data_set_is_named():
  with pytest.raises(UserError, match="'shape' is not one of"):
    load(tiny(dataset="shape"))
  with pytest.raises(FileNotFoundError, match="prepare_data shapes"):
    load(tiny(data_dir="nowhere")).train_data(Shard())


def cube(size):
  corners = np.array(list(np.ndindex(2, 2, 2)), float) * size
  faces = np.array([[0, 1, 3], [0, 1, 5], [2, 3, 7], [0, 2, 6], [4, 5, 7]])
  return meshes.write_off(corners, faces)


def own_objects(root, count=5):
  """Folders of two classes: meshes, and points in arrays."""
  for kind in ("a cube", "wolke"):
    (root / kind).mkdir(parents=True)
  for i in range(count):
    (root / "a cube" / f"{i}.off").write_bytes(cube(1.0 + i))
    points = np.random.default_rng(i).normal(size=[23, 3])
    np.save(root / "wolke" / f"{i}.npy", points)
  (root / "wolke" / "readme.txt").write_text("not read")
  return root


def test_ones_own_objects_are_read_from_folders_of_classes(tmp_path):
  folder = own_objects(tmp_path / "mine")
  config, notes = build.fitted(tiny(folder=str(folder)))
  assert tuple(config.class_names) == ("a cube", "wolke")
  assert "9 objects to train on, 1 are evaluated" in " ".join(notes)
  task = load(config)
  batch = next(iter(task.train_data(Shard())))
  assert batch["points"].shape == (4, 17, 3) and set(batch["label"]) <= {0, 1}
  (held_out,) = task.evals["test"].data(Shard())
  assert held_out["real"].sum() == 1
  shapes = jax.tree.leaves(build.build_network(config).like.params)
  assert (16, 2) in [x.shape for x in shapes]  # The head.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.off", b"OOF", "x.off: it does not begin with OFF"),
        ("x.npy", b"nothing", "x.npy: "),
        ("x.npy", np.zeros([31, 3]), "that are not all the same"),
        ("x.npy", np.full([31, 3], np.nan), "expected points within"),
        ("x.npy", np.eye(3), "3 points, the model reads 17"),
        ("x.npy", np.ones([31, 2]), r"\[points, 3\], not \[31, 2\]"),
    ],
)
def test_objects_that_are_none_are_named(tmp_path, name, content, message):
  for kind in ("p", "q"):
    (tmp_path / kind).mkdir()
    for i in range(3):
      path = tmp_path / kind / f"{i}{name}"
      if isinstance(content, bytes):
        path.write_bytes(content)
      else:
        np.save(path, content)
  task = load(build.fitted(tiny(folder=str(tmp_path)))[0])
  with pytest.raises(DataError, match=message):
    next(iter(task.train_data(Shard())))


def test_a_folder_of_one_class_is_refused(tmp_path):
  (tmp_path / "p").mkdir()
  (tmp_path / "p" / "0.off").write_bytes(cube(1.0))
  with pytest.raises(UserError, match="has 1 folders of classes: two or more"):
    build.fitted(tiny(folder=str(tmp_path)))
