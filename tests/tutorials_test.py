"""The tutorials run from the first cell to the last."""

import json
import os

import matplotlib
import matplotlib.pyplot as plt
import pytest

from tests.conftest import ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def test_there_is_one_for_each_of_the_four_models():
  assert len(TUTORIALS) == 4


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_its_cells_run(file, capsys):
  matplotlib.use("Agg")
  notebook = json.loads(file.read_text())
  cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
  names = {}
  here = os.getcwd()
  os.chdir(ROOT)
  try:
    for cell in cells:
      code = "".join(cell["source"])
      exec(compile(code, str(file), "exec"), names)  # pylint: disable=exec-used
      assert cell["outputs"] == []  # Numbers of random models mean nothing.
  finally:
    os.chdir(here)
    plt.close("all")
  assert "parameters" in capsys.readouterr().out
