"""Weights for inputs of another size than they were trained with."""

import cv2
import numpy as np
import pytest

from experiments import evaluate
from experiments import train
from experiments.engine import build
from experiments.engine import initialisation
from experiments.engine import positions
from experiments.engine import settings
from experiments.engine import state
from experiments.engine import weights
from perceiver.weights import tensors

LEARNED = {
    "model.input": {"name": "learned_positions", "channels": 5},
    "image_size": (6, 6),
}


def random(name, changes):
  """A config, and arrays of its model that are no model's start."""
  network = build.build_network(settings.load(name, changes))
  rng = np.random.default_rng(7)
  arrays = {
      key: rng.normal(size=x.shape).astype(np.float32)
      for key, x in tensors.flatten(*network.like).items()
  }
  return network.config, arrays


def started(tmp_path, name, old, new):
  """(arrays before, those of a run that starts from them, its notes)."""
  config, before = random(name, old)
  weights.save(
      tmp_path / "w.npz", config, state.Model(*tensors.unflatten(before))
  )
  notes = []
  changes = {"init.pretrained": str(tmp_path / "w.npz"), **new}
  config = settings.load(name, changes)
  built = build.build(config)
  begun = initialisation.initial_state(
      built, initialisation.given(built), notes.append
  )
  arrays = tensors.flatten(*begun.model)
  return before, {k: np.asarray(x) for k, x in arrays.items()}, notes


def test_a_run_starts_with_interpolated_positions(tmp_path):
  before, after, notes = started(
      tmp_path, "imagenet:tiny", LEARNED, LEARNED | {"image_size": (11, 11)}
  )
  assert "positions/array is interpolated from 6 × 6 to 11 × 11" in notes
  assert after["positions/array"].shape == (121, 5)
  for key in before.keys() - {"positions/array"}:
    np.testing.assert_array_equal(after[key], before[key])


def test_positions_of_an_equal_grid_are_the_same_bit_by_bit():
  config, before = random("imagenet:tiny", LEARNED)
  after, notes = positions.adapted(before, config, config)
  assert not notes and before.keys() == after.keys()
  assert all(after[key] is x for key, x in before.items())


@pytest.mark.parametrize("new", [(7, 5), (14, 13), (9, 31)])
def test_interpolation_keeps_what_is_smooth(new):
  """A slow wave over the picture is the same wave, whatever the grid."""

  def waves(dims):
    y, x = np.meshgrid(*((np.arange(n) + 0.5) / n for n in dims), indexing="ij")
    rows = [np.ones_like(y), y, np.sin(np.pi * x), np.cos(np.pi * (x - y))]
    return np.stack(rows, -1).reshape(-1, 4).astype(np.float32)

  first = np.full([2, 4], 9, np.float32)  # Rows that are no cells.
  old = np.concatenate([first, waves((17, 19))])
  found = positions.interpolated(old, (17, 19), new)
  np.testing.assert_array_equal(found[:2], first)
  inner = np.zeros(new, bool)
  inner[1:-1, 1:-1] = True  # At an edge there is nothing to go on from.
  np.testing.assert_allclose(
      found[2:][inner.ravel()], waves(new)[inner.ravel()], atol=0.03
  )
  assert found.dtype == np.float32
  np.testing.assert_allclose(found[2:, 0], 1, atol=1e-6)


def test_interpolation_is_that_of_pytorch():
  functional = pytest.importorskip("torch.nn.functional")
  torch = pytest.importorskip("torch")
  old = np.random.default_rng(0).normal(size=(35, 3)).astype(np.float32)
  theirs = functional.interpolate(
      torch.tensor(old.reshape(1, 7, 5, 3).transpose(0, 3, 1, 2)),
      (11, 4),
      mode="bicubic",
      antialias=True,
  )
  theirs = theirs.numpy()[0].transpose(1, 2, 0).reshape(-1, 3)
  ours = positions.interpolated(old, (7, 5), (11, 4))
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_run_with_longer_texts_starts_with_new_positions(tmp_path):
  before, after, notes = started(
      tmp_path, "mlm:tiny", {}, {"model.tokens.max_length": 31}
  )
  for key in ("positions/array", "queries/array"):
    np.testing.assert_array_equal(after[key][:29], before[key])
    assert after[key].shape[0] == 31 and after[key][29:].all()
    note = f"{key}: 29 of 31 positions are taken, the others are new"
    assert note in notes


def test_of_shorter_texts_the_first_positions_are_taken():
  config, before = random("mlm:tiny", {})
  shorter = settings.load("mlm:tiny", {"model.tokens.max_length": 13})
  after, notes = positions.adapted(before, config, shorter)
  for key in ("positions/array", "queries/array"):
    np.testing.assert_array_equal(after[key], before[key][:13])
    assert f"{key} is cut from 29 positions to 13" in notes


def test_each_axis_of_a_grid_of_ids_is_interpolated():
  on_grid = lambda size: {
      "model.positions": {"name": "on_grid", "dims": (size, 4, 1)},
      "model.max_length": 4 * size,
  }
  config, before = random("autoregression:tiny", on_grid(5))
  larger = settings.load("autoregression:tiny", on_grid(9))
  after, notes = positions.adapted(before, config, larger)
  assert notes == ["positions_0/array is interpolated from 5 to 9"]
  assert after["positions_0/array"].shape[0] == 10
  np.testing.assert_array_equal(
      after["positions_0/array"][0], before["positions_0/array"][0]
  )
  for key in before.keys() - {"positions_0/array"}:
    assert after[key] is before[key]


@pytest.mark.parametrize(
    ("name", "old", "new", "path", "trained"),
    [
        (
            "imagenet:tiny",
            {},
            {"image_size": (20, 20)},
            "model.input.max_resolution",
            (14, 14),
        ),
        (
            "imagenet:mini_conv",
            {},
            {"image_size": (48, 48)},
            "model.input.max_resolution",
            (8, 8),
        ),
        (
            "flow:tiny",
            {},
            {"frame_size": (23, 31)},
            "model.max_resolution",
            None,
        ),
        (
            "kinetics:tiny",
            {},
            {"video": (4, 32, 32)},
            "model.video.max_resolution",
            None,
        ),
        (
            "audioset:tiny",
            {},
            {"video": (4, 32, 32)},
            "model.video.max_resolution",
            None,
        ),
    ],
)
def test_fourier_features_keep_their_frequencies(name, old, new, path, trained):
  source, config = settings.load(name, old), settings.load(name, new)
  kept, notes = positions.keep_resolutions(config, source, "RUN")
  trained = trained or positions.of(source).resolutions[path]
  assert dict(settings.settable(kept)).keys() >= {path}
  section = kept
  for key in path.split("."):
    section = section[key]
  assert tuple(section) == trained
  shown = ",".join(map(str, trained))
  assert any(f"of RUN: config.{path} = {shown}" in note for note in notes)
  # A second time, nothing is left to be said; what is given is kept.
  assert positions.keep_resolutions(kept, source, "RUN")[1] == []
  assert positions.keep_resolutions(source, source, "RUN") == (source, [])


@pytest.fixture(scope="module")
def shaded(tmp_path_factory):
  """Pictures that get darker from above, or from below: crops do as well."""
  root, rng = tmp_path_factory.mktemp("shaded"), np.random.default_rng(5)
  for split, count in (("train", 60), ("validation", 25)):
    for label, kind in enumerate(("down", "up")):
      folder = root / "shaded" / split / kind
      folder.mkdir(parents=True)
      for i in range(count):
        shade = np.linspace(-90, 90, 48)[:: 2 * label - 1, None, None]
        noise = rng.normal(rng.uniform(100, 150), 30, [48, 48, 3])
        picture = np.clip(noise + shade, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
  return root


INPUTS = {
    "fourier": {"name": "pixels", "num_bands": 6},
    "learned": {"name": "learned_positions", "channels": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
def test_at_another_resolution_a_model_begins_with_what_it_knows(
    tmp_path, shaded, kind
):
  config = settings.load(
      "imagenet:tiny",
      {
          "data_dir": str(shaded),
          "train.name": "shaded",
          "sets": {"test": {"name": "shaded", "split": "validation"}},
          "num_classes": 2,
          "image_size": (12, 12),
          "model.input": INPUTS[kind],
          "augmentation.num_layers": 0,
          "mix": {},
          "label_smoothing": 0.0,
          "batch_size": 24,
          "eval_batch_size": 25,
          "train_examples": 24 * 250,
          "optimizer": {"name": "adamw", "weight_decay": 0.0},
          "schedule": {"name": "constant", "peak": 3e-3},
          "best": "test/top1",
      },
  )
  source = tmp_path / "source"
  before = train.train(config, source)["test/top1"]
  assert before > 90
  larger = settings.changed(config, {"image_size": (20, 20)})
  # Evaluation alone, of the same checkpoint.
  assert evaluate.evaluate(larger, source, "latest")["test/top1"] > before - 10
  tuned = settings.changed(
      larger,
      {
          "init.pretrained": str(source),
          "train_examples": 24,
          "schedule": {"name": "constant", "peak": 1e-9},
      },
  )
  after = train.train(tuned, tmp_path / "tuned")["test/top1"]
  assert after > before - 10
  # The run is as it was evaluated, and needs no more what it began from.
  again = evaluate.evaluate(tuned, tmp_path / "tuned", "latest")["test/top1"]
  assert again == after
  source.rename(tmp_path / "gone")
  assert train.train(tuned, tmp_path / "tuned") == {}
  # From there, anew: without what was learned, accuracy is by chance.
  fresh = settings.changed(tuned, {"init.pretrained": ""})
  assert train.train(fresh, tmp_path / "fresh")["test/top1"] < before - 30
