"""Flow stays true to the frames whatever is done to them."""

import dataclasses
import pickle

import cv2
import grain
import numpy as np
import pytest

from experiments.data import pipeline
from experiments.data.flow import augment as flow_augment
from experiments.data.flow.augment import Augment
from experiments.data.flow.augment import Curriculum
from experiments.data.flow.augment import Ranges
from experiments.data.flow.augment import reversed_pair
from experiments.data.pipeline import Shard

Y, X = 97, 113
SIZE = 61, 73
NOTHING = Ranges(
    scale=(0, 0),
    **{
        field.name: 0
        for field in dataclasses.fields(Ranges)
        if field.type is float
    },
)
COLOURS = dict(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.16, gamma=0.3
)
ONLY_COLOURS = dataclasses.replace(NOTHING, **COLOURS)
ONLY_SPACE = dataclasses.replace(
    Ranges(), **dict.fromkeys(COLOURS, 0.0), erased=0.0
)


def grid(height=Y, width=X):
  """Each pixel's x and y."""
  return np.dstack(np.meshgrid(np.arange(width), np.arange(height)))


def texture(places):
  x, y = np.moveaxis(places, -1, 0)
  waves = [x / 4.1 + y / 7.3, y / 3.7 - x / 11.9, x / 5.3 + np.sin(y / 6.1)]
  return np.rint(127 + 100 * np.sin(np.stack(waves, axis=-1))).astype(np.uint8)


def smooth_pair():
  """Frames of which the second can be seen through the flow as the first."""
  x, y = np.moveaxis(grid(), -1, 0)
  u = 3 + 2 * np.sin(y / 17) + 0.02 * x
  v = -2 + 1.5 * np.cos(x / 19)
  flow = np.dstack([u, v])
  return {
      "frames": np.stack([texture(grid() + flow), texture(grid())]),
      "flow": flow.astype(np.float32),
      "known": np.ones([Y, X], bool),
  }


def random_pair(height, width):
  rng = np.random.default_rng(0)
  return {
      "frames": rng.integers(0, 256, [2, height, width, 3], np.uint8),
      "flow": rng.normal(0, 5, [height, width, 2]).astype(np.float32),
      "known": np.ones([height, width], bool),
  }


def augmented(pair, seed=0, size=SIZE, severity=1.0, **settings):
  example = {**pair, "severity": np.float32(severity)}
  return Augment(size, **settings)(example, np.random.default_rng(seed))


def with_maps(monkeypatch, first, second=None):
  """The frames come from there and not from anywhere."""
  first = np.array(first, float)
  second = first if second is None else np.array(second, float)
  monkeypatch.setattr(flow_augment, "_maps", lambda *_: (first, second))


def difference(pair, flow=None):
  """Between the first frame and the second, seen through the flow; levels."""
  flow = pair["flow"] if flow is None else flow
  height, width = pair["known"].shape
  ends = (grid(height, width) + flow).astype(np.float32)
  seen = cv2.remap(
      pair["frames"][1], ends[..., 0], ends[..., 1], cv2.INTER_LINEAR
  )
  known = pair["known"] & (ends >= 0).all(-1)
  known &= (ends <= [width - 1, height - 1]).all(-1)
  assert known.mean() > 0.3
  return np.abs(seen.astype(float) - pair["frames"][0])[known].mean()


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for key in found:
    np.testing.assert_array_equal(found[key], expected[key])


def test_the_smooth_pair_fits_its_flow():
  assert difference(smooth_pair()) < 0.7
  assert difference(smooth_pair(), flow=np.zeros([Y, X, 2])) > 40


@pytest.mark.parametrize("severity", [0, 0.5, 1])
@pytest.mark.parametrize("size", [SIZE, (Y, X), (19, 103)])
def test_frames_fit_the_flow_wherever_they_are_cut_from(size, severity):
  pair = smooth_pair()
  settings = dict(size=size, severity=severity, ranges=ONLY_SPACE)
  for seed in range(20):
    found = augmented(pair, seed, **settings)
    assert found["known"].all()
    assert difference(found) < 0.7  # Off by 0.3 pixels, it is 2.5.


def test_the_second_frame_moves_by_itself():
  settings = dict(second_scale=0.04, second_rotation=2, second_translation=0.03)
  ranges = dataclasses.replace(NOTHING, **settings)
  pair = {**smooth_pair(), "flow": np.zeros([Y, X, 2], np.float32)}
  pair["frames"] = pair["frames"][[0, 0]]
  flows = [augmented(pair, seed, ranges=ranges)["flow"] for seed in range(50)]
  longest = np.abs(flows).max((0, 1, 2))
  # 0.03 of 73 and of 61, half of them times 2^0.04 - 1, and the turn.
  assert 1.5 < longest[0] < 2.19 + 1.03 + 30.5 * 0.035
  assert 1.5 < longest[1] < 1.83 + 0.86 + 36.5 * 0.035


def test_magnified_twice_and_mirrored_a_flow_is_twice_as_long_and_turned():
  pair = {**smooth_pair(), "flow": np.full([Y, X, 2], (3, -5), np.float32)}
  ranges = dataclasses.replace(NOTHING, scale=(1, 1), flip_x=1)
  found = augmented(pair, ranges=ranges)
  np.testing.assert_allclose(
      found["flow"], np.broadcast_to([-6, -10], [*SIZE, 2]), atol=1e-4
  )
  ranges = dataclasses.replace(NOTHING, scale=(1, 1), flip_y=1)
  found = augmented(pair, ranges=ranges)
  np.testing.assert_allclose(
      found["flow"], np.broadcast_to([6, 10], [*SIZE, 2]), atol=1e-4
  )


@pytest.mark.parametrize(
    "first, second",
    [
        ([[1, 0, 11], [0, 1, 13]], [[1, 0, 12.5], [0, 1, 13]]),
        ([[-0.5, 0, 97], [0, 0.5, 17]], [[-0.5, 0, 96], [0, 0.5, 19]]),
        ([[0.9, 0.2, 3.7], [-0.1, 0.8, 31]], [[0.8, 0.3, 5], [-0.2, 0.9, 29]]),
    ],
)
def test_an_affine_flow_is_transformed_exactly(first, second, monkeypatch):
  with_maps(monkeypatch, first, second)
  bend = np.array([[0.03, 0.02], [-0.01, 0.04]])
  flow = lambda places: places @ bend.T + [1.5, -2.25]
  pair = {**smooth_pair(), "flow": flow(grid()).astype(np.float32)}
  found = augmented(pair, ranges=NOTHING)
  first, second = np.array(first), np.array(second)
  places = grid(*SIZE) @ first[:, :2].T + first[:, 2]
  ends = places + flow(places) - second[:, 2]
  expected = ends @ np.linalg.inv(second[:, :2]).T - grid(*SIZE)
  assert found["known"].all()
  np.testing.assert_allclose(found["flow"], expected, atol=2e-4)


def test_flow_is_unknown_where_one_of_four_pixels_is(monkeypatch):
  with_maps(monkeypatch, [[1, 0, 0.5], [0, 1, 0.25]])
  pair = random_pair(17, 19)
  pair["known"][5, 7] = pair["known"][11, 3] = False
  pair["flow"][5, 7], pair["flow"][11, 3] = np.nan, np.inf
  found = augmented(pair, size=(13, 11), ranges=NOTHING)
  unknown = [[y, x] for y in (4, 5) for x in (6, 7)]
  unknown += [[y, x] for y in (10, 11) for x in (2, 3)]
  assert np.argwhere(~found["known"]).tolist() == unknown
  assert not found["flow"][~found["known"]].any()
  around = pair["flow"][7:9, 2:4]
  expected = np.average(around.mean(1), axis=0, weights=[0.75, 0.25])
  np.testing.assert_allclose(found["flow"][7, 2], expected, atol=1e-4)


def test_flow_is_unknown_outside_the_first_frame(monkeypatch):
  with_maps(monkeypatch, [[1, 0, -2.5], [0, 1, 3]])
  found = augmented(random_pair(13, 17), size=(11, 17), ranges=NOTHING)
  expected = np.zeros([11, 17], bool)
  expected[:10, 3:] = True
  np.testing.assert_array_equal(found["known"], expected)


def test_sparse_flow_is_that_of_the_nearest_pixel(monkeypatch):
  # No place is half way between two pixels.
  first = np.array([[0.5, 0, 3.1], [0, 0.5, 2.1]])
  with_maps(monkeypatch, first, [[0.5, 0, 2.1], [0, 0.5, 2.1]])
  pair = random_pair(23, 29)
  pair["known"] = np.random.default_rng(1).random([23, 29]) < 0.1
  pair["flow"][~pair["known"]] = np.nan
  found = augmented(pair, size=(19, 17), ranges=NOTHING, sparse=True)
  x, y = np.moveaxis(np.rint(grid(19, 17) / 2 + [3.1, 2.1]).astype(int), -1, 0)
  known = found["known"]
  np.testing.assert_array_equal(known, pair["known"][y, x])
  assert 10 < known.sum() < 60
  # The second frame shows what is a pixel, or two of the crop's, to the left.
  expected = 2 * pair["flow"][y, x] + [2, 0]
  np.testing.assert_allclose(found["flow"][known], expected[known], atol=1e-4)
  dense = augmented(pair, size=(19, 17), ranges=NOTHING)["known"]
  assert not dense.any()


def test_sparse_and_dense_flow_are_cut_from_the_same_places():
  found, dense = (
      augmented(smooth_pair(), 3, sparse=sparse) for sparse in (True, False)
  )
  np.testing.assert_array_equal(found["frames"], dense["frames"])
  np.testing.assert_allclose(found["flow"], dense["flow"], atol=0.15)


@pytest.mark.parametrize("sparse", [True, False])
def test_severity_0_is_a_crop_at_any_place(sparse):
  pair = random_pair(13, 17)
  pair["flow"] = grid(13, 17).astype(np.float32)
  pair["known"] = np.random.default_rng(1).random([13, 17]) < 0.7
  pair["known"][:3, :2] = True
  places = set()
  for seed in range(50):
    found = augmented(pair, seed, (11, 16), severity=0, sparse=sparse)
    x, y = found["flow"][0, 0].astype(int).tolist()
    places.add((x, y))
    part = slice(y, y + 11), slice(x, x + 16)
    known = pair["known"][part]
    expected = {
        "frames": pair["frames"][:, *part],
        "flow": np.where(known[..., None], pair["flow"][part], 0),
        "known": known,
    }
    assert_same(found, expected)
    assert found["flow"].dtype == np.float32
  assert places == {(x, y) for x in (0, 1) for y in (0, 1, 2)}


def test_a_small_severity_changes_little_and_a_missing_one_is_1():
  pair = smooth_pair()
  found = augmented(pair, size=(Y, X), severity=1e-5)
  frames = found["frames"].astype(int) - pair["frames"]
  assert np.abs(frames).mean() < 1
  np.testing.assert_allclose(found["flow"], pair["flow"], atol=0.01)
  augment = Augment(SIZE)
  found = augment(pair, np.random.default_rng(5))
  assert_same(found, augmented(pair, 5))


def test_what_is_larger_than_the_pair_is_refused():
  for size in [(14, 17), (13, 19)]:
    message = f"a pair of 13 x 17 pixels .* the crop of {size[0]} x {size[1]}"
    for severity in (0, 1):
      with pytest.raises(ValueError, match=message):
        augmented(random_pair(13, 17), size=size, severity=severity)


def test_the_generator_decides_everything():
  ranges = Ranges(noise=7, erased_size=(5, 11))
  found = [augmented(smooth_pair(), seed, ranges=ranges) for seed in (3, 3, 4)]
  assert_same(found[0], found[1])
  assert (found[0]["frames"] != found[2]["frames"]).mean() > 0.5


def test_the_pair_that_comes_in_stays_as_it_is():
  pair = {**smooth_pair(), "visible": np.ones([Y, X], bool)}
  for array in pair.values():
    array.flags.writeable = False
  copies = {key: array.copy() for key, array in pair.items()}
  for severity in (0, 1):
    found = augmented(pair, severity=severity)
    assert set(found) == set(pair)
    assert found["flow"].dtype == np.float32
  reversed_pair(pair)
  assert_same(pair, copies)


def test_colours_change_no_flow():
  pair = random_pair(13, 17)
  for seed in range(20):
    found = augmented(pair, seed, (13, 17), ranges=ONLY_COLOURS)
    assert (found["frames"] != pair["frames"]).mean() > 0.5
    np.testing.assert_array_equal(found["flow"], pair["flow"])
    assert found["known"].all()


def recoloured(frames, seed=0, **ranges):
  pair = {**random_pair(*frames.shape[1:3]), "frames": frames}
  ranges = dataclasses.replace(NOTHING, **ranges)
  found = augmented(pair, seed, frames.shape[1:3], ranges=ranges)["frames"]
  assert found.shape == frames.shape and found.dtype == np.uint8
  return found.astype(int)


def test_colours_that_may_not_change_do_not():
  frames = random_pair(13, 17)["frames"]
  np.testing.assert_array_equal(recoloured(frames), frames)


def test_each_change_of_colours_does_what_it_says():
  frames = random_pair(13, 17)["frames"] // 2 + 30
  levels = frames.astype(int)
  grey = np.repeat(frames[..., :1], 3, axis=-1)
  for seed in range(10):
    factor = recoloured(frames, seed, brightness=0.4) / levels
    assert np.ptp(factor) < 0.04 and 0.6 < factor.mean() < 1.4
    found = recoloured(frames, seed, contrast=0.4)
    assert abs(found.mean() - levels.mean()) < 0.3
    assert 0.6 < found.std() / levels.std() < 1.4
    found = recoloured(frames, seed, gamma=0.3)
    exponent = np.log(found / 255) / np.log(levels / 255)
    assert np.ptp(exponent) < 0.05 and 0.8 < exponent.mean() < 1.25
    # The colour changes and the strongest channel's level does not.
    found = recoloured(frames, seed, hue=0.16, saturation=0.4)
    np.testing.assert_array_equal(found.max(-1), levels.max(-1))
    found = recoloured(grey, seed, hue=0.16, saturation=0.4)
    np.testing.assert_array_equal(found, grey)


def test_a_hue_turns_either_way():
  red = np.full([2, 5, 7, 3], (200, 0, 0), np.uint8)
  found = [recoloured(red, seed, hue=0.16)[0, 0, 0] for seed in range(30)]
  found = np.array(found)
  assert (found[:, 0] == 200).all() and (found[:, 1:].min(1) == 0).all()
  # Turned by a sixth, it would be all yellow or all violet.
  green, blue = found[:, 1:].max(0)
  assert 150 < green < 200 and 150 < blue < 200


def test_frames_have_the_same_colours_or_their_own():
  frames = random_pair(13, 17)["frames"][[0, 0]]
  first, second = recoloured(frames, **COLOURS)
  np.testing.assert_array_equal(first, second)
  first, second = recoloured(frames, **COLOURS, different=1)
  assert np.abs(first - second).mean() > 3


def test_noise_differs_between_frames_and_is_as_strong_as_drawn():
  frames = np.full([2, 43, 47, 3], 101, np.uint8)
  deviations = []
  for seed in range(10):
    noise = recoloured(frames, seed, noise=11) - 101
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    deviations.append(noise.std())
  assert min(deviations) < 5 and 7 < max(deviations) < 11.3


def erased(pair, seed=0, **ranges):
  ranges = dataclasses.replace(NOTHING, erased=1, **ranges)
  return augmented(pair, seed, pair["known"].shape, ranges=ranges)


def test_rectangles_of_the_second_frame_become_its_mean_colour():
  pair = random_pair(23, 29)
  for seed in range(20):
    found = erased(pair, seed, erased_count=(1, 1), erased_size=(3, 7))
    np.testing.assert_array_equal(found["frames"][0], pair["frames"][0])
    np.testing.assert_array_equal(found["flow"], pair["flow"])
    change = (found["frames"][1] != pair["frames"][1]).any(-1)
    y, x = np.nonzero(change)
    height, width = np.ptp(y) + 1, np.ptp(x) + 1
    assert change.sum() == height * width  # One rectangle, without holes.
    assert max(height, width) <= 7
    if y.max() < 22:
      assert height >= 3
    if x.max() < 28:
      assert width >= 3
    mean = np.rint(pair["frames"][1].mean((0, 1)))
    assert (found["frames"][1][change] == mean).all()


def test_there_are_up_to_three_rectangles():
  pair = random_pair(41, 43)
  areas = set()
  for seed in range(60):
    frame = erased(pair, seed, erased_size=(1, 1))["frames"][1]
    areas.add((frame != pair["frames"][1]).any(-1).sum())
  assert areas == {1, 2, 3}


def test_what_is_visible_moves_along_and_stays_inside(monkeypatch):
  with_maps(monkeypatch, [[1, 0, 3], [0, 1, 2]])
  pair = random_pair(17, 19)
  pair["flow"][:] = [5, -1]
  pair["visible"] = np.ones([17, 19], bool)
  pair["visible"][7, 5] = False
  found = augmented(pair, size=(11, 13), ranges=NOTHING)["visible"]
  expected = np.zeros([11, 13], bool)
  expected[1:, :8] = True
  expected[5, 2] = False
  np.testing.assert_array_equal(found, expected)
  pair["flow"][:] = 0
  found = augmented(pair, size=(17, 19), severity=0)["visible"]
  np.testing.assert_array_equal(found, pair["visible"])


def test_what_ends_where_something_is_erased_is_not_visible():
  pair = random_pair(23, 29)
  pair["flow"][:] = [2, -3]
  pair["visible"] = np.ones([23, 29], bool)
  found = erased(pair, erased_size=(7, 7))
  change = (found["frames"][1] != pair["frames"][1]).any(-1)
  expected = np.zeros([23, 29], bool)
  expected[3:, :27] = ~change[:20, 2:]
  np.testing.assert_array_equal(found["visible"], expected)


def test_a_constant_flow_reversed_is_its_negative_where_something_ends():
  pair = random_pair(11, 13)
  pair["flow"][:] = [4, -2]
  found = reversed_pair(pair)
  np.testing.assert_array_equal(found["frames"], pair["frames"][::-1])
  known = np.zeros([11, 13], bool)
  known[:9, 4:] = True
  np.testing.assert_array_equal(found["known"], known)
  assert (found["flow"][known] == [-4, 2]).all()
  assert not found["flow"][~known].any()
  assert found["flow"].dtype == np.float32


def test_flows_that_end_at_one_pixel_are_averaged():
  pair = {
      "frames": np.zeros([2, 3, 5, 3], np.uint8),
      "flow": np.full([3, 5, 2], np.nan, np.float32),
      "known": np.zeros([3, 5], bool),
      "visible": np.ones([3, 5], bool),
      "name": "a",
  }
  # Two that end at (x, y) = (3, 1), one at (1, 2), one outside.
  flows = {(0, 0): (2.75, 1.25), (4, 1): (-1.25, 0), (1, 2): (0.25, -0.25)}
  for (x, y), flow in {**flows, (4, 2): (0.75, 0)}.items():
    pair["flow"][y, x], pair["known"][y, x] = flow, True
  pair["visible"][1, 4] = pair["visible"][2, 1] = False
  found = reversed_pair(pair)
  assert np.argwhere(found["known"]).tolist() == [[1, 3], [2, 1]]
  assert found["flow"][1, 3].tolist() == [-0.75, -0.625]
  assert found["flow"][2, 1].tolist() == [-0.25, 0.25]
  assert np.argwhere(found["visible"]).tolist() == [[1, 3]]
  assert found["name"] == "a"


def test_a_smooth_flow_reversed_fits_and_reversed_again_is_itself():
  pair = smooth_pair()
  once = reversed_pair(pair)
  assert difference(once) < 0.8
  twice = reversed_pair(once)
  known = twice["known"]
  assert known.mean() > 0.8
  error = np.abs(twice["flow"] - pair["flow"])[known]
  assert error.mean() < 0.05 and error.max() < 0.5


class Pairs:
  """Without end; the frames of each hold its number, and that plus 100."""

  def __getitem__(self, i):
    frames = np.full([2, 13, 17, 3], i, np.uint8)
    frames[1] += 100
    return {
        "frames": frames,
        "flow": np.full([13, 17, 2], (2, -1), np.float32),
        "known": np.ones([13, 17], bool),
    }


def described(example):
  """The pair's number, which of its frames is first, and the severity."""
  first = int(example["frames"][0, 0, 0, 0])
  assert example["severity"].dtype == np.float32
  return first % 100, first // 100, round(float(example["severity"]), 3)


@pytest.mark.parametrize("copied", [False, True])
def test_pairs_come_twice_and_then_more_and_more_severe(copied):
  curriculum = Curriculum(Pairs(), unaugmented_examples=6, ramp_examples=4)
  if copied:
    curriculum = pickle.loads(pickle.dumps(curriculum))
  assert [described(curriculum[i]) for i in range(12)] == [
      (0, 0, 0),
      (0, 1, 0),
      (1, 0, 0),
      (1, 1, 0),
      (2, 0, 0),
      (2, 1, 0),
      (3, 0, 0),
      (4, 0, 0.25),
      (5, 0, 0.5),
      (6, 0, 0.75),
      (7, 0, 1),
      (8, 0, 1),
  ]
  assert curriculum[2]["flow"][5, 5].tolist() == [2, -1]
  assert curriculum[3]["flow"][5, 5].tolist() == [-2, 1]


def test_a_curriculum_may_begin_in_the_middle():
  curriculum = Curriculum(Pairs(), 0, 5, start=0.5)
  found = [described(curriculum[i]) for i in (0, 1, 5, 31)]
  assert found == [(0, 0, 0.5), (1, 0, 0.6), (5, 0, 1), (31, 0, 1)]
  curriculum = Curriculum(Pairs(), 3, 0)
  found = [described(curriculum[i]) for i in range(4)]
  assert found == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (2, 0, 1)]


def test_a_curriculum_that_cannot_be_is_refused():
  with pytest.raises(ValueError, match="start 1.5 is not in"):
    Curriculum(Pairs(), 3, 5, start=1.5)
  with pytest.raises(
      ValueError, match="unaugmented_examples -3 .* must not be negative"
  ):
    Curriculum(Pairs(), -3, 5)


def test_a_pipeline_reads_a_curriculum():
  pairs = [Pairs()[i] for i in range(7)]
  pairs = grain.MapDataset.source(pairs).seed(0).shuffle().repeat()
  curriculum = Curriculum(pairs, unaugmented_examples=6, ramp_examples=3)
  examples = grain.MapDataset.source(curriculum).seed(0)
  step = pickle.loads(pickle.dumps(Augment((7, 11), ONLY_COLOURS)))
  settings = dict(batch_size=3, seed=0, shard=Shard())
  batches = iter(pipeline.train(examples, [step], **settings))
  first, second, third = (next(batches) for _ in range(3))
  assert first["frames"].shape == (3, 2, 7, 11, 3)
  assert first["flow"].shape == (3, 7, 11, 2)
  assert set(first) == {"frames", "flow", "known"}
  numbers = np.concatenate([first["frames"], second["frames"]])[:, 0, 0, 0, 0]
  assert (numbers[1::2] == numbers[::2] + 100).all()
  assert len(set(numbers % 100)) == 3
  # The seventh is the first that may change, and does not yet.
  assert third["frames"][0, 1, 0, 0, 0] == third["frames"][0, 0, 0, 0, 0] + 100
  assert third["frames"][2, 1, 0, 0, 0] != third["frames"][2, 0, 0, 0, 0] + 100
  settings["shard"] = Shard(first=2)  # The curriculum goes on where it was.
  again = next(iter(pipeline.train(examples, [step], **settings)))
  np.testing.assert_array_equal(again["frames"], third["frames"])
