"""Weights from elsewhere, and ours elsewhere."""

import collections
import importlib
import json
import os
import pickle

from haiku._src import data_structures
import jax
from ml_collections import ConfigDict
import numpy as np
import pytest
import safetensors.numpy

from experiments.engine import export
from experiments.engine import weights
from experiments.engine.build import build_network
from experiments.engine.errors import UserError
from perceiver.weights import deepmind
from perceiver.weights import huggingface
from perceiver.weights import tensors
from tests import fuzzing
from tests.conftest import GOLDEN
from tools import recordings
from tools.recordings import official
from tools.recordings import transformers

pytestmark = pytest.mark.usefixtures("optimized")

# Names and shapes of the published models' tensors.
PUBLISHED = json.loads((GOLDEN / "parameters.json").read_text())
CONFIGS = {
    "mlm": "mlm:bytes",
    "flow": "flow:patches",
    "imagenet_fourier": "imagenet:fourier",
    "imagenet_learned": "imagenet:learned",
    "imagenet_conv": "imagenet:conv",
    "multimodal": "kinetics:published",
}


def config_of(name):
  file, variant = name.split(":")
  return importlib.import_module(f"configs.{file}").get_config(variant)


def official_model(name="imagenet_fourier"):
  return official.load(GOLDEN / "official", name)


def transformers_model(name):
  return transformers.load(GOLDEN / "transformers", name)


def as_tree(flat):
  """{PATH|NAME: array} as the release keeps it."""
  tree = {}
  for key, array in flat.items():
    module, name = key.split("|")
    tree.setdefault(module, {})[name] = array
  return tree


def assert_same(ours, others):
  assert ours.keys() == others.keys()
  for name in ours:
    np.testing.assert_array_equal(ours[name], others[name], err_msg=name)


def assert_same_model(one, other):
  assert_same(tensors.flatten(*one.model), tensors.flatten(*other.model))


@pytest.mark.parametrize("release", ["official", "transformers"])
@pytest.mark.parametrize("model", CONFIGS)
def test_published_sizes_have_the_published_tensors(model, release):
  config = config_of(CONFIGS[model])
  like = tensors.flatten(*build_network(config).like)
  source, unused = (
      (deepmind.places(config.task), deepmind.UNUSED)
      if release == "official"
      else (huggingface.places(config.task), huggingface.UNUSED)
  )
  found = {}
  for key, x in like.items():
    if release == "transformers" and huggingface.is_derived(key):
      continue
    place = source(key)
    is_stack = "{}" in place.name
    row = np.broadcast_to(0.0, x.shape[1:] if is_stack else x.shape)
    for i in range(x.shape[0] if is_stack else 1):
      name = place.name.format(place.number(i)) if is_stack else place.name
      found[name] = list(place.conversion.write(row).shape)
  expected = PUBLISHED[model][release]
  assert found == {k: s for k, s in expected.items() if k not in unused}
  assert len(expected) - len(found) == (2 if model == "multimodal" else 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_official_tensors_come_back_bit_for_bit(name):
  model = official_model(name)
  read = weights.fill(model.config, model.tensors, weights.OFFICIAL)
  place = deepmind.places(model.config.task)
  back = tensors.to_theirs(tensors.flatten(*read.model), place)
  kept = {k: x for k, x in model.tensors.items() if k not in deepmind.UNUSED}
  assert_same(back, kept)


@pytest.mark.parametrize("name", [*CONFIGS, "text_classification"])
def test_transformers_tensors_come_back_bit_for_bit(name):
  model = transformers_model(name)
  read = weights.fill(model.config, model.tensors, weights.TRANSFORMERS)
  place = huggingface.places(model.config.task)
  ours = tensors.flatten(*read.model)
  ours = {k: x for k, x in ours.items() if not huggingface.is_derived(k)}
  kept = {k: x for k, x in model.tensors.items() if k not in huggingface.UNUSED}
  assert_same(tensors.to_theirs(ours, place), kept)


def test_averages_of_transformers_go_on_where_they_were():
  model = transformers_model("imagenet_conv")
  name = "perceiver.input_preprocessor.convnet.batchnorm."
  given = {**model.tensors, f"{name}num_batches_tracked": np.int64(3)}
  read = weights.fill(model.config, given, weights.TRANSFORMERS)
  mean = read.model.net_state["conv_stem/norm/~/mean_ema"]
  assert mean["counter"] == 3
  np.testing.assert_allclose(
      mean["hidden"] / (1 - 0.9**3), mean["average"], rtol=1e-6
  )


def test_the_published_kernel_is_put_back():
  model = transformers_model("imagenet_conv")
  name = "perceiver.input_preprocessor.convnet.conv.weight"
  # The published file was made by reversing all axes of the official kernel.
  plain = weights.fill(model.config, model.tensors, weights.TRANSFORMERS)
  published = {
      **model.tensors,
      name: plain.model.params["conv_stem/conv"]["w"].T,
  }
  swapped = weights.fill(model.config, published, weights.SWAPPED)
  assert_same_model(swapped, plain)
  unnoticed = weights.fill(model.config, published, weights.TRANSFORMERS)
  kernels = (m.model.params["conv_stem/conv"]["w"] for m in (unnoticed, plain))
  first, second = kernels
  np.testing.assert_array_equal(first, second.swapaxes(0, 1))


# Damage, and what the error says.
DAMAGE = {
    "missing": lambda t: [t.pop(k) for k in sorted(t)[:12]],
    "not of this model": lambda t: t.update(
        {f"extra_{i:02}|w": np.zeros(2) for i in range(12)}
    ),
    "of another shape": lambda t: t.update(
        {k: np.zeros((7, 7, 7)) for k in sorted(t)[:12]}
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_the_first_ten_that_do_not_fit_are_named(what):
  model = official_model()
  given = dict(model.tensors)
  names = sorted(given)
  DAMAGE[what](given)
  with pytest.raises(tensors.WeightsError) as error:
    weights.fill(model.config, given, weights.OFFICIAL)
  text = str(error.value)
  assert f"12 tensors are {what}" in text and "and 2 more" in text
  if what != "not of this model":
    assert names[0] in text and names[9] in text and names[11] not in text
  else:
    assert "extra_00|w" in text and "extra_09|w" in text


def test_another_models_weights_are_refused():
  given = official_model("mlm").tensors
  with pytest.raises(tensors.WeightsError, match="tensors are missing"):
    weights.fill(official_model().config, given, weights.OFFICIAL)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("mapping", ["dict", "ordered", "flat"])
def test_pickled_trees_are_read(tmp_path, protocol, mapping):
  model = official_model()
  tree = as_tree(model.tensors)
  if mapping == "ordered":
    tree = collections.OrderedDict(tree)
  elif mapping == "flat":  # Haiku's own, as the official files have it.
    tree = data_structures.FlatMap(tree)
  file = tmp_path / "model.pystate"
  file.write_bytes(pickle.dumps(tree, protocol=protocol))
  assert_same(deepmind.load(file), model.tensors)
  read = weights.load(file, model.config)
  filled = weights.fill(model.config, model.tensors, weights.OFFICIAL)
  assert_same_model(read, filled)


@pytest.mark.parametrize("suffix", [".pystate", ".npy"])
def test_parameters_and_state_are_read(tmp_path, suffix):
  model = official_model("imagenet_conv")
  is_state = lambda k: k.startswith("state:")
  tree = {
      "params": as_tree(
          {k: x for k, x in model.tensors.items() if not is_state(k)}
      ),
      "state": as_tree(recordings.part(model.tensors, "state:")),
  }
  file = tmp_path / f"model{suffix}"
  if suffix == ".npy":
    np.save(file, np.asarray(tree, object), allow_pickle=True)
  else:
    file.write_bytes(pickle.dumps(tree))
  assert_same(deepmind.load(file), model.tensors)


class Evil:
  """Pickles to a call of os.system."""

  def __init__(self, file):
    self.file = file

  def __reduce__(self):
    return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("suffix", [".pystate", ".npy"])
def test_a_pickle_that_calls_something_is_refused_by_name(tmp_path, suffix):
  file, trace = tmp_path / f"evil{suffix}", tmp_path / "trace"
  tree = {"module": {"w": Evil(trace)}}
  if suffix == ".npy":
    np.save(file, np.asarray(tree, object), allow_pickle=True)
  else:
    file.write_bytes(pickle.dumps(tree))
  with pytest.raises(tensors.WeightsError, match=r"posix\.system"):
    deepmind.load(file)
  assert not trace.exists()


# Content, and what the error says.
NO_TREES = {
    "truncated": (pickle.dumps({"a": {"w": np.zeros(9)}})[:-20], "no pickle"),
    "text": (b"hello", "no pickle"),
    "list": (pickle.dumps([1, 2]), "holds a list"),
    "no module": (pickle.dumps({"a": 3}), "'a' is a int"),
    "no array": (pickle.dumps({"a": {"w": "text"}}), r"a\|w is a str"),
    "class": (pickle.dumps(ConfigDict()), "ml_collections"),
}


@pytest.mark.parametrize("what", NO_TREES)
def test_files_that_are_no_trees_are_refused(tmp_path, what):
  data, message = NO_TREES[what]
  file = tmp_path / "model.pickle"
  file.write_bytes(data)
  with pytest.raises(tensors.WeightsError, match=message):
    deepmind.load(file)


def test_safetensors_are_read_from_file_and_folder(tmp_path):
  model = transformers_model("flow")
  safetensors.numpy.save_file(model.tensors, tmp_path / "model.safetensors")
  read = weights.load(tmp_path, model.config)
  same = weights.load(tmp_path / "model.safetensors", model.config)
  filled = weights.fill(model.config, model.tensors, weights.TRANSFORMERS)
  assert_same_model(read, filled)
  assert_same_model(same, filled)
  assert any("GELU" in note for note in read.notes)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["pickle", "npz", "safetensors"])
def test_damaged_files_of_a_whole_model_are_refused_or_read(tmp_path, which):
  config = config_of("mlm:tiny")
  read = weights.random(config)
  file = tmp_path / f"model.{which}"
  if which == "npz":
    weights.save(file, read.config, read.model)
    config = None
  elif which == "pickle":
    ours = tensors.flatten(*read.model)
    tree = as_tree(tensors.to_theirs(ours, deepmind.places("mlm")))
    file.write_bytes(pickle.dumps(tree))
  else:
    ours = tensors.flatten(*read.model)
    theirs = tensors.to_theirs(ours, huggingface.places("mlm"))
    safetensors.numpy.save_file(theirs, file)
  weights.load(file, config)
  load = lambda file: weights.load(file, config)
  assert not fuzzing.tracebacks(load, file, 200, (UserError,))


def test_damaged_safetensors_are_refused(tmp_path):
  (tmp_path / "model.safetensors").write_bytes(b"no such thing")
  with pytest.raises(UserError, match="no safetensors file"):
    weights.load(tmp_path, transformers_model("flow").config)


def test_ours_know_their_config(tmp_path):
  read = weights.random(config_of("kinetics:tiny"))
  weights.save(tmp_path / "kinetics.npz", read.config, read.model)
  again = weights.load(tmp_path / "kinetics.npz")
  assert_same_model(again, read)
  as_json = lambda config: json.dumps(config.to_dict(), sort_keys=True)
  assert as_json(again.config) == as_json(read.config)
  assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing.npz", "no such file"), ("other.npz", "not a file of this")],
)
def test_what_is_not_ours_is_refused(tmp_path, name, message):
  np.savez(tmp_path / "other.npz", x=np.zeros(3))
  with pytest.raises(UserError, match=message):
    weights.load(tmp_path / name)


CONFIGS_OF_OTHERS = {
    "a list": [1, 2],
    "a number": 3,
    "nothing": None,
    "empty": {},
    "another task": {"task": "no_such_task"},
    "a path as task": {"task": "../../etc"},
    "a number as task": {"task": 3},
    "no model": {"task": "mlm"},
    "a model that is a text": {"task": "mlm", "model": "large"},
}


@pytest.mark.parametrize("what", CONFIGS_OF_OTHERS)
def test_a_config_in_a_file_that_is_none_is_refused(tmp_path, what):
  file = tmp_path / "model.npz"
  text = json.dumps(CONFIGS_OF_OTHERS[what])
  np.savez(file, **{weights.CONFIG: np.asarray(text)})
  with pytest.raises(UserError, match="model.npz.*config") as error:
    weights.load(file)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"task": NaN}', "\ud800"]
)
def test_a_config_that_is_no_json_is_refused(tmp_path, text):
  file = tmp_path / "model.npz"
  np.savez(file, **{weights.CONFIG: np.asarray(text)})
  with pytest.raises(UserError, match="model.npz"):
    weights.load(file)


def with_numbers(value, name="basic_decoder/output|b", dtype=np.float64):
  """The tensors of a model; one number is another."""
  given = dict(official_model().tensors)
  key = next(key for key in given if key.endswith(name))
  given[key] = np.array(given[key], dtype)
  given[key].flat[0] = value
  return given


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"logits/b has 1 of \d+ numbers not finite"),
        (-np.inf, r"logits/b has 1 of \d+ numbers not finite"),
        (1e39, r"logits/b has 1 of \d+ numbers too large for float32"),
    ],
)
def test_numbers_that_are_not_finite_are_named_and_refused(
    tmp_path, value, message
):
  file = tmp_path / "model.pickle"
  file.write_bytes(pickle.dumps(as_tree(with_numbers(value))))
  config = official_model().config
  with pytest.raises(UserError, match=message) as error:
    weights.load(file, config)
  assert "1 tensors are" in str(error.value)
  read = weights.load(file, config, allow_nonfinite=True)
  assert any("logits/b" in note for note in read.notes)
  assert not np.all(np.isfinite(read.model.params["logits"]["b"]))
  weights.save(tmp_path / "model.npz", read.config, read.model)
  with pytest.raises(UserError, match="logits/b has 1 of"):
    weights.load(tmp_path / "model.npz")


def test_counts_that_are_no_counts_are_refused():
  model = transformers_model("imagenet_conv")
  name = "perceiver.input_preprocessor.convnet.batchnorm.num_batches_tracked"
  for value in (np.float32(np.nan), np.int64(2**40), np.float32(1.5)):
    given = {**model.tensors, name: value}
    with pytest.raises(tensors.WeightsError, match="whole numbers.*counter"):
      weights.fill(model.config, given, weights.TRANSFORMERS)
  with pytest.raises(tensors.WeightsError, match="counter is -3"):
    given = {**model.tensors, name: np.int64(-3)}
    weights.fill(model.config, given, weights.TRANSFORMERS)


@pytest.mark.parametrize("dtype", [object, complex, "U3", "M8[s]", "f4,f4"])
def test_tensors_that_are_not_of_numbers_are_refused(dtype):
  given = dict(official_model().tensors)
  name = next(iter(given))
  given[name] = np.zeros(given[name].shape, dtype)
  with pytest.raises(tensors.WeightsError, match="of a dtype") as error:
    weights.fill(official_model().config, given, weights.OFFICIAL)
  assert name in str(error.value)


def test_a_file_that_names_no_config_needs_one(tmp_path):
  (tmp_path / "model.pickle").write_bytes(b"")
  with pytest.raises(UserError, match="--config"):
    weights.load(tmp_path / "model.pickle")


def small(name, changes):
  """A model that transformers can build, small where it may be."""
  config = config_of(name).lock()
  config.update_from_flattened_dict(changes)
  return config


def test_the_published_models_export_with_the_published_config():
  for model, name in CONFIGS.items():
    config = config_of(name)
    like = build_network(config).like
    ours = export.config_json(config, like)
    theirs = PUBLISHED[model]["transformers_config"]
    changed = {"hidden_act", "attention_probs_dropout_prob", "architectures"}
    for key in ours.keys() & theirs.keys() - changed:
      unset = {"qk_channels": None, "v_channels": None, "image_size": 56}
      if key in unset and theirs[key] == unset[key]:
        continue
      assert ours[key] == theirs[key], (name, key)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("imagenet:fourier", {"model.input.num_bands": 3}, "num_bands = 3"),
        ("imagenet:perceiver_fourier", {}, "average_and_project"),
        ("imagenet:repeated", {}, "num_reads = 8"),
        ("flow:conv", {}, "'conv'"),
        ("mlm:bert_base", {}, "'bert'"),
        ("mlm:tiny", {}, "num_heads = 2"),
        ("audioset:raw", {}, "no Perceiver for 'audioset'"),
        ("kinetics:latents_784", {}, "num_bands = 64"),
    ],
)
def test_what_transformers_cannot_build_is_refused_and_nothing_written(
    tmp_path, name, changes, message
):
  config = small(name, changes)
  like = build_network(config).like
  with pytest.raises(UserError, match=message):
    export.to_huggingface(tmp_path / "out", config, like)
  assert not (tmp_path / "out").exists()


def test_differences_are_told():
  tell = lambda name: " ".join(
      export.differences(config_of(name), is_export=True)
  )
  assert "query" in tell("imagenet:learned")
  assert "55 x 55" in tell("imagenet:conv")
  assert "padded" in tell("mlm:bytes")
  assert not tell("imagenet:fourier")


# What transformers computes from our exports: PyTorch is not among what the
# tests install. pip install -e '.[test,huggingface]'


def logits_of(folder, **inputs):
  """What transformers' model returns."""
  torch = pytest.importorskip("torch")
  library = pytest.importorskip("transformers")
  described = json.loads((folder / "config.json").read_text())
  model_class = getattr(library, described["architectures"][0])
  model, loading = model_class.from_pretrained(folder, output_loading_info=True)
  assert not any(loading.values()), loading
  given = {
      k: (
          {n: torch.from_numpy(x) for n, x in v.items()}
          if isinstance(v, dict)
          else torch.from_numpy(v)
      )
      for k, v in inputs.items()
  }
  with torch.no_grad():
    return model.eval()(**given).logits


def exported(folder, config):
  read = weights.random(config)
  notes = export.to_huggingface(folder, config, read.model)
  run = jax.jit(read.network.net.apply, static_argnums=4)
  return notes, lambda batch: run(*read.model, None, batch, False)[0]


def assert_close(theirs, ours):
  ours = np.asarray(ours)
  error = np.abs(theirs.numpy().reshape(ours.shape) - ours).max()
  assert error < 2e-5 * np.abs(ours).max()


def first_channels(image):
  return np.ascontiguousarray(np.moveaxis(image, -1, -3))


SMALL = {
    "model.encoder.num_latents": 7,
    "model.encoder.latent_channels": 32,
    "model.processor.layers_per_block": 2,
}


def test_transformers_reads_masked_text_as_we_do(tmp_path):
  changes = {**SMALL, "model.encoder.v_channels": 32}
  config = small("mlm:bytes", {**changes, "model.tokens.max_length": 37})
  _, run = exported(tmp_path, config)
  ids = np.random.default_rng(0).integers(6, 262, [2, 37])
  mask = np.arange(37) < np.array([[37], [23]])
  theirs = logits_of(tmp_path, inputs=ids, attention_mask=mask.astype(np.int64))
  ours = run({"tokens": ids.astype(np.int32), "mask": mask})["logits"]
  assert_close(theirs[mask], np.asarray(ours)[mask])


@pytest.mark.parametrize("kind", ["fourier", "conv", "learned"])
def test_transformers_classifies_images_as_we_do(tmp_path, kind):
  changes = {
      **SMALL,
      "model.output.query_channels": 32,
      "num_classes": 11,
      "model.processor.num_blocks": 3,
  }
  if kind == "learned":
    changes |= {
        "model.output.decoder.use_query_residual": True,
        "image_size": (24, 24),
    }
  config = small(f"imagenet:{kind}", changes)
  notes, run = exported(tmp_path, config)
  size = config.image_size
  image = np.random.default_rng(0).normal(size=(2, *size, 3))
  image = image.astype(np.float32)
  theirs = logits_of(tmp_path, inputs=first_channels(image))
  ours = run({"image": image})["logits"]
  if kind == "conv":  # Another grid of features, as the note says.
    assert "55 x 55" in " ".join(notes)
    assert np.abs(theirs.numpy() - ours).max() > 1e-3
  else:
    assert_close(theirs, ours)


def test_transformers_sees_flow_as_we_do(tmp_path):
  changes = {**SMALL, "frame_size": (22, 34), "model.processor.num_heads": 4}
  config = small("flow:patches", changes)
  read = weights.random(config)
  rng = np.random.default_rng(0)
  # The last map starts at zero.
  flow = {"w": rng.normal(size=(322, 2)), "b": rng.normal(size=2)}
  flow = {k: x.astype(np.float32) for k, x in flow.items()}
  model = read.model._replace(params={**read.model.params, "flow": flow})
  export.to_huggingface(tmp_path, config, model)
  frames = rng.uniform(-1, 1, (1, 2, 22, 34, 3)).astype(np.float32)
  padded = np.pad(frames, [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)])
  patches = np.concatenate(
      [
          padded[:, :, i : i + 22, j : j + 34]
          for i in range(3)
          for j in range(3)
      ],
      axis=-1,
  )
  theirs = logits_of(tmp_path, inputs=first_channels(patches))
  run = jax.jit(read.network.net.apply, static_argnums=4)
  ours, _ = run(*model, None, {"frames": frames}, False)
  assert_close(20 * theirs, ours["flow"])


@pytest.mark.slow
def test_transformers_reconstructs_video_as_we_do(tmp_path):
  changes = {
      **SMALL,
      "video": (3, 16, 16),
      "samples_per_frame": 48,
      "num_classes": 5,
  }
  config = small("kinetics:published", changes)
  _, run = exported(tmp_path, config)
  rng = np.random.default_rng(0)
  video = rng.uniform(size=(1, 3, 16, 16, 3)).astype(np.float32)
  audio = rng.uniform(-1, 1, (1, 144, 1)).astype(np.float32)
  points = {"image": rng.integers(0, 768, 13), "audio": rng.integers(0, 9, 5)}
  theirs = logits_of(
      tmp_path,
      inputs={
          "image": first_channels(video),
          "audio": audio,
          "label": np.zeros((1, 5), np.float32),
      },
      subsampled_output_points={**points},
  )
  ours = run(
      {
          "video": video,
          "audio": audio,
          "label": np.zeros([1], np.int32),
          "video_points": points["image"][None].astype(np.int32),
          "audio_points": points["audio"][None].astype(np.int32),
      }
  )
  for name, theirs_name in (("video", "image"), ("audio", "audio")):
    assert_close(theirs[theirs_name], ours[name])
  assert_close(theirs["label"], ours["label"])


def test_pytorch_files_are_read(tmp_path):
  torch = pytest.importorskip("torch")
  model = transformers_model("flow")
  torch.save(
      {k: torch.from_numpy(x) for k, x in model.tensors.items()},
      tmp_path / "pytorch_model.bin",
  )
  filled = weights.fill(model.config, model.tensors, weights.TRANSFORMERS)
  assert_same_model(weights.load(tmp_path, model.config), filled)
  torch.save({"w": Evil(tmp_path / "trace")}, tmp_path / "pytorch_model.bin")
  with pytest.raises(UserError, match="no file of PyTorch tensors"):
    weights.load(tmp_path, model.config)
  assert not (tmp_path / "trace").exists()
