"""The quickstart's script, with another program in place of its Python."""

import pathlib
import shutil
import subprocess

import pytest

from tests.conftest import ROOT

# Exits as a training that is stopped by a signal, or that is done.
PYTHON = """#!/usr/bin/env bash
[ "$2" = experiments.train ] || exit 0
for word; do
  case $word in --stopped_code=*) code=${word#*=};; esac
done
[ -e stopped ] && exit "${code:-0}"
mkdir -p runs/quickstart/figures
touch runs/quickstart/figures/test-predictions-1200.png
"""


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
  for folder in ("scripts", ".venv/bin"):
    (tmp_path / folder).mkdir(parents=True)
  shutil.copy(ROOT / "scripts" / "quickstart.sh", tmp_path / "scripts")
  python = tmp_path / ".venv" / "bin" / "python"
  python.write_text(PYTHON)
  python.chmod(0o755)
  return tmp_path


def run(clone: pathlib.Path) -> subprocess.CompletedProcess[str]:
  script = ["bash", clone / "scripts" / "quickstart.sh"]
  return subprocess.run(script, capture_output=True, text=True, check=False)


def test_predictions_are_named_if_training_is_done(clone):
  done = run(clone)
  assert done.returncode == 0 and done.stderr == ""
  figure = "runs/quickstart/figures/test-predictions-1200.png"
  assert done.stdout == f"predictions: {figure}\n"


def test_a_training_that_is_stopped_ends_the_script_without_predictions(clone):
  (clone / "stopped").touch()
  stopped = run(clone)
  assert stopped.returncode == 130
  assert stopped.stdout == stopped.stderr == ""
