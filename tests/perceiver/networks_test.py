"""The models of the tasks: what comes out, and what must not matter."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.engine import weights
from perceiver import record_attention


def config_of(name, **changes):
  file, variant = name.split(":")
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  config.lock().update_from_flattened_dict(
      {key.replace("__", "."): value for key, value in changes.items()}
  )
  return config


def shapes_of(config, batch_size=2, **given):
  """Shapes of the outputs for a batch of a config's examples, or of others."""
  network = weights.build.build_network(config)
  batch = {
      name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype)
      for name, x in {**network.example, **given}.items()
      if x is not None
  }
  outputs, _ = jax.eval_shape(
      lambda model, batch: network.net.apply(
          *model, jax.random.key(0), batch, True
      ),
      network.like,
      batch,
  )
  return jax.tree.map(jnp.shape, outputs)


def model_of(config):
  read = weights.random(config)
  # What starts at zero would hide everything.
  params = jax.tree.map(
      lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape),
      read.model.params,
  )
  model = read.model._replace(params=params)
  run = jax.jit(read.network.net.apply, static_argnums=4)
  return lambda batch: run(*model, None, batch, False)[0]


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("imagenet:tiny", {"logits": (2, 11)}),
        ("imagenet:perceiver_conv", {"logits": (2, 1000)}),
        ("imagenet:repeated", {"logits": (2, 1000)}),
        ("mlm:tiny", {"logits": (2, 29, 262)}),
        ("mlm:bert_bytes", {"logits": (2, 2048, 262)}),
        ("glue:tiny_cola", {"cola": (2, 2)}),
        ("glue:bert_base_cola", {"cola": (2, 2)}),
        ("flow:tiny", {"flow": (2, 14, 22, 2)}),
        ("flow:pixels_separate", {"flow": (2, 368, 496, 2)}),
        ("flow:conv_separate", {"flow": (2, 368, 496, 2)}),
        ("flow:conv_small", {"flow": (2, 368, 496, 2)}),
        (
            "kinetics:tiny",
            {"video": (2, 5, 3), "audio": (2, 5, 4), "label": (2, 7)},
        ),
        ("audioset:tiny", {"logits": (2, 11)}),
        ("audioset:perceiver_mel", {"logits": (2, 527)}),
    ],
)
def test_shapes_of_what_comes_out(name, outputs):
  assert shapes_of(config_of(name)) == outputs


@pytest.mark.parametrize(
    "variant",
    ["multitask_queries", "multitask_shared_token", "multitask_task_tokens"],
)
def test_all_tasks_of_glue_have_their_logits(variant):
  shapes = shapes_of(config_of(f"glue:{variant}"))
  assert {task: shape[-1] for task, shape in shapes.items()} == {
      "cola": 2,
      "mnli": 3,
      "mrpc": 2,
      "qnli": 2,
      "qqp": 2,
      "rte": 2,
      "sst2": 2,
      "stsb": 1,
  }


def text(ids, mask=None):
  ids = jnp.asarray(ids)
  return {
      "tokens": ids,
      "mask": jnp.ones(ids.shape, bool) if mask is None else mask,
      "task": jnp.arange(len(ids)),
  }


def test_padding_of_texts_does_not_matter():
  run = model_of(config_of("mlm:tiny"))
  ids = jax.random.randint(jax.random.key(0), (2, 29), 6, 262)
  mask = jnp.arange(29) < jnp.array([[17], [29]])
  logits = run(text(ids, mask))["logits"]
  other = run(text(jnp.where(mask, ids, 3), mask))["logits"]
  np.testing.assert_array_equal(logits, other)


def test_a_short_text_is_a_padded_one():
  run = model_of(config_of("mlm:tiny"))
  ids = jax.random.randint(jax.random.key(0), (2, 17), 6, 262)
  padded = jnp.pad(ids, [(0, 0), (0, 12)])
  mask = jnp.broadcast_to(jnp.arange(29) < 17, (2, 29))
  long = run(text(padded, mask))["logits"][:, :17]
  np.testing.assert_allclose(run(text(ids))["logits"], long, atol=1e-4)


def test_a_text_that_is_too_long_is_refused():
  config = config_of("mlm:tiny")
  with pytest.raises(ValueError, match="texts of 31 tokens, but 29"):
    shapes_of(config, tokens=jax.ShapeDtypeStruct((31,), jnp.int32))


def test_the_token_of_a_task_matters_only_if_tasks_have_their_own():
  for token, matters in (("shared", False), ("per_task", True)):
    config = config_of("glue:tiny_cola")
    config.unlock()
    config.tasks.rte = 2
    config.model.task_token = token
    run = model_of(config)
    ids = jnp.broadcast_to(jnp.arange(29) + 6, (2, 29))  # Tasks 0 and 1.
    first, second = run(text(ids))["cola"]
    assert bool(jnp.abs(first - second).max() > 1e-4) == matters


def clip(config):
  rng = np.random.default_rng(0)
  frames, height, width = config.video
  return {
      "video": rng.uniform(size=(2, frames, height, width, 3)),
      "audio": rng.uniform(-1, 1, (2, frames * config.samples_per_frame, 1)),
      "label": np.array([1, 2]),
  }


def test_videos_decoded_whole_are_those_decoded_at_points():
  config = config_of("kinetics:tiny", video=(2, 12, 20))
  run = model_of(config)
  batch = jax.tree.map(jnp.asarray, clip(config))
  whole = run(batch)
  voxels, patches = jnp.array([[0, 7, 479], [3, 5, 100]]), jnp.arange(12)
  points = {
      "video_points": voxels,
      "audio_points": jnp.broadcast_to(patches, (2, 12)),
  }
  some = run({**batch, **points})
  flat = whole["video"].reshape(2, -1, 3)
  for i in range(2):
    np.testing.assert_allclose(some["video"][i], flat[i, voxels[i]], atol=1e-4)
  np.testing.assert_allclose(
      some["audio"].reshape(2, -1, 1), whole["audio"], atol=1e-4
  )
  np.testing.assert_allclose(some["label"], whole["label"], atol=1e-4)


def test_attention_is_recorded_of_all_that_is_not_decoded_in_chunks():
  config = config_of("kinetics:tiny")
  network = weights.build.build_network(config)
  batch = jax.tree.map(jnp.asarray, clip(config))

  def record(model):
    with record_attention() as recorded:
      network.net.apply(*model, None, batch, False)
    return recorded

  assert set(jax.eval_shape(record, network.like)) == {
      "encoder/cross_attention/attention",
      "processor/layers/self_attention/attention",
  }


def test_the_label_is_never_seen_in_evaluation():
  config = config_of("kinetics:tiny")
  run = model_of(config)
  batch = jax.tree.map(jnp.asarray, clip(config))
  other = run({**batch, "label": jnp.array([5, 6])})
  jax.tree.map(np.testing.assert_array_equal, run(batch), other)


def test_the_label_is_seen_in_half_of_training():
  config = config_of("kinetics:tiny", label_mask_rate=0.5)
  network = weights.build.build_network(config)
  model = weights.random(config).model
  batch = jax.tree.map(
      lambda x: jnp.tile(x[:1], [64] + [1] * (x.ndim - 1)), clip(config)
  )
  points = {
      "video_points": jnp.zeros([64, 1], jnp.int32),
      "audio_points": jnp.zeros([64, 1], jnp.int32),
  }
  # As before training the output is small; what matters is which are equal.
  run = jax.jit(network.net.apply, static_argnums=4)
  label = run(*model, jax.random.key(3), {**batch, **points}, True)[0]["label"]
  kinds, counts = np.unique(np.round(label[:, 0], 7), return_counts=True)
  assert len(kinds) == 2 and min(counts) > 16


def test_flow_of_separate_frames_depends_on_their_order():
  config = config_of("flow:tiny", model__input__concat_frames=False)
  run = model_of(config)
  frames = jax.random.uniform(jax.random.key(0), (1, 2, 14, 22, 3))
  flow = run({"frames": frames})["flow"]
  back = run({"frames": frames[:, ::-1]})["flow"]
  assert jnp.abs(flow - back).max() > 1e-3


def test_flow_starts_at_zero():
  read = weights.random(config_of("flow:tiny"))
  frames = jnp.ones((1, 2, 14, 22, 3))
  run = jax.jit(read.network.net.apply, static_argnums=4)
  flow = run(*read.model, None, {"frames": frames}, False)[0]["flow"]
  np.testing.assert_array_equal(flow, 0.0)


def test_all_outputs_of_a_video_are_decoded_in_bounded_memory():
  def temporary_bytes(num_chunks):
    config = config_of("kinetics:published", num_chunks=num_chunks)
    network = weights.build.build_network(config)
    batch = {
        name: x
        for name, x in network.batch_like(1).items()
        if not name.endswith("_points")
    }
    run = jax.jit(lambda m, b: network.net.apply(*m, None, b, False)[0])
    compiled = run.lower(network.like, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  # In one program: 803,297 outputs and those that fill up the last chunk.
  whole, chunked = temporary_bytes(1), temporary_bytes(128)
  assert chunked < 2**30 < 8 * 2**30 < whole
