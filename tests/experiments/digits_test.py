"""Digits of one's own: a file becomes what evaluation reads."""

import cv2
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import quickstart
from experiments import digits
from experiments import inference
from experiments.data.builders import digits as builder  # noqa: F401
from experiments.engine.errors import UserError


@pytest.fixture(scope="module")
def model():
  return inference.load("random", quickstart.get_config("mini"))


@pytest.fixture(scope="module")
def examples(data_dir):
  source = tfds.data_source("digits", data_dir=data_dir, split="test")
  return [source[i] for i in range(7)]


def test_a_file_of_a_held_out_digit_is_what_evaluation_reads(
    model, examples, tmp_path
):
  file = str(tmp_path / "a.png")
  for example in examples:
    cv2.imwrite(file, example["image"])
    expected = digits.scaled(example)["image"]
    batch = model.prepare(file)
    np.testing.assert_allclose(batch["image"][0], expected, atol=1e-6)
    logits = model.outputs({"image": expected[None]})["logits"][0]
    best = model.predict(file)
    assert [int(x.name) for x in best] == np.argsort(-logits).tolist()
    assert best[0].probability == pytest.approx(jax.nn.softmax(logits).max())


def test_ink_on_paper_of_any_size_is_inverted_and_scaled(model, examples):
  for example in examples:
    gray = np.kron(255 - example["image"][..., 0], np.ones([3, 3], np.uint8))
    pixels = np.repeat(gray[..., None], 3, -1)
    np.testing.assert_allclose(
        model.prepare(pixels)["image"][0],
        digits.scaled(example)["image"],
        atol=1e-5,
    )


def test_what_is_no_image_is_named(model, tmp_path):
  file = tmp_path / "a.png"
  file.write_text("a digit")
  with pytest.raises(UserError, match="a.png"):
    model.predict(file)
