"""The papers' numbers beside ours."""

import dataclasses
import functools
import importlib
import io
import json
import os
import shlex
import subprocess

import cv2
import numpy as np
import pytest
import rich.console

from configs import tables
from configs.tables import Reason
from configs.tables import Row
from configs.tables import Table
from experiments.engine.errors import UserError
from scripts import reproduce
from tests.commands_test import check
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


def test_what_training_would_tell_comes_with_the_commands_for_it(monkeypatch):
  row = Row("tiny", MINI, {"top1": "79.0"}, {"model.input.num_bands": 2})
  only(monkeypatch, row)
  module = importlib.import_module("experiments.imagenet")
  monkeypatch.delattr(module, "task", raising=False)
  assert page("top1").lines == [["tiny", "79.0", "–"]]
  monkeypatch.setattr(module, "task", None, raising=False)
  printed = page("top1")
  assert printed.lines == [["tiny", "79.0", "– [1]"]]
  run = (
      "--config=configs/imagenet.py:tiny"
      " --workdir=runs/imagenet/tiny-num_bands=2"
      " --config.model.input.num_bands=2"
  )
  (note,) = printed.notes
  assert note.splitlines() == [
      reproduce.FILLED,
      "# raw/imagenet: what `scripts.prepare_data imagenet` asks for",
      "python -m scripts.prepare_data imagenet --manual_dir=raw/imagenet",
      f"python -m experiments.train {run}",
      f"python -m experiments.evaluate {run} --checkpoint=best",
  ]
  # A line a command, whatever the width: it can be copied.
  console = rich.console.Console(file=io.StringIO(), width=40)
  printed.print(console)
  assert set(note.splitlines()[1:]) <= set(console.file.getvalue().splitlines())
  markdown = printed.markdown().splitlines()
  assert f"   python -m experiments.train {run}" in markdown
  assert markdown.count("   ```sh") == markdown.count("   ```") == 1


def test_a_number_that_nothing_fills_has_no_commands():
  (printed,) = reproduce.pages_of(
      reproduce.chosen(["9"], ["win_rate", "steps_per_second"])
  )
  assert not printed.notes


CHAINS = {
    (key, row.label): (row, reproduce.chain_of(row))
    for key, table in tables.TABLES.items()
    for row in table.rows
}


def test_every_small_row_has_its_commands_from_data_to_evaluation():
  small = [x for x in CHAINS.values() if reproduce.is_small(x[0])]
  assert len(small) > 50
  for row, chain in small:
    commands = [line for line in chain if line[0] != "#"]
    scripts = [line.split()[2] for line in commands]
    # Data comes before training, and that before evaluation.
    stages = [
        "scripts.prepare_data experiments.train scripts.sweep"
        " experiments.evaluate".split().index(name)
        for name in scripts
    ]
    if row.config.startswith("mlm:"):
      # GLUE is swept over beside it, where a table has its average.
      assert {0, 1} < set(stages) and stages[0] == 0
    else:
      assert stages == sorted(stages) and stages[-1] in (2, 3)
    assert all("TASK" not in line and "\n" not in line for line in chain)


@pytest.mark.parametrize(
    "line",
    sorted({x for _, chain in CHAINS.values() for x in chain if x[0] != "#"}),
)
def test_every_command_of_a_row_can_be_given(line):
  check(line)


def test_pretraining_comes_before_what_starts_from_it():
  of = {row.config: chain for row, chain in CHAINS.values()}
  for config, before in (
      ("imagenet:mini_finetune", "imagenet/mini_pretrain"),
      ("imagenet:large_conv", "imagenet/pretrain_conv"),
      ("glue:mini_TASK", "mlm/mini"),
  ):
    chain = [x for row, x in CHAINS.values() if row.config == config][-1]
    (made,) = [
        i for i, x in enumerate(chain) if f"--workdir=runs/{before}" in x
    ]
    used = [
        i for i, x in enumerate(chain) if f"init.pretrained=runs/{before}" in x
    ]
    assert used and made < min(used), (config, of[config])


def test_the_script_of_a_table_names_what_is_missing_and_runs_what_is_there(
    in_fork, tmp_path
):
  file = tmp_path / "small.sh"
  code, out, err = in_fork("scripts.reproduce", "--table=10", f"--shell={file}")
  assert (code, out) == (0, f"sh {file}\n"), err
  home, log = tmp_path / "home", tmp_path / "log"
  (home / "bin").mkdir(parents=True)
  (home / "bin" / "python").write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
  (home / "bin" / "python").chmod(0o755)
  run = functools.partial(
      subprocess.run,
      ["sh", str(file)],
      cwd=tmp_path,
      env={"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"},
      capture_output=True,
      text=True,
  )
  done = run()
  assert done.returncode == 2 and not log.exists()
  assert done.stderr.startswith("missing: raw/recordings.zip, spoken digits")
  (tmp_path / "raw").mkdir()
  for name in ("recordings.zip", "cifar10.zip"):
    (tmp_path / "raw" / name).touch()
  assert run().returncode == 0
  ran = log.read_text().splitlines()
  assert (
      "-m experiments.train --config=configs/audioset.py:mini_mel"
      in ran[next(i for i, x in enumerate(ran) if ":mini_mel" in x)]
  )
  assert ran[-1] == "-m scripts.reproduce --table=10"
  assert not any("configs/audioset.py:mel" in line for line in ran)


def test_a_table_without_small_rows_has_no_script(in_fork, tmp_path):
  code, out, err = in_fork(
      "scripts.reproduce", "--table=8", f"--shell={tmp_path / 'a.sh'}"
  )
  assert code == 2 and not out
  assert err == "error: table 8 has no small rows\n"


@pytest.mark.slow
def test_a_chain_runs_from_data_to_its_row(in_fork, tmp_path):
  for split, count in (("train", 4), ("test", 2)):
    for label in range(10):
      folder = tmp_path / "cifar10" / split / f"class{label}"
      folder.mkdir(parents=True)
      for i in range(count):
        picture = np.full([32, 32, 3], 20 * label + i, np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
  size = [
      "--config.attention=plain",
      "--config.batch_size=4",
      "--config.eval_batch_size=4",
      "--config.train_examples=8",
      "--config.sets.test.split=test",
      "--config.sets.training_set.split=train",
      "--config.model.encoder.num_latents=4",
      "--config.model.processor.layers_per_block=1",
      f"--config.data_dir={tmp_path}",
  ]
  row, chain = next(
      x for x in CHAINS.values() if x[0].config == "imagenet:mini_finetune"
  )
  for line in chain:
    if line[0] == "#":
      continue
    _, _, module, *args = shlex.split(line)
    args = [arg.replace("=runs/", f"={tmp_path}/runs/") for arg in args]
    # It finds the pictures there.
    prepares = module == "scripts.prepare_data"
    args += [f"--data_dir={tmp_path}"] if prepares else size
    code, _, err = in_fork(module, *args)
    assert code == 0, err
  found = reproduce.measured(row, "top1", [str(tmp_path / "runs")])
  assert found is not None and 0 <= found <= 100


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
  of_all_at_once = printed.notes[0].splitlines()
  assert of_all_at_once[-1] == (
      "python -m scripts.sweep --config=configs/glue.py:mini_multitask_queries"
      " --workdir=runs/glue --config.init.pretrained=runs/mlm/mini"
  )
  pretraining = (
      "python -m experiments.train --config=configs/mlm.py:mini"
      " --workdir=runs/mlm/mini"
  )
  assert all(pretraining in printed.notes[i].splitlines() for i in (0, -1))


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
