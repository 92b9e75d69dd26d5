"""Clips as they are trained on: what changes, and that all frames do alike."""

import functools

import numpy as np
import pytest

from experiments.data import pipeline
from experiments.data.clips import augment

T, Y, X, SIZE = 3, 37, 53, 11


def numbered():
  """Frames whose red is the row, green the column and blue the frame."""
  t, y, x = np.mgrid[:T, :Y, :X]
  return np.stack([y * 5, x * 4, t * 50], axis=-1).astype(np.uint8)


def noise(seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(60, 190, [T, Y, X, 3], dtype=np.uint8)


def changed(step, video, seed=0, **settings):
  rng = np.random.default_rng(seed)
  step = pipeline.in_turn([functools.partial(step, **settings)])
  example = step({"video": video, "labels": 7}, rng)
  assert example["labels"] == 7
  return example["video"]


def box_of(frame):
  """First and last row and column that a frame of `numbered` shows."""
  rows, columns = frame[..., 0] / 5, frame[..., 1] / 4
  return rows.min(), rows.max(), columns.min(), columns.max()


def test_all_frames_are_cut_at_the_same_place():
  for seed in range(20):
    video = changed(augment.random_crop, numbered(), seed, size=SIZE)
    assert video.shape == (T, SIZE, SIZE, 3) and video.dtype == np.uint8
    np.testing.assert_array_equal(
        video[..., 2],
        50 * np.ones_like(video[..., 2]) * np.arange(T)[:, None, None],
    )
    for frame in video[1:]:
      np.testing.assert_array_equal(frame[..., :2], video[0, ..., :2])


def test_crops_are_as_inception_has_them():
  boxes = []
  for seed in range(200):
    frame = changed(augment.random_crop, numbered(), seed, size=97)[0]
    top, bottom, left, right = box_of(frame)
    boxes.append((bottom - top + 1, right - left + 1, top, left))
  height, width, top, left = np.array(boxes).T
  area = height * width / (Y * X)
  assert area.min() < 0.2 and area.max() > 0.65
  assert (area > 0.06).all()  # A twelfth, as whole pixels.
  ratio = width / height
  assert 0.6 < ratio.min() < 0.85 and 1.2 < ratio.max() < 1.6
  assert top.std() > 3 and left.std() > 3


def test_the_centre_is_seven_eighths_of_the_shorter_side():
  frame = changed(augment.centre_crop, numbered(), size=32)[0]
  # 32 of 37 rows: nothing is resized.
  assert box_of(frame) == (3, 34, 11, 42)


def test_the_centre_of_a_clip_of_one_pixel_is_that_pixel():
  video = np.full([T, 1, 1, 3], 77, np.uint8)
  video = changed(augment.centre_crop, video, size=SIZE)
  np.testing.assert_array_equal(video, np.full([T, SIZE, SIZE, 3], 77))


def test_smaller_pixels_are_means_of_what_they_cover():
  video = noise()[:, :32, :32]
  small = changed(augment.centre_crop, video, size=7)
  part = video[:, 2:30, 2:30].astype(float)  # 28 = 7/8 of 32, four each.
  means = part.reshape(T, 7, 4, 7, 4, 3).mean(axis=(2, 4))
  assert np.abs(small - means).max() <= 0.51


def test_half_of_the_clips_are_mirrored_in_all_frames():
  video = noise()
  mirrored = 0
  for seed in range(100):
    after = changed(augment.random_flip, video, seed)
    if not np.array_equal(after, video):
      np.testing.assert_array_equal(after, video[:, :, ::-1])
      mirrored += 1
  assert 35 < mirrored < 65


def affine(before, after):
  """The map of colours that makes the least error, and that error."""
  colors = np.column_stack(
      [before.reshape(-1, 3), np.ones(before[..., 0].size)]
  )
  matrix, *_ = np.linalg.lstsq(colors, after.reshape(-1, 3), rcond=None)
  return matrix.T, np.abs(colors @ matrix - after.reshape(-1, 3)).max()


def test_one_map_of_colours_is_for_all_frames():
  video = noise(3)
  video[1] = 128 + (video[1] - 128.0) / 3  # Another contrast than the others'.
  found = []
  for seed in range(40):
    after = changed(augment.random_color, video, seed, probability=1.0)
    inside = ((after > 0) & (after < 255)).all(axis=-1)
    matrix, error = affine(video[inside], after[inside])
    assert error < 0.6  # Rounding alone.
    found.append(matrix)
  found = np.array(found)
  # What is grey becomes another grey.
  grey = found @ [128, 128, 128, 1]
  np.testing.assert_allclose(np.ptp(grey, axis=1), 0, atol=1.5)
  assert np.ptp(grey.mean(axis=1)) > 30
  # Rows add up to the contrast.
  contrast = found[..., :3].sum(axis=-1)
  assert contrast.min() > 0.58 and contrast.max() < 1.42
  assert contrast.min() < 0.75 and contrast.max() > 1.25


def test_contrast_and_brightness_are_about_the_mean_of_the_clip():
  video = noise(5)
  moved = []
  for seed in range(40):
    after = changed(augment.random_color, video, seed, probability=1.0)
    moved.append(after.mean() - video.mean())
  # The mean is moved by brightness alone, 32 at most.
  assert 20 < max(moved) < 33 and -33 < min(moved) < -20


def test_some_clips_keep_their_colours():
  video = noise()
  same = sum(
      np.array_equal(changed(augment.random_color, video, seed), video)
      for seed in range(200)
  )
  assert 20 < same < 60  # A fifth.


def test_colours_that_leave_the_range_are_cut():
  double = np.column_stack([2 * np.eye(3), [-100.0, 0.0, 0.3]])
  video = np.array([[[[40, 150, 60]]]], np.uint8)
  np.testing.assert_array_equal(
      augment.mapped(video, double)[0, 0, 0], [0, 255, 120]
  )


def test_a_mirrored_clip_may_change_its_colours():
  video = noise()[:, :, ::-1]
  assert not video.flags.c_contiguous
  after = changed(augment.random_color, video, 1, probability=1.0)
  same = changed(augment.random_color, video.copy(), 1, probability=1.0)
  np.testing.assert_array_equal(after, same)


def test_normalised_video_goes_from_minus_one_to_one():
  video = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
  video = changed(augment.normalised, video)
  assert video.dtype == np.float32
  np.testing.assert_allclose(video.ravel(), [-1, -0.6, 1], atol=1e-6)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_whole_clips_are_dropped_as_often_as_asked(probability):
  video = np.ones([T, 5, 7, 3], np.float32)
  dropped = 0
  for seed in range(300):
    after = changed(
        augment.dropout, video, seed, name="video", probability=probability
    )
    assert after.dtype == np.float32 and np.ptp(after) == 0
    dropped += after.max() == 0
  assert abs(dropped / 300 - probability) < 0.09
