"""The same run on one device, on many, and in several processes."""

import signal
import socket

import numpy as np
import pytest

from tests.conftest import recorded
from tests.conftest import wait_for_step

# Adam would turn the rounding of small gradients into whole steps.
RUN = (
    "--config.optimizer.name=sgd",
    "--config.optimizer.weight_decay=0.0",
    "--config.schedule.peak=0.05",
)

# Even small parameters are split over the devices.
SPLIT = "--config.mesh.fsdp_min_size=64"


def curve(workdir):
  names = ("train/loss", "train/grad_norm", "test/loss", "test/top1")
  return [
      [record["step"], *(record.get(name, 0.0) for name in names)]
      for record in recorded(workdir)
  ]


@pytest.fixture(scope="module")
def one_device(in_fork, training, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("one")
  code, _, err = in_fork(*training(workdir, *RUN))
  assert code == 0, err
  return curve(workdir)


@pytest.mark.parametrize(
    "devices",
    [
        2,
        pytest.param(4, marks=pytest.mark.slow),
        pytest.param(8, marks=pytest.mark.slow),
    ],
)
def test_several_devices_learn_what_one_does(
    train, one_device, tmp_path, devices
):
  command = train(tmp_path, *RUN, SPLIT, devices=devices)
  code, out, err = command.wait()
  assert code == 0, err
  assert f"mesh {{'data': {devices}, 'context': 1}}" in out
  np.testing.assert_allclose(curve(tmp_path), one_device, rtol=2e-5, atol=1e-5)


@pytest.mark.slow  # A step is compared in mesh_test.py.
def test_accumulated_parts_learn_what_the_whole_batch_does(
    train, one_device, tmp_path
):
  code, _, err = train(
      tmp_path, *RUN, "--config.accumulate=4", devices=2
  ).wait()
  assert code == 0, err
  np.testing.assert_allclose(curve(tmp_path), one_device, rtol=2e-5, atol=1e-5)


def in_two_processes(train, workdir, *changes, **how):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  return [
      train(
          workdir,
          *RUN,
          *changes,
          f"--coordinator=localhost:{port}",
          "--num_processes=2",
          f"--process_id={i}",
          **how,
      )
      for i in range(2)
  ]


@pytest.mark.slow  # launch_test.py has the same under SLURM's variables.
def test_two_processes_learn_what_one_does(train, one_device, tmp_path):
  commands = in_two_processes(train, tmp_path, SPLIT, devices=2)
  for code, _, err in [command.wait() for command in commands]:
    assert code == 0, err
  np.testing.assert_allclose(curve(tmp_path), one_device, rtol=2e-5, atol=1e-5)


@pytest.mark.slow
def test_a_run_goes_on_with_ever_other_devices_processes_and_workers(
    in_fork, training, train, tmp_path
):
  longer = ("--config.train_examples=640", "--config.run.eval_every=20")
  whole, run = tmp_path / "whole", tmp_path / "run"
  code, _, err = in_fork(*training(whole, *RUN, *longer))
  assert code == 0, err
  for step, devices, workers in ((8, 1, 0), (16, 4, 1)):
    workers = f"--config.num_workers={workers}"
    command = train(run, *RUN, *longer, SPLIT, workers, devices=devices)
    wait_for_step(command, run, step)
    command.process.send_signal(signal.SIGTERM)
    code, _, err = command.wait()
    assert code == 0, err
    stopped_at = recorded(run)[-1]["step"]
    assert stopped_at < 40
  commands = in_two_processes(train, run, *longer, SPLIT, devices=2)
  (code, out, err), (code_1, _, err_1) = [c.wait() for c in commands]
  assert code == code_1 == 0, err + err_1
  assert f"resumes after step {stopped_at}" in out
  np.testing.assert_allclose(curve(run), curve(whole), rtol=2e-5, atol=1e-5)


def test_a_batch_that_the_devices_do_not_divide_is_refused(train, tmp_path):
  workdir = tmp_path / "run"
  code, _, err = train(workdir, devices=3).wait()
  assert code == 2
  assert err == (
      "error: batch_size 16 does not divide evenly among 3 devices × 1"
      " gradient accumulation steps\n"
  )
  assert not workdir.exists()
