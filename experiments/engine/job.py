"""Watches the processes of a job: if one is lost or fails, all end.

Every process shows again and again that it is alive, in the key-value store of
JAX's coordinator, which process 0 hosts. Process 0 watches all others, and they
watch it. A process that fails leaves its last line there. Both is done by
threads, for the main thread of a process hangs where another one is missing.
"""

from collections.abc import Iterator
import contextlib
import io
import json
import os
import pathlib
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn, TextIO

import jax

ALIVE = "perceiver/alive/"
SEEN = "perceiver/seen/"
VERDICT = "perceiver/verdict"
TICKS = 20  # In the time after which a process is lost.
# What errors speak of, of whatever type, that another process's end causes.
OF_ANOTHER = (
    "barrier",
    "connection",
    "coordination",
    "gloo",
    "nccl",
    "unavailable",
)
NO_LIMIT = 10**9  # Milliseconds, 11 days.

_job: "_Job | None" = None


def join(
    *how: Any, lost_after: float, meet_within: float = 300.0, **more: Any
) -> None:
  """Joins the other processes and watches them.

  Args:
    *how: process 0's HOST:PORT, how many they are, and which this is; nothing
      if JAX is to find out.
    lost_after: seconds without a sign of life after which a process is lost.
    meet_within: seconds after which a process ends if not all have come.
    **more: for `jax.distributed.initialize`.

  Raises:
    RuntimeError, ValueError: if they cannot be joined.
  """
  global _job
  # JAX would abort in C++, with a page of its own.
  alone = threading.Timer(meet_within, _end_alone, [how, meet_within])
  alone.daemon = True
  alone.start()
  try:
    jax.distributed.initialize(
        *how,
        initialization_timeout=round(meet_within) + 30,
        # JAX's own watch ends a process without a name; it comes second.
        heartbeat_timeout_seconds=max(20, round(2 * lost_after)),
        **more,
    )
  finally:
    alone.cancel()
  _job = _Job(lost_after)


def keep_log(workdir: pathlib.Path, checkpoints: str) -> None:
  """Copies the standard error of this process to WORKDIR/logs.

  Alone, a process keeps no log.

  Args:
    workdir: the run's folder.
    checkpoints: where its checkpoints are, to be named if it ends early.

  Raises:
    OSError: if it cannot be written.
  """
  if _job is not None:
    _job.keep_log(workdir, checkpoints)


def failed(line: str, code: int) -> None:
  """Ends all processes of the job; does nothing in a single process.

  Args:
    line: what went wrong, already said here; the others say it too.
    code: with which all exit.
  """
  if _job is not None:
    _job.failed(line, code)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Ends all processes if one raises inside, and waits for all at the end."""
  if _job is None:
    yield
    return
  try:
    yield
  except Exception as error:
    if _job.is_of_another(error):
      _job.wait_for_verdict()
    with contextlib.suppress(OSError):  # A full disk: the others are told.
      traceback.print_exc()
    text = " ".join(str(error).split())[:500]
    _job.failed(f"{type(error).__name__}: {text}", 1)
  except KeyboardInterrupt:
    _job.failed("interrupted", 130)
  _job.leave()


def last_checkpoint(place: str | None) -> str:
  """A message about the newest finished checkpoint, if any.

  Args:
    place: where its checkpoints are, a folder or a URL.
  """
  if place is None:
    return ""
  if "://" in place:  # What could look there is large, and may hang.
    newest = f"in {place}"
  else:
    folder, steps = pathlib.Path(place), []
    with contextlib.suppress(OSError):
      steps = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
    if not steps:
      return ""
    newest = folder / str(max(steps))
  return f"; the last checkpoint: {newest}; the same command resumes from it"


def _end_alone(how: tuple[Any, ...], seconds: float) -> NoReturn:
  who, where = "this process", "the coordinator"
  if how:
    where, count, index = how
    who = f"process {index} of {count}"
  print(
      f"error: {who} has waited {seconds:g} seconds at {where} for the"
      " other processes",
      file=sys.stderr,
      flush=True,
  )
  os._exit(1)


class _Job:
  """The watchdog of one process."""

  def __init__(self, lost_after: float):
    # Needed: the client of the coordinator's key-value store, and this
    # process's number. The client has no public name.
    from jax._src import distributed

    state = distributed.global_state
    assert state.client is not None
    self._client = state.client
    self._index, self._count = state.process_id, state.num_processes
    self._lost_after = lost_after
    self._pause = min(1.0, lost_after / TICKS)
    self._checkpoints: str | None = None
    watched = range(1, self._count) if self._index == 0 else [0]
    self._silent = {i: 0.0 for i in watched}  # Seconds.
    self._left = threading.Event()
    self._ending = threading.Lock()
    self._threads = [
        threading.Thread(target=target, daemon=True)
        for target in (self._talk, self._count_silence)
    ]
    for thread in self._threads:
      thread.start()

  def keep_log(self, workdir: pathlib.Path, checkpoints: str) -> None:
    self._checkpoints = checkpoints
    path = workdir / "logs" / f"process-{self._index}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a", buffering=1)
    print(
        f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} process"
        f" {self._index} of {self._count} starts on {socket.gethostname()}, pid"
        f" {os.getpid()}: {' '.join(sys.argv[1:])}",
        file=file,
    )
    sys.stderr = _Copied(sys.stderr, file)

  def failed(self, line: str, code: int) -> NoReturn:
    line = f"process {self._index} of {self._count} failed: {line}"
    self._end({"of": self._index, "line": line, "code": code}, say=False)

  def is_of_another(self, error: BaseException | None) -> bool:
    """Whether the end of another process may have caused an error."""
    while error is not None:
      text = str(error).lower()
      if any(word in text for word in OF_ANOTHER):
        return True
      error = error.__cause__ or error.__context__
    return False

  def wait_for_verdict(self) -> None:
    """Waits until this process is ended, if another one is lost or failed."""
    time.sleep(self._lost_after + 5 * self._pause)

  def leave(self) -> None:
    """Waits for the other processes to finish, and stops watching."""
    self._client.wait_at_barrier("perceiver/end", NO_LIMIT)
    self._left.set()
    for thread in self._threads:
      thread.join()
    jax.distributed.shutdown()

  def _talk(self) -> None:
    """Reports that this process is alive, and reads the others' reports."""
    beat, heard = 0, {}
    while not self._left.wait(self._pause):
      beat += 1
      with contextlib.suppress(RuntimeError):  # Silence is counted elsewhere.
        self._client.key_value_set(
            f"{ALIVE}{self._index}", str(beat), allow_overwrite=True
        )
        if self._index:
          self._silent[0] = 0.0
        else:
          now = dict(self._client.key_value_dir_get(ALIVE))
          for key in now.keys() - {f"{ALIVE}0"}:
            if now[key] != heard.get(key):
              self._silent[int(key.removeprefix(ALIVE))] = 0.0
          heard = now
        verdict = json.loads(self._client.key_value_try_get(VERDICT))
        if verdict["of"] != self._index:
          self._end(verdict, say=True)

  def _count_silence(self) -> None:
    """Finds lost processes.

    It counts its own ticks instead of asking a clock: who was asleep himself,
    with his machine, does not take the others for lost.
    """
    tick = self._lost_after / TICKS
    while not self._left.wait(tick):
      for i in self._silent:
        self._silent[i] += tick
        if self._silent[i] > self._lost_after:
          line = (
              f"process {i} of {self._count} is lost: no sign of life for"
              f" {self._lost_after:g} seconds"
          )
          self._end({"of": i, "line": line, "code": 1}, say=True, lost=True)

  def _end(
      self, verdict: dict[str, Any], say: bool, lost: bool = False
  ) -> NoReturn:
    """Notifies the others and ends this process.

    Args:
      verdict: `of` which process, its `line`, the exit `code`.
      say: whether it has not been said here yet.
      lost: whether this process has found that one lost.
    """
    if not self._ending.acquire(blocking=False):
      threading.Event().wait()  # Another thread is at it.
    if say:
      line = verdict["line"].rstrip(".") + last_checkpoint(self._checkpoints)
      with contextlib.suppress(OSError):
        print(f"error: {line}", file=sys.stderr, flush=True)
    if not (lost and verdict["of"] == 0):  # The store is gone with process 0.
      with contextlib.suppress(RuntimeError):  # Another one was first.
        self._client.key_value_set(VERDICT, json.dumps(verdict))
      with contextlib.suppress(RuntimeError):
        self._client.key_value_set(f"{SEEN}{self._index}", "yes")
      self._wait_for_the_others(verdict["of"])
    with contextlib.suppress(OSError):
      sys.stdout.flush()
    os._exit(verdict["code"])  # Exit handlers would wait for the others.

  def _wait_for_the_others(self, missing: int) -> None:
    """Process 0 has the store: it stays until all have read the verdict."""
    if self._index:
      return
    others = set(range(1, self._count)) - {missing}
    deadline = time.monotonic() + 10 * self._pause
    while time.monotonic() < deadline:
      seen = dict(self._client.key_value_dir_get(SEEN))
      if all(f"{SEEN}{i}" in seen for i in others):
        return
      time.sleep(self._pause / 10)


class _Copied(io.TextIOBase):
  """A stream that also writes to a file."""

  def __init__(self, stream: TextIO, file: TextIO):
    self._stream, self._file = stream, file

  def write(self, text: str, /) -> int:
    with contextlib.suppress(OSError):  # A full disk: it is said elsewhere.
      self._file.write(text)
    return self._stream.write(text)

  def flush(self) -> None:
    self._stream.flush()

  def fileno(self) -> int:
    return self._stream.fileno()

  def isatty(self) -> bool:
    return self._stream.isatty()
