"""Two runs do not share a folder."""

import json
import os
import socket
import subprocess
import sys
import time

import filelock
import pytest

from experiments.engine import lock
from experiments.engine.errors import UserError
from tests.conftest import ROOT

BEAT = 0.05  # Seconds.


def own(folder, **changes):
  """Leaves what a run leaves that was killed."""
  owner = {"host": socket.gethostname(), "process": 1, "since": "yesterday"}
  (folder / lock.OWNER).write_text(json.dumps(owner | changes))


def test_a_second_run_is_refused_with_the_firsts_machine_and_process(tmp_path):
  with lock.locked(tmp_path / "run"):
    with pytest.raises(UserError) as raised:
      with lock.locked(tmp_path / "run"):
        pass
    whose = f"in use by process {os.getpid()} on {socket.gethostname()}, since"
    assert whose in str(raised.value)
  with lock.locked(tmp_path / "run"):  # The first has ended.
    pass
  assert not (tmp_path / "run" / lock.OWNER).exists()


def test_a_killed_runs_lock_is_gone_with_it(tmp_path):
  hold = (
      "import pathlib, sys, time\n"
      "from experiments.engine import lock\n"
      "with lock.locked(pathlib.Path(sys.argv[1])):\n"
      "  print('held', flush=True)\n"
      "  time.sleep(300)"
  )
  with subprocess.Popen(
      [sys.executable, "-c", hold, str(tmp_path)],
      cwd=ROOT,
      stdout=subprocess.PIPE,
  ) as other:
    try:
      assert other.stdout.readline() == b"held\n"
      with pytest.raises(UserError, match=f"process {other.pid} on "):
        with lock.locked(tmp_path):
          pass
    finally:
      other.kill()
  assert (tmp_path / lock.OWNER).exists()
  with lock.locked(tmp_path, beat=1e9):  # On its machine nobody watches.
    pass


def test_a_run_of_another_machine_is_seen_by_what_it_touches(tmp_path):
  with lock.locked(tmp_path, BEAT):
    own(tmp_path, host="other")
    (tmp_path / lock.LOCK).unlink()  # Its file system locks for itself alone.
    with pytest.raises(UserError, match="in use by process 1 on other"):
      with lock.locked(tmp_path, 20 * BEAT):
        pass


def test_a_lost_run_of_another_machine_is_none(tmp_path):
  own(tmp_path, host="other")
  start = time.monotonic()
  with lock.locked(tmp_path, BEAT):
    assert time.monotonic() - start >= 4 * BEAT
    mine = json.loads((tmp_path / lock.OWNER).read_text())
    assert mine["process"] == os.getpid()


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"host": 3}'])
def test_a_damaged_name_of_the_holder_holds_nobody_up(tmp_path, text):
  (tmp_path / lock.OWNER).write_text(text)
  with filelock.FileLock(tmp_path / lock.LOCK):
    with pytest.raises(UserError, match="in use by a process"):
      with lock.locked(tmp_path, BEAT):
        pass
  with lock.locked(tmp_path, BEAT):
    pass


def test_an_error_frees_the_folder(tmp_path):
  with pytest.raises(RuntimeError):
    with lock.locked(tmp_path):
      raise RuntimeError
  with lock.locked(tmp_path):
    pass
