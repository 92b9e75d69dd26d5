"""The papers' numbers beside ours."""

import dataclasses
import importlib
import io
import json

import pytest
import rich.console

from configs import tables
from configs.tables import Reason
from configs.tables import Row
from configs.tables import Table
from experiments.engine.errors import UserError
from scripts import reproduce
from tests.conftest import Command

MINI = "imagenet:tiny"  # 7,266 parameters.


def only(monkeypatch, *rows):
  """The one table that there is, "X"."""
  monkeypatch.setattr(tables, "TABLES", {"X": Table("A table", rows)})
  monkeypatch.setattr(reproduce, "TABLES", tables.TABLES)


def page(*columns):
  (only_page,) = reproduce.pages_of(reproduce.chosen(["X"], columns))
  return only_page


@pytest.mark.parametrize(
    "printed, value",
    [("20M", 20e6), ("20.0M", 20e6), ("407B", 407e9), ("6.85T", 6.85e12)],
)
def test_the_value_of_what_is_printed(printed, value):
  assert reproduce.value_of(printed) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "number, text",
    [
        (48_440_627, "48.44M"),
        (406.12e9, "406.1B"),
        (7.47e12, "7.470T"),
        (7266, "7,266"),
        (None, "–"),
    ],
)
def test_numbers_are_shown_with_four_digits(number, text):
  assert reproduce.shown(number) == text


@pytest.mark.parametrize(
    "printed, ours, close",
    [
        ("20M", 20.4e6, True),  # It rounds to it.
        ("20.0M", 20.4e6, False),
        ("20.0M", 20.1e6, True),  # Within one percent.
        ("20.0M", 19.81e6, True),
        ("20.0M", 19.7e6, False),
        ("407B", 478e9, False),
    ],
)
def test_numbers_that_round_to_what_is_printed_or_almost_agree(
    printed, ours, close
):
  assert reproduce.is_close(printed, ours) == close


@pytest.mark.parametrize(
    "fraction, text",
    [(0.178, "+17.8 %"), (-0.018, "-1.8 %"), (-1e-5, "0.0 %"), (None, "–")],
)
def test_differences_have_a_sign(fraction, text):
  assert reproduce.percentage(fraction) == text


def test_a_difference_has_a_note_with_what_would_agree(monkeypatch):
  changes = {"model.encoder.num_latents": 9}
  reason = Reason("There were more latents.", fits=changes)
  row = Row("tiny", MINI, {"params": "0.01M"}, reasons={"params": reason})
  only(monkeypatch, row)
  printed = page("params")
  assert printed.headings == ["", "params, paper", "ours", "off by", "as noted"]
  # Two more latents of 16 channels.
  assert printed.lines == [["tiny", "0.01M", "7,266", "-27.3 % [1]", "7,298"]]
  assert printed.notes == [
      "There were more latents. As noted: model.encoder.num_latents=9."
  ]


def test_a_difference_without_a_reason_is_marked(monkeypatch):
  only(monkeypatch, Row("tiny", MINI, {"params": "9.00M"}))
  (figure,) = reproduce.chosen(["X"], ["params"])
  assert not figure.agrees and figure.reason is None
  assert page("params").lines == [["tiny", "9.00M", "7,266", "-99.9 % !"]]


def test_notes_that_are_the_same_are_one(monkeypatch):
  reasons = {"params": Reason("Nobody knows.")}
  row = Row("one", MINI, {"params": "1M"}, reasons=reasons)
  only(monkeypatch, row, dataclasses.replace(row, label="two"))
  printed = page("params")
  assert [line[-1][-4:] for line in printed.lines] == [" [1]", " [1]"]
  assert printed.notes == ["Nobody knows."]
  console = rich.console.Console(file=io.StringIO(), width=80)
  printed.print(console)
  text = console.file.getvalue()
  assert text.count("-99.3 % [1]") == 2 and "[1] Nobody knows." in text
  markdown = printed.markdown().splitlines()
  assert markdown[0] == "**A table**"
  assert "| two | 1M | 7,266 | -99.3 % [1] |" in markdown
  assert markdown[-1] == "1. Nobody knows."


def test_what_training_would_tell_comes_with_its_command(monkeypatch):
  row = Row("tiny", MINI, {"top1": "79.0"}, {"model.input.num_bands": 2})
  only(monkeypatch, row)
  module = importlib.import_module("experiments.imagenet")
  monkeypatch.delattr(module, "task", raising=False)
  assert page("top1").lines == [["tiny", "79.0", "–"]]
  monkeypatch.setattr(module, "task", None, raising=False)
  printed = page("top1")
  assert printed.lines == [["tiny", "79.0", "– [1]"]]
  assert printed.notes == [
      "`python -m experiments.train --config=configs/imagenet.py:tiny"
      " --workdir=runs/imagenet/tiny-num_bands=2"
      " --config.model.input.num_bands=2`"
  ]


def measured(folder, **records):
  """A run with such metrics, evaluation by evaluation."""
  folder.mkdir(parents=True)
  count = len(next(iter(records.values())))
  rows = [
      {"step": i, **{name: x[i] for name, x in records.items()}}
      for i in range(count)
  ]
  lines = [{"step": 1, "loss": 0.5}, *rows]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "metrics.jsonl").write_text(text)


def test_what_training_told_is_the_best_of_the_runs_there(
    monkeypatch, tmp_path
):
  rows = [
      Row("all at once", "glue:mini_multitask_queries", {"avg": "79.0"}),
      Row("each", "glue:mini_TASK", {}),
      Row("each, anew", "glue:mini_TASK", {}, runs="anew"),
      Row("a constant", "glue:mini_TASK", {}, ending="_constant"),
      Row("pretrained", "mlm:mini", {"cola": "1.0", "bits_per_byte": "2.0"}),
  ]
  only(monkeypatch, *rows)
  glue, key = tmp_path / "glue", "dev/average"
  both = {key: [7, 9, 8], "dev/cola": [6, 4, 5], "dev/sst2": [2, 3, 4]}
  measured(glue / "mini_multitask_queries" / "peak=1", **both)
  measured(glue / "mini_multitask_queries" / "peak=2", **{key: [8]})
  for i, task in enumerate(("cola", "mrpc", "sst2", "stsb")):
    best = {key: [i, i + 1], f"dev/{task}": [i, i + 1]}
    measured(glue / f"mini_{task}", **best, **{f"{key}_constant": [-i, -i]})
  measured(tmp_path / "anew" / "glue" / "mini_cola", **{key: [1]})
  bits = "wikipedia/bits_per_byte"
  measured(tmp_path / "mlm" / "mini", **{bits: [4.5, 4.25, 4.75]})

  columns = ("avg", "cola", "bits_per_byte")
  found = reproduce.chosen(["X"], columns, [tmp_path / "none", tmp_path])
  table = {}
  for figure in found:
    table.setdefault(figure.row.label, []).append(figure.ours)
    assert figure.agrees
  assert table == {
      "all at once": [9, 4, None],
      "each": [2.5, 1, None],
      "each, anew": [None, None, None],  # Three of four are missing.
      "a constant": [-1.5, None, None],
      "pretrained": [2.5, 1, 4.25],
  }
  (printed,) = reproduce.pages_of(found)
  assert printed.lines[0][1:3] == ["79.0", "9.00 [1]"]
  assert printed.notes[0] == (
      "`python -m scripts.sweep --config=configs/glue.py:mini_multitask_queries"
      " --workdir=runs/glue --config.start.weights=runs/mlm/mini`"
  )
  assert printed.notes[-1] == (
      "`python -m experiments.train --config=configs/mlm.py:mini"
      " --workdir=runs/mlm/mini`"
  )


def test_sections_become_single_settings():
  changes = {"a": {"b": {"c": 1}, "d": 2}, "e.f": 3}
  assert reproduce.flat(changes) == {"a.b.c": 1, "a.d": 2, "e.f": 3}


def test_columns_are_those_of_the_tables():
  with pytest.raises(UserError, match="'map'; there are params, flops, top1"):
    reproduce.chosen(["7"], ["map"])
  found = reproduce.chosen(["8", "P7"], ["steps_per_second", "train_top1"])
  assert {(f.table, f.column) for f in found} == {
      ("8", "steps_per_second"),
      ("P7", "train_top1"),
  }


def test_the_command_prints_json():
  args = ["--table=P7,17", "--table=P7", "--columns=params", "--json=-"]
  code, out, err = Command("scripts.reproduce", *args).wait()
  assert code == 0, err
  figures = json.loads(out)
  assert [f["table"] for f in figures] == ["P7"] * 4 + ["17"] * 2
  assert figures[0]["paper"] == 326.2e6 and figures[0]["ours"] == 326_241_856
  assert figures[0]["agrees"] and figures[-1]["paper"] is None


def test_the_command_prints_a_table(in_fork, tmp_path):
  args = ["--table=10", "--markdown", "--columns=params,flops"]
  args.append(f"--json={tmp_path / 'figures.json'}")
  code, out, err = in_fork("scripts.reproduce", *args)
  assert code == 0, err
  assert "| 88.2M | 86.57M | -1.8 % [1] | 88.19M |" in out
  assert len(json.loads((tmp_path / "figures.json").read_text())) == 2 * len(
      tables.TABLES["10"].rows
  )


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "--table=... or --all; the tables are 1, 2, 3"),
        (["--table=77"], "there is no table '77'; there are 1, 2, 3"),
        (["--colums=top1"], "Unknown command line flag 'colums'"),
    ],
)
def test_one_line_says_what_is_wrong(in_fork, args, message):
  code, out, err = in_fork("scripts.reproduce", *args)
  assert (code, out) == (2, "")
  assert message in err and len(err.splitlines()) == 1
