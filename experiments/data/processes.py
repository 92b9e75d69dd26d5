"""A pool of processes that ends when its parent does."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures
import contextlib
import multiprocessing
from multiprocessing import connection
import os
import signal
import threading
from typing import Any


def each(
    function: Callable[..., Any],
    *items: Iterable[Any],
    processes: int = 0,
    chunk: int = 1,
) -> Iterator[Any]:
  """The results of a function for all items, in order, as `map`.

  Args:
    function: it and the items can be pickled.
    *items: its arguments.
    processes: number of processes; 0: one per core; 1: this one.
    chunk: items that a process gets at once.
  """
  with pool(processes or cores()) as workers:
    if workers is None:
      yield from map(function, *items)
    else:
      yield from workers.map(function, *items, chunksize=chunk)


@contextlib.contextmanager
def pool(processes: int) -> Iterator[futures.Executor | None]:
  """A pool of processes; None for 1 process.

  When its block ends, work that was not begun is dropped. After an error, work
  that was begun is dropped as well.
  """
  if processes == 1:
    yield None
    return
  # A fork would copy the threads of whoever calls, in the middle of anything.
  spawn = multiprocessing.get_context("spawn")
  # Only this process can write to the pipe, and never does.
  reader, writer = spawn.Pipe(duplex=False)
  workers = futures.ProcessPoolExecutor(
      processes, spawn, _end_with_pipe, (reader,)
  )
  try:
    yield workers
  except BaseException:
    writer.close()  # What the workers are doing is in vain.
    raise
  finally:
    workers.shutdown(cancel_futures=True)
    writer.close()
    reader.close()


def end_with_parent() -> None:
  """Ends this process, a child of `multiprocessing`'s, when its parent ends."""
  parent = multiprocessing.parent_process()

  def watch():
    if parent is not None:
      parent.join()
      os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def cores() -> int:
  """The number of cores that this process may use."""
  return len(os.sched_getaffinity(0))


def _end_with_pipe(reader: connection.Connection) -> None:
  """Ends a worker when its parent ends."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is for the parent.

  def watch():
    reader.poll(None)  # Until nobody can write any more.
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
