"""MixUp and CutMix are the release's."""

import numpy as np
import pytest

from experiments.data.images import mixing
from tests.conftest import GOLDEN

MASKS = dict(np.load(GOLDEN / "comp_cutmix_mask.npz"))
BATCH = dict(np.load(GOLDEN / "comp_mix_batch.npz"))
Y, X = 11, 13


@pytest.mark.parametrize("key", MASKS)
def test_the_box_of_cutmix_is_the_releases(key):
  x, y, share = key.removeprefix("mask_x").replace("_y", "_p").split("_p")
  mask = np.zeros([36, 32, 1], np.float32)
  mask[mixing.cutmix_box(36, 32, int(x), int(y), float(share))] = 1
  np.testing.assert_array_equal(mask, MASKS[key])


def test_images_are_blended_as_the_release_does():
  images, ratios = BATCH["in:images"], BATCH["in:mixup_ratio"]
  for i in range(4):
    image = mixing.blended(images[i], images[i + 4], ratios[i])
    np.testing.assert_allclose(image, BATCH["mixup:images"][i], atol=1e-6)
    mask = BATCH["in:mask"][i, ..., 0].astype(np.uint8)
    image = mixing.boxed(images[i], images[i + 4], mask)
    np.testing.assert_array_equal(image, BATCH["cutmix:images"][i])


def pair(row):
  """Two examples: zeros of class 3, and ones of class 5."""
  pair = [
      {"image": np.full([Y, X, 3], value, np.float32), "label": np.int32(label)}
      for value, label in ((0, 3), (1, 5))
  ]
  return {"pair": pair, "row": row}


def mixed(count, rows, **settings):
  rng = np.random.default_rng(0)
  mix = mixing.Mix(**settings)
  return [mix(pair(rows), rng) for _ in range(count)]


@pytest.mark.parametrize("row", [0, 1])
def test_the_ratio_is_the_part_of_the_image_that_is_the_first(row):
  for example in mixed(50, row):
    assert example["image"].shape == (Y, X, 3)
    assert example["image"].dtype == example["ratio"].dtype == np.float32
    share = 1 - example["image"].mean()
    np.testing.assert_allclose(example["ratio"], share, atol=1e-6)
    assert (example["label"], example["mix_label"]) == (3, 5)


def any_boxed(examples):
  """Blends of two single colours are of one colour; boxes have two."""
  return any(np.ptp(example["image"]) > 0 for example in examples)


def test_even_rows_are_blended_and_odd_ones_cut():
  assert not any_boxed(mixed(20, 4)) and any_boxed(mixed(20, 7))
  assert any_boxed(mixed(20, 4, mixup=False))
  assert not any_boxed(mixed(20, 7, cutmix=False))
  with pytest.raises(ValueError, match="both off"):
    mixing.Mix(mixup=False, cutmix=False)


def test_the_first_image_is_inside_of_the_box():
  for example in mixed(50, 1):
    ones = example["image"][..., 0]
    zeros = np.argwhere(ones == 0)
    if len(zeros):
      (top, left), (bottom, right) = zeros.min(0), zeros.max(0) + 1
      assert not ones[top:bottom, left:right].any()


def test_the_share_of_mixup_is_of_a_beta_distribution():
  ratios = np.array([e["ratio"] for e in mixed(4000, 0)])
  # Of Beta(0.2, 0.2): variance 1/4 / (1 + 0.4).
  assert abs(ratios.mean() - 0.5) < 0.03
  assert abs(ratios.var() - 0.25 / 1.4) < 0.01


def test_the_share_of_cutmix_is_of_a_uniform_one_with_borders():
  ratios = np.array([e["ratio"] for e in mixed(4000, 1)])
  # A side is the root of a uniform number, cut off at a border.
  side = np.sqrt(np.random.default_rng(1).random(100_000))
  y, x = np.random.default_rng(2).random([2, 100_000])
  inside = lambda c: np.minimum(1, c + side / 2) - np.maximum(0, c - side / 2)
  assert abs(ratios.mean() - (inside(x) * inside(y)).mean()) < 0.06
