"""AlphaStar Unplugged's records, written as its converter does."""

import zlib

import numpy as np
import pytest
from tensorboardX import record_writer
from tensorflow_datasets.proto import tf_example_pb2

from experiments.data import pipeline
from experiments.data.builders import starcraft2_raw
from experiments.data.errors import DataError
from experiments.data.starcraft import raw_units
from experiments.data.starcraft.features import CONVERTED_UNITS
from scripts import prepare_data

COLUMN = {name: i for i, name in enumerate(CONVERTED_UNITS)}
STEPS, SLOTS, PICKS, NOBODY = 5, 512, 64, 512


def write(path, arrays, records=1, compress=zlib.compress):
  """A TFRecord file."""
  example = tf_example_pb2.Example()
  for name, array in arrays.items():
    compressed = compress(np.ascontiguousarray(array).tobytes())
    example.features.feature[name].bytes_list.value.append(compressed)
  write_records(path, [example.SerializeToString()] * records)


def write_records(path, records):
  path.parent.mkdir(parents=True, exist_ok=True)
  writer = record_writer.RecordWriter(str(path))
  for record in records:
    writer.write(record)
  writer.close()


def game():
  """Seven units: four of ours, one of which is in another, one effect."""
  units = np.zeros([STEPS, SLOTS, len(CONVERTED_UNITS)], np.int32)
  units[:, :7, COLUMN["alliance"]] = [1, 4, 1, 1, 3, 1, 1]
  units[:, :7, COLUMN["tag"]] = [11, 12, 13, 14, 15, 0, 70_000]
  units[:, 3, COLUMN["is_in_cargo"]] = 1
  units[:, :, COLUMN["x"]] = np.arange(STEPS)[:, None]
  tags = np.full([STEPS, PICKS], NOBODY, np.int32)
  tags[1, :2] = 2, 0
  tags[2, :3] = 3, 5, 1  # None of them can be selected.
  tags[4, :2] = 6, 3
  return {
      "observation/raw_units": units,
      "observation/action/unit_tags": tags,
      "observation/action/function": np.zeros([STEPS, 1], np.int32),
      "step_type": np.array([0, 1, 1, 1, 2], np.int32),
  }


def test_steps_that_select_are_read(tmp_path):
  path = tmp_path / "abc_1.tfrecord"
  write(path, game())
  first, second = raw_units.moments(path)
  for step, units, selected in (first, second):
    assert units.shape == (7, 48) and units.dtype == np.int32
    assert (units[:, COLUMN["x"]] == step).all()
    assert selected.dtype == bool
  assert (first[0], np.flatnonzero(first[2]).tolist()) == (1, [0, 2])
  assert (second[0], np.flatnonzero(second[2]).tolist()) == (4, [6])


BAD = {
    "no record": (lambda path: path.write_bytes(b""), "0 records"),
    "cut off": (
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        "is cut off",
    ),
    "no example": (
        lambda path: write_records(path, [b"hello"]),
        "is not a tf.Example",
    ),
    "two": (lambda path: write(path, game(), records=2), "2 records"),
    "no units": (
        lambda path: write(path, {"step_type": np.zeros(3, np.int32)}),
        "there is no observation/raw_units",
    ),
    "other columns": (
        lambda path: write(
            path,
            game() | {"observation/raw_units": np.zeros([5, 512, 46], "<i4")},
        ),
        "are not rows of 512 x 48",
    ),
    "other steps": (
        lambda path: write(
            path,
            game() | {"observation/action/unit_tags": np.zeros([3, 64], "<i4")},
        ),
        "5 steps, but 192 unit tags",
    ),
    "not compressed": (
        lambda path: write(path, game(), compress=bytes),
        "observation/raw_units: Error",
    ),
}


@pytest.mark.parametrize("how", BAD)
def test_what_is_wrong_with_a_file_is_said(tmp_path, how):
  path = tmp_path / "abc_1.tfrecord"
  write(path, game())
  spoil, message = BAD[how]
  spoil(path)
  with pytest.raises(DataError, match=message) as raised:
    list(raw_units.moments(path))
  assert str(path) in str(raised.value)


def test_a_folder_is_prepared_game_by_game(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(
      starcraft2_raw,
      "split_of",
      lambda key, held_out: {"abc": "train", "de": "validation"}[key],
  )
  folder = tmp_path / "manual"
  for name in ("abc_1", "abc_2", "de_1"):
    write(folder / f"{name}.tfrecord", game())
  (folder / "abc_2.tfrecord").write_bytes(b"")
  prepare_data.main(
      ["starcraft2_raw", f"--manual_dir={folder}", f"--data_dir={tmp_path}"]
  )
  assert "note: 1 of 2 files left out" in capsys.readouterr().err
  for split, name in (("train", "abc_1"), ("validation", "de_1")):
    source = pipeline.source("starcraft2_raw", split, str(tmp_path))
    assert len(source) == 2
    games = {bytes(source[i]["game"]).decode() for i in range(2)}
    assert games == {f"{name}.tfrecord"}
    # Tags are larger than the numbers that replays have.
    assert source[0]["units"][6, COLUMN["tag"]] == 70_000
