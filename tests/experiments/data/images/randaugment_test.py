"""RandAugment: each operation as the release computes it, and their choice."""

import numpy as np
import pytest

from experiments.data.images import randaugment
from tests.conftest import GOLDEN

OPS = dict(np.load(GOLDEN / "comp_randaugment_ops.npz"))
EDGE = dict(np.load(GOLDEN / "comp_randaugment_edge.npz"))
CUTOUT = dict(np.load(GOLDEN / "comp_cutout.npz"))
FUNCTIONS = {
    operation.change.__name__.replace("_", ""): operation.change
    for operation in randaugment.OPERATIONS
}


@pytest.mark.parametrize("key", sorted(OPS.keys() - {"in"}))
def test_an_operation_is_the_releases(key):
  name, _, arguments = key.removesuffix("]").partition("[")
  numbers = [float(a) for a in arguments.split(",") if a]
  changed = FUNCTIONS[name.lower()](OPS["in"], *numbers)
  assert changed.dtype == np.uint8
  np.testing.assert_array_equal(changed, OPS[key])


@pytest.mark.parametrize("key", [k for k in EDGE if not k.startswith("in")])
def test_images_with_few_levels_are_changed_as_the_release_does(key):
  name, _, kind = key.partition("_")
  changed = FUNCTIONS[name.lower()](EDGE[f"in_{kind}"])
  np.testing.assert_array_equal(changed, EDGE[key])


@pytest.mark.parametrize("key", [k for k in CUTOUT if k != "in"])
def test_what_is_cut_out_is_the_releases(key):
  half, y, x = key.removeprefix("cutout_pad").replace("_c", "_").split("_")
  changed = randaugment.cutout(CUTOUT["in"], int(half), (int(y), int(x)))
  np.testing.assert_array_equal(changed, CUTOUT[key])


# Of "Sharpness[1.0]" and so on, the published arguments at magnitude 5.
AT_FIVE = {
    "rotate": {-15.0, 15.0},
    "posterize": {2.0},
    "solarize": {128.0},
    "solarizeadd": {55.0},
    "color": {1.0},
    "contrast": {1.0},
    "brightness": {1.0},
    "sharpness": {1.0},
    "shearx": {-0.15, 0.15},
    "sheary": {-0.15, 0.15},
    "translatex": {-50.0, 50.0},
    "translatey": {-50.0, 50.0},
    "cutout": {20.0},
}


def arguments(operation, count):
  """What an operation is called with at magnitude 5."""
  rng, seen = np.random.default_rng(0), []
  spy = operation._replace(change=lambda image, *a: seen.extend(a[:1]))
  for _ in range(count):
    spy.apply(OPS["in"], 5, rng)
  return seen


@pytest.mark.parametrize("operation", randaugment.OPERATIONS)
def test_arguments_at_magnitude_five_are_the_releases(operation):
  expected = AT_FIVE.get(operation.change.__name__.replace("_", ""), set())
  assert set(arguments(operation, 30)) == expected


def test_signs_are_as_often_plus_as_minus():
  (rotate,) = (o for o in randaugment.OPERATIONS if "rot" in str(o.change))
  signs = np.sign(arguments(rotate, 2000))
  assert abs(signs.mean()) < 0.08  # Seldom more than 0.045.


def test_every_operation_is_as_likely_and_as_many_follow_as_layers(monkeypatch):
  seen = []

  def spy(i):
    return lambda image: seen.append(i) or image

  operations = tuple(randaugment.Operation(spy(i)) for i in range(16))
  monkeypatch.setattr(randaugment, "OPERATIONS", operations)
  rng = np.random.default_rng(0)
  for _ in range(1000):
    randaugment.randaugment({"image": OPS["in"]}, rng, num_layers=4)
  assert len(randaugment.OPERATIONS) == 16 and len(seen) == 4000
  counts = np.bincount(seen, minlength=16)
  assert 190 < counts.min() and counts.max() < 310  # 250 ± 4 deviations.


def test_layers_follow_each_other(monkeypatch):
  add = randaugment.Operation(lambda image: image + 3)
  monkeypatch.setattr(randaugment, "OPERATIONS", (add,))
  image = np.zeros([5, 7, 3], np.uint8)
  example = {"image": image, "label": 2}
  changed = randaugment.randaugment(
      example, np.random.default_rng(0), num_layers=3
  )
  assert (changed["image"] == 9).all() and changed["label"] == 2
  assert not image.any()


@pytest.mark.parametrize("operation", randaugment.OPERATIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 11), (300, 2), (67, 101)])
@pytest.mark.parametrize("magnitude", [0, 5, 10])
def test_images_of_any_size_are_changed_and_what_was_given_stays(
    operation, size, magnitude
):
  rng = np.random.default_rng(1)
  image = rng.integers(256, size=(*size, 3), dtype=np.uint8)
  given = image.copy()
  changed = operation.apply(image, magnitude, rng)
  assert changed.shape == image.shape and changed.dtype == np.uint8
  np.testing.assert_array_equal(image, given)


def test_rows_are_moved_to_the_nearest_pixel_of_large_images_too():
  rng = np.random.default_rng(1)
  image = rng.integers(256, size=(211, 307, 3), dtype=np.uint8)
  for amount in (0.15, -0.15):
    moved = randaugment.shear_x(image, amount)
    for y in range(211):
      # 0.15 y is never close to a half unless it is one.
      slide = round(amount * y, 6)
      for x in (0, 1, 150, 305, 306):
        place = x + slide
        nearest = int(np.floor(abs(place) + 0.5) * np.sign(place))
        inside = 0 <= nearest < 307
        expected = image[y, nearest] if inside else [128] * 3
        assert moved[y, x].tolist() == list(expected), (amount, y, x)
