"""Records a run: terminal, metrics files, TensorBoard, Weights & Biases."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any
import uuid

import jax
import numpy as np
from PIL import Image
from tensorboardX import summary as summaries
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2 as untyped_events
from tensorboardX.proto import summary_pb2 as untyped

from experiments.data import atomic
from experiments.engine import screen as screen_lib
from experiments.engine import wav
from experiments.engine.errors import UserError
from experiments.task import Drawn
from experiments.task import Movie
from experiments.task import Sound

# FLOP/s of one device in dense matrix products of each compute dtype, from the
# makers' data sheets. A device that is not here has no utilisation reported.
PEAK = {
    "bfloat16": {
        "NVIDIA A100": 312e12,
        "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H200": 989e12,
        "TPU v3": 61.5e12,
        "TPU v4": 275e12,
        "TPU v5 lite": 197e12,
        "TPU v5p": 459e12,
        "TPU v6 lite": 918e12,
    },
    # NVIDIA's are those of TF32, which JAX uses for float32 by default.
    "float32": {
        "NVIDIA A100": 156e12,
        "NVIDIA H100 80GB HBM3": 494e12,
        "NVIDIA H200": 494e12,
    },
}
PACKAGES = (
    "jax",
    "jaxlib",
    "dm-haiku",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
)


def peak_flops(device: Any, compute_dtype: str) -> float | None:
  """Peak FLOP/s of the device, if known."""
  peaks = PEAK[compute_dtype]
  known = [name for name in peaks if device.device_kind.startswith(name)]
  return peaks[max(known, key=len)] if known else None


def environment() -> dict[str, Any]:
  """The environment of a result: versions, commit, machine.

  The commit is None where it is unknown: without git, or outside of a clone.
  """
  commit = _git("rev-parse", "HEAD").strip()
  changes = _git("status", "--porcelain") if commit else ""
  return {
      "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
      "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
      "commit": commit or None,
      "uncommitted_changes": bool(changes.strip()) if commit else None,
      "python": platform.python_version(),
      "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
      "devices": [device.device_kind for device in jax.devices()],
      "processes": jax.process_count(),
      "cores": os.cpu_count(),
  }


def _git(*command: str) -> str:
  """The output of a git command for this code; "" if it fails."""
  folder = str(pathlib.Path(__file__).parent)
  try:
    return subprocess.run(
        ["git", "-C", folder, *command],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    ).stdout
  except (OSError, subprocess.TimeoutExpired):
    return ""


def read(path: pathlib.Path) -> list[dict[str, float]]:
  """The records of a metrics.jsonl, each with its step and numbers.

  Lines that are damaged, or not yet whole, are left out; standard error says
  so.

  Raises:
    UserError: if there is no such file.
  """
  if not path.is_file():
    raise UserError(f"there is no {path}")
  records, damaged = [], []
  for i, (_, record) in enumerate(_parsed(path.read_bytes()), start=1):
    try:
      # What JSON has no number for is written as its name.
      numbers = {name: float(value) for name, value in record.items()}
      records.append({**numbers, "step": int(record["step"])})
    except (ValueError, TypeError, KeyError, AttributeError):
      damaged.append(i)
  if damaged:
    print(f"{path}: left out damaged lines: {_few(damaged)}", file=sys.stderr)
  return records


def read_starts(path: pathlib.Path) -> list[dict[str, Any]]:
  """The records of a starts.jsonl; damaged lines are omitted."""
  found = [start for _, start in _parsed(path.read_bytes())]
  return [start for start in found if isinstance(start, dict)]


def _parsed(content: bytes) -> Iterator[tuple[bytes, Any]]:
  """Each line and its JSON object; None if it is damaged or truncated."""
  for line in content.splitlines(keepends=True):
    record = None
    if line.endswith(b"\n"):
      with contextlib.suppress(ValueError, RecursionError):
        record = json.loads(line)
    yield line, record


def _few(numbers: list[int]) -> str:
  return ", ".join(map(str, numbers[:5])) + ", ..." * (len(numbers) > 5)


# Type checkers do not see what protocol buffers define.
event_pb2: Any = untyped_events
summary_pb2: Any = untyped


class Recorder:
  """Writes a run's results to its folder and to the terminal.

  WORKDIR/metrics.jsonl has a line for each recorded step; TensorBoard's files
  in WORKDIR/tensorboard have the same numbers; WORKDIR/figures has PNGs, MP4s,
  texts, WAV and MIDI files; WORKDIR/starts.jsonl has a line for each start of
  the command.

  Only the first process writes and speaks.
  """

  def __init__(
      self,
      workdir: pathlib.Path,
      steps: int,
      project: str = "",
      config: Mapping[str, Any] | None = None,
  ):
    """Prepares it.

    Args:
      workdir: the run's folder.
      steps: steps of the whole run.
      project: of Weights & Biases, that has the numbers as well; "": none.
      config: the run's, for that project.

    Raises:
      UserError: if a project is named and there is no package wandb.
    """
    self._workdir = workdir
    self._project, self._config = project, config
    self._wandb: Any = None
    if project and importlib.util.find_spec("wandb") is None:
      raise UserError(
          f"config.run.wandb = {project!r} needs Weights & Biases:"
          " pip install -e '.[wandb]'"
      )
    self._active = jax.process_index() == 0
    self.screen = screen_lib.Screen(self._active)
    self._metrics = workdir / "metrics.jsonl"
    self._steps = steps
    self._events: _Events | None = None
    self._bar: screen_lib.Bar | None = None

  def start(self, step: int, more: Mapping[str, Any] | None = None) -> None:
    """Continues the files after `step`, and drops later records.

    Args:
      step: the last one that is done; 0: none is.
      more: what else starts.jsonl says of this start.
    """
    if not self._active:
      return
    starts = self._workdir / "starts.jsonl"
    self._keep(self._metrics, lambda record: record["step"] <= step)
    self._keep(starts, lambda record: record["from_step"] >= 0)
    with starts.open("a") as file:
      about = {"from_step": step, **(more or {}), **environment()}
      file.write(json.dumps(about) + "\n")
    self._events = _Events(self._workdir / "tensorboard", step)
    if self._project:
      self._wandb = _wandb_run(self._workdir, self._project, self._config or {})
      is_offline = self._wandb.offline
      where = self._wandb.dir if is_offline else self._wandb.url
      self.note(f"Weights & Biases: {where}")
    self.screen.__enter__()
    self._bar = self.screen.bar("step", self._steps, step)

  def _keep(
      self, path: pathlib.Path, is_kept: Callable[[dict[str, Any]], bool]
  ) -> None:
    """Drops lines of a file: those that are not kept, and damaged ones."""
    content = path.read_bytes() if path.exists() else b""
    kept, damaged = [], []
    for i, (line, record) in enumerate(_parsed(content), start=1):
      try:
        if is_kept(record):
          kept.append(line)
      except (TypeError, KeyError):
        damaged.append(i)
    if damaged:
      self.note(f"{path}: dropped damaged lines: {_few(damaged)}")
    if len(whole := b"".join(kept)) < len(content):
      atomic.write(path, whole)

  def note(self, line: str) -> None:
    """Prints a line."""
    self.screen.line(line)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Records numbers of a step."""
    if not self._active or self._events is None:
      return
    with self._metrics.open("a") as file:
      # JSON has no NaN and no infinity; they are written as their names.
      finite = {
          name: value if math.isfinite(value) else str(value)
          for name, value in values.items()
      }
      file.write(json.dumps({"step": step, **finite}) + "\n")
    for name, value in values.items():
      self._events.add(step, summaries.scalar(name, value))
    self._events.flush()
    if self._wandb is not None:
      self._wandb.log({"step": step, **values})

  def figures(self, step: int, figures: Mapping[str, Drawn]) -> None:
    """Records figures, texts, movies and sound of a step."""
    if not self._active or self._events is None:
      return
    folder = self._workdir / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
      if isinstance(figure, str):
        content = (figure + "\n").encode("utf-8")
        atomic.write(folder / f"{name}-{step}.md", content)
        self._events.add(step, summaries.text(name, figure))
      elif isinstance(figure, Movie):
        from experiments.data.clips import video  # Of the extra `video`.

        with atomic.complete(folder / f"{name}-{step}.mp4") as file:
          video.write(
              file, figure.frames, figure.fps, figure.audio, figure.rate
          )
        for summary in _shown(name, figure):
          self._events.add(step, summary)
      elif isinstance(figure, Sound):
        content = wav.encoded(figure.audio, figure.rate)
        atomic.write(folder / f"{name}-{step}.wav", content)
        if figure.midi:
          atomic.write(folder / f"{name}-{step}.mid", figure.midi)
        self._events.add(step, _heard(name, figure.audio, figure.rate))
      else:
        with atomic.complete(folder / f"{name}-{step}.png") as file:
          Image.fromarray(figure).save(file)
        image = summaries.image(name, figure, dataformats="HWC")
        self._events.add(step, image)
    self._events.flush()

  def progress(self, step: int, text: str, say: bool) -> None:
    """Moves the bar; where there is no terminal, prints a line if `say`."""
    if self._bar is not None and self.screen.has_bars:
      self._bar.move(step, text)
    elif say:
      self.note(f"step {step}/{self._steps}  {text}")

  def done(self) -> None:
    """Prints where the results are."""
    folder, drawn = self._workdir, self._workdir / "figures"
    figures = f", figures in {drawn}" if drawn.is_dir() else ""
    self.note(
        f"done: results in {folder}{figures}; `tensorboard --logdir {folder}`"
        " shows them"
    )

  def close(self) -> None:
    """Ends the bars and closes the files."""
    self.screen.__exit__()
    if self._events is not None:
      self._events.close()
    if self._wandb is not None:
      self._wandb.finish()


def _wandb_run(
    workdir: pathlib.Path, project: str, config: Mapping[str, Any]
) -> Any:
  """The run of Weights & Biases that belongs to a folder.

  Its own count of steps cannot go back, as a run does to its last checkpoint:
  numbers are drawn over the "step" among them.

  Raises:
    UserError: if it cannot be begun: no key, or no network.
  """
  wandb: Any = importlib.import_module("wandb")
  file = workdir / "wandb" / "id"
  if not file.exists():
    atomic.write(file, uuid.uuid4().hex[:8].encode())
  try:
    run = wandb.init(
        project=project,
        id=file.read_text(),
        name=workdir.resolve().name,
        resume="allow",
        dir=str(workdir),
        config=dict(config),
        # It does not speak, and does not read what the run says.
        settings=wandb.Settings(silent=True, console="off"),
    )
  except Exception as error:  # Whatever it raises, at whatever it lacks.
    text = " ".join(str(error).split())
    raise UserError(
        f"config.run.wandb = {project!r}: {text}; WANDB_MODE=offline keeps the"
        f" numbers in {workdir / 'wandb'}"
    ) from error
  run.define_metric("step", hidden=True)
  run.define_metric("*", step_metric="step")
  return run


class _Events:
  """TensorBoard's file of one start.

  In tensorboardX's `SummaryWriter` a thread writes. A full disk ends the thread
  alone, and who has something for it then waits for ever.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    folder.mkdir(exist_ok=True)
    self._file = EventsWriter(str(folder / "events"))
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    # TensorBoard leaves out what earlier files have from this step on.
    self._write(step + 1, session_log=start)

  def add(self, step: int, summary: Any) -> None:
    self._write(step, summary=summary)

  def flush(self) -> None:
    self._file.flush()

  def close(self) -> None:
    self._file.close()

  def _write(self, step: int, **what: Any) -> None:
    event = event_pb2.Event(step=step, wall_time=time.time(), **what)
    self._file.write_event(event)


class Trace:
  """Traces some steps of a run with `jax.profiler`."""

  def __init__(
      self,
      folder: pathlib.Path,
      first: int,
      steps: int,
      wait: Callable[[], Any],
      note: Callable[[str], None],
  ):
    """Prepares it.

    Args:
      folder: output folder.
      first: the step that it begins with.
      steps: number of traced steps; 0: none.
      wait: returns when all steps are done.
      note: called with a line for people.
    """
    self._folder, self._wait, self._note = folder, wait, note
    self._first, self._end = first, first + steps
    self._step: int | None = None  # The last one that is traced, or None.

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._stop()  # The run may end before the steps that were requested.

  def before(self, step: int) -> None:
    """Begins or ends before a step where that is due."""
    if step == self._end:
      self._stop()
    elif step == self._first:
      jax.profiler.start_trace(str(self._folder))
    if self._first <= step < self._end:
      self._step = step

  def _stop(self) -> None:
    if self._step is None:
      return
    last, self._step = self._step, None
    self._wait()
    jax.profiler.stop_trace()
    self._note(f"profile of steps {self._first} to {last}: {self._folder}")


class Timer:
  """Steps per second, and the share of the time spent waiting for input."""

  def __init__(self):
    self._last = 0.0, 0.0
    self.restart(0)

  def restart(self, done: int) -> None:
    """Starts counting now, when `done` steps are done."""
    self._begin(time.perf_counter(), done)

  def lap(self) -> None:
    """Starts counting at the last reading: steps go on during what follows."""
    self._begin(*self._read)

  def _begin(self, when: float, done: int) -> None:
    self._start, self._done = self._read = when, done
    self._waited = 0.0

  @contextlib.contextmanager
  def waiting(self):
    """Counts the time inside as waiting."""
    start = time.perf_counter()
    yield
    self._waited += time.perf_counter() - start

  def read(self, done: int) -> tuple[float, float]:
    """(steps per second, share of time waited) when `done` steps are done.

    If none of them was done since the start, the reading before it.
    """
    if done > self._done:
      self._read = time.perf_counter(), done
      elapsed = self._read[0] - self._start
      self._last = (done - self._done) / elapsed, self._waited / elapsed
    return self._last


def _shown(name: str, movie: Movie) -> Iterable[Any]:
  """A movie for TensorBoard: an animated GIF, and its sound."""
  first, *others = [Image.fromarray(frame) for frame in movie.frames]
  file = io.BytesIO()
  first.save(
      file,
      "gif",
      save_all=True,
      append_images=others,
      duration=1000.0 / movie.fps,  # ms
      loop=0,
  )
  image = summary_pb2.Summary.Image(
      height=first.height,
      width=first.width,
      colorspace=3,
      encoded_image_string=file.getvalue(),
  )
  value = summary_pb2.Summary.Value
  yield summary_pb2.Summary(value=[value(tag=name, image=image)])
  if movie.audio is not None:
    yield _heard(f"{name}-sound", movie.audio, movie.rate)


def _heard(name: str, audio: np.ndarray, rate: int) -> Any:
  """Sound, [S, 1], for TensorBoard."""
  heard = summary_pb2.Summary.Audio(
      sample_rate=rate,
      num_channels=1,
      length_frames=len(audio),
      encoded_audio_string=wav.encoded(audio, rate),
      content_type="audio/wav",
  )
  value = summary_pb2.Summary.Value(tag=name, audio=heard)
  return summary_pb2.Summary(value=[value])
