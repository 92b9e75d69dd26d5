"""Recorded models of the official release and of transformers, and ours."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.engine.errors import UserError
from tests.conftest import GOLDEN
from tools import check_parity
from tools import recordings
from tools.recordings import official
from tools.recordings import transformers

pytestmark = pytest.mark.usefixtures("optimized")

TOLERANCE = 2e-5
OFFICIAL = sorted(f.stem for f in (GOLDEN / "official").glob("*.json"))
TRANSFORMERS = sorted(f.stem for f in (GOLDEN / "transformers").glob("*.json"))


def assert_equal(deviations, at_least):
  deviations = list(deviations)
  assert len(deviations) >= at_least
  assert {d.what: d.value for d in deviations if not d.value < TOLERANCE} == {}


def test_all_models_are_there():
  assert len(OFFICIAL) == 6
  assert len(TRANSFORMERS) == 7


# Outputs of two cases, gradients, and each layer on the way.
@pytest.mark.parametrize("name", OFFICIAL)
def test_a_model_of_the_official_release_is_ours(name):
  model = official.load(GOLDEN / "official", name)
  assert_equal(check_parity.compare(model), at_least=9)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_model_of_transformers_is_ours(name):
  model = transformers.load(GOLDEN / "transformers", name)
  assert_equal(check_parity.compare(model), at_least=1)


def test_batch_norm_remembers_what_the_official_one_does():
  file = GOLDEN / "official" / check_parity.BATCH_NORM
  assert_equal(check_parity.compare_batch_norm(file), at_least=7)


def test_one_changed_weight_shows_everywhere():
  model = official.load(GOLDEN / "official", "imagenet_fourier")
  name = "perceiver_encoder/~/self_attention_1/mlp/linear|w"
  changed = np.array(model.tensors[name])
  changed[3, 5] += 0.01
  changed = model._replace(tensors={**model.tensors, name: changed})
  wrong = [d for d in check_parity.compare(changed) if d.value > TOLERANCE]
  assert {"case 1: logits", "case 2: logits", "case 1: gradients"} <= {
      d.what for d in wrong
  }


def test_a_folder_without_models_is_refused(tmp_path):
  with pytest.raises(UserError, match="no recorded models"):
    list(check_parity.check(tmp_path))


def test_recordings_that_are_not_compared_are_named(tmp_path):
  assert check_parity.left_out(GOLDEN / "official") == []
  for name in ("comp_b.npz", "comp_a.json", "mlm.npz", "components.json"):
    (tmp_path / name).touch()
  assert check_parity.left_out(tmp_path) == ["comp_a", "comp_b"]


@pytest.mark.parametrize("is_right", [True, False])
def test_the_exit_code_says_whether_all_agree(tmp_path, is_right):
  for file in (GOLDEN / "official").glob("imagenet_fourier*"):
    shutil.copy(file, tmp_path)
  if not is_right:
    arrays = recordings.load_arrays(tmp_path / "imagenet_fourier.npz")
    arrays["out2:logits"] += 1e-3
    np.savez(tmp_path / "imagenet_fourier.npz", **arrays)
  done = subprocess.run(
      [sys.executable, "-m", "tools.check_parity", str(tmp_path)],
      cwd=GOLDEN.parents[1],
      capture_output=True,
      text=True,
  )
  assert done.returncode == (0 if is_right else 1), done.stderr
  assert f"{0 if is_right else 1} deviate" in done.stdout
