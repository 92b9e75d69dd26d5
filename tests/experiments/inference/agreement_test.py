"""What is predicted of an input is what evaluation computes of it."""

import importlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import flow
from experiments import glue
from experiments import imagenet
from experiments import kinetics
from experiments import mlm
from experiments import modelnet40
from experiments.data.builders import modelnet40 as modelnet40_builder
from experiments.data.clips import reading
from experiments.data.clips import video
from experiments.data.pipeline import Shard
from experiments.data.points import shapes
from experiments.data.text import tokenizers
from experiments.engine import build
from experiments.engine import sharding
from experiments.engine import step as step_lib
from experiments.inference import LoadedModel
from experiments.inference import masks
from tests.experiments.audioset_test import write_list

# StarCraft's scores are compared in selections_test.


def model_of(task, variant="tiny", **changes):
  """A model whose parameters are all random, for some would start at zero."""
  config = importlib.import_module(f"configs.{task}").get_config(variant)
  config.update_from_flattened_dict(changes)
  network = build.build_network(config)
  rng = np.random.default_rng(0)
  model = jax.tree.map(
      lambda x: rng.normal(scale=0.3, size=x.shape).astype(x.dtype),
      network.like,
  )
  return LoadedModel(config, network, model, [])


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
  ids, _ = masks.masked(text, [], tokenizers.utf8())
  positions = np.flatnonzero(ids == tokenizers.MASK).astype(np.int32)
  tokens, mask = tokenizers.padded(ids, read.config.model.tokens.max_length)
  batch = {"tokens": tokens, "mask": mask, "positions": positions}
  batch = {name: x[None] for name, x in batch.items()}
  logits = evaluated(read, batch)["logits"][0]
  expected = jax.nn.softmax(jnp.asarray(logits)).max(-1)
  spans = mlm.fill_mask(read, text).spans
  found = [best[0].probability for span in spans for best in span.by_token]
  np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("variant", ["tiny", "tiny_mel"])
def test_a_clip_is_tagged_as_it_is_evaluated(tmp_path, variant):
  write_list(tmp_path, "unbalanced_train_segments", [[0]])
  write_list(tmp_path, "eval_segments", [[5], [1, 7]])
  read = model_of("audioset", variant, data_dir=str(tmp_path))
  batches = build.load(read.config).evals["test"].data(Shard())
  parts = [
      jax.nn.sigmoid(evaluated(read, batch)["logits"])[batch["real"]]
      for batch in batches
  ]
  # Each clip's windows follow each other.
  expected = np.concatenate(parts).reshape(2, read.config.windows, -1).mean(1)
  for i, scores in enumerate(expected):
    found = read.predict(tmp_path / "clips" / f"eval_segments{i}_30.mp4")
    order = np.argsort(-scores, kind="stable")
    assert [x.name for x in found] == [f"class {k}" for k in order]
    np.testing.assert_allclose(
        [x.probability for x in found], scores[order], rtol=1e-4
    )


def test_a_mesh_is_classified_as_it_is_evaluated(tmp_path, monkeypatch):
  name, data = next(iter(shapes.files("test", 1)))
  points = modelnet40_builder.points_of(data, name)
  read = model_of("modelnet40")
  # As many as the model reads: which of them are seen is no matter of chance.
  read.config.num_points = len(points)
  example = {"points": points, "label": 0}
  monkeypatch.setattr(modelnet40.pipeline, "source", lambda *_, **__: [example])
  (batch,) = build.load(read.config).evals["test"].data(Shard())
  logits = evaluated(read, batch)["logits"][0]
  expected = np.sort(np.asarray(jax.nn.softmax(logits)))[::-1]
  file = tmp_path / "anywhere" / name
  file.parent.mkdir(parents=True)
  file.write_bytes(data)
  np.save(tmp_path / "points.npy", points)
  for raw in (str(file), file, points, tmp_path / "points.npy"):
    found = read.predict(raw)
    assert {x.name for x in found} == set(shapes.SHAPES)
    np.testing.assert_allclose(
        [x.probability for x in found], expected, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb"])
def test_texts_are_classified_as_they_are_evaluated(tmp_path, name):
  rows = {
      "cola": ("CoLA", ["x\t1\t\ta text", "x\t0\t\tanother"]),
      "mrpc": (
          "MRPC",
          [
              "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
              "1\t1\t2\tone\tother",
              "0\t1\t2\tthis\tthat is much longer than the model reads",
          ],
      ),
      "stsb": (
          "STS-B",
          ["sentence1\tsentence2\tscore", "a\tb\t1.5", "c\tc\t5"],
      ),
  }
  folder, lines = rows[name]
  (tmp_path / "glue" / folder).mkdir(parents=True)
  for split in ("train", "dev"):
    file = tmp_path / "glue" / folder / f"{split}.tsv"
    file.write_text("\n".join(lines) + "\n")
  read = model_of("glue", "tiny_multitask_task_tokens", data_dir=str(tmp_path))
  examples = glue.prepared(
      name,
      "validation",
      list(read.config.tasks).index(name),
      str(tmp_path),
      glue.open_tokenizer(read.config),
      read.config.max_length,
      [],
      frame=False,
  )
  batch = {key: np.stack([x[key] for x in examples]) for key in examples[0]}
  expected = evaluated(read, batch)[name]
  raws = {
      "cola": ["a text", "another"],
      "mrpc": [
          ("one", "other"),
          ("this", "that is much longer than the model reads"),
      ],
      "stsb": [("a", "b"), ("c", "c")],
  }
  for raw, logits in zip(raws[name], expected, strict=True):
    said = read.predict(raw, task=name)
    if name == "stsb":
      np.testing.assert_allclose(said, logits[0], rtol=1e-4)
      continue
    names = glue.class_names(read.config, name)
    probs = {x.name: x.probability for x in said}
    np.testing.assert_allclose(
        [probs[x] for x in names], jax.nn.softmax(logits), rtol=1e-4
    )
