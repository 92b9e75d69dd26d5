"""Models in Python: from a name to what they say, and what is refused."""

import cv2
import jax
import numpy as np
import pytest

from experiments import inference
from experiments.data.errors import DataError
from experiments.engine import settings
from experiments.engine import weights
from experiments.engine.errors import UserError
from perceiver.weights import deepmind
from scripts import predict
from tests import readers

TINY = "configs/imagenet.py:tiny"


@pytest.fixture(scope="module")
def model():
  return inference.load("random", TINY)


def pixels(seed=0):
  return np.random.default_rng(seed).integers(0, 256, [30, 40, 3], np.uint8)


def test_a_file_and_its_pixels_are_the_same_input(model, tmp_path):
  file = tmp_path / "a.png"
  cv2.imwrite(str(file), pixels()[..., ::-1])
  of_pixels = model.prepare(pixels())
  for raw in (file, str(file)):
    batch = model.prepare(raw)
    assert batch.keys() == of_pixels.keys()
    np.testing.assert_array_equal(batch["image"], of_pixels["image"])


def test_latents_are_those_that_the_processor_makes(model):
  config = model.config.model
  batch = model.prepare(pixels())
  found = model.features(batch, ["latents", "outputs"])
  encoder = config.encoder
  shape = (1, encoder.num_latents, encoder.latent_channels)
  assert found["latents"].shape == shape
  np.testing.assert_array_equal(model.encode(pixels()), found["latents"])
  # The head, alone, makes of the outputs what the whole model says.
  head = model.model.params["logits"]
  logits = found["outputs"][:, 0] @ head["w"] + head["b"]
  np.testing.assert_allclose(
      logits, model.outputs(batch)["logits"], rtol=1e-4, atol=1e-5
  )


def test_the_mean_latent_is_what_the_original_perceivers_head_reads():
  model = inference.load("random", "configs/modelnet40.py:tiny")
  points = np.random.default_rng(0).normal(size=[100, 3])
  found = model.features(points, ["latents", "outputs"])
  np.testing.assert_allclose(
      found["outputs"], found["latents"].mean(1), rtol=1e-4, atol=1e-6
  )


def test_an_array_that_a_model_does_not_have_is_named():
  model = inference.load("random", "configs/mlm.py:tiny")
  with pytest.raises(UserError, match="has no array 'pixels'"):
    model.features("a text", ["pixels"])


def test_attention_is_that_of_the_module_that_is_asked_for(model):
  maps = model.attention(pixels(), latents="mean")
  np.testing.assert_allclose(maps.values.sum(-1), 1, rtol=1e-4)
  assert maps.kind == "encoder" and maps.values.shape[1] == 1
  assert model.attention(pixels(), module="processor").kind == "processor"


def test_a_file_of_ours_is_the_model_that_was_saved(model, tmp_path):
  file = tmp_path / "model.npz"
  weights.save(file, model.config, model.model)
  again = inference.load(file)
  assert again.predict(pixels()) == model.predict(pixels())
  assert again.task == "imagenet"


def test_half_of_the_bytes_hold_each_number_to_eleven_bits(model, tmp_path):
  halved, whole = tmp_path / "half.npz", tmp_path / "whole.npz"
  weights.save(halved, model.config, model.model, half=True)
  weights.save(whole, model.config, model.model)
  saved = whole.stat().st_size - halved.stat().st_size
  assert saved == 2 * model.network.parameters()
  there = jax.tree.leaves(inference.load(halved).model)
  for ours, half in zip(jax.tree.leaves(model.model), there, strict=True):
    assert half.dtype == ours.dtype
    np.testing.assert_allclose(half, ours, rtol=2**-11, atol=2**-24)


def test_numbers_that_float16_cannot_hold_are_not_halved(model, tmp_path):
  large = jax.tree.map(lambda x: x + 1e5, model.model)
  with pytest.raises(UserError, match="too large for float16"):
    weights.save(tmp_path / "large.npz", model.config, large, half=True)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", weights.trained())
def test_trained_models_of_the_repository_are_loaded_by_name(name):
  model = inference.load(name)
  assert model.network.parameters() > 0
  card = weights.TRAINED / "README.md"
  assert f"## {name}\n" in card.read_text(), f"no card of {name}"


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("random", {}, "random weights need a config"),
        ("no.npz", {}, "no.npz: there is no such file"),
        ("languages", {}, r"did you mean 'language'\?.* names are .*language"),
        ("no.npz", {"changes": {"seed": 1}}, "seed cannot be changed unless"),
        ("random", {"config": "imagenet:tine"}, "did you mean 'tiny'"),
        (
            "random",
            {"config": "configs/imagnet.py"},
            r"did you mean 'configs/imagenet.py'",
        ),
        (
            "random",
            {"config": TINY, "changes": {"num_clases": 3}},
            r"did you mean 'num_classes'",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told_in_a_line(source, given, message):
  with pytest.raises(UserError, match=message) as error:
    inference.load(source, **given)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "raw", [np.zeros([3, 4, 3]), np.zeros([4, 4], np.uint8), 7]
)
def test_what_is_no_image_is_refused(model, raw):
  with pytest.raises(UserError, match=r"an image is a file, or RGB uint8"):
    model.predict(raw)


def test_published_models_have_names():
  known = inference.published()
  assert {"language", "flow", "imagenet_conv", "kinetics"} <= known.keys()
  assert known["language"].read is deepmind.load


def test_features_of_files_are_written_as_arrays(model, tmp_path, capsys):
  weights.save(tmp_path / "model.npz", model.config, model.model)
  files = []
  for i in range(2):
    files.append(str(tmp_path / f"{i}.png"))
    cv2.imwrite(files[-1], pixels(i)[..., ::-1])
  output = tmp_path / "features.npz"
  args = predict.parser().parse_args(
      [
          "features",
          f"--weights={tmp_path / 'model.npz'}",
          "--outputs",
          f"--output={output}",
          *files,
      ]
  )
  args.changes = []
  predict.run(args)
  found = np.load(output)
  assert found["inputs"].tolist() == files
  for i, file in enumerate(files):
    expected = model.features(file, ["latents", "outputs"])
    for name, array in expected.items():
      np.testing.assert_array_equal(found[name][i], array[0])
  assert "latents [2, " in capsys.readouterr().out


def test_the_tokens_of_weights_that_were_moved_lie_beside_them(tmp_path):
  there, here = tmp_path / "there", tmp_path / "here"
  there.mkdir()
  tokens = readers.sentencepiece_model(there)
  config = settings.named("configs/mlm.py:tiny")
  config.tokenizer = {
      "name": "sentencepiece",
      "model": str(tokens),
  }
  config.model.tokens.vocabulary_size = 300
  text = "hadeb cafeg"
  model = inference.load("random", config)
  weights.save(there / "a.npz", model.config, model.model)
  before = model.prepare(text)
  there.rename(here)
  after = inference.load(here / "a.npz").prepare(text)
  jax.tree.map(np.testing.assert_array_equal, after, before)
  filled = inference.load(here / "a.npz").predict(text, parts=["cafe"])
  assert filled.text.startswith("hadeb")
  (here / tokens.name).unlink()
  with pytest.raises(DataError, match=tokens.name):
    inference.load(here / "a.npz").prepare(text)
