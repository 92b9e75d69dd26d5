"""A folder of texts: what is read of its files, and what can be wrong in them.

Training with them is in tests/experiments/glue_custom_test.py.
"""

import json

import numpy as np
import pytest

from experiments.data.errors import DataError
from experiments.data.text import custom as custom_texts
from experiments.data.text.custom import Custom


def folder(path, **files):
  """A folder of files; "__" in a name is its point."""
  for name, content in files.items():
    file = path / name.replace("__", ".")
    file.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
  return str(path)


def fitted(path, **settings):
  """(what is found, examples to train on, notes)."""
  notes = []
  custom, count = custom_texts.fitted(
      Custom(str(path), **settings), notes.append
  )
  return custom, count, notes


def read(custom, split="train"):
  """(first text, second, label) of each example."""
  return [tuple(x.values()) for x in custom_texts.read(custom, split)]


ROWS = [("good, “so” good", "yes"), ('a "bad"\nbreak', "no"), ("ok", "yes")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train__csv", 'text,label\n"good, “so” good",yes\n'
         '"a ""bad""\nbreak",no\n\nok,yes\n'),
        ("train__csv", '\ufefflabel,n,text\r\nyes,1,"good, “so” good"\r\n'
         'no,2,"a ""bad""\r\nbreak"\r\nyes,3,ok\r\n'),
        ("train__jsonl", "\n".join(json.dumps({"text": text, "label": label})
         for text, label in ROWS)),
        ("train__json", "\n\n".join(json.dumps(
            {"id": 1, "sentence": text, "class": label}, ensure_ascii=False)
         for text, label in ROWS) + "\n"),
    ],
)  # fmt: skip
def test_tables_and_json_lines_are_read_alike(tmp_path, name, content):
  folder(tmp_path, **{name: content}, dev__tsv="text\tlabel\tsentence\tclass\n"
         "x\tno\tx\tno\n")  # fmt: skip
  custom, count, notes = fitted(tmp_path)
  assert (
      custom.class_names == ("no", "yes") and count == 3 and not custom.held_out
  )
  assert notes[0].endswith("2 classes: no, yes")
  assert read(custom) == [
      (text, "", int(label == "yes")) for text, label in ROWS
  ]
  assert read(custom, "validation") == [("x", "", 0)]


def test_nothing_is_quoted_between_tabs(tmp_path):
  folder(
      tmp_path,
      train__tsv='label\ttext1\ttext2\nb\t"x" y\t\'\na\tx"\ty\n',
      dev__tsv="text1\ttext2\tlabel\nx\t\tb\n",
  )
  custom, _, _ = fitted(tmp_path)
  assert custom.has_two_texts and custom.columns == ("text1", "text2", "label")
  assert read(custom) == [('"x" y', "'", 1), ('x"', "y", 0)]
  assert read(custom, "validation") == [("x", "", 1)]


def lines(*labels, column="label"):
  rows = [{"text": f"text {i}", column: x} for i, x in enumerate(labels)]
  return "\n".join(map(json.dumps, rows))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ((10, 9, 9), ("9", "10")),
        ((True, False), ("false", "true")),
        (("b ", "a"), ("a", "b")),
        ((1, "x"), ("x", "1")),
    ],
)
def test_classes_are_named_in_order(tmp_path, labels, names):
  folder(tmp_path, train__jsonl=lines(*labels), dev__jsonl=lines(labels[0]))
  assert fitted(tmp_path)[0].class_names == names


@pytest.mark.parametrize(
    ("labels", "column"), [((1, 2, 6), "score"), ((1, 2, 6.0), "label")]
)
def test_numbers_are_scores_if_called_so_or_not_all_whole(
    tmp_path, labels, column
):
  folder(tmp_path, train__json=lines(*labels, column=column))
  custom, count, notes = fitted(tmp_path, held_out=0.4)
  assert custom.kind == "score" and custom.class_names == () and count == 2
  trained = [label for _, _, label in read(custom)]
  assert custom.mean == pytest.approx(np.mean(trained))
  assert custom.deviation == pytest.approx(np.std(trained))
  (held,) = [label for _, _, label in read(custom, "validation")]
  assert sorted([*trained, held]) == [1, 2, 6]
  assert "1 of 3 examples are held out" in notes[0]
  classes = fitted(tmp_path, kind="class")[0].class_names
  assert classes == tuple(map(str, labels))


def test_a_tenth_is_held_out_where_there_is_no_other_file(tmp_path):
  folder(tmp_path, train__jsonl=lines(*"ab" * 20))
  custom, count, notes = fitted(tmp_path)
  assert custom.held_out == 0.1 and count == 36
  assert "train.jsonl: 4 of 40 examples are held out" in notes[0]
  train, held = read(custom), read(custom, "validation")
  assert (len(train), len(held)) == (36, 4)
  assert len({text for text, _, _ in train + held}) == 40
  assert read(custom, "validation") == held
  # What is found stays so when it is looked for again.
  assert custom_texts.fitted(custom, lambda line: None) == (custom, 36)


def test_columns_of_any_name_can_be_read(tmp_path):
  folder(tmp_path, train__csv="stars,review,title\n1,bad,x\n5,good,y\n")
  custom, _, _ = fitted(tmp_path, columns=("title", "review", "stars"))
  assert custom.class_names == ("1", "5")
  both = read(custom) + read(custom, "validation")
  assert sorted(both) == [("x", "bad", 0), ("y", "good", 1)]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("train.csv", "great,yes\n", "expected examples, found none"),
        (
            "train.csv",
            "great,yes\nbad,no\n",
            r"line 1: expected columns such as text, .* found \['great', 'yes'",
        ),
        ("train.csv", "text,label\na,b,c\n", "line 2: expected 2 columns"),
        ("train.csv", 'text,label\na,b\n"c,d\n', "line 3: expected columns"),
        ("train.csv", "text,text,label\na,b,c\n", "of different names"),
        ("train.csv", "text,label\na,x\n\n ,y\n", "line 4: expected a text"),
        ("train.csv", "text,label\na,x\nb, \n", "line 3: expected a label"),
        ("train.tsv", "text\tlabel\n\na\n", "line 3: expected 2 columns"),
        ("train.tsv", b"text\tlabel\n\xe4\tx\n", "line 2: expected UTF-8"),
        ("train.tsv", "text\tlabel\na\tx\nb\tx\n", r"two classes or .*\['x'\]"),
        ("train.tsv", "text\tscore\na\tx\nb\ty\n", "line 2: expected a number"),
        ("train.tsv", "text\tscore\na\t1\nb\tnan\n", "line 3: expected a n"),
        ("train.tsv", "text\tscore\na\t1\nb\t1\n", "scores that differ"),
        ("train.tsv", "text\tlabel\na\tx\n", "line 2: expected two examples"),
        ("train.tsv", "", "expected examples, found none"),
        ("train.json", '[{"text": "a"}]', "line 1: expected a JSON object, "),
        ("train.json", '\n{"text": "a",', "line 2: expected a JSON object: "),
        ("train.json", '{"text": 1, "label": 1}', "line 1: expected a text"),
        ("train.json", '{"text": "a", "label": null}', "expected a label"),
        (
            "train.json",
            '{"text": "a", "label": 1}\n{"text": "a"}',
            "line 2: expected .*, without label",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path, name, content, error):
  folder(tmp_path, **{name.replace(".", "__"): content})
  with pytest.raises(DataError, match=error) as raised:
    custom, _, _ = fitted(tmp_path)
    read(custom)
  assert str(tmp_path / name) in str(raised.value)
  assert "\n" not in str(raised.value)


def test_what_the_other_file_must_have_is_said(tmp_path):
  folder(
      tmp_path,
      train__csv="text,label\na,x\nb,y\n",
      dev__csv="text,label\na,x\nb,z\n",
  )
  custom, _, _ = fitted(tmp_path)
  with pytest.raises(DataError, match="dev.csv line 3: 'z' is not a class"):
    read(custom, "validation")
  folder(tmp_path, dev__csv="sentence,label\na,x\n")
  with pytest.raises(DataError, match="dev.csv line 1: custom.columns"):
    read(custom, "validation")


def test_files_that_are_missing_or_there_twice_are_named(tmp_path):
  for given in (str(tmp_path), ""):
    with pytest.raises(FileNotFoundError, match="folder=DIR.*train.jsonl"):
      custom_texts.fitted(Custom(given), print)
  folder(tmp_path, train__csv="text,label\na,x\n", train__tsv="")
  with pytest.raises(DataError, match="both .*train.tsv and .*train.csv"):
    fitted(tmp_path)


def test_columns_that_are_not_there_are_said(tmp_path):
  folder(tmp_path, train__csv="text,label\na,x\nb,y\n")
  with pytest.raises(
      DataError, match=r"line 1: custom.columns = .*\['text', 'la"
  ):
    fitted(tmp_path, columns=("text", "stars"))
