"""What tasks' files define is found by name."""

import sys

import pytest

import experiments
from experiments import task as task_lib
from experiments.engine import declared
from experiments.engine.errors import UserError
from scripts import predict

FILE = '''
from experiments.task import Prediction

def greet(args, load):
  """Greets."""
  print(f"hello {args.inputs[0]}")

def add_arguments(parser):
  parser.add_argument("inputs", nargs=1)

PREDICTION = Prediction("greet", "configs/digits.py", add_arguments, greet)
'''


@pytest.fixture
def new_task(tmp_path, monkeypatch):
  """A folder with the file of one more task."""
  (tmp_path / "greeting.py").write_text(FILE)
  (tmp_path / "broken.py").write_text("1 / 0  # Without a PREDICTION.\n")
  monkeypatch.setattr(declared, "_TASKS", tmp_path)
  paths = [*experiments.__path__, str(tmp_path)]
  monkeypatch.setattr(experiments, "__path__", paths)


def test_a_tasks_file_alone_makes_a_command(new_task, capsys):
  args = predict.parser().parse_args(["greet", "--weights=random", "you"])
  predict.run(args)
  assert args.of_task == "greeting"
  assert capsys.readouterr().out == "hello you\n"


def test_only_files_in_which_a_name_stands_are_imported(new_task):
  assert list(declared.of_every_task("PREDICTION")) == ["greeting"]
  assert not declared.of_every_task("PUBLISHED")


def test_a_task_without_its_packages_is_left_out(new_task, monkeypatch):
  monkeypatch.setitem(sys.modules, "av", None)  # As if it were not installed.
  path = declared._TASKS / "watching.py"
  path.write_text("import av\n" + FILE)
  with pytest.warns(UserWarning, match="'watching': the package 'av'"):
    found = declared.of_every_task("PREDICTION")
  assert list(found) == ["greeting"]


def test_what_is_not_defined_is_said():
  with pytest.raises(
      UserError, match="no pictures for 'digits': experiments.digits defines"
  ):
    declared.declared("digits", "attention_subjects", "no pictures")
  with pytest.raises(UserError, match="there is no experiments/nothing.py"):
    declared.module("nothing")


def test_published_tasks_define_what_is_listed():
  for task, published in declared.of_every_task("PUBLISHED").items():
    assert published
    for name in ("network", "OFFICIAL", "transformers", "attention_subjects"):
      assert name in (task_lib.__doc__ or "")
      assert callable(declared.declared(task, name, "nothing"))
