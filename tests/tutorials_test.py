"""The notebooks run from the first cell to the last, and keep their outputs."""

import json
import os

import matplotlib
import matplotlib.pyplot as plt
import pytest

from tests.conftest import ROOT

# Values of the cell "parameters" with which a notebook takes seconds.
TINY = {
    "flow": {"PAIRS": 1},
    "images": {"STEPS": 2, "CROPS": 12},
    "masked_text": {"STEPS": 2},
    "quickstart": {"STEPS": 2},
    "train_your_own": {"STEPS": 2},
    "video": {"STEPS": 2, "SECONDS": 20},
}
SLOW = ("images", "masked_text", "video")  # They compile the most.
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def code_cells(file):
  notebook = json.loads(file.read_text())
  return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def has_image(cell) -> bool:
  return any("image/png" in o.get("data", {}) for o in cell["outputs"])


def test_every_notebook_is_here():
  assert [file.stem for file in TUTORIALS] == sorted(TINY)


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_its_outputs_are_kept_and_begin_with_a_figure(file):
  setup, parameters, first, *_ = cells = code_cells(file)
  assert "git" in "".join(setup["source"])
  assert parameters["metadata"]["tags"] == ["parameters"]
  assert has_image(first)
  ran = [cell["execution_count"] for cell in cells]
  assert ran == list(range(1, len(cells) + 1))
  said = json.dumps([cell["outputs"] for cell in cells])
  assert '"output_type": "error"' not in said
  for place in ("/work/", "/root/", "/home/"):
    assert place not in said


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(
            file,
            id=file.stem,
            marks=[pytest.mark.slow] * (file.stem in SLOW),
        )
        for file in TUTORIALS
    ],
)
def test_its_cells_run(file):
  matplotlib.use("Agg")
  names, here = {}, os.getcwd()
  os.chdir(ROOT)
  try:
    with matplotlib.rc_context():
      for cell in code_cells(file):
        code = "".join(cell["source"])
        exec(compile(code, str(file), "exec"), names)  # pylint: disable=exec-used
        if cell["metadata"].get("tags") == ["parameters"]:
          assert set(TINY[file.stem]) <= set(names)
          names |= TINY[file.stem]
  finally:
    os.chdir(here)
    plt.close("all")
