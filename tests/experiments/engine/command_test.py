"""What a person gets wrong ends in one clear line, before anything happens."""

import subprocess
import sys

import pytest

from tests.conftest import ENVIRONMENT
from tests.conftest import ROOT

MISTAKES = {
    "an unknown key": (
        ["--config.model.encoder.num_latent=3"],
        'Did you mean "num_latents"',
    ),
    "a wrong type": (["--config.batch_size=many"], "invalid literal for int"),
    "an unknown variant": (
        ["--config=configs/quickstart.py:mni"],
        "'mni' is not one of ['full', 'mini']",
    ),
    "a missing config": (["--config=configs/quick.py"], "configs/quick.py"),
    "an unknown task": (["--config.task=digit"], "no experiments/digit.py"),
    "an unknown input": (
        ["--config.model.input.name=pixls"],
        "'pixls' is not one of ['learned_positions', 'pixels']",
    ),
    "an unknown optimizer": (
        ["--config.optimizer.name=lmb"],
        "'lmb' is not one of ['adam', 'adamw', 'lamb', 'sgd']",
    ),
    "heads that do not fit": (
        ["--config.model.processor.num_heads=5"],
        "16 channels of 'q' do not split into 5 heads",
    ),
    "an unknown dtype": (["--config.compute_dtype=float16"], "'float16'"),
    "an unknown flag": (["--speed=3"], "Unknown command line flag 'speed'"),
    "a stray word": (["faster"], "unexpected arguments: faster"),
    "missing data": (
        ["--config.data_dir=/nowhere"],
        "python -m scripts.prepare_data digits --data_dir=/nowhere",
    ),
    "a run without a step": (
        ["--config.batch_size=4000"],
        "192 is less than one batch of 4000",
    ),
    "half of the processes' flags": (
        ["--coordinator=localhost:1"],
        "--coordinator needs --num_processes and --process_id",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_says_what_is_wrong(train, tmp_path, mistake):
  changes, message = MISTAKES[mistake]
  workdir = tmp_path / "run"
  code, out, err = train(workdir, *changes).wait()
  assert code == 2
  assert message in err
  assert len(err.splitlines()) == 1 and not out
  assert not workdir.exists()


def test_a_folder_that_cannot_be_written_stops_before_compiling(
    train, tmp_path
):
  (tmp_path / "file").write_text("no folder")
  code, out, err = train(tmp_path / "file" / "run").wait()
  assert code == 1
  assert "not a folder" in err
  assert not out


def test_a_folder_belongs_to_one_config(train, tmp_path):
  shorter = "--config.train_examples=48"
  code, _, err = train(tmp_path, shorter).wait()
  assert code == 0, err
  before = (tmp_path / "metrics.jsonl").read_bytes()
  code, _, err = train(tmp_path, shorter, "--config.seed=3").wait()
  assert code == 2
  assert "seed is 0 there and 3 here" in err
  assert (tmp_path / "metrics.jsonl").read_bytes() == before
  # How often to look at a run is not part of what it is.
  code, _, err = train(tmp_path, shorter, "--config.run.log_every=7").wait()
  assert code == 0, err


def test_the_exit_code_is_the_same_where_nothing_can_be_said():
  with open("/dev/full", "w") as full:  # As a log on a disk that is full.
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--config=nowhere.py"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=full,
    )
  assert done.returncode == 2
