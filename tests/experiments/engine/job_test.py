"""How jobs of several processes start and end.

What SLURM and Kubernetes tell a process is set by hand here.
"""

import json
import random
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from experiments.engine import job
from tests.conftest import recorded
from tests.conftest import ROOT
from tests.experiments.engine.devices_test import curve
from tests.experiments.engine.devices_test import one_device  # noqa: F401  A fixture.
from tests.experiments.engine.devices_test import RUN
from tools.attempts import checkpoints

LAUNCH = ROOT / "scripts" / "launch"
LOST_AFTER = 10  # Seconds.
LONG = (
    "--config.train_examples=16000",
    "--config.run.eval_every=1000",
    f"--lost_after={LOST_AFTER}",
)


def free_port() -> int:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


def slurm(count):
  """What srun tells each of `count` processes on one node."""
  job = random.randrange(1, 10**6)  # JAX makes the port of it.
  return [
      {
          "SLURM_JOB_ID": str(job),
          "SLURM_STEP_NODELIST": "localhost",
          "SLURM_NTASKS": str(count),
          "SLURM_PROCID": str(i),
          "SLURM_LOCALID": str(i),
          "SLURM_STEP_NUM_NODES": "1",
          "SLURM_JOB_NODELIST": "localhost",
          "SLURM_JOB_NUM_NODES": "1",
      }
      for i in range(count)
  ]


def job_of_jobset():
  (job,) = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())["spec"][
      "replicatedJobs"
  ]
  return job["name"], job["template"]["spec"]


def jobset(count):
  """What the manifest tells each pod, but for the first one's host name."""
  pod = job_of_jobset()[1]["template"]["spec"]["containers"][0]
  told = {entry["name"]: entry.get("value") for entry in pod["env"]}
  assert int(told["JAX_NUM_PROCESSES"]) == count
  told["JAX_COORDINATOR_ADDRESS"] = f"localhost:{free_port()}"
  told["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
  return [
      told | {"JAX_PROCESS_ID": str(i), "JOB_COMPLETION_INDEX": str(i)}
      for i in range(count)
  ]


@pytest.fixture
def start(train, tmp_path):
  """Starts a job of several processes; changes of single ones by number."""

  def start_job(count, *changes, environments=None, **of_one):
    port = free_port()
    commands = []
    for i in range(count):
      flags = []
      if environments is None:
        flags = [
            f"--coordinator=localhost:{port}",
            f"--num_processes={count}",
            f"--process_id={i}",
        ]
      commands.append(
          train(
              tmp_path,
              *changes,
              *flags,
              *of_one.get(f"of_{i}", ()),
              environment=environments[i] if environments else {},
          )
      )
    return commands

  return start_job


def wait_for_step(commands, workdir, step):
  path = workdir / "metrics.jsonl"
  deadline = time.time() + 300
  while not path.exists() or path.read_text().count("\n") < step:
    assert all(c.process.poll() is None for c in commands)
    assert time.time() < deadline
    time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("environments", [slurm, jobset])
def test_processes_that_a_scheduler_starts_learn_what_one_does(
    start, one_device, tmp_path, environments  # noqa: F811
):
  commands = start(2, *RUN, environments=environments(2))
  for code, _, err in [command.wait() for command in commands]:
    assert code == 0, err
  np.testing.assert_allclose(curve(tmp_path), one_device, rtol=2e-5, atol=1e-5)
  for i in range(2):
    log = (tmp_path / "logs" / f"process-{i}.txt").read_text()
    assert f"process {i} of 2 starts on" in log


def test_a_process_that_fails_ends_the_others_with_its_line(start, tmp_path):
  commands = start(
      2, environments=jobset(2), of_1=["--config.data_dir=/nowhere"]
  )
  (code, _, err), (code_1, _, err_1) = [c.wait() for c in commands]
  assert code == code_1 == 2
  line = "no data set 'digits' in /nowhere: prepare it with"
  assert err.startswith(f"error: process 1 of 2 failed: {line}")
  assert err_1.startswith(f"error: {line}")
  for i, said in enumerate((err, err_1)):
    log = (tmp_path / "logs" / f"process-{i}.txt").read_text()
    assert log.splitlines()[1:] == said.splitlines()


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_to_which_the_others_do_not_come_says_so(index):
  join = (
      "from experiments.engine import job\n"
      f"job.join('localhost:{free_port()}', 2, {index}, lost_after=10,"
      " meet_within=3)"
  )
  done = subprocess.run(
      [sys.executable, "-c", join],
      cwd=ROOT,
      stderr=subprocess.PIPE,
      text=True,
  )
  assert done.returncode == 1
  assert done.stderr.startswith(f"error: process {index} of 2 has waited 3 sec")
  assert len(done.stderr.splitlines()) == 1


def test_the_last_checkpoint_is_named_wherever_it_is(tmp_path):
  assert job.last_checkpoint(None) == ""
  assert job.last_checkpoint(str(tmp_path)) == ""
  for name in ("9", "12", "15.orbax-checkpoint-tmp"):
    (tmp_path / name).mkdir()
  line = job.last_checkpoint(str(tmp_path))
  assert f"the last checkpoint: {tmp_path / '12'};" in line
  line = job.last_checkpoint("gs://bucket/run")
  assert "the last checkpoint: in gs://bucket/run;" in line


def lose(start, workdir, count, victim, how):
  """Ends or stops one of the processes; the others' (exit code, errors)."""
  commands = start(count, *LONG)
  wait_for_step(commands, workdir, 6)  # There is a checkpoint after three.
  commands[victim].process.send_signal(how)
  others = [c.wait() for i, c in enumerate(commands) if i != victim]
  commands[victim].process.kill()
  return [(code, err) for code, _, err in others]


LOSSES = [
    (2, 1, signal.SIGKILL),
    *(
        pytest.param(*loss, marks=pytest.mark.slow)
        for loss in [
            (2, 1, signal.SIGSTOP),
            (2, 0, signal.SIGSTOP),
            (4, 2, signal.SIGKILL),
            (4, 3, signal.SIGSTOP),
            (4, 0, signal.SIGSTOP),
        ]
    ),
]


@pytest.mark.parametrize("count, victim, how", LOSSES)
def test_a_lost_process_ends_the_others_with_a_line_that_names_it(
    start, tmp_path, count, victim, how
):
  for code, err in lose(start, tmp_path, count, victim, how):
    assert code != 0
    lines = [
        line
        for line in err.splitlines()
        if line.startswith(f"error: process {victim} of {count} is lost")
    ]
    assert len(lines) == 1, err
    assert f"the last checkpoint: {tmp_path}/checkpoints/" in lines[0]
  number = int(re.findall(r"checkpoints/(\d+)", lines[0])[0])
  assert number in checkpoints(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_jax_aborts_the_others_as_soon_as_process_0_is_killed(
    start, tmp_path, count
):
  for code, err in lose(start, tmp_path, count, 0, signal.SIGKILL):
    assert code == -signal.SIGABRT
    assert "the JAX distributed service detected fatal errors" in err


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_fails_in_the_middle_ends_the_others(
    start, tmp_path, victim
):
  commands = start(2, *LONG)
  wait_for_step(commands, tmp_path, 6)
  commands[victim].process.send_signal(signal.SIGINT)
  time.sleep(0.02)  # Two that come at once are one.
  commands[victim].process.send_signal(signal.SIGINT)
  (code, _, err), (code_1, _, err_1) = [c.wait() for c in commands]
  assert code == code_1 == 130, err + err_1
  said = (err, err_1)[1 - victim]
  assert f"error: process {victim} of 2 failed: interrupted" in said


STOPPED = [
    pytest.param(count, told, how, marks=pytest.mark.slow)
    for count, told, how in [
        (2, [0], signal.SIGTERM),
        (2, [1], signal.SIGTERM),
        (2, [1], signal.SIGINT),
        (2, range(2), signal.SIGHUP),
        (4, [0], signal.SIGTERM),
        (4, [2], signal.SIGTERM),
        (4, range(4), signal.SIGTERM),
    ]
]


@pytest.mark.parametrize("count, told, how", STOPPED)
def test_a_signal_to_any_process_saves_once_and_the_same_command_goes_on(
    start, tmp_path, count, told, how
):
  job = (
      "--config.train_examples=960",
      "--config.run.eval_every=1000",
      "--config.run.checkpoint_every=1000",
  )
  commands = start(count, *job)
  wait_for_step(commands, tmp_path, 3)
  for i in told:
    commands[i].process.send_signal(how)
  results = [command.wait() for command in commands]
  assert [code for code, _, _ in results] == [0] * count, results
  step = recorded(tmp_path)[-1]["step"]
  assert step < 60
  name = how.name if 0 in told else "SIGTERM"
  assert results[0][1].count(f"stopped by {name} after step {step}") == 1
  assert checkpoints(tmp_path) == [step]
  results = [command.wait() for command in start(count, *job)]
  assert [code for code, _, _ in results] == [0] * count, results
  assert f"resumes after step {step}" in results[0][1]
  steps = [r["step"] for r in recorded(tmp_path) if "train/loss" in r]
  assert steps == list(range(1, 61))


@pytest.mark.slow
def test_the_exit_code_after_sigterm_can_be_another_one(start, tmp_path):
  commands = start(2, *LONG, "--stopped_code=75")
  wait_for_step(commands, tmp_path, 3)
  commands[1].process.send_signal(signal.SIGTERM)
  assert [command.wait()[0] for command in commands] == [75, 75]


def test_the_manifest_agrees_with_itself():
  manifest = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
  name, job = job_of_jobset()
  pod = job["template"]["spec"]
  told = {entry["name"]: entry for entry in pod["containers"][0]["env"]}
  assert job["parallelism"] == job["completions"]
  assert told["JAX_NUM_PROCESSES"]["value"] == str(job["parallelism"])
  address = told["JAX_COORDINATOR_ADDRESS"]["value"]
  jobset_name = manifest["metadata"]["name"]
  # The pod's own name, and the service that JobSet makes.
  assert address.split(":")[0] == f"{jobset_name}-{name}-0-0.{jobset_name}"
  annotation = (
      "metadata.annotations['batch.kubernetes.io/job-completion-index']"
  )
  field = told["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
  assert field == annotation
  volumes = {volume["name"] for volume in pod["volumes"]}
  mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
  assert mounts == volumes
  json.dumps(manifest)  # Nothing in it is of a type that JSON lacks.


@pytest.mark.parametrize("name", ["slurm.sh", "tpu.sh"])
def test_the_scripts_are_shell(name):
  subprocess.run(["bash", "-n", LAUNCH / name], check=True)


def run_with(folder, programs, command, **environment):
  """Runs a script where some programs are replaced; what it said."""
  for name, text in programs.items():
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)
  return subprocess.run(
      ["bash", *command],
      env={"PATH": f"{folder}:/usr/bin:/bin", **environment},
      capture_output=True,
      text=True,
  )


@pytest.mark.parametrize(
    "code, requeued", [(0, ""), (75, "requeue 7"), (1, "")]
)
def test_the_slurm_job_asks_for_another_turn_only_after_sigterm(
    tmp_path, code, requeued
):
  programs = {
      "srun": f'echo "$@"; exit {code}',
      "scontrol": 'echo "scontrol $@"',
  }
  script = [LAUNCH / "slurm.sh", "--config=x.py", "--workdir=a b"]
  done = run_with(tmp_path, programs, script, SLURM_JOB_ID="7")
  step, *others = done.stdout.splitlines()
  assert step.endswith(
      "-m experiments.train --stopped_code=75 --config=x.py --workdir=a b"
  )
  assert others == ([f"scontrol {requeued}"] if requeued else [])
  assert done.returncode == code


def test_the_tpu_hosts_get_the_flags_as_they_were_given(tmp_path):
  programs = {"gcloud": 'for last; do :; done; echo "$last"'}
  script = [LAUNCH / "tpu.sh", "train", "--config=x.py", "--workdir=a b"]
  done = run_with(tmp_path, programs, script, TPU="slice", ZONE="zone")
  assert done.returncode == 0, done.stderr
  assert done.stdout.rstrip().endswith(
      r"--coordinator=auto --config=x.py --workdir=a\ b"
  )
