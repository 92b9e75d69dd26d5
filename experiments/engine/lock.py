"""Allows one run at a time in a folder, on any machine.

The kernel keeps the lock, and drops it when the process is gone. Many shared
file systems keep it for all machines, and some only for each by itself. So who
holds it touches a file, which has its name, again and again; who comes from
another machine watches that file for a while.
"""

from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
import socket
import threading
import time

import filelock

from experiments.data import atomic
from experiments.engine.errors import UserError

LOCK, OWNER = ".lock", "running.json"
BEAT = 5.0  # Seconds.
# What file systems say that have no locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)


@contextlib.contextmanager
def locked(folder: pathlib.Path, beat: float = BEAT) -> Iterator[None]:
  """Locks a folder for one run, and makes the folder if necessary.

  Args:
    folder: the run's.
    beat: seconds between two touches. Who comes from another machine watches
      for four times as long.

  Yields:
    nothing.

  Raises:
    UserError: if a run holds it; names its machine and process.
    OSError: if the folder cannot be written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  owner, has_ended = folder / OWNER, threading.Event()
  lock = filelock.FileLock(folder / LOCK)
  is_certain = True
  try:
    lock.acquire(blocking=False)
  except filelock.Timeout:
    raise UserError(_in_use(folder)) from None
  except NotImplementedError:  # As filelock says it.
    is_certain = False
  except OSError as error:
    if error.errno not in NO_LOCKS:
      raise
    is_certain = False
  try:
    is_elsewhere = _read(owner).get("host") != socket.gethostname()
    if (is_elsewhere or not is_certain) and _is_touched(owner, 4 * beat):
      raise UserError(_in_use(folder))
    mine = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    atomic.write_json(owner, mine)
    thread = threading.Thread(
        target=_touch, args=(owner, beat, has_ended), daemon=True
    )
    thread.start()
    try:
      yield
    finally:
      has_ended.set()
      thread.join()
      owner.unlink(missing_ok=True)
  finally:
    lock.release()


def _in_use(folder: pathlib.Path) -> str:
  found = _read(folder / OWNER)
  who = "a process"
  if found:
    who = "process {process} on {host}, since {since}".format_map(found)
  return (
      f"{folder} is in use by {who}: wait for its end, or take another"
      " --workdir"
  )


def _read(owner: pathlib.Path) -> dict[str, str]:
  """The present or last owner of the folder; empty if it cannot be read."""
  try:
    found = atomic.read_json(owner)
    return {key: str(found[key]) for key in ("host", "process", "since")}
  except (OSError, ValueError, TypeError, KeyError):
    return {}


def _touch(owner: pathlib.Path, beat: float, has_ended: threading.Event):
  while not has_ended.wait(beat):
    with contextlib.suppress(OSError):  # The disk is full, or away for a while.
      os.utime(owner)


def _is_touched(owner: pathlib.Path, seconds: float) -> bool:
  """Whether a file is touched within a time."""
  times, deadline = set(), time.monotonic() + seconds
  while len(times) < 2 and time.monotonic() < deadline:
    try:
      with owner.open("rb") as file:  # Opening it asks the server again.
        times.add(os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
      return False
    time.sleep(seconds / 20)
  return len(times) == 2
