"""What is predicted of an input is what evaluation computes of it."""

import importlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import flow
from experiments import imagenet
from experiments import kinetics
from experiments import mlm
from experiments.data.clips import reading
from experiments.data.clips import video
from experiments.data.pipeline import Shard
from experiments.data.text import tokenizers
from experiments.engine import build
from experiments.engine import sharding
from experiments.engine import step as step_lib
from experiments.engine import weights
from experiments.inference import masks

# StarCraft's scores are compared in selections_test.


def model_of(task, **changes):
  """A model whose parameters are all random, for some would start at zero."""
  config = importlib.import_module(f"configs.{task}").get_config("tiny")
  config.update_from_flattened_dict(changes)
  network = build.build_network(config)
  rng = np.random.default_rng(0)
  model = jax.tree.map(
      lambda x: rng.normal(scale=0.3, size=x.shape).astype(x.dtype),
      network.like,
  )
  return weights.Weights(config, network, model, [])


def evaluated(read, batch):
  """What evaluation's compiled step sees of a batch: the task's outputs."""
  built = build.build(read.config)
  step = step_lib.compile_eval_step(
      built.net, lambda outputs, batch: outputs, built.layout
  )
  return jax.device_get(step(read.model, sharding.spread(batch, built.mesh)))


def picture(height, width, seed=0):
  coarse = np.random.default_rng(seed).integers(0, 256, [5, 5, 3], np.uint8)
  return cv2.resize(coarse, (width, height))


@pytest.mark.parametrize("name", ["a.JPEG", "a.png"])
def test_an_image_is_classified_as_it_is_evaluated(tmp_path, name):
  folder = tmp_path / "imagenet2012" / "validation"
  for label in range(11):
    (folder / f"n{label:08}").mkdir(parents=True)
    file = folder / f"n{label:08}" / name
    cv2.imwrite(str(file), picture(31, 43, seed=label))
  read = model_of("imagenet", data_dir=str(tmp_path))
  files = [str(file) for file in sorted(folder.glob("*/*"))]
  task = build.load(read.config)
  first, *_ = task.evals["test"].data(Shard())
  expected = evaluated(read, first)["logits"]
  batches = [*imagenet.read_images(read.config, files)]
  found = [read.outputs(batch)["logits"][0] for batch in batches]
  for label, logits in zip(first["label"], expected, strict=True):
    np.testing.assert_allclose(found[label], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("even", [False, True])
def test_flow_is_that_of_evaluation_with_its_tiling(even):
  read = model_of("flow", **{"tiling.min_overlap": 7, "tiling.even": even})
  frames = np.stack([picture(19, 40), picture(19, 40, seed=1)])
  expected = evaluated(read, {"frames": frames[None]})["flow"][0]
  found = flow.flow_between(read, *frames)
  assert found.std() > 1e-3
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_clip_is_decoded_as_it_is_evaluated(tmp_path, monkeypatch):
  read = model_of("kinetics")
  length, rate = read.config.video[0], kinetics.rate_of(read.config)
  sound = np.random.default_rng(0).uniform(-1, 1, [rate, 1])
  frames = np.stack([picture(16, 24, seed=i) for i in range(length)])
  file = str(tmp_path / "a.mp4")
  video.write(file, frames, 25.0, sound[: rate * length // 25], rate)
  # As long as what is evaluated, so that its middle is all of it.
  clips = reading.Clips(
      ("a",), {}, 0, tmp_path, [b'["a.mp4", [3], 0.0]'], "an index"
  )
  monkeypatch.setattr(reading, "open_clips", lambda *args, **kwargs: clips)
  task = build.load(read.config)
  (batch,) = task.evals["test"].data(Shard())
  expected = evaluated(read, batch)
  (clip,) = kinetics.read_clips(read.config, file)
  found = read.outputs(clip)
  for name in ("video", "audio", "label"):
    np.testing.assert_allclose(
        found[name][0], expected[name][0], rtol=1e-4, atol=1e-5
    )


def test_masked_bytes_are_guessed_as_they_are_evaluated():
  read = model_of("mlm")
  text = "one[MASK:3] two[MASK]"
  ids, _ = masks.masked(text)
  positions = np.flatnonzero(ids == tokenizers.MASK).astype(np.int32)
  tokens, mask = tokenizers.padded(ids, read.config.model.tokens.max_length)
  batch = {"tokens": tokens, "mask": mask, "positions": positions}
  batch = {name: x[None] for name, x in batch.items()}
  logits = evaluated(read, batch)["logits"][0]
  expected = jax.nn.softmax(jnp.asarray(logits)).max(-1)
  spans = mlm.fill_mask(read, text).spans
  found = [best[0].probability for span in spans for best in span.by_byte]
  np.testing.assert_allclose(found, expected, rtol=1e-4)
