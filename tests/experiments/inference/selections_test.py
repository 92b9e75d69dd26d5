"""The command that predicts the selections of a replay."""

import os
import pathlib

import cv2
import jax
import numpy as np
import pytest

from configs import starcraft as configs
from experiments import evaluate
from experiments import starcraft
from experiments.data import pipeline
from experiments.data.starcraft import replays
from experiments.data.starcraft.features import REPLAY_UNITS
from experiments.data.starcraft.features import type_index
from experiments.engine import build
from experiments.engine import sharding
from experiments.engine import weights
from experiments.engine.errors import UserError
from experiments.inference import LoadedModel
from experiments.inference import selections
from experiments.task import Eval
from scripts import predict
from tests.conftest import SHARED

NAMES = ("Marine", "SCV", "Barracks")


def game(num_moments=5):
  """A game of random units, in which all Marines are selected each time."""
  rng = np.random.default_rng(0)
  units = rng.integers(0, 100, [num_moments, 23, len(REPLAY_UNITS)], np.int16)
  units[:, :, 0] = rng.choice([type_index(name) for name in NAMES], [23])
  units[:, 0, 0] = type_index("Marine")
  units[:, :, 1] = np.where(np.arange(23) < 9, 1, 3)
  selected = (units[:, :, 1] == 1) & (units[:, :, 0] == type_index("Marine"))
  info = {
      "key": "a",
      "file": "a.SC2Replay",
      "map": "Somewhere",
      "races": {1: "Terran", 2: "Zerg"},
      "counts": {},
  }
  return replays.Played(
      info,
      frames=np.arange(num_moments, dtype=np.int32) * 1000,
      players=np.ones(num_moments, np.int32),
      units=list(units),
      selected=list(selected),
  )


@pytest.fixture(scope="module")
def model():
  config = configs.get_config("tiny")
  config.attention = "plain"
  return LoadedModel(*weights.random(config))


def test_each_moment_is_predicted_whatever_the_batch(model):
  found, again = (
      starcraft.predict_game(model, game(), batch_size) for batch_size in (2, 7)
  )
  outputs, batch, scores = found
  assert outputs["picks"].shape == (5, 5)
  assert outputs["probability"].shape == (5, 29)
  jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), found, again
  )
  assert scores["log_likelihood"] < 0
  for i, selected in enumerate(game().selected):
    assert (batch["picks"][i] < 29).sum() == min(5, selected.sum())


def test_scores_are_those_of_evaluation(model):
  task = build.load(model.config)
  moments = [
      {"units": units, "selected": selected}
      for units, selected in zip(game().units, game().selected, strict=True)
  ]
  own = Eval(
      lambda shard: pipeline.evaluation(
          moments,
          [starcraft.padding_of(model.config)],
          batch_size=3,
          shard=shard,
      ),
      task.evals["validation"].measure,
      task.evals["validation"].summarize,
  )
  layout = sharding.Layout(sharding.make_mesh())
  run = evaluate.Evaluate({"own": own}, model.network.net, layout)
  expected, _ = run(model.model)
  _, _, scores = starcraft.predict_game(model, game())
  assert expected.keys() == {f"own/{name}" for name in scores}
  for name, value in scores.items():
    np.testing.assert_allclose(value, expected[f"own/{name}"], rtol=1e-5)


def test_selections_have_names():
  units = np.zeros([4, len(REPLAY_UNITS)], np.int32)
  units[:, 0] = [type_index(x) for x in ("SCV", "Marine", "SCV", "new")]
  assert selections.named(units, np.array([0, 2, 1, 4])) == "2 SCV, 1 Marine"
  assert selections.named(units, np.array([3])) == "1 unlisted"


def test_a_model_of_other_data_is_refused(model):
  other = model._replace(config=configs.get_config("tiny"))
  other.config.dataset = "starcraft2_raw"
  with pytest.raises(UserError, match="starcraft2_raw, which replays lack"):
    starcraft.predict_game(other, game())
  plain = model._replace(config=configs.get_config("mini_transformer"))
  with pytest.raises(UserError, match="no latents"):
    selections.draw_attention(plain, np.zeros([29, 18], np.int32))


@pytest.fixture
def run(model, monkeypatch):
  """What the command does once its weights are read."""
  monkeypatch.setattr(predict, "load", lambda args: model)

  def do(*argv):
    whole = ["starcraft", "--weights=FILE", *map(str, argv)]
    args = predict.parser().parse_args(whole)
    predict.run(args)

  return do


def test_the_command_prints_and_draws(run, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(replays, "play", lambda path: game())
  picture, attention = tmp_path / "a.png", tmp_path / "b.png"
  run(
      "--moments=2",
      f"--output={picture}",
      f"--attention={attention}",
      "a.SC2Replay",
  )
  printed = capsys.readouterr().out
  marines = int(game().selected[0].sum())
  assert "a.SC2Replay: Somewhere, Terran against Zerg" in printed
  assert "   0:00 player 1, Terran" in printed
  assert "   4:10 player 1, Terran" in printed  # 4,000 frames.
  assert f"selected:  {min(marines, 5)} Marine" in printed
  assert "all 5 selections:" in printed
  for path in (picture, attention):
    assert cv2.imread(str(path)).std() > 1


BAD = {
    "missing.SC2Replay": (None, "No such file"),
    "text.SC2Replay": (b"no replay", "damaged or unsupported"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_replay_is_said(name, run, tmp_path):
  content, message = BAD[name]
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=message) as raised:
    run(path)
  assert name in str(raised.value)
  with pytest.raises(UserError, match="--moments=0: at least 1"):
    run("--moments=0", path)


def test_weights_have_names_that_files_can_keep(model, tmp_path):
  weights.save(tmp_path / "model.npz", model.config, model.model)
  read = weights.load(tmp_path / "model.npz")
  jax.tree.map(np.testing.assert_array_equal, read.model, model.model)
  assert {"units/numbers", "pointer/keys"} <= read.model.params.keys()


def test_a_real_game_is_predicted(model):
  root = SHARED / "data"
  folder = pathlib.Path(os.environ.get("PERCEIVER_TEST_DATA", root))
  path = folder / "starcraft2" / "replays" / "4.3.0.64469__1.SC2Replay"
  if not path.exists():
    pytest.skip(f"{path} is not there; PERCEIVER_TEST_DATA names its folder")
  played = replays.play(path)
  outputs, _, scores = starcraft.predict_game(model, played)
  assert len(outputs["picks"]) == len(played.frames)
  assert np.isfinite([*scores.values()]).all()
