"""Predicts GLUE's test sets with fine-tuned models, in the server's format.

python -m scripts.glue_submission --weights=runs/cola --weights=runs/mnli ...
    --output=submission.zip [--checkpoint=best] [--data_dir=DIR]

`--weights` is a run or a file of scripts.convert_weights, single-task or
multitask. The archive has a file for each task in the format of
gluebenchmark.com: the header "index" and "prediction", and a line for each
example. Tasks without a model get a constant prediction, so that the archive is
complete, and the command prints them.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import pathlib
import sys
import zipfile

from absl import flags

from experiments import glue as task
from experiments.data import atomic
from experiments.data.text import glue
from experiments.data.text import glue_files
from experiments.engine import command
from experiments.engine import weights
from experiments.engine.errors import UserError

Answers = Mapping[str, list[tuple[int, str]]]  # Of the server's files.

WEIGHTS = flags.DEFINE_multi_string(
    "weights", [], "a run, or a file of weights; may be repeated"
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "latest",
    'checkpoint of runs: "latest", "best" or a step; ":ema": averaged',
)
OUTPUT = flags.DEFINE_string("output", None, "FILE.zip")


def main() -> None:
  """Writes the archive."""
  if not WEIGHTS.value:
    raise UserError("--weights=RUN is missing")
  if not OUTPUT.value:
    raise UserError("--output=FILE.zip is missing")
  models = [
      weights.load(path, checkpoint=CHECKPOINT.value) for path in WEIGHTS.value
  ]
  _check_tasks(models)
  found = {}
  for read in models:
    data_dir = command.DATA_DIR.value or read.config.data_dir
    for file, answers in task.test_answers(read, data_dir, _note):
      found[file] = answers
      print(f"{file}: {len(answers):,} answers")
  rest = {k: x for k, x in constant().items() if k not in found}
  if rest:
    _note(f"no model answers {', '.join(rest)}: all of each are the same")
  write(pathlib.Path(OUTPUT.value), {**found, **rest})
  print(OUTPUT.value)


def _note(line: str) -> None:
  print(f"note: {line}", file=sys.stderr)


def _check_tasks(models: Iterable[weights.Weights]) -> None:
  """Checks that each model is of GLUE, and that no task has two.

  Raises:
    UserError: if not.
  """
  of_task = {}
  for path, read in zip(WEIGHTS.value, models, strict=True):
    if read.config.task != "glue":
      raise UserError(
          f"{path}: the weights are of task {read.config.task!r}, not 'glue'"
      )
    for name in read.config.tasks:
      if name not in glue.TASKS:
        raise UserError(f"{path}: GLUE has no task {name!r}")
      if name in of_task:
        raise UserError(f"both {of_task[name]} and {path} are of {name}")
      of_task[name] = path


def constant() -> Answers:
  """The first class, or 0, for all examples of every test set."""
  file, count = glue.LEFT_OUT
  found = {file: ["0"] * count}
  for of_glue in glue.TASKS.values():
    for file, count in of_glue.tests.values():
      found[file] = [glue_files.spelled(0, of_glue)] * count
  return {file: list(enumerate(x)) for file, x in found.items()}


def write(path: pathlib.Path, answers: Answers) -> None:
  """Writes the archive, whole or not at all."""
  with (
      atomic.complete(path) as partial,
      zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
  ):
    for file, rows in sorted(answers.items()):
      lines = ["index\tprediction", *(f"{i}\t{x}" for i, x in rows)]
      archive.writestr(f"{file}.tsv", "\n".join(lines) + "\n")


if __name__ == "__main__":
  command.run(main, needs_config=False)
