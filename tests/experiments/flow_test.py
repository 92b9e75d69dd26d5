"""Optical flow as a task: its data, its loss, its metrics, its tiles."""

import importlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate
from experiments import flow
from experiments.data.flow import baselines
from experiments.data.flow import textures
from experiments.data.pipeline import Shard
from experiments.engine import build
from experiments.engine.build import load
from experiments.inference import tiles

Y, X = 5, 7


@pytest.fixture(autouse=True)
def photographs(tmp_path, monkeypatch):
  """Pictures of noise instead of photographs, which may not be there."""
  rng = np.random.default_rng(0)
  for i in range(5):
    picture = rng.integers(0, 256, [17, 19, 3], np.uint8)
    cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
  monkeypatch.setattr(textures, "skimage_folder", lambda: tmp_path)
  monkeypatch.setattr(
      textures, "_PHOTOGRAPHS", tuple(f"{i}.png" for i in range(5))
  )


def tiny(**changes):
  config = importlib.import_module("configs.flow").get_config("tiny")
  config.update_from_flattened_dict(changes)
  return config


def batch_of(known, error, length):
  """Pairs whose flow is wrong by something, in x, and has a length, in y."""
  known = np.asarray(known, bool)
  error, length = (
      np.float32(np.broadcast_to(a, known.shape)) for a in (error, length)
  )
  true = np.stack([np.zeros_like(length), length], -1)
  wrong = true + np.stack([error, np.zeros_like(error)], -1)
  batch = {"flow": true, "known": known}
  batch |= {name: np.zeros_like(true) for name in flow.baselines.BASELINES}
  return {"flow": jnp.asarray(wrong)}, jax.tree.map(jnp.asarray, batch)


def test_the_loss_is_the_mean_error_where_flow_is_known():
  known = np.ones([2, Y, X])
  known[1, 1:] = 0
  error = np.full([2, Y, X], 3.0)
  error[1, 0], error[1, 1:] = 5.0, 1e6
  value, _ = flow.loss(*batch_of(known, error, 0.0))
  assert float(value) == pytest.approx(4)


def test_the_gradient_is_finite_where_the_flow_is_right():
  outputs, batch = batch_of(np.ones([1, Y, X]), 0.0, 2.0)
  gradient = jax.grad(lambda outputs: flow.loss(outputs, batch)[0])(outputs)
  assert not gradient["flow"].any()


def test_outliers_are_beyond_three_pixels_and_a_twentieth():
  known = np.ones([1, 1, 4])
  error, length = [[[2.9, 3.1, 3.1, 3.1]]], [[[0, 0, 61, 63]]]
  found = flow.summarize(flow.measure(*batch_of(known, error, length)))
  assert found["fl_all"] == pytest.approx(50)
  assert found["epe"] == pytest.approx(3.05)
  assert found["epe_zero"] == pytest.approx(31)


def test_each_pair_counts_alike_and_those_without_flow_do_not():
  known = np.ones([3, Y, X])
  known[1, 1:], known[2] = 0, 0
  error = np.stack([np.full([Y, X], e) for e in (1.0, 4.0, 100.0)])
  found = flow.summarize(flow.measure(*batch_of(known, error, 0.0)))
  assert found["epe"] == pytest.approx(2.5)
  assert found["fl_all"] == pytest.approx(100 * X / (Y * X + X))
  assert found["without_flow"] == 1


def test_a_change_is_that_of_the_pair_before():
  outputs, batch = batch_of(np.ones([4, Y, X]), 0.0, 0.0)
  change = np.array([0, 2, 0, 4.0])[:, None, None, None]
  outputs = {"flow": outputs["flow"] + change}
  batch["disturbed"] = jnp.array([False, True] * 2)
  found = flow.summarize_change(flow.measure_change(outputs, batch))
  assert found["change"] == pytest.approx((4 + 16) / 2)
  assert found["change_zero"] == found["clean_epe"] == 0
  assert found["epe"] == pytest.approx(3 * 2**0.5)


def test_frames_larger_than_the_models_are_blended_from_tiles():
  built = build.build_network(tiny())
  model = jax.tree.map(
      lambda x: 0.3 * jax.random.normal(jax.random.key(x.size), x.shape),
      jax.jit(built.init)(),
  )
  frames = np.random.default_rng(0).integers(
      0, 256, [2, 2, 19, 31, 3], np.uint8
  )
  predict = jax.jit(
      lambda frames: built.net.apply(*model, None, {"frames": frames}, False)[
          0
      ]["flow"]
  )
  size = (14, 22)
  whole = tiles.blended(
      lambda y, x: predict(frames[:, :, y : y + 14, x : x + 22]),
      19,
      31,
      size,
      3,
      True,
  )
  assert whole.shape == (2, 19, 31, 2) and whole.std() > 1e-3
  np.testing.assert_allclose(predict(frames), whole, atol=1e-6)
  as_floats = np.float32(frames / 255.0 * 2 - 1)
  np.testing.assert_allclose(predict(as_floats), whole, atol=1e-6)


@pytest.mark.parametrize(
    "size", [(14, 22), (9, 22), (13, 31), (11, 15), (30, 9), (1, 1)]
)
def test_frames_smaller_than_the_models_have_their_edges_repeated(size):
  built = build.build_network(tiny())
  model = jax.tree.map(
      lambda x: 0.3 * jax.random.normal(jax.random.key(x.size), x.shape),
      jax.jit(built.init)(),
  )
  frames = np.random.default_rng(0).integers(0, 256, [1, 2, *size, 3], np.uint8)
  predict = lambda frames: built.net.apply(
      *model, None, {"frames": frames}, False
  )[0]["flow"]
  tall, wide = (max(n - own, 0) for n, own in zip((14, 22), size, strict=True))
  around = [(tall // 2, tall - tall // 2), (wide // 2, wide - wide // 2)]
  padded = np.pad(frames, [(0, 0)] * 2 + around + [(0, 0)], mode="edge")
  expected = predict(padded)[:, tall // 2 :, wide // 2 :][
      :, : size[0], : size[1]
  ]
  found = predict(frames)
  assert found.shape == (1, *size, 2) and np.abs(found).max() > 1e-3
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_training_starts_plain_and_every_step_is_finite():
  built = build.build(tiny())
  state, data = built.initial_state(), iter(built.task.train_data(Shard()))
  step = built.train_step()
  for _ in range(4):
    state, scalars = step(state, next(data))
    assert np.isfinite(float(scalars["loss"]))


def test_an_untrained_model_is_as_good_as_no_movement():
  built = build.build(tiny())
  run = evaluate.Evaluate(built.task.evals, built.net, built.layout)
  metrics, pictures = run(built.initial_state().model)
  assert set(built.task.evals) == {"scenes", "homographies", "patch", "noise"}
  for name in built.task.evals:
    assert metrics[f"{name}/epe"] == pytest.approx(metrics[f"{name}/epe_zero"])
    assert metrics[f"{name}/epe"] > 0.1
    height, width, _ = pictures[f"{name}-flow"].shape
    assert width > 1000 and height > 300
  assert metrics["patch/change"] == 0 < metrics["patch/change_dis"]


def test_the_pairs_of_a_batch_are_drawn_with_their_flow():
  task = load(tiny())
  drawn = task.draw(next(iter(task.train_data(Shard()))))["input"]
  assert drawn.dtype == np.uint8 and drawn.std() > 5


def test_pairs_stay_beside_themselves_with_noise_in_batches_of_any_size():
  for batch_size, parts in ((1, 3), (3, 1), (3, 5)):
    task = load(tiny(eval_batch_size=batch_size))
    for batch in task.evals["noise"].data(Shard(parts=parts)):
      assert batch["real"].sum() in (2, 4)
      assert len(batch["real"]) % parts == 0
      np.testing.assert_array_equal(batch["flow"][::2], batch["flow"][1::2])
      real = batch["disturbed"][batch["real"]]
      assert real.tolist() == [False, True] * (len(real) // 2)


def test_a_data_set_that_is_not_there_is_named():
  config = tiny(train="autoflow", data_dir="nowhere")
  with pytest.raises(FileNotFoundError, match="no pairs of 'autoflow' in"):
    load(config).train_data(Shard())


def test_pairs_of_a_film_are_drawn_as_a_movie():
  film = np.random.default_rng(0).integers(0, 256, [4, Y, X, 3], np.uint8)
  frames = np.stack([film[:-1], film[1:]], axis=1)
  still = np.zeros([3, Y, X, 2], np.float32)
  batch = {"frames": frames, "flow": still, "known": np.ones([3, Y, X], bool)}
  batch |= {name: still for name in baselines.BASELINES}
  batch["real"] = np.array([True, True, True])
  drawn = flow.draw({"flow": still}, batch)
  np.testing.assert_array_equal(drawn["sequence"].frames[:, :, :X], film[:3])
  # The third does not follow any more, and is of the same film no longer.
  batch["frames"] = frames[[0, 1, 0]]
  assert len(flow.draw({"flow": still}, batch)["sequence"].frames) == 2
  batch["frames"] = frames[[1, 0, 2]]
  assert "sequence" not in flow.draw({"flow": still}, batch)
