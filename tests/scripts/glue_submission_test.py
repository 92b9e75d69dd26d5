"""The archive for GLUE's server."""

import importlib
import zipfile

import jax
import numpy as np
import pytest

from experiments import glue as task
from experiments.data import pipeline
from experiments.data.text import glue
from experiments.engine import weights

SUBMIT = "scripts.glue_submission"
# As the server's sample has them; and lines, the header among them.
FILES = {
    "AX": 1105,
    "CoLA": 1064,
    "MNLI-m": 9797,
    "MNLI-mm": 9848,
    "MRPC": 1726,
    "QNLI": 5464,
    "QQP": 390966,
    "RTE": 3001,
    "SST-2": 1822,
    "STS-B": 1380,
    "WNLI": 147,
}
TESTS = {
    "CoLA/test.tsv": ("index\tsentence", "{}\tsome text {}"),
    "MNLI/test_matched.tsv": (
        "index\tgenre\tsentence1\tsentence2",
        "{}\tx\tone {}\ttwo",
    ),
    "MNLI/test_mismatched.tsv": ("index\tsentence1\tsentence2", "{}\to {}\tt"),
    "AX.tsv": ("index\tsentence1\tsentence2", "{}\tall {}\tsome"),
    "STS-B/test.tsv": ("index\tsentence1\tsentence2", "{}\ta {}\tb"),
}
SIZE = 7  # More than a batch.


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("data")
  for name, (header, row) in TESTS.items():
    file = root / "glue" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [row.format(i, i) for i in range(SIZE)]
    file.write_text("\n".join([header, *rows]) + "\n")
  return root


def model(file, tasks):
  """Weights of some tasks, random but for a bias that tells them apart."""
  config = importlib.import_module("configs.glue").get_config("tiny_cola")
  config.tasks = tasks
  config.batch_size = 4
  read = weights.random(config)
  params = jax.tree.map(np.asarray, read.model.params)
  for name, classes in tasks.items():
    params[f"{name}_logits"]["b"] = np.full(classes, 9.0, np.float32)
  weights.save(file, read.config, read.model._replace(params=params))
  return file


def lines_of(archive, name):
  with zipfile.ZipFile(archive) as opened:
    return opened.read(f"{name}.tsv").decode().splitlines()


@pytest.mark.slow
def test_one_command_writes_all_files_that_the_server_takes(
    in_fork, data_dir, tmp_path
):
  both = model(tmp_path / "both.npz", {"cola": 2, "stsb": 1})
  mnli = model(tmp_path / "mnli.npz", {"mnli": 3})
  output = tmp_path / "submission.zip"
  code, out, err = in_fork(
      SUBMIT,
      f"--weights={both}",
      f"--weights={mnli}",
      f"--data_dir={data_dir}",
      f"--output={output}",
  )
  assert code == 0, err
  assert f"CoLA: {SIZE} answers" in out
  assert "note: CoLA has 7 examples; GLUE's server has 1,063" in err
  assert "no model answers WNLI, MRPC, QNLI, QQP, RTE, SST-2: all" in err
  with zipfile.ZipFile(output) as opened:
    assert set(opened.namelist()) == {f"{name}.tsv" for name in FILES}
  answered = {"CoLA", "STS-B", "MNLI-m", "MNLI-mm", "AX"}
  for name, count in FILES.items():
    header, *rows = lines_of(output, name)
    assert header == "index\tprediction"
    assert len(rows) == (SIZE if name in answered else count - 1)
    assert [row.split("\t")[0] for row in rows] == [
        str(i) for i in range(len(rows))
    ]
  said = {
      n: {row.split("\t")[1] for row in lines_of(output, n)[1:]} for n in FILES
  }
  assert said["CoLA"] <= {"0", "1"}
  assert said["MNLI-m"] | said["AX"] <= set(glue.TASKS["mnli"].labels)
  assert said["STS-B"] == {"5.000"}  # 9, to the scores that there are.
  assert said["RTE"] == {"entailment"} and said["MRPC"] == {"0"}


def test_answers_are_those_of_evaluation(data_dir, tmp_path):
  read = weights.load(model(tmp_path / "model.npz", {"mnli": 3}))
  found = dict(task.test_answers(read, str(data_dir), lambda line: None))
  assert set(found) == {"MNLI-m", "MNLI-mm", "AX"}
  examples = task.prepared(
      "mnli",
      "ax",
      0,
      str(data_dir),
      task.open_tokenizer(read.config),
      read.config.max_length,
      [],
      frame=False,
  )
  (batch,) = pipeline.evaluation(
      examples, [], batch_size=SIZE, shard=pipeline.Shard()
  )
  classes = read.outputs(batch)["mnli"].argmax(-1)
  names = glue.TASKS["mnli"].labels
  assert found["AX"] == [(i, names[c]) for i, c in enumerate(classes)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--output=OUT"], "--weights=RUN is missing"),
        (["--weights=ONE"], "--output=FILE.zip is missing"),
        (["--weights=ONE", "--weights=ONE", "--output=OUT"], "are of cola"),
        (
            ["--weights=ONE", "--output=OUT", "--data_dir=/nowhere"],
            "no test split of GLUE's cola in",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_no_archive_is_written(
    in_fork, tmp_path, args, message
):
  one, output = model(tmp_path / "one.npz", {"cola": 2}), tmp_path / "x.zip"
  args = [a.replace("ONE", str(one)).replace("OUT", str(output)) for a in args]
  code, _, err = in_fork(SUBMIT, *args)
  assert code == 2
  assert f"error: {err.splitlines()[-1].removeprefix('error: ')}" in err
  assert message in err.splitlines()[-1]
  assert not output.exists()
