"""Whatever a model must distinguish differs in its input, and in what it reads.

Units of StarCraft and points of ModelNet40 are sets: they differ in their
features alone.
"""

import importlib

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.engine.build import build_network
from perceiver import baselines
from perceiver import Decoder
from perceiver import Encoder
from perceiver import LearnedArray
from perceiver import position
from perceiver import RepeatedEncoder

FOLDERS = ("audioset", "flow", "glue", "imagenet", "kinetics", "mlm")
# More than rounding: 7e-3 in full-size features of sound, 1e-3 in all others.
DIFFERS = 0.01


def config_of(name):
  file, variant = name.split(":")
  return importlib.import_module(f"configs.{file}").get_config(variant)


def variants_of(file):
  module = importlib.import_module(f"configs.{file}")
  return [f"{file}:{variant}" for variant in module.VARIANTS]


def batch_of(network, batch_size=1):
  """Examples in which nothing but the position differs."""
  return {
      name: jnp.ones((batch_size, *x.shape), x.dtype)
      for name, x in network.example.items()
  }


def closest(rows):
  """The least of the largest differences of any two rows, some at a time."""
  least = np.inf
  for i in range(0, len(rows), 64):
    part = rows[i : i + 64]
    differences = np.abs(part[:, None] - rows[None]).max(-1)
    own = np.arange(len(part))
    differences[own, i + own] = np.inf
    least = min(least, differences.min())
  return least


def features_of(name, monkeypatch):
  """Positions of all that has Fourier features, and the features' settings."""
  found, make = [], position.fourier_features

  def seen(pos, num_bands, max_resolution):
    found.append((pos, num_bands, tuple(max_resolution)))
    return make(pos, num_bands, max_resolution)

  monkeypatch.setattr(position, "fourier_features", seen)
  network = build_network(config_of(name))
  found.clear()

  def run():
    network.net.apply(
        *jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), network.like),
        jax.random.key(0),
        batch_of(network),
        False,
    )
    return [pos for pos, *_ in found]

  where = jax.jit(run)()
  monkeypatch.undo()
  settings = [how for _, *how in found]
  return [(np.asarray(w), *how) for w, how in zip(where, settings, strict=True)]


FOURIER = [
    name
    for file in ("audioset", "flow", "imagenet", "kinetics")
    for name in variants_of(file)
    # Some of those for tests are too small for it.
    if "learned" not in name and "tiny" not in name
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if "mini" in name else pytest.mark.slow)
        for name in FOURIER
    ],
)
def test_waves_alone_tell_places_along_every_axis_apart(name, monkeypatch):
  found = features_of(name, monkeypatch)
  assert found
  for pos, num_bands, resolution in found:
    assert np.isfinite(pos).all()
    for axis, n in enumerate(resolution):
      places = jnp.unique(pos[:, axis])
      features = position.fourier_features(places[:, None], num_bands, [n])
      waves = np.asarray(features)[:, 1:]
      if name.startswith("kinetics") and len(places) == 1:
        continue  # Every point of this batch is the same.
      assert len(places) > 1, (name, resolution)
      assert closest(waves) > DIFFERS, (name, axis, num_bands, n)


def test_two_frames_of_resolution_two_are_what_this_finds():
  both = position.fourier_features(jnp.asarray([[-1.0], [1.0]]), 64, [2])
  assert closest(np.asarray(both)[:, 1:]) < 1e-5


def arrays_of(name):
  """What is read, the latents, and what asks; of a model that starts."""
  network = build_network(config_of(name))
  arrays = {}

  def see(call, args, kwargs, context):
    result = call(*args, **kwargs)
    module, is_call = context.module, context.method_name == "__call__"
    if is_call and isinstance(module, Encoder | RepeatedEncoder):
      arrays.setdefault("inputs", args[0][0])
    if is_call and isinstance(module, Decoder):
      arrays["queries"] = args[0][0]
    if is_call and isinstance(module, baselines.Transformer):
      arrays["inputs"] = args[0][0]
    if is_call and isinstance(module, LearnedArray):
      if context.module.module_name.endswith("latents"):
        arrays["latents"] = result[0]
    return result

  def run():
    model = network.init()
    arrays.clear()
    batch = batch_of(network)
    for key, x in batch.items():
      if key.endswith("_points"):
        batch[key] = jnp.arange(x.shape[1])[None]
      if key == "positions":
        batch[key] = jnp.arange(x.shape[1])[None]
    with hk.intercept_methods(see):
      network.net.apply(*model, jax.random.key(0), batch, False)
    return dict(arrays)

  return jax.tree.map(np.asarray, jax.jit(run)())


@pytest.mark.parametrize(
    "name",
    [
        "audioset:mini_raw",
        "audioset:mini_mel",
        "flow:mini",
        "flow:mini_conv_separate",
        "glue:mini_stsb",
        "glue:mini_multitask_queries",
        "glue:mini_multitask_task_tokens",
        "imagenet:mini_fourier",
        "imagenet:mini_learned",
        "imagenet:mini_conv",
        "kinetics:mini_32",
        "kinetics:mini_2",
        "mlm:mini",
        "mlm:bert_bytes",
        "quickstart:mini",
    ],
)
def test_inputs_latents_and_queries_of_the_same_data_differ(name):
  arrays = arrays_of(name)
  assert "inputs" in arrays
  if not name.startswith("mlm:bert"):
    assert {"latents", "queries"} <= arrays.keys()
  for what, rows in arrays.items():
    if len(rows) > 1:
      # What is learned starts with a deviation of 0.02.
      assert closest(rows) > 0.01, what


def changed_outputs(name, batch_size=2):
  """A function (place, value) -> outputs, with a value at a decoder's place."""
  network = build_network(config_of(name))
  model = jax.jit(network.init)()
  # What starts at zero would hide everything.
  params = jax.tree.map(
      lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape),
      model.params,
  )
  model = model._replace(params=params)

  def run(place, value):
    def change(call, args, kwargs, context):
      y = call(*args, **kwargs)
      module, is_call = context.module, context.method_name == "__call__"
      if is_call and isinstance(module, Decoder):
        y = y.at[:, place].set(value)
      return y

    with hk.intercept_methods(change):
      return network.net.apply(
          *model,
          jax.random.key(0),
          batch_of(network, batch_size),
          False,
      )[0]

  return run


@pytest.mark.parametrize(
    ("name", "output", "place"),
    [
        ("imagenet:tiny", "logits", 0),
        ("audioset:tiny", "logits", 0),
        ("glue:tiny_cola", "cola", 0),
        ("glue:tiny_multitask_queries", "cola", 0),
        ("glue:tiny_multitask_queries", "stsb", 7),
        ("glue:tiny_multitask_shared_token", "stsb", 0),
        ("glue:tiny_multitask_task_tokens", "stsb", 0),
        ("kinetics:tiny", "label", -1),
    ],
)
def test_a_classifier_reads_the_element_of_its_query_alone(name, output, place):
  run = changed_outputs(name)
  as_it_is = run(slice(0, 0), 0.0)[output]
  assert np.isfinite(as_it_is).all()
  assert np.isnan(run(place, np.nan)[output]).all()
  others = slice(None, -1) if place == -1 else slice(place + 1, None)
  np.testing.assert_array_equal(run(others, np.nan)[output], as_it_is)
  if place > 0:
    before = slice(None, place)
    np.testing.assert_array_equal(run(before, np.nan)[output], as_it_is)
