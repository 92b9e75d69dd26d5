"""Clips with sound: their lists, their index, and how they are decoded."""

import csv
import pathlib
import pickle

import numpy as np
import pytest

from experiments.data.clips import film
from experiments.data.clips import index
from experiments.data.clips import reading
from experiments.data.clips import video
from experiments.data.errors import DataError
from experiments.engine import wav
from scripts import prepare_data

RATE = 8000
KINETICS = "label,youtube_id,time_start,time_end,split\n"


def write_clip(path, seconds=2.0, sound=True, level=0, fps=25):
  """A clip that gets brighter by four a frame; from its middle on, a tone."""
  path.parent.mkdir(parents=True, exist_ok=True)
  count = round(seconds * fps)
  levels = (level + 4 * np.arange(count)).clip(0, 255).astype(np.uint8)
  frames = np.tile(levels[:, None, None, None], [1, 32, 48, 3])
  tone = 0.5 * np.sin(np.arange(round(seconds * RATE)) * 0.5)
  tone[: len(tone) // 2] = 0.0
  audio = tone[:, None].astype(np.float32) if sound else None
  video.write(path, frames, fps, audio, RATE)


def kinetics_list(path, rows):
  path.write_text(
      KINETICS + "".join(f"{label},{name},3,13,train\n" for label, name in rows)
  )
  return path


def indexed(tmp_path, rows, min_seconds=0.5, **options):
  path = kinetics_list(tmp_path / "train.csv", rows)
  return index.prepare(
      index.kinetics_rows(path),
      options.pop("classes", None) or index.kinetics_classes(path),
      tmp_path / "videos",
      tmp_path / "data" / "kinetics" / "train.json",
      min_seconds=min_seconds,
      processes=1,
      **options,
  )


def opened(tmp_path, num_classes, **options):
  return reading.open_clips(
      "kinetics",
      "train",
      str(tmp_path / "data"),
      num_classes=num_classes,
      **options,
  )


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
  """A folder in which a lot is wrong, and its index."""
  tmp_path = tmp_path_factory.mktemp("damaged")
  videos = tmp_path / "videos"
  write_clip(videos / "whole_000003_000013.mp4")
  write_clip(videos / "deep" / "silent_000003_000013.mp4", sound=False)
  write_clip(videos / "short_000003_000013.mp4", seconds=0.2)
  (videos / "text_000003_000013.mp4").write_text("no video at all\n" * 99)
  (videos / "empty_000003_000013.mp4").write_bytes(b"")
  write_clip(videos / "cut_000003_000013.mkv", seconds=4.0)
  whole = (videos / "cut_000003_000013.mkv").read_bytes()
  (videos / "cut_000003_000013.mkv").write_bytes(whole[: len(whole) // 2])
  write_clip(videos / "half_000003_000013.mp4")
  whole = (videos / "half_000003_000013.mp4").read_bytes()
  (videos / "half_000003_000013.mp4").write_bytes(whole[: len(whole) // 2])
  write_clip(videos / "other_000003_000013.mp4")
  rows = [
      ("b", "whole"),
      ("a", "silent"),
      ("a", "short"),
      ("a", "text"),
      ("a", "empty"),
      ("a", "cut"),
      ("a", "half"),
      ("unheard of", "other"),
      ("a", "deleted"),
  ]
  return tmp_path, indexed(tmp_path, rows, classes={"a": "A", "b": "B"})


def test_what_cannot_be_used_is_counted_by_its_reason(damaged):
  _, made = damaged
  assert made["clips"] == 2
  assert made["without_sound"] == 1
  left_out = dict(made["left_out"])
  # Where a container notes its length first, a cut is seen; else it is broken.
  assert left_out.pop("no video") + left_out.pop("cut off", 0) == 4
  assert left_out == {"missing": 1, "of an unknown class": 1, "short": 1}


def test_every_file_that_is_left_out_is_listed(damaged):
  tmp_path, _ = damaged
  path = tmp_path / "data" / "kinetics" / "train.left_out.csv"
  with path.open() as file:
    rows = {row["row"]: row for row in csv.DictReader(file)}
  assert rows["train.csv, line 10"]["reason"] == "missing"
  assert rows["train.csv, line 5"]["file"] == "text_000003_000013.mp4"
  assert len(rows) == 7


def test_clips_have_the_numbers_of_their_classes_and_their_length(damaged):
  tmp_path, _ = damaged
  found = opened(tmp_path, 2)
  assert [found[i]["labels"].tolist() for i in range(2)] == [[1], [0]]
  assert found[1]["file"].endswith("videos/deep/silent_000003_000013.mp4")
  assert found[0]["seconds"] == pytest.approx(2.0, abs=0.05)
  assert found.classes == ["A", "B"]
  assert found.coverage == pytest.approx(2 / 9)
  assert pickle.loads(pickle.dumps(found))[0] == found[0]


def test_an_evaluation_that_lacks_clips_says_so_unless_it_may(damaged):
  tmp_path, _ = damaged
  with pytest.raises(ValueError, match=r"22.2%.*1 missing.*left_out.csv"):
    opened(tmp_path, 2, skip_missing=False)


def test_other_classes_are_refused(damaged):
  tmp_path, _ = damaged
  with pytest.raises(ValueError, match="has 2 classes, and num_classes is 3"):
    opened(tmp_path, 3)


def test_a_missing_index_names_the_command(damaged):
  tmp_path, _ = damaged
  there = "prepare_data kinetics.*there are train"
  with pytest.raises(FileNotFoundError, match=there):
    reading.open_clips("kinetics", "val", str(tmp_path / "data"), num_classes=2)


def test_a_file_that_was_looked_at_is_not_looked_at_again(
    tmp_path, monkeypatch
):
  for name in "pqr":
    write_clip(tmp_path / "videos" / f"{name}_000003_000013.mp4")
  rows = [("a", "p"), ("b", "q"), ("b", "r")]

  def stop(done, total):
    if done == 1:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    indexed(tmp_path, rows, progress=stop)
  log = tmp_path / "data" / "kinetics" / "train.looked_at"
  looked_at = log.read_text()
  assert looked_at.count("\n") == 1
  log.write_text(looked_at.replace("2.0", "7.0") + '["q_0000')
  made = indexed(tmp_path, rows)
  assert made["clips"] == 3
  found = opened(tmp_path, 2)
  assert sorted(round(found[i]["seconds"]) for i in range(3)) == [2, 2, 7]
  assert not log.exists()


@pytest.mark.parametrize(
    "text, message",
    [
        ("label,youtube_id\na,b\n", "no column time_start, time_end"),
        (KINETICS + "a,b,3,later,train\n", "line 2: a time is not a number"),
        (KINETICS + "a,b,inf,5,train\n", "line 2: a time is not within"),
        (KINETICS + "a,b,3\n", "line 2 has fewer columns"),
        (KINETICS + "café,b,3,5,train\n", r"train\.csv: expected UTF-8"),
        (KINETICS + f"{'a' * 200_000},b,3,5,train\n", "field larger than"),
        (KINETICS, "names|none of the 0 clips"),
    ],
)
def test_a_list_that_is_not_kinetics_is_refused(tmp_path, text, message):
  (tmp_path / "train.csv").write_text(text, encoding="latin1")
  (tmp_path / "videos").mkdir()
  with pytest.raises(DataError, match=message):
    index.prepare(
        index.kinetics_rows(tmp_path / "train.csv"),
        {"a": "a"},
        tmp_path / "videos",
        tmp_path / "train.json",
        min_seconds=0.5,
    )


def test_audiosets_lists_are_read_with_all_their_labels(tmp_path):
  path = tmp_path / "eval_segments.csv"
  path.write_text(
      "# Segments csv created Sun Mar  5 10:54:31 2017\n"
      "# num_ytids=2, num_segs=2, num_unique_labels=3, num_positive_labels=3\n"
      "# YTID, start_seconds, end_seconds, positive_labels\n"
      '-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"\n'
      'b, 0.500, 9.000, "/m/07q0y"\n'
  )
  first, second = index.audioset_rows(path)
  assert first.labels == ["/m/03v3yw", "/m/0k4j"]
  assert first.stems == [
      "-0RWZT-miFs_420.000",
      "-0RWZT-miFs_420",
      "-0RWZT-miFs",
  ]
  assert second.where == "eval_segments.csv, line 5"


def test_audiosets_classes_are_in_the_order_of_their_index(tmp_path):
  path = tmp_path / "class_labels_indices.csv"
  path.write_text(
      'index,mid,display_name\n1,/m/b,"Male speech, man"\n0,/m/a,Speech\n'
  )
  classes = index.audioset_classes(path)
  assert list(classes.items()) == [
      ("/m/a", "Speech"),
      ("/m/b", "Male speech, man"),
  ]


@pytest.fixture(name="example", scope="module")
def two_seconds(tmp_path_factory):
  path = tmp_path_factory.mktemp("clip") / "a.mp4"
  write_clip(path)
  return {"file": str(path), "seconds": 2.0, "labels": np.zeros(1, np.int32)}


class TestReading:

  def read(self, example, where, seed=0, num_frames=5):
    return reading.read(
        example,
        np.random.default_rng(seed),
        num_frames=num_frames,
        fps=25.0,
        samples_per_frame=RATE // 25,
        where=where,
    )

  def first_frame(self, read):
    return read["video"][0].mean() / 4.0

  def test_sound_is_exactly_as_long_as_the_frames(self, example):
    read = self.read(example, "center")
    assert read["video"].shape == (5, 32, 48, 3)
    assert read["audio"].shape == (5 * RATE // 25, 1)

  def test_the_center_is_in_the_middle_of_time(self, example):
    read = self.read(example, "center")
    assert self.first_frame(read) == pytest.approx(22.5, abs=1)
    # The tone comes with the 25th frame, in the middle of these.
    loud = np.abs(read["audio"]) > 0.1
    assert not loud[: 2 * RATE // 25].any()
    assert loud[3 * RATE // 25 :].mean() > 0.7

  def test_random_parts_are_drawn_over_all_of_the_clip(self, example):
    firsts = [
        self.first_frame(self.read(example, "random", seed))
        for seed in range(23)
    ]
    assert min(firsts) < 8
    assert max(firsts) > 37

  def test_windows_go_from_the_beginning_to_the_end(self, example):
    windows = reading.Windows([example, {**example, "file": "b"}], 4)
    assert len(windows) == 8
    assert windows[4]["file"] == "b"
    firsts = [
        self.first_frame(self.read(windows[i], "window")) for i in range(4)
    ]
    np.testing.assert_allclose(firsts, [0, 15, 30, 45], atol=1)

  def test_sound_alone_is_the_same_sound(self, example):
    options = {"num_frames": 5, "fps": 25.0, "samples_per_frame": RATE // 25}
    read = reading.read(
        example, None, where="center", has_frames=False, **options
    )
    assert "video" not in read
    both = self.read(example, "center")
    np.testing.assert_array_equal(read["audio"], both["audio"])

  def test_what_cannot_be_read_names_its_file(self, example):
    with pytest.raises(reading.ClipError, match=r"a\.mp4 .*49 frames|needed"):
      self.read(example, "center", num_frames=53)
    with pytest.raises(reading.ClipError, match=r"gone\.mp4"):
      self.read({**example, "file": "gone.mp4"}, "center")


def test_a_film_becomes_clips_of_its_parts(tmp_path):
  write_clip(tmp_path / "film.mp4", seconds=10.4)
  counts = film.cut(
      tmp_path / "film.mp4",
      tmp_path / "out",
      seconds=1.0,
      parts=2,
      height=16,
      gain=0.5,
      processes=1,
  )
  assert counts == {"train": 8, "validate": 2}
  rows = list(index.kinetics_rows(tmp_path / "out" / "validate.csv"))
  assert [row.labels for row in rows] == [["part_00"], ["part_01"]]
  assert rows[1].stems == ["film_000009_000010"]
  path = tmp_path / "out/validate/part_01/film_000009_000010.mp4"
  assert video.read_frames(path).shape == (25, 16, 24, 3)
  sound = video.read_audio(path, rate=RATE)
  assert len(sound) == pytest.approx(RATE, abs=2048)
  assert np.abs(sound).max() == pytest.approx(0.25, abs=0.05)


def test_a_film_that_is_too_short_is_refused(tmp_path):
  write_clip(tmp_path / "film.mp4")
  with pytest.raises(DataError, match="too short for 2 parts"):
    film.cut(
        tmp_path / "film.mp4",
        pathlib.Path(tmp_path / "out"),
        seconds=1.0,
        parts=2,
        height=16,
    )


def own_clips(root, count=3):
  """Two classes in folders, of clips that are called alike."""
  for kind in ("hund", "katze ü"):
    for i in range(count):
      write_clip(root / kind / f"{i}.mp4", seconds=1.0, level=10 * i)
  return root


def test_clips_in_folders_of_classes_are_indexed_without_a_list(tmp_path):
  videos = own_clips(tmp_path / "videos")
  prepare_data.main(
      [
          "kinetics",
          f"--videos={videos}",
          "--as_name=mine",
          f"--data_dir={tmp_path}",
          "--processes=1",
      ]
  )
  how = dict(data_dir=str(tmp_path), num_classes=2)
  parts = [
      reading.open_clips("mine", split, **how)
      for split in ("train", "validate")
  ]
  assert [len(part) for part in parts] == [5, 1]
  assert parts[0].classes == ["hund", "katze ü"]
  clips = [part[i] for part in parts for i in range(len(part))]
  assert len({clip["file"] for clip in clips}) == 6
  for clip in clips:
    name = ["hund", "katze ü"][int(clip["labels"][0])]
    assert pathlib.Path(clip["file"]).parent.name == name


def test_folders_of_splits_are_kept_and_links_to_classes_followed(tmp_path):
  own_clips(tmp_path / "elsewhere", 1)
  for split in ("train", "val"):
    (tmp_path / "videos" / split).mkdir(parents=True)
    for kind in ("hund", "katze ü"):
      link = tmp_path / "videos" / split / kind
      link.symlink_to(tmp_path / "elsewhere" / kind)
  train, held_out, classes = index.folder_rows(tmp_path / "videos")
  for split, rows in (("train", train), ("val", held_out)):
    assert [row.file for row in rows] == [
        f"{split}/hund/0.mp4",
        f"{split}/katze ü/0.mp4",
    ]
  assert list(classes.values()) == ["hund", "katze ü"]


def test_files_of_sound_alone_are_clips_where_only_sound_is_read(tmp_path):
  for kind in ("a", "b"):
    for i in range(5):
      path = tmp_path / "sounds" / kind / f"{i}.wav"
      path.parent.mkdir(parents=True, exist_ok=True)
      tone = 0.3 * np.sin(np.arange(RATE) * 0.1 * (i + 1))
      path.write_bytes(wav.encoded(tone, RATE))
  command = [
      "audioset",
      f"--videos={tmp_path / 'sounds'}",
      "--as_name=mine",
      f"--data_dir={tmp_path}",
      "--processes=1",
      "--min_seconds=0.5",
  ]
  with pytest.raises(SystemExit):
    prepare_data.main(command)
  prepare_data.main([*command, "--sound_only"])
  clips = reading.open_clips("mine", "train", str(tmp_path), num_classes=2)
  assert len(clips) == 9 and clips.without_sound == 0
  assert clips[0]["seconds"] == pytest.approx(1.0, abs=0.01)
  assert index.probe(pathlib.Path(clips[0]["file"])).reason == "without frames"


@pytest.mark.parametrize("folders", [[], ["one"]])
def test_fewer_than_two_folders_of_classes_are_refused(tmp_path, folders):
  for name in folders:
    write_clip(tmp_path / name / "0.mp4", seconds=0.2)
  with pytest.raises(DataError, match=f"has {len(folders)} folders of classes"):
    index.folder_rows(tmp_path)
