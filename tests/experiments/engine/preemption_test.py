"""Signals to a run, and to the processes that prepare its input."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments import train as train_lib
from experiments.engine import settings
from experiments.engine.errors import UserError
from experiments.engine.preemption import Preemption
from experiments.engine.preemption import SIGNALS
from tests.conftest import ROOT
from tools.attempts import checkpoints
from tools.attempts import last_step

STEPS = 5000


@pytest.fixture(autouse=True)
def signals_arrive():
  """Handlers as of a terminal: what starts the tests may ignore signals."""
  before = {number: signal.getsignal(number) for number in SIGNALS}
  for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.fixture
def config(data_dir):
  changes = {
      "data_dir": data_dir,
      "train_examples": 16 * STEPS,
      "run.eval_every": STEPS,
      "run.checkpoint_every": STEPS,
  }
  return settings.load("quickstart:mini", changes)


def after_step(workdir, step, act):
  """Lets a thread do something once a run has recorded a step."""

  def wait():
    while last_step(workdir) < step:
      time.sleep(0.005)
    act()

  threading.Thread(target=wait, daemon=True).start()


def handlers():
  return {number: signal.getsignal(number) for number in SIGNALS}


def test_a_signal_is_noted_and_handlers_are_as_before():
  before = handlers()
  for number in SIGNALS:
    with Preemption() as preemption:
      assert not preemption.reached(1)
      os.kill(os.getpid(), number)
      while not preemption.noticed:
        time.sleep(0.005)
      assert preemption.noticed == number.name
      assert preemption.reached(1)
    assert handlers() == before


def test_what_nohup_has_ignored_stays_ignored():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with Preemption() as preemption:
      os.kill(os.getpid(), signal.SIGHUP)
      os.kill(os.getpid(), signal.SIGTERM)
      while not preemption.noticed:
        time.sleep(0.005)
      assert preemption.noticed == "SIGTERM"
  finally:
    signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_ends_a_process_whose_main_thread_is_busy():
  wait = (
      "import threading\n"
      "from experiments.engine.preemption import Preemption\n"
      "with Preemption():\n"
      "  print('ready', flush=True)\n"
      "  threading.Event().wait()"
  )
  with subprocess.Popen(
      [sys.executable, "-c", wait],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  ) as process:
    try:
      assert process.stdout.readline() == "ready\n"
      process.send_signal(signal.SIGINT)
      assert "once more ends it now" in process.stderr.readline()
      assert process.poll() is None
      process.send_signal(signal.SIGINT)
      assert process.stderr.readline() == "error: interrupted\n"
      assert process.wait(60) == 130
    finally:
      process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_the_same_run_goes_on(
    config, tmp_path, capsys, number
):
  after_step(tmp_path, 3, lambda: os.kill(os.getpid(), number))
  train_lib.train(config, tmp_path)
  (step,) = checkpoints(tmp_path)
  assert 3 <= step < STEPS
  said = capsys.readouterr().out
  assert f"stopped by {number.name} after step {step}; the same" in said
  after_step(tmp_path, step + 1, lambda: os.kill(os.getpid(), number))
  train_lib.train(config, tmp_path)
  assert f"resumes after step {step}" in capsys.readouterr().out


def test_a_signal_before_the_first_step_stops_the_run_before_it(
    config, tmp_path, capsys
):
  with Preemption() as preemption:
    os.kill(os.getpid(), signal.SIGTERM)
    _, stopped = train_lib._train(config, tmp_path, preemption)
  assert stopped
  assert "stopped by SIGTERM after step 0" in capsys.readouterr().out
  assert last_step(tmp_path) == 0


def test_a_killed_process_of_the_input_ends_the_run_and_other_signals_do_not(
    config, tmp_path
):
  config.num_workers = 2
  lived_on = []

  def disturb():
    worker = multiprocessing.active_children()[0]
    for number in SIGNALS:  # As to all processes of a terminal or a job.
      os.kill(worker.pid, number)
    before = last_step(tmp_path)
    while last_step(tmp_path) < before + 20:
      time.sleep(0.005)
    lived_on.append(worker.is_alive())
    worker.kill()

  after_step(tmp_path, 3, disturb)
  with pytest.raises(UserError) as raised:
    train_lib.train(config, tmp_path)
  assert lived_on == [True]
  message = str(raised.value)
  assert "a process that prepares input was killed" in message
  assert "\n" not in message
  assert not multiprocessing.active_children()
