"""Handles signals that stop a run, after it has saved a checkpoint."""

import contextlib
import os
import signal
import sys
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

from experiments.engine import job

# The machine is about to be taken away; somebody stops the run, by hand; the
# terminal is gone.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Preemption:
  """A context that records signals instead of ending the process.

  A second SIGINT ends the process at once. What is ignored, as by `nohup`,
  stays so.
  """

  def __init__(self):
    self.noticed = ""  # The name of the first signal.
    self._passed_on = False
    self._previous: dict[signal.Signals, Any] = {}

  def __enter__(self):
    if threading.current_thread() is not threading.main_thread():
      return self
    # Python calls handlers between two instructions of the main thread, which
    # may wait for minutes in one that compiles. A thread hears at once.
    heard, self._pipe = os.pipe()
    os.set_blocking(self._pipe, False)
    self._pipe_before = signal.set_wakeup_fd(
        self._pipe, warn_on_full_buffer=False
    )
    threading.Thread(target=self._listen, args=(heard,), daemon=True).start()
    for number in SIGNALS:
      # With several processes JAX's own service has taken SIGTERM.
      taken = number == signal.SIGTERM and jax.distributed.is_initialized()
      if not taken and signal.getsignal(number) is not signal.SIG_IGN:
        self._previous[number] = signal.signal(number, lambda *_: None)
    return self

  def __exit__(self, *exception):
    if not self._previous:
      return
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._pipe_before)
    os.close(self._pipe)  # It ends the thread.

  def reached(self, step: int) -> bool:
    """Whether to stop after this step; the same answer in every process."""
    if jax.process_count() == 1:
      return bool(self.noticed)
    if self.noticed and not self._passed_on:
      self._passed_on = True
      os.kill(os.getpid(), signal.SIGTERM)  # JAX's service spreads the word.
    return multihost_utils.reached_preemption_sync_point(step)

  def _listen(self, heard: int) -> None:
    interrupted = False
    while number := os.read(heard, 1):
      is_interrupt = number[0] == signal.SIGINT
      if interrupted and is_interrupt:
        self._say("error: interrupted")
        job.failed("interrupted", 130)
        os._exit(130)
      interrupted = interrupted or is_interrupt
      self.noticed = self.noticed or signal.Signals(number[0]).name
      if is_interrupt:
        self._say("interrupted: the run saves and ends; once more ends it now")
    os.close(heard)

  def _say(self, line: str) -> None:
    with contextlib.suppress(OSError):
      print(line, file=sys.stderr, flush=True)
