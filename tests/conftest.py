"""What tests share: the digits, prepared once, and the command in a process."""

from collections.abc import Mapping
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from types import MappingProxyType

from absl import flags
import filelock
import pytest
import tensorflow_datasets as tfds

from tools.attempts import last_step

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
SHARED = ROOT.parent / "shared"  # Data for development; may be missing.
# Compiling takes most of the tests' time, and what is compiled runs for
# milliseconds: each program is compiled once, for all processes of the tests,
# and not optimized except where a test asks for it (`optimized`).
CACHE = "JAX_COMPILATION_CACHE_DIR"
MADE_HERE = CACHE not in os.environ  # pytest's workers inherit it.
if MADE_HERE:
  os.environ[CACHE] = tempfile.mkdtemp(prefix="compiled-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# XLA's newer way to make code of fused operations compiles half as fast.
FLAGS = "--xla_cpu_use_fusion_emitters=false"
if FLAGS not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}
# Grain's workers want parsed flags.
flags.FLAGS.mark_as_parsed()


def on_devices(count: int) -> dict[str, str]:
  """The environment of a process whose CPU pretends to be several devices."""
  flag = f"--xla_force_host_platform_device_count={count}"
  return {**ENVIRONMENT, "XLA_FLAGS": f"{ENVIRONMENT['XLA_FLAGS']} {flag}"}


# Files with few tests that take minutes. They start first, so that no process
# is left with one of them at the end.
LONG = ("survival_test", "devices_test", "docs_test", "evaluate_test")


# Files, and folders, that start processes, or compile or build large models.
# All tests outside of them, but slow ones, are marked `fast`.
NOT_FAST = (
    "configs",
    "docs_test.py",
    "experiments/audioset_test.py",
    "experiments/autoregression_test.py",
    "experiments/data/clips",
    "experiments/data/flow/augment_test.py",
    "experiments/data/flow/scenes_test.py",
    "experiments/data/images/pipeline_test.py",
    "experiments/data/pipeline_test.py",
    "experiments/data/starcraft/game_test.py",
    "experiments/data/text/corpus_test.py",
    "experiments/data/text/masking_test.py",
    "experiments/engine/checkpoint_test.py",
    "experiments/engine/command_test.py",
    "experiments/engine/damage_test.py",
    "experiments/engine/devices_test.py",
    "experiments/engine/extras_test.py",
    "experiments/engine/job_test.py",
    "experiments/engine/mesh_test.py",
    "experiments/engine/portable_test.py",
    "experiments/engine/preemption_test.py",
    "experiments/engine/screen_test.py",
    "experiments/engine/storage_test.py",
    "experiments/engine/survival_test.py",
    "experiments/engine/weights_test.py",
    "experiments/evaluate_test.py",
    "experiments/flow_test.py",
    "experiments/glue_test.py",
    "experiments/imagenet_test.py",
    "experiments/inference/agreement_test.py",
    "experiments/inference/model_test.py",
    "experiments/kinetics_test.py",
    "experiments/mlm_test.py",
    "experiments/modelnet40_test.py",
    "experiments/starcraft_test.py",
    "perceiver/golden_test.py",
    "perceiver/kernels/causal_test.py",
    "perceiver/kernels/softmax_test.py",
    "perceiver/orders_test.py",
    "perceiver/perceiver_ar_test.py",
    "perceiver/perceiver_io_test.py",
    "perceiver/context_test.py",
    "perceiver/starcraft_test.py",
    "scripts",
    "site_test.py",
    "tools",
    "tutorials_test.py",
)


def pytest_collection_modifyitems(items):
  """Moves the tests of long files to the front; marks fast ones."""
  items.sort(key=lambda item: item.path.stem not in LONG)
  slower = [ROOT / "tests" / name for name in NOT_FAST]
  for item in items:
    path = item.path
    among = any(path == other or other in path.parents for other in slower)
    if not among and item.get_closest_marker("slow") is None:
      item.add_marker("fast")


def pytest_unconfigure():
  """Removes the compiled programs."""
  if MADE_HERE:
    shutil.rmtree(os.environ[CACHE], ignore_errors=True)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory, worker_id) -> str:
  """A folder with the digits, shared by all workers of the test run."""
  from experiments.data.builders import digits  # noqa: F401  Registers it.

  root = tmp_path_factory.getbasetemp()
  if worker_id != "master":
    root = root.parent
  folder = root / "data"
  folder.mkdir(exist_ok=True)
  with filelock.FileLock(str(root / "data.lock")):
    builder = tfds.builder(
        "digits", data_dir=folder, file_format="array_record"
    )
    builder.download_and_prepare()
  return str(folder)


class Command:
  """A command line of the project, in a process of its own."""

  def __init__(
      self,
      module: str,
      *args: str,
      devices: int = 1,
      environment: Mapping[str, str] = MappingProxyType({}),
  ):
    """Starts it.

    Args:
      module: what to run.
      *args: its arguments.
      devices: how many the CPU pretends to be.
      environment: further variables.
    """
    self.process = subprocess.Popen(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        env={**on_devices(devices), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

  def wait(self, timeout: float = 300) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) when it has ended."""
    try:
      out, err = self.process.communicate(timeout=timeout)
    finally:
      self.process.kill()
    return self.process.returncode, out, err


def json_lines(command: Command) -> list[dict]:
  """The lines of JSON that a command prints, when it has ended well."""
  code, out, err = command.wait(timeout=900)
  assert code == 0, err[-3000:]
  return [json.loads(line) for line in out.splitlines() if line[:1] == "{"]


@pytest.fixture(scope="session")
def in_fork():
  """Runs a command to its end, as `Command`, but imports nothing again.

  It is `in_fork` of tests/forked.py: (exit code, standard output and error).
  """
  process = subprocess.Popen(
      [sys.executable, "-m", "tests.forked"],
      cwd=ROOT,
      env=on_devices(1),  # As `Command` has it.
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
  )

  def run(module: str, *args: str) -> tuple[int, str, str]:
    process.stdin.write(json.dumps([module, *args]) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"the process that forks has ended: {process.poll()}"
    return tuple(json.loads(answer))

  yield run
  process.stdin.close()
  process.wait(60)


@pytest.fixture
def optimized():
  """Programs are compiled as in use."""
  import jax  # Not before flags of it are set.

  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


def recorded(workdir: pathlib.Path) -> list[dict[str, float]]:
  """The lines of a run's metrics."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def wait_for_step(command, workdir: pathlib.Path, step: int) -> None:
  """Returns once a running command has recorded a step."""
  deadline = time.time() + 120
  while last_step(workdir) < step:
    assert command.process.poll() is None, command.wait()
    assert time.time() < deadline, f"no step {step} in {workdir}"
    time.sleep(0.005)


@pytest.fixture(scope="session")
def training(data_dir):
  """The training command on the mini quickstart, as a list; and changes."""

  def words(workdir, *changes: str) -> list[str]:
    return [
        "experiments.train",
        "--config=configs/quickstart.py:mini",
        f"--workdir={workdir}",
        f"--config.data_dir={data_dir}",
        *changes,
    ]

  return words


@pytest.fixture
def train(training):
  """Starts the training command on the mini quickstart; changes as flags."""

  started = []

  def start(workdir, *changes: str, **how) -> Command:
    command = Command(*training(workdir, *changes), **how)
    started.append(command)
    return command

  yield start
  for command in started:
    command.process.kill()
