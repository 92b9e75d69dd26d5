"""Spectrograms: where sounds are in them, how loud, and what is masked."""

import importlib

import numpy as np
import pytest

from experiments.data.clips import sound

RATE = 8000
SETTINGS = {
    "rate": RATE,
    "hop": 128,
    "window": 256,
    "num_bands": 23,
    "low": 100.0,
    "high": 4000.0,
}


def tone(hertz, amplitude=1.0, samples=19 * 128, rate=RATE):
  time = np.arange(samples) / rate
  return np.float32(amplitude * np.sin(2 * np.pi * hertz * time))[:, None]


def mel(hertz):
  return 1127 * np.log1p(np.asarray(hertz) / 700)


@pytest.mark.parametrize("hertz", [300, 1100, 2900])
def test_a_tone_is_in_the_band_around_its_frequency(hertz):
  found = sound.log_mel(tone(hertz), **SETTINGS)
  assert found.shape == (19, 23) and found.dtype == np.float32
  edges = np.linspace(mel(100), mel(4000), 25)
  centres = edges[1:-1]
  nearest = np.abs(centres - mel(hertz)).argmin()
  np.testing.assert_array_equal(found[1:-1].argmax(axis=1), nearest)


def test_ten_times_quieter_is_two_fifths_less():
  loud, quiet = (
      sound.log_mel(tone(1100, amplitude), **SETTINGS).max(axis=1)[1:-1]
      for amplitude in (1.0, 0.1)
  )
  np.testing.assert_allclose(loud - quiet, 20 / 50, atol=1e-4)
  # A triangle of a few frequencies has most of the tone, or a little more.
  assert (np.abs(loud - 1) < 0.12).all()


def test_silence_is_the_least():
  quiet = sound.log_mel(np.zeros([19 * 128, 1], np.float32), **SETTINGS)
  np.testing.assert_array_equal(quiet, -1)


def test_a_frame_is_where_its_sound_is():
  click = np.zeros([19 * 128, 1], np.float32)
  click[11 * 128 + 64] = 1  # In the middle of the eleventh.
  found = sound.log_mel(click, **SETTINGS)
  assert found.mean(axis=1).argmax() == 11
  assert (found[:10] == -1).all() and (found[13:] == -1).all()


def test_the_papers_spectrogram_has_4800_numbers():
  settings = importlib.import_module("configs.audioset").get_config("mel")
  found = sound.spectrogram(
      {"audio": tone(1000, samples=61_440, rate=48_000), "labels": 3},
      rate=48_000,
      **settings.spectrogram,
  )
  assert found["audio"].shape == (60, 80) and found["labels"] == 3
  flat = sound.flattened(found)["audio"]
  assert flat.shape == (4800, 1)
  np.testing.assert_array_equal(flat[80:160, 0], found["audio"][1])


def test_the_same_sound_looks_the_same():
  noise = np.random.default_rng(0).normal(0, 0.1, [7 * 128, 1])
  first, second = (
      sound.log_mel(noise.astype(np.float32), **SETTINGS) for _ in range(2)
  )
  np.testing.assert_array_equal(first, second)


def test_sound_that_is_no_whole_number_of_hops_is_refused():
  with pytest.raises(ValueError, match="129 samples .* hop 128"):
    sound.log_mel(np.zeros([129, 1], np.float32), **SETTINGS)


def test_too_many_bands_are_refused():
  with pytest.raises(ValueError, match="211 bands from 100.0 to 4000.0 Hz"):
    sound.log_mel(tone(1000), **{**SETTINGS, "num_bands": 211})


def test_masks_hide_bands_and_stretches_and_nothing_else():
  before = np.random.default_rng(1).normal(size=[17, 13]).astype(np.float32)
  bands, frames = set(), set()
  for seed in range(60):
    after = sound.spec_augment(
        {"audio": before}, np.random.default_rng(seed), frequency=3, time=5
    )["audio"]
    assert after.dtype == np.float32
    hidden = after != before
    np.testing.assert_allclose(after[hidden], before.mean(), rtol=1e-5)
    rows, columns = hidden.all(axis=1), hidden.all(axis=0)
    np.testing.assert_array_equal(hidden, rows[:, None] | columns)
    for covered, counts in ((columns, bands), (rows, frames)):
      where = np.flatnonzero(covered)
      counts.add(len(where))
      assert (np.diff(where) == 1).all()  # One stretch.
  assert bands == set(range(4)) and frames == set(range(6))


def test_several_masks_hide_more_than_one_can():
  before = np.random.default_rng(1).normal(size=[17, 13]).astype(np.float32)
  most = max(
      (sound.spec_augment({"audio": before}, rng, 1, 2, 3)["audio"] != before)
      .all(axis=1)
      .sum()
      for rng in map(np.random.default_rng, range(60))
  )
  assert most == 6
  assert before.std() > 0.5  # What was given is as it was.


def test_masks_larger_than_the_spectrogram_are_refused():
  example = {"audio": np.zeros([17, 13], np.float32)}
  with pytest.raises(ValueError, match="5 frames and 14 bands.* 17 and 13"):
    sound.spec_augment(example, np.random.default_rng(0), 14, 5)
