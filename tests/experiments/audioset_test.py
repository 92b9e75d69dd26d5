"""Sounds in clips as a task: its data, its scores, and that it trains."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import audioset
from experiments import evaluate
from experiments import inference
from experiments.data.clips import index
from experiments.data.clips import sound
from experiments.data.clips import video
from experiments.data.pipeline import Shard
from experiments.engine import weights
from experiments.engine.build import build
from experiments.engine.build import build_network
from experiments.engine.build import fitted
from experiments.engine.build import load
from experiments.engine.build import load_network
from experiments.engine.errors import UserError
from experiments.train import check_batch

CLASSES = [f"/m/{i}" for i in range(11)]
WINDOWS = 3


def tiny(variant="tiny", **changes):
  config = importlib.import_module("configs.audioset").get_config(variant)
  config.attention = "plain"  # Compiles faster.
  config.update_from_flattened_dict(changes)
  return config


def write_list(root, split, labels, missing=0):
  """Clips of a second, ever brighter, that hum; and their index."""
  rows = ["# YTID, start_seconds, end_seconds, positive_labels"]
  time = np.arange(8000) / 8000
  for i, numbers in enumerate(labels):
    levels = np.linspace(20 * i, 20 * i + 100, 25).astype(np.uint8)
    frames = np.tile(levels[:, None, None, None], [1, 32, 48, 3])
    hum = np.float32(0.3 * np.sin(2 * np.pi * (200 + 50 * i) * time))[:, None]
    path = root / "clips" / f"{split}{i}_30.mp4"
    path.parent.mkdir(exist_ok=True)
    video.write(path, frames, 25, hum, 8000)
    mids = ",".join(CLASSES[number] for number in numbers)
    rows.append(f'{split}{i}, 30.000, 31.000, "{mids}"')
  rows += [f'no{i}, 30.000, 31.000, "/m/0"' for i in range(missing)]
  (root / f"{split}.csv").write_text("\n".join(rows) + "\n")
  index.prepare(
      index.audioset_rows(root / f"{split}.csv"),
      {name: name for name in CLASSES},
      root / "clips",
      root / "audioset" / f"{split}.json",
      min_seconds=0.32,
      processes=1,
  )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("audioset")
  write_list(root, "unbalanced_train_segments", [[0], [1, 7], [3], [2], [10]])
  write_list(root, "eval_segments", [[5], [1, 7]])
  return str(root)


def batches_of(config, name="test"):
  return list(load(config).evals[name].data(Shard()))


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("tiny", ("audio", "video")),
        ("tiny", ("video",)),
        ("tiny", ("audio",)),
        ("tiny_mel", ("video", "audio")),
        ("tiny_mel", ("audio",)),
    ],
)
def test_a_batch_of_training_is_what_the_model_reads(data_dir, variant, names):
  config = tiny(variant, data_dir=data_dir, modalities=names)
  task = load(config)
  batch = next(iter(task.train_data(Shard())))
  check_batch(batch, task.example)
  assert set(batch) == {*names, "labels", "skipped"}
  for name in names:
    assert -1 <= batch[name].min() < batch[name].max() <= 1
  assert sorted(set(batch["labels"].sum(axis=1))) in ([1], [1, 2])


def test_windows_of_a_clip_follow_each_other_from_its_start_to_its_end(
    data_dir,
):
  batches = batches_of(tiny(data_dir=data_dir))
  real = np.concatenate([batch["real"] for batch in batches])
  assert real.sum() == 2 * WINDOWS and len(real) == 10
  labels = np.concatenate([batch["labels"] for batch in batches])[real]
  expected = np.repeat([[5, 5], [1, 7]], WINDOWS, axis=0)
  for row, numbers in zip(labels, expected, strict=True):
    assert set(np.flatnonzero(row)) == set(numbers)
  clip = np.concatenate([batch["video"] for batch in batches])[real]
  levels = 127.5 * (clip.mean(axis=(2, 3, 4)) + 1)  # [windows, frames]
  # A second, of which 0.32 are seen; it gets brighter by 100.
  for i in range(2):
    of_clip = levels[i * WINDOWS : (i + 1) * WINDOWS]
    np.testing.assert_allclose(of_clip[0, 0], 20 * i, atol=3)
    step = 100 / 24 * 2  # Every other of 25 frames.
    np.testing.assert_allclose(np.diff(of_clip, axis=1), step, atol=3)
    starts = of_clip[:, 0] - 20 * i
    np.testing.assert_allclose(starts, [0, 34, 68], atol=6)


def test_a_spectrogram_is_that_of_the_samples(data_dir):
  raw = batches_of(tiny(data_dir=data_dir))[0]["audio"][0]
  config = tiny("tiny_mel", data_dir=data_dir)
  mel = batches_of(config)[0]["audio"][0]
  expected = sound.log_mel(raw, rate=2800, **config.spectrogram)
  np.testing.assert_allclose(mel[:, 0], expected.reshape(-1), atol=1e-5)
  assert np.ptp(mel) > 0.5


def test_in_training_video_is_dropped_and_bands_are_masked(data_dir):
  config = tiny("tiny_mel", data_dir=data_dir, video_dropout=0.5, batch_size=24)
  batch = next(iter(load(config).train_data(Shard())))
  dropped = (batch["video"] == 0).all(axis=(1, 2, 3, 4))
  assert 5 <= dropped.sum() <= 19
  (test,) = {bool((b["video"] == 0).all()) for b in batches_of(config)}
  assert not test
  mels = batch["audio"].reshape(24, 14, 5)
  hidden = (mels == mels[:, :1]).all(axis=1)  # Bands that are constant.
  assert 4 <= hidden.any(axis=1).sum() < 24


def test_what_is_seen_alone_is_never_dropped(data_dir):
  config = tiny(data_dir=data_dir, video_dropout=1.0, modalities=("video",))
  batch = next(iter(load(config).train_data(Shard())))
  assert (np.abs(batch["video"]).max(axis=(1, 2, 3, 4)) > 0).all()


# Three clips and two classes. Of the first class are clips 0 and 2, and they
# come first and third: (1/1 + 2/3) / 2. Of the second class is clip 1, and it
# comes second: 1/2. If the classes of a clip were ranked, and not the clips of
# a class, it would be (1/1 + 1/1 + 1/2) / 3.
SCORES = np.array([[0.9, 0.1], [0.5, 0.6], [0.3, 0.7]])
LABELS = np.array([[1, 0], [0, 1], [1, 0]])
PRECISION = ((1 + 2 / 3) / 2 + 1 / 2) / 2


def test_average_precision_is_over_clips_for_each_class():
  value, missing = audioset.mean_average_precision(SCORES, LABELS)
  assert value == pytest.approx(PRECISION) and missing == 0
  transposed, _ = audioset.mean_average_precision(SCORES.T, LABELS.T)
  assert transposed == pytest.approx((1 + 1 + 1 / 2) / 3)
  assert abs(value - transposed) > 0.1


def test_classes_that_no_clip_has_are_left_out_and_counted():
  scores = np.column_stack([SCORES, [0.9, 0.8, 0.1], [0.2, 0.2, 0.2]])
  labels = np.column_stack([LABELS, np.zeros([3, 2], int)])
  value, missing = audioset.mean_average_precision(scores, labels)
  assert value == pytest.approx(PRECISION) and missing == 2
  value, missing = audioset.mean_average_precision(scores, 0 * labels)
  assert math.isnan(value) and missing == 4


def test_scores_of_a_clips_windows_are_averaged():
  # Each clip's mean is that of SCORES, and no window's order is.
  windows = SCORES[:, None] + np.array([-0.29, 0.0, 0.29])[None, :, None]
  windows[1, :, 0] = [0.0, 0.5, 1.0]
  measured = {
      "scores": windows.reshape(9, 2).astype(np.float32),
      "labels": np.repeat(LABELS, 3, axis=0).astype(bool),
      "loss": np.arange(9.0),
  }
  summary = audioset.summarize(measured, windows=3)
  assert summary == {
      "map": pytest.approx(100 * PRECISION),
      "classes_without_positives": 0,
      "clips": 3,
      "loss": 4,
  }
  with pytest.raises(ValueError, match="9 rows are not 2 windows"):
    audioset.summarize(measured, windows=2)


def test_the_loss_asks_for_each_class():
  logits = jnp.array([[0.0, 3.0, -2.0], [5.0, 1.0, 1.0]])
  batch = {
      "labels": jnp.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
      "skipped": jnp.array([2, 1]),
  }
  value, told = audioset.loss({"logits": logits}, batch)
  first = np.log(2) + np.log1p(np.exp(3.0)) + np.log1p(np.exp(2.0))
  second = np.log1p(np.exp(-5.0)) + 2 * np.log1p(np.exp(1.0))
  np.testing.assert_allclose(value, (first + second) / 2, rtol=1e-6)
  assert told == {"skipped_clips": 3, "top1": 50}


def test_it_trains_and_is_evaluated(data_dir):
  built = build(tiny("tiny_mel", data_dir=data_dir))
  state, data = built.initial_state(), iter(built.task.train_data(Shard()))
  step = built.train_step()
  for _ in range(2):
    state, scalars = step(state, next(data))
    assert np.isfinite(float(scalars["loss"])) and scalars["skipped_clips"] == 0
  run = evaluate.Evaluate(built.task.evals, built.net, built.layout)
  metrics, pictures = run(state.model)
  assert 0 < metrics["test/map"] <= 100
  assert metrics["test/classes_without_positives"] == 11 - 3
  assert metrics["test/clips"] == 2 and metrics["test/coverage"] == 1
  assert pictures["test-predictions"].shape == (1000, 1000, 3)


def test_names_of_classes_stay_with_the_model(data_dir, tmp_path):
  config, _ = fitted(tiny("tiny_mel", data_dir=data_dir))
  assert config.class_names == tuple(CLASSES)
  read = weights.random(config)
  weights.save(tmp_path / "model.npz", read.config, read.model)
  model = inference.load(tmp_path / "model.npz")
  said = model.predict(f"{data_dir}/clips/eval_segments0_30.mp4")
  assert {name for name, _ in said} == set(CLASSES)
  assert fitted(tiny("tiny_mel", data_dir="/nowhere"))[0].class_names == ()


def test_a_clip_that_cannot_be_read_is_replaced_and_counted(tmp_path):
  name = "unbalanced_train_segments"
  write_list(tmp_path, name, [[0], [1], [2]])
  (tmp_path / "clips" / f"{name}1_30.mp4").write_bytes(b"damaged since")
  task = load(tiny(data_dir=str(tmp_path), batch_size=7))
  batch = next(iter(task.train_data(Shard())))
  assert batch["skipped"].sum() > 0 and not batch["labels"][:, 1].any()


def test_missing_clips_are_an_error_unless_that_is_asked_for(tmp_path):
  write_list(tmp_path, "eval_segments", [[0], [1], [2]], missing=1)
  config = tiny(data_dir=str(tmp_path))
  with pytest.raises(ValueError, match="only 75.0% can be read"):
    batches_of(config)
  config.skip_missing = True
  test = load(config).evals["test"]
  rows = 3 * WINDOWS
  measured = {
      "scores": np.zeros([rows, 11]),
      "labels": np.ones([rows, 11], bool),
      "loss": np.zeros(rows),
  }
  assert test.summarize(measured)["coverage"] == 0.75


def test_notes_say_what_clips_there_are(data_dir):
  notes = list(load(tiny(data_dir=data_dir)).notes())
  assert notes[0].startswith("training: 5 clips, 0 of them without sound")
  assert notes[1].startswith("test: 2 clips")


@pytest.mark.parametrize("variant", ["tiny", "tiny_mel"])
@pytest.mark.parametrize("name", ["audio", "video"])
def test_both_are_read_and_their_order_matters(variant, name):
  config = tiny(variant)
  network = build_network(config)
  rng = np.random.default_rng(0)
  model = jax.tree.map(
      lambda x: np.float32(0.3 * rng.normal(size=x.shape)), network.like
  )
  predict = jax.jit(
      lambda batch: network.net.apply(*model, None, batch, False)[0]["logits"]
  )
  batch = {
      "video": jnp.asarray(rng.uniform(-1, 1, [1, 4, 24, 24, 3]), jnp.float32),
      "audio": jnp.asarray(
          rng.uniform(-1, 1, [1, config.num_audio, 1]),
          jnp.float32,
      ),
  }
  reversed_ = {**batch, name: batch[name][:, ::-1]}
  difference = np.abs(predict(batch) - predict(reversed_)).max()
  assert difference > 1e-4


@pytest.mark.parametrize("names", [(), ("audio", "vidio"), ("label",)])
def test_modalities_that_are_none_are_refused(names):
  with pytest.raises(UserError, match="modalities"):
    load_network(tiny(modalities=names))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": (4, 24, 40)}, r"video \(4, 24, 40\): frames must be square"),
        ({"num_audio": 7 * 64}, "num_audio is 448, and the 896 samples"),
        ({"video": (6, 24, 24)}, "1344 samples of 6 frames make 1344 numbers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    load(tiny(**changes))


@pytest.mark.parametrize("variant", ["raw", "mel", "perceiver_raw", "video"])
def test_full_sizes_fit(variant):
  config = tiny(variant)
  audioset.check_sizes(config)
  assert math.prod(config.video[1:]) == 224**2


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("tiny", ("audio", "video")),
        ("tiny", ("video",)),
        ("tiny_mel", ("audio",)),
    ],
)
def test_pictures_show_what_is_heard_and_what_was_said(
    data_dir, variant, names
):
  config = tiny(variant, data_dir=data_dir, modalities=names)
  task = load(config)
  batch, _ = task.evals["test"].data(Shard())
  logits = 3 * batch["labels"]
  drawn = task.evals["test"].draw({"logits": logits}, batch)["predictions"]
  wrong = task.evals["test"].draw({"logits": -logits}, batch)["predictions"]
  assert drawn.shape == (1000, 1000, 3) and drawn.std() > 5
  # Answers are in the last quarter, and are other ones.
  assert (drawn != wrong)[:, 750:].any() and not (drawn != wrong)[:, :700].any()
  shown = task.draw(next(iter(task.train_data(Shard()))))["input"]
  assert shown.shape == (1000, 1000, 3) and shown.std() > 5
