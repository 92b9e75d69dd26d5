"""GLUE's data in all forms that it comes in, and as TFDS prepares them."""

from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.data import pipeline
from experiments.data.text import glue

# GLUE's folder and the columns of its files.
TABLES = {
    "cola": ("CoLA", "source|LABEL|mark|TEXT"),
    "mnli": ("MNLI", "index|promptID|genre|sentence1|sentence2|gold_label"),
    "mrpc": ("MRPC", "Quality|#1 ID|#2 ID|#1 String|#2 String"),
    "qnli": ("QNLI", "index|question|sentence|label"),
    "qqp": ("QQP", "id|qid1|qid2|question1|question2|is_duplicate"),
    "rte": ("RTE", "index|sentence1|sentence2|label"),
    "sst2": ("SST-2", "sentence|label"),
    "stsb": ("STS-B", "index|genre|sentence1|sentence2|score"),
}
SECOND = ("sentence2", "#2 String", "question2")
FIRST = ("TEXT", "sentence1", "#1 String", "question1", "question")
LABEL = ("LABEL", "label", "gold_label", "Quality", "is_duplicate", "score")
# As files write them, in the order of the classes.
LABELS = dict.fromkeys(TABLES, ("0", "1")) | {
    "mnli": ("entailment", "neutral", "contradiction"),
    "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
    "stsb": ("0.000", "2.5", "5"),
}
SIZES = {"train": 7, "dev": 5, "test": 3}
PAIRS = set(TABLES) - {"cola", "sst2"}


def expected(task, split):
  """Examples with texts that break easily: quotes, spaces, odd line ends."""
  examples = []
  for i in range(SIZES[split.split("_")[0]]):
    written = LABELS[task][i % len(LABELS[task])]
    label = float(written) if task == "stsb" else LABELS[task].index(written)
    first, second = f'"{task} {split} {i}', f'\'é\u2028\x85\x0b… "{i}" '
    second = second if task in PAIRS else ""
    examples.append({"first": first, "second": second, "label": label})
  return examples


def cell(task, split, column, i, example):
  if column in LABEL:
    return LABELS[task][i % len(LABELS[task])]
  # What is first in other tasks is second in QNLI.
  if column in SECOND or (task == "qnli" and column == "sentence"):
    return example["second"]
  if column in FIRST or column == "sentence":
    return example["first"]
  return f"{split}{i}"


def table(task, split):
  """A file's lines, the header first."""
  columns = TABLES[task][1].split("|")
  rows = [
      [cell(task, split, column, i, example) for column in columns]
      for i, example in enumerate(expected(task, split))
  ]
  return ["\t".join(row) for row in [columns, *rows]]


def write(path, lines, bom="", end="\n"):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes((bom + "".join(line + end for line in lines)).encode())


def write_own(root, task, **how):
  """Writes a task as GLUE's archives have it."""
  splits = ["train", "dev", "test"]
  if task == "mnli":
    both = ("matched", "mismatched")
    splits = ["train", *(f"{s}_{m}" for s in ("dev", "test") for m in both)]
  for split in splits:
    lines = table(task, split)
    if task == "cola":  # Its test set alone has a header.
      lines = ["index\tsentence", "0\tA"] if split == "test" else lines[1:]
    write(root / "glue" / TABLES[task][0] / f"{split}.tsv", lines, **how)


def read(task, split, data_dir, note=None):
  """What is read, plain; what is noted fails the test."""
  source = glue.read(task, split, str(data_dir), note or pytest.fail)
  return [dict(source[i]) for i in range(len(source))]


def prepare(task, downloads, data_dir):
  """Runs TFDS's builder on GLUE's files instead of what it would download."""
  import tensorflow_datasets.text  # noqa: F401  Registers it.

  folder = downloads / "glue"
  dev = [row.split("\t") for row in table("mrpc", "dev")[1:]]
  write(folder / "dev_ids", ["\t".join(row[1:3]) for row in dev])
  both = [*table("mrpc", "train"), *table("mrpc", "dev")[1:]]
  write(folder / "both", both, bom="\ufeff")
  write(folder / "test", table("mrpc", "test"))
  mrpc = {
      "dev_ids": folder / "dev_ids",
      "train": folder / "both",
      "test": folder / "test",
  }
  with mock.patch.multiple(
      tfds.download.DownloadManager,
      download=lambda self, urls: mrpc,
      download_and_extract=lambda self, url: folder,
  ):
    builder = tfds.builder(
        f"glue/{task}", data_dir=data_dir, file_format="array_record"
    )
    builder.download_and_prepare()


class TestRead:

  @pytest.mark.parametrize("how", [{}, {"bom": "\ufeff", "end": "\r\n"}])
  @pytest.mark.parametrize("task", TABLES)
  def test_glue_s_own_files_are_read(self, tmp_path, task, how):
    write_own(tmp_path, task, **how)
    for split in ("train", *glue.TASKS[task].evaluated):
      file = split.replace("validation", "dev")
      assert read(task, split, tmp_path) == expected(task, file)

  @pytest.mark.parametrize("task", TABLES)
  def test_what_tfds_prepares_is_the_same_and_comes_first(self, tmp_path, task):
    write_own(tmp_path, task)
    splits = ("train", *glue.TASKS[task].evaluated)
    files = {split: read(task, split, tmp_path) for split in splits}
    data_dir = tmp_path / "prepared"
    prepare(task, tmp_path, data_dir)
    write(data_dir / "glue" / TABLES[task][0] / "train.tsv", ["unused"])
    for split in splits:
      prepared = read(task, split, data_dir)
      assert {type(e["label"]) for e in prepared} == {
          float if task == "stsb" else int
      }
      # TFDS shuffles.
      key = lambda example: example["first"]
      assert sorted(prepared, key=key) == sorted(files[split], key=key)
      again = list(glue.read(task, split, str(data_dir)))
      assert again == prepared
    for split in glue.TASKS[task].tests.keys() - {"ax"}:
      tests = expected(task, split)
      if task == "cola":
        tests = [{"first": "A", "second": ""}]
      wanted = [x | {"label": 0, "index": i} for i, x in enumerate(tests)]
      prepared = read(task, split, data_dir)
      assert sorted(prepared, key=lambda x: x["index"]) == wanted

  def test_tfds_has_the_same_classes(self):
    import tensorflow_datasets.text  # noqa: F401  Registers it.

    for task, settings in glue.TASKS.items():
      features = tfds.builder(f"glue/{task}").info.features
      names = getattr(features["label"], "names", None)
      assert names == (settings.labels and list(settings.labels))
      assert set(settings.features) == set(features) - {"label", "idx"}
      assert settings.has_two_sentences == (task in PAIRS)

  def test_whole_sentences_of_sst2_have_no_header(self, tmp_path):
    lines = ["one long string of cliches\t0", '"good"\t1']
    write(tmp_path / "glue/SST-2/dev.tsv", lines)
    assert read("sst2", "validation", tmp_path) == [
        {"first": "one long string of cliches", "second": "", "label": 0},
        {"first": '"good"', "second": "", "label": 1},
    ]

  def test_cola_s_raw_files_are_joined(self, tmp_path):
    folder = tmp_path / "glue/CoLA"
    write(folder / "in_domain_train.tsv", ["a\t1\t\tIt is."])
    write(folder / "in_domain_dev.tsv", ["a\t0\t*\tIs it in."])
    write(folder / "out_of_domain_dev.tsv", ["b\t1\t\tIt is out."], end="")
    notes = []
    validation = read("cola", "validation", tmp_path, notes.append)
    assert "raw corpus; there are no files of GLUE in" in notes[0]
    assert [example["label"] for example in validation] == [0, 1]
    assert validation[1]["first"] == "It is out."
    assert len(read("cola", "train", tmp_path, print)) == 1

  def test_mrpc_s_raw_test_set_stands_in_and_is_said_to(self, tmp_path):
    folder = tmp_path / "glue/MRPC"
    for raw, split in (("train", "train"), ("test", "dev")):
      lines = table("mrpc", split)
      write(folder / f"msr_paraphrase_{raw}.txt", lines, bom="\ufeff")
    notes = []
    validation = read("mrpc", "validation", tmp_path, notes.append)
    assert validation == expected("mrpc", "dev")
    (note,) = notes
    assert "validation is its test set" in note

  def test_sts_2012_is_served_in_the_order_of_its_sources(self, tmp_path):
    folder = tmp_path / "glue/STS2012/train"
    for name, score in (("b.c", "5.000"), ("a", "0.250")):
      write(folder / f"STS.input.{name}.txt", [f"{name}\tx", f"{name}\ty "])
      write(folder / f"STS.gs.{name}.txt", [score, "3"])
    write(folder / "STS.gs.ALL.txt", ["1"] * 4)
    notes = []
    train = read("stsb", "train", tmp_path, notes.append)
    assert [e["first"] for e in train] == ["a", "a", "b.c", "b.c"]
    assert [e["second"] for e in train] == ["x", "y ", "x", "y "]
    assert [e["label"] for e in train] == [0.25, 3.0, 5.0, 3.0]
    assert "STS 2012" in notes[0]

  def test_torn_rows_of_qqp_are_left_out_as_by_tfds_and_counted(self, tmp_path):
    write_own(tmp_path, "qqp")
    lines = table("qqp", "train")
    lines[3] = lines[3].replace('"qqp', '"\nqqp')
    lines[5] = lines[5].replace("'é", "'\ré")
    write(tmp_path / "glue/QQP/train.tsv", lines)
    notes = []
    train = read("qqp", "train", tmp_path, notes.append)
    examples = expected("qqp", "train")
    assert train == [examples[i] for i in (0, 1, 3, 5, 6)]
    (note,) = notes
    assert "QQP/train.tsv: left out 4 rows" in note and "line 4" in note
    prepare("qqp", tmp_path, tmp_path / "prepared")
    prepared = read("qqp", "train", tmp_path / "prepared")
    assert sorted(e["first"] for e in prepared) == [e["first"] for e in train]

  @pytest.mark.parametrize("is_prepared", [False, True])
  def test_a_source_goes_through_the_pipeline(self, tmp_path, is_prepared):
    write_own(tmp_path, "rte")
    if is_prepared:
      prepare("rte", tmp_path, tmp_path)

    def encoded(example):
      texts = (
          np.frombuffer(example[key].encode(), np.uint8)
          for key in ("first", "second")
      )
      ids, _ = glue.joined(*texts, length=24, separator=0)
      return {"tokens": ids, "label": example["label"]}

    source = glue.read("rte", "validation", str(tmp_path))
    batches = list(
        pipeline.evaluation(
            source, [encoded], batch_size=4, shard=pipeline.Shard()
        )
    )
    labels = np.concatenate([b["label"][b["real"]] for b in batches])
    assert sorted(labels) == [0, 0, 0, 1, 1]
    assert {b["tokens"].shape for b in batches} == {(4, 24)}
