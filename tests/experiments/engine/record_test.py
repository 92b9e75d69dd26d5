"""What a run writes down."""

import importlib.util
import io
import json
import resource
import struct
import sys
from typing import Any
import wave

import numpy as np
from PIL import Image
import pytest
from tensorboard.backend.event_processing import event_accumulator

from experiments.data.clips import video
from experiments.engine import record
from experiments.engine.errors import UserError
from experiments.task import Movie
from experiments.task import Sound


def records(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_a_restart_forgets_later_steps_and_a_line_that_was_cut_off(tmp_path):
  lines = [json.dumps({"step": step, "loss": 0.5}) for step in (1, 2, 3)]
  text = "\n".join(lines) + '\n{"step": 4, "lo'
  (tmp_path / "metrics.jsonl").write_text(text)
  recorder = record.Recorder(tmp_path, steps=9)
  recorder.start(2)
  recorder.scalars(3, {"loss": 0.25})
  recorder.close()
  assert [(r["step"], r["loss"]) for r in records(tmp_path)] == [
      (1, 0.5),
      (2, 0.5),
      (3, 0.25),
  ]


def test_tensorboard_has_the_same_numbers(tmp_path):
  recorder = record.Recorder(tmp_path, steps=9)
  recorder.start(0)
  for step, loss in [(1, 0.5), (2, 0.25)]:
    recorder.scalars(step, {"train/loss": loss})
  recorder.close()
  events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
  events.Reload()
  found = [(e.step, e.value) for e in events.Scalars("train/loss")]
  assert found == [(r["step"], r["train/loss"]) for r in records(tmp_path)]


def test_every_line_is_json_also_when_a_number_is_not_finite(tmp_path):
  recorder = record.Recorder(tmp_path, steps=9)
  recorder.start(0)
  recorder.scalars(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
  recorder.close()
  assert records(tmp_path) == [{"step": 1, "a": "nan", "b": "inf", "c": 1.0}]


def test_pictures_are_files(tmp_path):
  picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
  recorder = record.Recorder(tmp_path, steps=9)
  recorder.start(0)
  recorder.figures(7, {"test-digits": picture})
  recorder.close()
  path = tmp_path / "figures" / "test-digits-7.png"
  np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)


def test_a_disk_that_is_full_for_tensorboard_is_an_error(tmp_path):
  recorder = record.Recorder(tmp_path, 9)
  recorder.start(0)
  many = {f"train/number_{i}": 0.5 for i in range(99)}
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
  try:
    with pytest.raises(OSError):  # Its file is larger than metrics.jsonl.
      for step in range(1, 9):
        recorder.scalars(step, many)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert (tmp_path / "metrics.jsonl").stat().st_size < 2**14


def test_movies_are_files_and_can_be_seen_and_heard_in_tensorboard(tmp_path):
  levels = np.array([0, 100, 200], np.uint8)
  frames = np.tile(levels[:, None, None, None], [1, 16, 32, 3])
  sound = np.linspace(-0.5, 0.5, 960, dtype=np.float32)[:, None]
  recorder = record.Recorder(tmp_path, steps=9)
  recorder.start(0)
  recorder.figures(7, {"test-clip": Movie(frames, 25.0, sound, 8000)})
  recorder.close()
  path = tmp_path / "figures" / "test-clip-7.mp4"
  read = video.read_frames(path)
  np.testing.assert_allclose(read.mean((1, 2, 3)), levels, atol=4)
  assert len(video.read_audio(path, rate=8000)) >= 960
  events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
  events.Reload()
  (image,) = events.Images("test-clip")
  gif: Any = Image.open(io.BytesIO(image.encoded_image_string))
  assert (image.step, image.width, image.height) == (7, 32, 16)
  assert (gif.n_frames, gif.info["duration"]) == (3, 40)
  (heard,) = events.Audio("test-clip-sound")
  with wave.open(io.BytesIO(heard.encoded_audio_string)) as wav:
    assert (wav.getnframes(), wav.getframerate()) == (960, 8000)
    samples = np.frombuffer(wav.readframes(960), "<i2")
  np.testing.assert_allclose(samples / 32767.0, sound[:, 0], atol=1e-4)


def test_every_start_leaves_what_a_result_depends_on(tmp_path):
  for step in (0, 5):
    recorder = record.Recorder(tmp_path, steps=9)
    recorder.start(step)
    recorder.close()
  lines = (tmp_path / "starts.jsonl").read_text().splitlines()
  starts = [json.loads(line) for line in lines]
  assert [start["from_step"] for start in starts] == [0, 5]
  assert set(starts[0]["packages"]) == set(record.PACKAGES)
  assert starts[0]["commit"] is None or len(starts[0]["commit"]) == 40


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  found = record.environment()
  assert found["commit"] is None
  assert found["uncommitted_changes"] is None


@pytest.mark.parametrize(
    "first, steps, traced", [(2, 2, (2, 3)), (4, 3, (4, 5)), (5, 1, (5, 5))]
)
def test_a_trace_has_the_steps_that_come(tmp_path, first, steps, traced):
  said, done = [], []
  how = {"wait": lambda: done.append(True), "note": said.append}
  with record.Trace(tmp_path, first, steps, **how) as trace:
    for step in range(1, 6):
      trace.before(step)
  assert said == [f"profile of steps {traced[0]} to {traced[1]}: {tmp_path}"]
  assert done and list(tmp_path.rglob("*.xplane.pb"))


def test_no_steps_are_no_trace(tmp_path):
  with record.Trace(tmp_path, 1, 0, wait=lambda: None, note=print) as trace:
    trace.before(1)
  assert not list(tmp_path.iterdir())


def test_the_peak_of_a_device_is_that_of_its_longest_known_name():
  class Device:

    def __init__(self, device_kind):
      self.device_kind = device_kind

  assert (
      record.peak_flops(Device("NVIDIA A100-SXM4-40GB"), "bfloat16") == 312e12
  )
  assert record.peak_flops(Device("TPU v5 lite"), "bfloat16") == 197e12
  assert record.peak_flops(Device("cpu"), "float32") is None


def test_records_are_read_and_damaged_lines_are_left_out(tmp_path, capsys):
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(
      b'{"step": 1, "loss": 2.5}\n\xff{]\n[3]\n{"loss": 1.0}\n'
      b'{"step": 2, "loss": "nan", "top1": "inf"}\n{"step": 3, "loss": 1.5'
  )
  first, second = record.read(path)
  assert first == {"step": 1, "loss": 2.5}
  assert np.isnan(second["loss"]) and second["top1"] == np.inf
  error = capsys.readouterr().err
  assert error == f"{path}: left out damaged lines: 2, 3, 4, 6\n"
  with pytest.raises(UserError, match="there is no .*other"):
    record.read(tmp_path / "other")


def scanned(folder):
  """What Weights & Biases would send of a run without a network."""
  from wandb.proto import wandb_internal_pb2

  files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
  return [
      wandb_internal_pb2.Record.FromString(record)
      for file in files
      for record in logged(file.read_bytes())
  ]


def logged(content):
  """The records of LevelDB's log format, after a header of seven bytes."""
  block, at, whole = 32_768, 7, b""
  while at + 7 <= len(content):
    if block - at % block < 7:  # Nothing begins in a block's last bytes.
      at += block - at % block
      continue
    length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
    whole += content[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):  # Whole, or the last part.
      yield whole
      whole = b""


def test_weights_and_biases_has_the_same_numbers_of_the_same_run(
    tmp_path, monkeypatch, capfd
):
  pytest.importorskip("wandb")
  monkeypatch.setenv("WANDB_MODE", "offline")
  for start, numbers in ((0, {1: 0.5, 2: 0.25}), (1, {2: 0.25, 3: 0.125})):
    recorder = record.Recorder(
        tmp_path, 9, project="digits", config={"seed": 7, "run": {"a": 1}}
    )
    recorder.start(start)
    for step, loss in numbers.items():
      recorder.scalars(step, {"train/loss": loss})
    recorder.close()
  out, err = capfd.readouterr()
  assert not err
  first, second = out.splitlines()
  assert first.startswith("Weights & Biases: ") and "offline-run" in second
  sent = scanned(tmp_path)
  runs = [r.run for r in sent if r.HasField("run")]
  assert {run.project for run in runs} == {"digits"}
  assert len({run.run_id for run in runs}) == 1  # One run, gone on with.
  config = {u.key: u.value_json for u in runs[0].config.update}
  assert json.loads(config["seed"]) == 7
  history = [
      {
          "/".join(i.nested_key) or i.key: json.loads(i.value_json)
          for i in h.item
      }
      for h in (r.history for r in sent if r.HasField("history"))
  ]
  assert [(h["step"], h["train/loss"]) for h in history] == [
      (1, 0.5),
      (2, 0.25),
      (2, 0.25),
      (3, 0.125),
  ]


def test_a_project_without_the_package_says_what_to_install(
    tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, "wandb", None)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"run.wandb = 'x' needs .*\[wandb\]"):
    record.Recorder(tmp_path, 9, project="x")


def test_sound_is_a_file_with_its_notes_beside_it_and_in_tensorboard(tmp_path):
  audio = np.linspace(-0.5, 0.5, 960, dtype=np.float32)[:, None]
  recorder = record.Recorder(tmp_path, steps=9)
  recorder.start(0)
  sounds = {"a": Sound(audio, 8000, b"MThd"), "b": Sound(audio, 8000)}
  recorder.figures(7, sounds)
  recorder.close()
  folder = tmp_path / "figures"
  names = {file.name for file in folder.iterdir()}
  assert names == {"a-7.wav", "a-7.mid", "b-7.wav"}
  assert (folder / "a-7.mid").read_bytes() == b"MThd"
  heard = video.read_audio(folder / "a-7.wav", rate=8000)
  np.testing.assert_allclose(heard, audio, atol=1e-4)
  events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
  events.Reload()
  (found,) = events.Audio("a")
  assert (found.step, found.sample_rate, found.length_frames) == (7, 8000, 960)
