"""Autoencoding of clips as a task: its data, its loss, its metrics."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate
from experiments import kinetics
from experiments.data.clips import index
from experiments.data.clips import video
from experiments.data.pipeline import Shard
from experiments.engine import build
from experiments.engine.build import load
from experiments.engine.errors import UserError
from experiments.task import Movie

T, Y, X, S = 2, 3, 5, 7  # frames, pixels, samples a frame
LABELS = ("p", "q", "r", "s", "t", "u", "v")


def tiny(**changes):
  config = importlib.import_module("configs.kinetics").get_config("tiny")
  config.update_from_flattened_dict(changes)
  return config


def write_film(root, split, count, deleted=0):
  """Clips of a second, each of another class and brightness, with an index."""
  rows = ["label,youtube_id,time_start,time_end,split"]
  rng = np.random.default_rng(0)
  for i in range(count):
    frames = np.full([25, 16, 24, 3], 30 * i + 20, np.uint8)
    sound = rng.uniform(-0.1 * i, 0.1 * i, [600, 1]).astype(np.float32)
    path = root / "videos" / f"{split}{i}_000000_000001.mp4"
    path.parent.mkdir(exist_ok=True)
    video.write(path, frames, 25, np.repeat(sound, 14, 0), 8000)
    rows.append(f"{LABELS[i]},{split}{i},0,1,{split}")
  rows += [f"p,deleted{i},0,1,{split}" for i in range(deleted)]
  (root / f"{split}.csv").write_text("\n".join(rows) + "\n")
  index.prepare(
      index.kinetics_rows(root / f"{split}.csv"),
      {label: label for label in LABELS},
      root / "videos",
      root / "kinetics" / f"{split}.json",
      min_seconds=0.5,
      processes=1,
  )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("kinetics")
  write_film(root, "train", 5)
  write_film(root, "validate", 4)
  return str(root)


def noise(*shape, seed=0):
  return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def whole_batch(batch_size=3):
  return {
      "video": noise(batch_size, T, Y, X, 3),
      "audio": noise(batch_size, T * S * 2, 1, seed=1) - 0.5,
      "label": np.arange(batch_size, dtype=np.int32),
      "skipped": np.zeros(batch_size, np.int32),
  }


def loss(outputs, batch):
  weights = {"video": 0.03, "audio": 1.0, "label": 1e-4}
  return kinetics.loss(*jax.tree.map(jnp.asarray, (outputs, batch)), weights)


def measured(outputs, batch):
  found = kinetics.measure(*jax.tree.map(jnp.asarray, (outputs, batch)))
  return jax.tree.map(np.asarray, found)


def test_a_loss_of_all_points_is_that_of_everything():
  batch = whole_batch()
  outputs = {
      "video": noise(3, T, Y, X, 3, seed=2),
      "audio": noise(3, T * S * 2, 1, seed=3),
      "label": noise(3, 11, seed=4),
  }
  points = {
      "video_points": np.random.default_rng(5).permuted(
          np.tile(np.arange(T * Y * X), [3, 1]), axis=1
      ),
      "audio_points": np.random.default_rng(6).permuted(
          np.tile(np.arange(T * 2), [3, 1]), axis=1
      ),
  }
  flat = {
      "video": outputs["video"].reshape(3, -1, 3),
      "audio": outputs["audio"].reshape(3, -1, S),
  }
  some = {
      name: np.take_along_axis(x, points[f"{name}_points"][..., None], 1)
      for name, x in flat.items()
  }
  everything, parts = loss(outputs, batch)
  drawn, _ = loss({**outputs, **some}, {**batch, **points})
  np.testing.assert_allclose(drawn, everything, rtol=1e-5)
  error = np.abs(outputs["video"] - batch["video"]).mean()
  np.testing.assert_allclose(parts["video"], error, rtol=1e-5)


@pytest.mark.parametrize(
    "modalities", [("audio",), ("audio", "video", "label")]
)
def test_what_is_decoded_has_room_for_every_sample_of_a_patch(modalities):
  config = importlib.import_module("configs.kinetics").get_config("mini_32")
  config.modalities = modalities
  config.init.zeros = ""  # Their width is tested, and not how they start.
  network = build.build_network(config)
  assert list(kinetics.too_narrow(network.config)) == []
  model = jax.jit(network.init)()
  # Of what starts small, little would be seen above rounding.
  params = jax.tree.map(
      lambda x: x + 0.3 * np.random.default_rng(x.size).normal(size=x.shape),
      model.params,
  )
  batch = {
      "video": noise(60, *config.video, 3),
      "audio": noise(60, 8 * 80, 1, seed=1) - 0.5,
      "label": np.zeros(60, np.int32),
      "audio_points": np.tile(np.arange(8), (60, 1)),
      "video_points": np.tile(np.arange(3), (60, 1)),
  }
  run = jax.jit(network.net.apply, static_argnums=4)
  outputs, _ = run(params, model.net_state, jax.random.key(0), batch, False)
  sound = np.asarray(outputs["audio"], np.float64).reshape(-1, 80)
  sizes = np.linalg.svd(sound - sound.mean(0), compute_uv=False)
  assert (sizes > 1e-4 * sizes[0]).sum() == 80


def test_sound_that_is_told_by_too_little_is_noted():
  config = importlib.import_module("configs.kinetics").get_config("mini_32")
  config.model.query_channels, config.model.decoder.v_channels = 60, 79
  (note,) = kinetics.too_narrow(config)
  assert note == (
      "sound: 80 samples a patch are read off fewer numbers:"
      " model.query_channels is 60, model.decoder.v_channels is 79"
  )
  config.modalities = ("video", "label")
  assert not list(kinetics.too_narrow(config))


def test_queries_that_are_wider_than_they_may_be_are_refused():
  with pytest.raises(UserError, match="'label' needs 24 channels.* has 20"):
    build.build_network(tiny(**{"model.query_channels": 20}))


def test_the_loss_weighs_its_parts():
  batch = whole_batch()
  outputs = {"video": batch["video"] + 0.5, "audio": batch["audio"] - 0.25}
  outputs["label"] = 1e3 * jax.nn.one_hot(batch["label"], 11)
  value, parts = loss(outputs, batch)
  np.testing.assert_allclose(value, 0.03 * 0.5 + 0.25, rtol=1e-5)
  del outputs["label"], outputs["audio"]
  value, parts = loss(outputs, batch)
  np.testing.assert_allclose(value, 0.03 * 0.5, rtol=1e-5)
  assert set(parts) == {"video", "skipped_clips"}


def test_a_tenth_of_the_peak_is_twenty_decibels():
  batch = whole_batch()
  outputs = {
      "video": batch["video"]
      + np.float32([0.1, 0.01, 0])[:, None, None, None, None],
      "audio": batch["audio"] + np.float32(0.1),
      "label": jax.nn.one_hot([0, 2, 2], 11),
  }
  found = measured(outputs, batch)
  errors = [1e-2, 1e-4, 0]
  np.testing.assert_allclose(found["video_error"], errors, rtol=1e-3)
  assert kinetics.summarize(found) == {
      "audio_psnr": pytest.approx(20, rel=1e-3),
      "audio_psnr_silence": pytest.approx(
          -10 * np.log10((batch["audio"] ** 2).mean()), rel=1e-3
      ),
      "video_psnr": pytest.approx(-10 * np.log10(0.0101 / 3), rel=1e-3),
      "video_psnr_mean_color": pytest.approx(10.8, abs=0.5),
      "video_psnr_mean_frame": pytest.approx(13.8, abs=0.5),
      "top1": pytest.approx(200 / 3),
  }


def test_guesses_are_silence_and_means_of_the_clip_itself():
  batch = whole_batch(2)
  batch["audio"] = np.float32([0.1, 1.0])[:, None, None] + 0 * batch["audio"]
  batch["video"] = 0 * batch["video"]
  batch["video"][0, 1] = 0.2  # Its frames differ by that.
  batch["video"][1, :, 1:] = 0.3  # Its rows do, and its frames do not.
  outputs = {name: jnp.zeros_like(batch[name]) for name in ("audio", "video")}
  found = measured(outputs, batch)
  np.testing.assert_allclose(found["audio_silence_error"], [0.01, 1], rtol=1e-3)
  np.testing.assert_allclose(
      found["video_mean_frame_error"], [0.01, 0], atol=1e-6
  )
  assert found["video_mean_color_error"][0] == pytest.approx(0.01, rel=1e-3)
  assert 0.01 < found["video_mean_color_error"][1] < 0.03


@pytest.mark.parametrize("count", [640, 30_720])
def test_a_tone_is_a_line_of_its_spectrogram(count):
  tone = np.sin(2 * np.pi * 0.125 * np.arange(count))  # An eighth of the rate.
  shown = kinetics.spectrogram(tone)
  rows, columns = shown.shape
  # From above, three quarters of the way down to frequency zero.
  np.testing.assert_allclose(shown.argmax(0), 0.75 * (rows - 1), atol=1)
  assert shown.max() == pytest.approx(0, abs=1.5)
  assert columns > 16


def test_training_clips_have_points_without_repetition(data_dir):
  task = load(tiny(data_dir=data_dir, num_points=13))
  batch = next(iter(task.train_data(Shard())))
  assert set(batch) == set(task.example)
  # There are no more than 12 patches of sound.
  for name, count, drawn in (
      ("video_points", 2 * 12 * 12, 13),
      ("audio_points", 12, 12),
  ):
    assert batch[name].shape == (4, drawn)
    assert batch[name].max() < count
    assert all(len(set(row)) == drawn for row in batch[name])
  assert batch["video"].min() >= 0 and batch["video"].max() <= 1


def test_evaluation_sees_each_clip_once_and_tells_the_coverage(data_dir):
  config = tiny(data_dir=data_dir)
  built = build.build(config)
  model = built.initial_state().model
  metrics, drawn = evaluate.Evaluate(built.task.evals, built.net, built.layout)(
      model
  )
  assert metrics["test/coverage"] == 1.0
  assert metrics["test/video_psnr_mean_frame"] > 45
  assert set(drawn) == {
      "test-confusion",
      "test-video",
      "test-sound",
      "test-clip-0",
      "test-clip-1",
  }
  movie = drawn["test-clip-0"]
  assert isinstance(movie, Movie)
  assert movie.frames.shape == (2, 12, 24, 3)
  assert movie.audio is not None and movie.audio.shape == (48, 1)


def test_an_evaluation_that_must_be_whole_is_not_begun_without_a_clip(tmp_path):
  write_film(tmp_path, "train", 2)
  write_film(tmp_path, "validate", 2, deleted=1)
  config = tiny(data_dir=str(tmp_path))
  with pytest.raises(ValueError, match="66.7%.*1 missing"):
    load(config).evals["test"].data(Shard())
  config.skip_missing = True
  task = load(config)
  assert len(list(task.evals["test"].data(Shard()))) == 1
  summary = task.evals["test"].summarize({"top1": np.array([100.0, 0.0])})
  assert summary == {"top1": 50.0, "coverage": pytest.approx(2 / 3)}
  assert any("1 missing" in note for note in task.notes())


@pytest.mark.parametrize(
    "left", [("video",), ("audio", "label"), ("video", "audio")]
)
def test_any_modality_can_be_left_out(left, data_dir):
  config = tiny(data_dir=data_dir, modalities=left)
  built = build.build(config)
  batch = next(iter(built.task.train_data(Shard())))

  def run(params, net_state):
    outputs, _ = built.net.apply(
        params, net_state, jax.random.key(0), batch, True
    )
    return outputs, built.task.loss(outputs, batch)[0]

  batch = jax.tree.map(jnp.asarray, batch)
  outputs, value = jax.eval_shape(run, *built.network.like)
  assert set(outputs) == set(left)
  assert value.shape == ()


def test_only_the_small_models_start_with_silence_and_black():
  mini = importlib.import_module("configs.kinetics").get_config("mini_32")
  for zeros in (mini.init.zeros, ""):
    network = build.build_network(tiny(**{"init.zeros": zeros}))
    batch = {
        name: jnp.ones((1, *x.shape), x.dtype)
        for name, x in network.example.items()
    }
    run = jax.jit(network.net.apply, static_argnums=4)
    outputs, _ = run(*network.init(), None, batch, False)
    assert (zeros != "") == (not outputs["audio"].any())
    assert (zeros != "") == (not outputs["video"].any())
    assert outputs["label"].any()


@pytest.mark.parametrize("wrong", [("label",), ("video", "smell"), ()])
def test_the_label_alone_and_unknown_modalities_are_refused(wrong, data_dir):
  with pytest.raises(UserError, match="neither audio nor video"):
    load(tiny(data_dir=data_dir, modalities=wrong))


def test_frames_that_are_not_square_are_refused(data_dir):
  with pytest.raises(UserError, match="frames must be square"):
    load(tiny(data_dir=data_dir, video=(2, 12, 20)))


def test_the_name_of_clips_is_all_that_a_small_model_needs(tmp_path):
  write_film(tmp_path, "train", 5)
  write_film(tmp_path, "validate", 4)
  (tmp_path / "kinetics").rename(tmp_path / "mine")
  config = importlib.import_module("configs.kinetics").get_config("mini_32")
  config.update_from_flattened_dict(
      {"data_dir": str(tmp_path), "train.name": "mine"}
  )
  config, notes = build.fitted(config)
  assert config.num_classes == len(LABELS) == len(config.class_names)
  assert config.sets.test.name == config.sets.training_set.name == "mine"
  assert "mine: 7 classes: p, q, r, s, t, u, v" in notes
  (batch,) = load(config).evals["test"].data(Shard())
  assert batch["real"].sum() == 4
