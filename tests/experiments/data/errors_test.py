"""Errors of data: one line for a person, from wherever they are raised."""

import functools
import pickle

from absl import flags
import pytest

from experiments.data import pipeline
from experiments.data import processes
from experiments.data.clips.reading import ClipError
from experiments.data.errors import DataError
from experiments.data.images.image import ImageError
from experiments.data.starcraft.game import ReplayError
from experiments.data.text.wikitext import Malformed
from experiments.engine import command

ERRORS = [
    *(kind("a.png: broken") for kind in (DataError, ImageError, ClipError)),
    Malformed("a tag is not closed"),
    ReplayError("a.SC2Replay", "damaged", "EOFError"),
    ReplayError("a.SC2Replay", "damaged"),
]


def fail(item, error):
  del item
  raise error


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_is_the_same_in_another_process(error):
  copy = pickle.loads(pickle.dumps(error))
  assert type(copy) is type(error) and str(copy) == str(error)
  assert vars(copy) == vars(error)
  with pytest.raises(type(error)) as raised:
    list(processes.each(functools.partial(fail, error=error), [1], processes=2))
  assert str(raised.value) == str(error)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_pipeline_ends_a_command_with_one_line(
    num_workers, capsys
):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])
  error = ReplayError("a.SC2Replay", "damaged", "EOFError")
  with pytest.raises(SystemExit) as ended, command.one_line_errors():
    batches = pipeline.train(
        [{"i": 0}, {"i": 1}],
        [functools.partial(fail, error=error)],
        batch_size=2,
        seed=0,
        shard=pipeline.Shard(),
        num_workers=num_workers,
    )
    next(iter(batches))
  assert ended.value.code == 2
  assert capsys.readouterr().err == "error: a.SC2Replay: damaged (EOFError)\n"
