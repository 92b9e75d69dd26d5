"""GLUE's data: the real ones, what can be wrong in them, and joining."""

import os
import pathlib

import numpy as np
import pytest

from experiments.data.text import glue
from tests.conftest import ROOT

REAL = pathlib.Path(
    os.environ.get("PERCEIVER_TEST_DATA", ROOT.parent / "shared" / "data")
)
RTE = ["index\tsentence1\tsentence2\tlabel", "0\tA\tB\tentailment"]
QNLI = ["index\tquestion\tsentence\tlabel", "0\tA\tB\tnot_entailment"]
QQP = ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"]
STSB = ["index\tsentence1\tsentence2\tscore", "0\tA\tB\t5.000"]
MRPC = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\tA\tB"]


def write(path, lines):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read(task, split, data_dir, note=None):
  """What is read; what is noted fails the test."""
  return glue.read(task, split, str(data_dir), note or pytest.fail)


@pytest.mark.skipif(
    not (REAL / "glue").is_dir(), reason=f"no real data in {REAL}"
)
class TestRealData:

  @pytest.mark.parametrize(
      ("task", "split", "size", "first"),
      [
          ("cola", "train", 8551, "Our friends won't buy this analysis, let"),
          # The last line has no end: a count of line ends is one less.
          ("cola", "validation", 527 + 516, "The sailors rode the breeze"),
          (
              "mrpc",
              "train",
              4076,
              'Amrozi accused his brother, whom he called "',
          ),
          ("mrpc", "validation", 1725, "PCCW's chief operating officer, Mike"),
          ("sst2", "train", 6920, "a stirring , funny and finally"),
          ("sst2", "validation", 872, "one long string of cliches"),
          ("stsb", "train", 2234, "But other sources close to the sale said"),
          ("stsb", "validation", 3108, "The problem likely will mean"),
      ],
  )
  def test_every_line_is_an_example(self, task, split, size, first):
    source = read(task, split, REAL, print)
    assert len(source) == size
    assert source[0]["first"].startswith(first)
    for example in source:
      assert example["first"].strip()
      assert bool(example["second"].strip()) == (task in ("mrpc", "stsb"))
      assert "\t" not in example["first"] + example["second"]

  def test_scores_are_those_of_semeval_s_own_list(self):
    scores = (REAL / "glue/STS2012/test/STS.gs.ALL.txt").read_text().split()
    source = read("stsb", "validation", REAL, print)
    assert [e["label"] for e in source] == [float(score) for score in scores]

  @pytest.mark.parametrize("task", ["cola", "mrpc", "sst2"])
  def test_the_commonest_class_is_right_as_often_as_is_known(self, task):
    known = {"cola": 0.689, "mrpc": 0.665, "sst2": 0.509}
    train, validation = (
        np.array([e["label"] for e in read(task, split, REAL, print)])
        for split in ("train", "validation")
    )
    constant = glue.constant_baseline(
        train, is_score=glue.TASKS[task].labels is None
    )
    assert constant == 1
    assert np.mean(validation == constant) == pytest.approx(
        known[task], abs=5e-4
    )


class TestBadInput:

  @pytest.mark.parametrize(
      ("task", "lines", "message"),
      [
          ("rte", ["A\tB\tC"], "line 1: expected a header with .*sentence1"),
          ("rte", [], "line 1: expected a header"),
          ("rte", RTE[:1], "line 1: expected examples"),
          ("cola", [], "line 1: expected examples, found none"),
          ("rte", [*RTE, "1\tA\tB"], "line 3: .*4 col.*found 3"),
          ("rte", [*RTE, ""], "line 3: expected 4 columns"),
          ("cola", ["a\t1\t\tA", "a\t1\tA"], "line 2: .* 4 columns .* found 3"),
          ("cola", ["a\t1\t\tA\tB"], "line 1: expected 4 columns .* found 5"),
          ("cola", ["a\t2\t\tA"], "line 1: expected a label of .*found '2'"),
          ("cola", ["a\t\t\tA"], "line 1: expected a label of .*found ''"),
          ("sst2", ["A\tpositive"], "line 1: .*'0', '1'.*found 'positive'"),
          ("sst2", ["sentence\tlabel", "A\t-1"], "line 2: .*found '-1'"),
          ("qnli", [*QNLI, "1\tA\tB\t1"], "line 3: .*entail"),
          ("qqp", [*QQP, "1\t\t\tA\tB\t"], "line 2: .*'1'"),
      ],
  )
  def test_a_broken_row_is_refused_by_file_and_line(
      self, tmp_path, task, lines, message
  ):
    path = tmp_path / "glue" / glue.TASKS[task].folder / "dev.tsv"
    write(path, lines)
    with pytest.raises(ValueError, match=f"{path} {message}"):
      read(task, "validation", tmp_path)

  @pytest.mark.parametrize(
      ("task", "split", "file", "header"),
      [
          ("qqp", "test", "QQP/test.tsv", "id\tquestion1\tquestion2"),
          ("mnli", "ax", "AX.tsv", "index\tsentence1\tsentence2"),
          (
              "mrpc",
              "test",
              "MRPC/test.tsv",
              "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
          ),
      ],
  )
  def test_test_sets_have_the_servers_numbers_and_no_labels(
      self, tmp_path, task, split, file, header
  ):
    file = tmp_path / "glue" / file
    others = [""] * (header.count("\t") - 2)
    row = "\t".join(["7", *others, ' "a', "b "])
    write(file, [header, row])
    (example,) = read(task, split, tmp_path)
    assert example == {"first": ' "a', "second": "b ", "label": 0, "index": 7}
    for lines, message in (
        (["sentence\tlabel"], "line 1: expected a header with"),
        ([header, row, "8\tA"], "line 3: expected .* columns .*, found 2"),
        ([header, row.replace("7", "x")], "line 2: expected a number"),
    ):
      write(file, lines)
      with pytest.raises(ValueError, match=f"{file} {message}"):
        read(task, split, tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"looked for .*{file}"):
      read(task, split, tmp_path)

  @pytest.mark.parametrize("score", ["5.1", "-0.1", "nan", "inf", "", "many"])
  def test_a_score_is_a_number_from_0_to_5(self, tmp_path, score):
    lines = [*STSB, f"1\tA\tB\t{score}"]
    write(tmp_path / "glue/STS-B/train.tsv", lines)
    message = f"train.tsv line 3: expected a score from 0 to 5, found '{score}'"
    with pytest.raises(ValueError, match=message):
      read("stsb", "train", tmp_path)

  def test_what_is_not_utf_8_is_refused_by_file_and_line(self, tmp_path):
    path = tmp_path / "glue/SST-2/train.tsv"
    write(path, ["\ufeffsentence\tlabel\r", "é\t1\r"])
    path.write_bytes(path.read_bytes() + "é\t1".encode("latin-1"))
    with pytest.raises(ValueError, match="train.tsv line 3: expected UTF-8"):
      read("sst2", "train", tmp_path)

  @pytest.mark.parametrize(
      ("texts", "scores", "message"),
      [
          (["A\tB"] * 3, ["1"] * 2, "gs.a.txt line 3: expected 3 .* found 2"),
          (["A\tB"] * 2, ["1"] * 3, "gs.a.txt line 3: expected 2 .* found 3"),
          (
              ["A\tB", "A"],
              ["1"] * 2,
              "input.a.txt line 2: expected 2 .*found 1",
          ),
          (["A\tB\tC"], ["1"], "input.a.txt line 1: expected 2 .* found 3"),
          (["A\tB"], ["6"], "gs.a.txt line 1: expected a score"),
          ([], [], "test line 1: expected examples"),
      ],
  )
  def test_sts_2012_s_files_must_fit_each_other(
      self, tmp_path, texts, scores, message
  ):
    folder = tmp_path / "glue/STS2012/test"
    write(folder / "STS.input.a.txt", texts)
    write(folder / "STS.gs.a.txt", scores)
    with pytest.raises(ValueError, match=message):
      read("stsb", "validation", tmp_path, print)

  @pytest.mark.parametrize("kind", ["input", "gs"])
  def test_sts_2012_s_files_come_in_twos(self, tmp_path, kind):
    write(tmp_path / f"glue/STS2012/train/STS.{kind}.a.txt", ["1"])
    with pytest.raises(FileNotFoundError, match="STS.*a.txt"):
      read("stsb", "train", tmp_path, print)

  def test_nothing_at_all_names_the_places_and_the_command(self, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
      read("cola", "validation", tmp_path)
    for part in (
        f"no validation split of GLUE's cola in {tmp_path}/glue: looked for",
        "CoLA/dev.tsv, ",
        "in_domain_dev.tsv, ",
        "out_of_domain_dev.tsv; `python -m scripts.prepare_data glue",
        f" --tasks=cola --data_dir={tmp_path}`",
    ):
      assert part in str(error.value)

  def test_splits_of_different_origin_are_not_mixed(self, tmp_path):
    # GLUE's dev set is a part of the raw training set.
    folder = tmp_path / "glue/MRPC"
    write(folder / "dev.tsv", MRPC)
    write(folder / "msr_paraphrase_train.txt", MRPC)
    assert len(read("mrpc", "validation", tmp_path)) == 1
    with pytest.raises(FileNotFoundError, match="looked for .*train.tsv"):
      read("mrpc", "train", tmp_path)

  @pytest.mark.parametrize(
      ("task", "split", "message"),
      [
          ("wnli", "train", "task 'wnli' is not one of .*'cola', 'mnli'"),
          ("cola", "ax", "cola has no split 'ax', but .*'validation', 'test'"),
          ("mnli", "validation", "mnli has no .*'validation_mismatched'"),
      ],
  )
  def test_other_tasks_and_splits_are_refused(self, task, split, message):
    with pytest.raises(ValueError, match=message):
      read(task, split, "/nowhere")


def naively_joined(first, second, length, separator):
  first, second = list(first), list(second)
  lost = 0
  while len(first) + 1 + len(second) > length:
    (first if len(first) > len(second) else second).pop()
    lost += 1
  return [*first, separator, *second], lost


class TestJoined:

  def test_pairs_are_cut_as_one_id_at_a_time_would(self):
    rng = np.random.default_rng(3)
    for _ in range(3000):
      first, second = (
          rng.integers(10, 99, rng.integers(0, 17)).astype(np.int32)
          for _ in range(2)
      )
      length = int(rng.integers(1, 37))
      before = first.copy(), second.copy()
      ids, lost = glue.joined(first, second, length, separator=5)
      expected = naively_joined(first, second, length, 5)
      assert (ids.tolist(), lost) == expected
      assert ids.dtype == np.int32
      np.testing.assert_array_equal(first, before[0])
      np.testing.assert_array_equal(second, before[1])

  @pytest.mark.parametrize("length", [1, 7, 11])
  def test_one_text_has_no_separator_and_loses_its_end(self, length):
    ids, lost = glue.joined(np.arange(10, 17), None, length, separator=5)
    assert ids.tolist() == list(range(10, 17))[:length]
    assert (ids.dtype, lost) == (np.int32, max(7 - length, 0))

  @pytest.mark.parametrize("second", [None, np.arange(3)])
  def test_no_room_at_all_is_refused(self, second):
    with pytest.raises(ValueError, match="length 0"):
      glue.joined(np.arange(3), second, 0, separator=5)


class TestConstantBaseline:

  def test_is_the_commonest_class_and_the_first_of_two(self):
    assert glue.constant_baseline([2, 0, 2, 1], False) == 2
    assert glue.constant_baseline([1, 0, 2, 1, 0], False) == 0

  def test_is_the_mean_score(self):
    assert glue.constant_baseline([0.5, 5.0, 2.0], True) == 2.5

  def test_needs_labels(self):
    with pytest.raises(ValueError, match="no labels to choose"):
      glue.constant_baseline([], False)
