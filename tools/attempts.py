"""Starts the training command, watches it and disturbs it."""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

from experiments.engine.errors import UserError

LOST_AFTER = 30  # Seconds, as the training command has it.
FEW_SECONDS = 90.0  # That the others have when one process has ended.


class Machines(NamedTuple):
  """The devices and processes of a start."""

  processes: int
  devices: int  # Of each process.

  def __str__(self):
    return f"{self.processes} × {self.devices}"


class Attempt:
  """One start of the training command; ends when it is left."""

  def __init__(
      self, workdir: pathlib.Path, arguments: Sequence[str], layout: Machines
  ):
    self.workdir = workdir
    self.processes = layout.processes
    self.peak = 0.0  # MB, of the largest process.
    self.memory: list[tuple[int, float]] = []  # Step, MB of process 0.
    self.log = workdir.parent / f"{workdir.name}.log"
    several = ()
    if layout.processes > 1:
      several = (
          f"--coordinator=localhost:{_free_port()}",
          f"--num_processes={layout.processes}",
          f"--lost_after={LOST_AFTER}",
      )
    count = f"--xla_force_host_platform_device_count={layout.devices}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {count}",
        "PYTHONFAULTHANDLER": "1",
    }
    self._processes = []
    with self.log.open("w") as log:
      for i in range(layout.processes):
        mine = (*several, f"--process_id={i}") if several else ()
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "experiments.train", *arguments, *mine],
                env=environment,
                stdout=log,
                stderr=log,
            )
        )

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    for process in self._processes:
      process.kill()
      process.wait()

  def goes_on(self) -> bool:
    """Whether all of its processes are running."""
    return all(code is None for code in self._codes())

  def watch(self, seconds: float, until: Callable[[], bool] = lambda: False):
    """Watches the memory until a time, an end or a condition."""
    end = time.monotonic() + seconds
    while self.goes_on() and time.monotonic() < end and not until():
      used = [_memory(process.pid) for process in self._processes]
      self.peak = max(self.peak, *used)
      step = last_step(self.workdir)
      if step and (not self.memory or self.memory[-1][0] < step):
        self.memory.append((step, used[0]))
      time.sleep(0.1)

  def send(self, number: signal.Signals, index: int | None = None) -> None:
    """Sends a signal to one of its processes, or to all."""
    some = self._processes if index is None else [self._processes[index]]
    for process in some:
      process.send_signal(number)

  def may_write(self, size: int) -> None:
    """Limits the size of files."""
    for process in self._processes:
      with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))

  def codes(self, seconds: float) -> list[int | None]:
    """Exit codes, once all have ended; None for those that do not.

    These say where they hang, in the log.

    Args:
      seconds: to wait for the first one; the others have few more.
    """
    self.watch(seconds)
    end = time.monotonic() + FEW_SECONDS
    while time.monotonic() < end and None in self._codes():
      time.sleep(0.05)
    codes = self._codes()
    for process, code in zip(self._processes, codes, strict=True):
      if code is None:
        process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
          process.wait(FEW_SECONDS)
    return codes

  def _codes(self) -> list[int | None]:
    return [process.poll() for process in self._processes]


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


def _memory(pid: int) -> float:
  """MB that a process holds; 0 if it has ended."""
  try:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
  except (FileNotFoundError, ProcessLookupError):
    return 0.0
  found = re.search(r"VmRSS:\s+(\d+) kB", text)
  return int(found[1]) / 1000 if found else 0.0


def last_step(workdir: pathlib.Path) -> int:
  """The last recorded step; 0 if there is none."""
  try:
    with (workdir / "metrics.jsonl").open("rb") as file:
      file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
      lines = file.read().split(b"\n")
  except FileNotFoundError:
    return 0
  for line in reversed(lines[:-1]):  # The last one may be cut off.
    with contextlib.suppress(ValueError, TypeError, KeyError):
      return json.loads(line)["step"]
  return 0


def checkpoints(workdir: pathlib.Path) -> list[int]:
  """The steps of the finished checkpoints."""
  folder = workdir / "checkpoints"
  names = os.listdir(folder) if folder.is_dir() else []
  return sorted(int(name) for name in names if name.isdigit())


def starts(workdir: pathlib.Path) -> list[int]:
  """The step after which each start resumed."""
  file = workdir / "starts.jsonl"
  text = file.read_text() if file.exists() else ""
  return [int(step) for step in re.findall(r'"from_step": (\d+),', text)]


def curve(workdir: pathlib.Path) -> dict[tuple[int, str], float]:
  """Every recorded number but those about time: (step, name) -> value.

  Raises:
    UserError: if one is there twice.
  """
  numbers = {}
  for line in (workdir / "metrics.jsonl").read_text().splitlines():
    record = json.loads(line)
    step = record.pop("step")
    for name, value in record.items():
      if (step, name) in numbers:
        raise UserError(f"{workdir}: step {step} has {name} twice")
      if not name.startswith("speed/"):
        numbers[step, name] = float(value)
  return numbers
