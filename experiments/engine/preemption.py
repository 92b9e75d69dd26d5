"""SIGTERM, the notice that the machine is about to be taken away."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Preemption:
  """Notes SIGTERM while it is entered, instead of dying of it."""

  def __init__(self):
    self._noticed = False
    self._previous = None

  def __enter__(self):
    # With several processes JAX's own service listens, and spreads the word.
    main_thread = threading.current_thread() is threading.main_thread()
    if jax.process_count() == 1 and main_thread:
      self._previous = signal.signal(signal.SIGTERM, self._notice)
    return self

  def __exit__(self, *exception):
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def reached(self, step: int) -> bool:
    """Whether to stop after this step; the same answer in every process."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._noticed

  def _notice(self, signum, frame):
    del signum, frame
    self._noticed = True
