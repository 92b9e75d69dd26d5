"""Processes that end with their parent."""

import subprocess
import sys
import time

from experiments.data import processes
from tests.conftest import ROOT

PARENT = """
import multiprocessing
from tests.experiments.data import processes_test

if __name__ == "__main__":
  spawn = multiprocessing.get_context("spawn")
  child = spawn.Process(target=processes_test.stay)
  child.start()
  child.join()
"""


def stay() -> None:
  """What a child does."""
  processes.end_with_parent()
  print("ready", flush=True)
  time.sleep(600)


def test_a_child_ends_with_a_parent_that_is_killed():
  with subprocess.Popen(
      [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE
  ) as parent:
    try:
      assert parent.stdout.readline() == b"ready\n"
    finally:
      parent.kill()
    # The child has the other end of this pipe as long as it lives.
    assert parent.communicate(timeout=60)[0] == b""
