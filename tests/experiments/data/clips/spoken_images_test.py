"""Spoken digits over images: what a clip is made of, and AudioSet's lists."""

import csv
import io
import os
import pathlib
import wave
import zipfile

import cv2
import numpy as np
import pytest

from experiments.data.clips import index as clip_index
from experiments.data.clips import reading as clips
from experiments.data.clips import spoken_images
from experiments.data.clips import video
from experiments.data.errors import DataError
from scripts import prepare_data
from tests.conftest import ROOT

REAL = pathlib.Path(
    os.environ.get("PERCEIVER_TEST_DATA", ROOT.parent / "shared" / "data")
)
CLASSES = "ant bee cow dog eel fox gnu hen ibis jay".split()
TAKES = 7  # Of which five are for testing.


def wave_file(samples, rate=8000):
  file = io.BytesIO()
  with wave.open(file, "wb") as writer:
    writer.setnchannels(1)
    writer.setsampwidth(2)
    writer.setframerate(rate)
    writer.writeframes(samples.astype("<i2").tobytes())
  return file.getvalue()


def tone(digit):
  """Another frequency for each digit, in whole hundreds of hertz."""
  time = np.arange(3001) / 8000
  return 9000 * np.sin(2 * np.pi * 100 * (digit + 3) * time)


def write_sources(folder, rate=8000, classes=CLASSES, takes=TAKES):
  recordings, images = folder / "digits.zip", folder / "images.zip"
  with zipfile.ZipFile(recordings, "w") as archive:
    for digit in range(10):
      for take in range(takes):
        content = wave_file(tone(digit), rate)
        archive.writestr(f"recordings/{digit}_ann_{take}.wav", content)
  with zipfile.ZipFile(images, "w") as archive:
    for split, level in (("train", 40), ("test", 200)):
      for i, name in enumerate(classes):
        picture = np.full([32, 32, 3], level, np.uint8)
        picture[:, :16, 0] = 20 * i  # Blue, in OpenCV's order.
        content = cv2.imencode(".jpg", picture)[1].tobytes()
        for number in range(2):
          archive.writestr(f"{split}/{name}/{number:04}.jpg", content)
  return recordings, images


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp("spoken")
  sources = write_sources(folder)
  spoken_images.write(
      *sources, folder / "out", clips={"train": 23, "test": 11}, processes=1
  )
  return folder


def test_the_lists_are_audiosets(written):
  out = written / "out"
  lines = (out / "train.csv").read_text().splitlines()
  assert [line[0] for line in lines[:4]] == ["#", "#", "#", "t"]
  assert lines[2] == "# YTID, start_seconds, end_seconds, positive_labels"
  rows = list(csv.reader(lines[3:], skipinitialspace=True))
  assert len(rows) == 23
  assert rows[17] == ["train-00017", "0.000", "2.000", "/m/seven_hen"]
  with (out / "class_labels_indices.csv").open(newline="") as file:
    classes = list(csv.DictReader(file))
  assert [row["index"] for row in classes] == [str(i) for i in range(10)]
  assert classes[7] == {
      "index": "7",
      "mid": "/m/seven_hen",
      "display_name": "seven, hen",
  }


def test_the_clips_can_be_indexed_and_read(written):
  out = written / "out"
  summary = clip_index.prepare(
      clip_index.audioset_rows(out / "test.csv"),
      clip_index.audioset_classes(out / "class_labels_indices.csv"),
      out / "clips",
      written / "data" / "spoken_images" / "test.json",
      min_seconds=1.28,
      processes=1,
  )
  assert summary["clips"] == 11 and not summary["left_out"]
  assert summary["without_sound"] == 0
  opened = clips.open_clips(
      "spoken_images", "test", str(written / "data"), num_classes=10
  )
  assert [opened[i]["labels"].tolist() for i in (0, 7, 10)] == [[0], [7], [0]]
  assert opened[3]["seconds"] == pytest.approx(spoken_images.SECONDS)
  example = clips.read(
      opened[3],
      np.random.default_rng(0),
      num_frames=5,
      fps=5.0,
      samples_per_frame=1600,
      where="center",
  )
  assert example["video"].shape == (5, 64, 64, 3)
  assert example["audio"].std() > 0.01


def test_without_images_clips_are_sound_alone(tmp_path):
  recordings, _ = write_sources(tmp_path)
  out = tmp_path / "out"
  prepare_data.main(
      f"spoken_images --recordings={recordings} --output={out} --train_clips=11"
      " --test_clips=13 --processes=1".split()
  )
  summary = clip_index.prepare(
      clip_index.audioset_rows(out / "test.csv"),
      clip_index.audioset_classes(out / "class_labels_indices.csv"),
      out / "clips",
      tmp_path / "data" / "digits" / "test.json",
      min_seconds=1.28,
      kind=clip_index.SOUNDS,
      processes=1,
  )
  assert summary["clips"] == 13 and not summary["left_out"]
  assert (out / "test.csv").read_text().splitlines()[9].endswith('"/m/six"')
  content = (out / "clips" / "test-00006_0.000.wav").read_bytes()
  with wave.open(io.BytesIO(content)) as file:
    assert file.getparams()[:4] == (1, 2, 8000, 16_000)
    sound = np.frombuffer(file.readframes(16_000), "<i2") / 32767
  sources = spoken_images._sources(recordings, None)
  frames, expected = spoken_images.clip(sources, "test", 6, seed=0)
  assert frames is None
  np.testing.assert_allclose(sound, expected[:, 0], atol=1e-4)


def test_the_noise_is_as_loud_as_asked(tmp_path):
  recordings, _ = write_sources(tmp_path)
  for ratio in (7.0, 43.0):
    sources = spoken_images._sources(recordings, None, (ratio, ratio))
    _, sound = spoken_images.clip(sources, "train", 3, seed=5)
    power = np.convolve(sound[:, 0] ** 2, np.ones(3001) / 3001, "valid")
    # Where the digit is, its power and that of the noise.
    noise = min(np.mean(sound[:500] ** 2), np.mean(sound[-500:] ** 2))
    measured = 10 * np.log10(power.max() / noise - 1)
    assert measured == pytest.approx(ratio, abs=1.5)
  with pytest.raises(DataError, match="two ordered numbers"):
    spoken_images.write(
        recordings, None, tmp_path / "o", clips={"train": 1}, snr=(3.0, 2.0)
    )


@pytest.mark.parametrize("label", [0, 4, 9])
def test_a_clip_has_the_sound_and_the_picture_of_its_class(written, label):
  path = written / "out" / "clips" / f"train-{label + 10:05}_0.000.mp4"
  sound = video.read_audio(path, rate=8000)[:, 0]
  spectrum = np.abs(np.fft.rfft(sound))
  hertz = spectrum.argmax() * 8000 / len(sound)
  assert hertz == pytest.approx(100 * (label + 3), abs=8)
  frames = video.read_frames(path, fps=12.5)
  assert frames.shape == (25, 64, 64, 3)
  assert abs(int(np.median(frames[..., 0])) - 40) < 9  # Training's images.


def test_what_is_tested_is_not_what_was_trained_on(written):
  sources = spoken_images._sources(
      written / "digits.zip", written / "images.zip"
  )
  train, test = (sources.recording_names[s] for s in ("train", "test"))
  for digit in range(10):
    takes = [f"recordings/{digit}_ann_{take}.wav" for take in range(TAKES)]
    assert test[digit] == takes[:5] and train[digit] == takes[5:]
  for i, name in enumerate(CLASSES):
    for split in ("train", "test"):
      names = sources.image_names[split][i]
      assert names == [f"{split}/{name}/{n:04}.jpg" for n in range(2)]


def test_each_recording_is_used_before_one_is_used_again(written):
  sources = spoken_images._sources(
      written / "digits.zip", written / "images.zip"
  )
  asked = []

  class Names(list):

    def __getitem__(self, index):
      asked.append(index)
      return super().__getitem__(index)

  sources.recording_names["test"][3] = Names(sources.recording_names["test"][3])
  for turn in range(10):
    spoken_images.clip(sources, "test", 10 * turn + 3, seed=0)
  assert sorted(asked[:5]) == sorted(asked[5:]) == list(range(5))


def test_digits_are_at_different_times_and_cameras_move(written):
  sources = spoken_images._sources(
      written / "digits.zip", written / "images.zip"
  )
  middles, moved = [], []
  for turn in range(12):
    frames, sound = spoken_images.clip(sources, "train", 10 * turn + 7, 0)
    assert np.abs(sound).max() <= 1 and sound.dtype == np.float32
    energy = np.convolve(sound[:, 0] ** 2, np.ones(3001), "valid")
    middles.append(energy.argmax() / 8000)
    moved.append(np.abs(frames[0].astype(int) - frames[-1]).max())
  assert np.std(middles) > 0.2
  # What was the picture's coloured half is now the other.
  assert np.median(moved) > 60


def test_the_same_seed_makes_the_same_clips_and_another_does_not(written):
  sources = spoken_images._sources(
      written / "digits.zip", written / "images.zip"
  )
  one, same, other = (
      spoken_images.clip(sources, "train", 13, seed)[1] for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 0.01


def test_what_is_there_is_left_and_what_is_missing_is_made_again(written):
  out = written / "out"
  kept, made = (out / "clips" / f"test-0000{i}_0.000.mp4" for i in (1, 2))
  seen, heard = video.read_frames(made), video.read_audio(made)
  kept.write_bytes(b"mine")
  made.unlink()
  spoken_images.write(
      written / "digits.zip",
      written / "images.zip",
      out,
      clips={"train": 2, "test": 11},
      processes=1,
  )
  assert kept.read_bytes() == b"mine"
  # H.264's coder may give equal frames other bytes, but nobody sees it.
  again = video.read_frames(made).astype(int)
  assert np.abs(again - seen).mean() < 1
  np.testing.assert_array_equal(video.read_audio(made), heard)
  kept.unlink()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 16000}, r"digits.zip/recordings/\d_ann_\d.wav .* 16000 Hz"),
        ({"classes": CLASSES[:7]}, "images.zip has images of 7 classes"),
        ({"takes": 5}, "digits.zip does not have recordings of all digits"),
    ],
)
def test_sources_that_are_something_else_are_named(tmp_path, changes, message):
  sources = write_sources(tmp_path, **changes)
  with pytest.raises(DataError, match=message):
    found = spoken_images._sources(*sources)
    spoken_images.clip(found, "train", 0, 0)


def test_a_file_that_is_no_zip_ends_the_command_with_one_line(tmp_path, capsys):
  (tmp_path / "digits.zip").write_bytes(b"no archive")
  command = ["spoken_images", f"--output={tmp_path}"]
  command += [f"--{n}={tmp_path}/digits.zip" for n in ("recordings", "images")]
  with pytest.raises(SystemExit) as ended:
    prepare_data.main(command)
  assert ended.value.code == 2
  assert "digits.zip is not a zip file" in capsys.readouterr().err


@pytest.mark.skipif(
    not (REAL / "spoken_digits").is_dir(), reason=f"no real data in {REAL}"
)
def test_the_real_digits_and_pictures_are_read():
  sources = spoken_images._sources(
      REAL / "spoken_digits" / "recordings.zip",
      REAL / "cifar10" / "cifar10_jpeg.zip",
  )
  assert sources.classes[3] == "three, cat"
  assert sources.classes[9] == "nine, truck"
  lengths = {
      split: {len(names) for names in sources.recording_names[split]}
      for split in ("train", "test")
  }
  assert lengths == {"train": {270}, "test": {30}}
  frames, sound = spoken_images.clip(sources, "test", 17, 0)
  assert frames.std() > 10 and frames.shape == (25, 64, 64, 3)
  assert 0.01 < sound.std() < 0.5 and sound.shape == (16_000, 1)
