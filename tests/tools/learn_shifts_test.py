"""Shifted frames, against slices of an image."""

import numpy as np

from tools import learn_shifts


def test_what_is_seen_moves_by_the_shift():
  image = np.random.default_rng(0).integers(0, 256, (41, 43, 3), np.uint8)
  place, (x, y) = np.array([11, 7]), (2, -1)
  first = learn_shifts.cut(image, place)
  second = learn_shifts.cut(image, place - (y, x))
  height, width = learn_shifts.SIZE
  np.testing.assert_array_equal(first, image[11 : 11 + height, 7 : 7 + width])
  # A positive x is rightwards, a negative y upwards.
  np.testing.assert_array_equal(second[:-1, 2:], first[1:, :-2])


def test_frames_apart_or_together_have_latents_for_the_whole_grid():
  for variant, dims in (
      ("mini_patches", (14, 22)),
      ("mini_patches_separate", (2, 14, 22)),
      ("mini_conv_separate", (2, 4, 6)),
  ):
    config = learn_shifts.settings(variant)
    grid = config.init.grids.frames
    assert tuple(grid.dims) == dims
    count = config.model.encoder.num_latents
    assert count == np.prod(grid.latent_dims)
