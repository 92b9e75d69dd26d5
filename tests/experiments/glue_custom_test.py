"""Classes and scores of texts in a folder to a trained model.

What their files may hold is in tests/experiments/data/text/custom_test.py.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import glue as configs
from configs import mlm as mlm_configs
from experiments import glue
from experiments.data.pipeline import Shard
from experiments.data.text import tokenizers
from experiments.engine import initialisation
from experiments.engine import weights
from experiments.engine.build import build
from experiments.engine.build import fitted
from experiments.engine.errors import UserError
from tests import readers
from tests.conftest import recorded
from tests.experiments.data.text.custom_test import lines

NAMES = ("bad", "fair", "good")


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
  """Texts of three classes, which their words tell."""
  folder = tmp_path_factory.mktemp("classes")
  rows = [f"{NAMES[i % 3]},it is {NAMES[i % 3]} {i}" for i in range(90)]
  folder.joinpath("train.csv").write_text("\n".join(["label,text", *rows]))
  return folder


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
  """Pairs with scores far from 0, and a file to evaluate."""
  folder = tmp_path_factory.mktemp("scores")
  for split, size in (("train", 40), ("dev", 10)):
    rows = [f"a{i % 4}\tb\t{1000 + 10 * (i % 4)}" for i in range(size)]
    text = "\n".join(["text1\ttext2\tscore", *rows])
    folder.joinpath(f"{split}.tsv").write_text(text)
  return folder


def tiny(folder, **changes):
  config = configs.get_config("tiny_custom")
  config.custom.folder = str(folder)
  config.batch_size = 8
  config.update_from_flattened_dict(changes)
  return fitted(config)


def trained(config, steps):
  """A state after so many steps, and their losses."""
  built = build(config)
  state, data = built.initial_state(), iter(built.task.train_data(Shard()))
  step, losses = built.train_step(), []
  for _ in range(steps):
    state, told = step(state, next(data))
    losses.append(float(told["loss"]))
  return built, state, losses


def test_classes_are_counted_and_the_length_follows_from_the_examples(classes):
  config, notes = tiny(classes)
  assert config.tasks.to_dict() == {"custom": 3}
  assert (
      config.custom.class_names == NAMES == glue.class_names(config, "custom")
  )
  assert config.train_examples == 10 * 81 and config.custom.held_out == 0.1
  assert "9 of 90 examples are held out" in notes[0]
  assert "3 classes: bad, fair, good" in notes[1]
  assert "10 epochs of 81 examples" in notes[2]
  assert tiny(classes, train_examples=64)[0].train_examples == 64
  again, notes = fitted(config)
  assert again == config and len(notes) == 2


def test_scores_are_learned_in_their_own_units(scores, optimized):
  changes = {"train_examples": 8 * 60, "schedule.peak": 3e-3}
  config, _ = tiny(scores, **changes)
  assert config.custom.mean == 1015 and config.custom.columns[0] == "text1"
  built, state, losses = trained(config, 60)
  assert losses[0] < 5  # In squared deviations; in points it were a million.
  assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
  batch, *_ = built.task.evals["dev"].data(Shard())
  batch = {name: jnp.asarray(batch[name]) for name in built.task.example}
  says = built.net.apply(*state.model, None, batch, False)[0]["custom"][:, 0]
  assert np.all(np.abs(says - 1015) < 40)


def test_texts_are_shown_with_their_classes_names(classes, scores):
  config, _ = tiny(classes)
  task = build(config).task
  batch, *_ = task.evals["dev"].data(Shard())
  right = batch["label"].astype(int)
  wrong = (right[0] + 1) % 3
  logits = np.eye(3)[[wrong, *right[1:]]]
  drawn = task.evals["dev"].draw({"custom": logits}, batch)["predictions"]
  first, second, *_ = drawn.split("\n\n")
  its = [NAMES[label] for label in right]
  assert first.startswith(f"~~{NAMES[wrong]}~~ 58% [{its[0]}]: it is {its[0]} ")
  assert second.startswith(f"**{its[1]}** 58%: it is {its[1]} ")
  task = build(tiny(scores)[0]).task
  batch, *_ = task.evals["dev"].data(Shard())
  said = np.full((len(batch["label"]), 1), 1012.0)
  drawn = task.evals["dev"].draw({"custom": said}, batch)["predictions"]
  assert drawn.startswith("1.01e+03 [1e+03]: a0 | b")


def test_a_run_starts_from_pretrained_weights(classes, tmp_path):
  pretrained = weights.random(mlm_configs.get_config("tiny"))
  weights.save(tmp_path / "mlm.npz", pretrained.config, pretrained.model)
  config, _ = tiny(classes, **{"init.pretrained": str(tmp_path / "mlm.npz")})
  built, notes = build(config), []
  params = initialisation.initial_state(
      built, initialisation.given(built), notes.append
  ).model.params
  for module in ("encoder/latents", "tokens"):
    for name, array in pretrained.model.params[module].items():
      np.testing.assert_array_equal(params[module][name], array)
  assert "custom_logits/w" in notes[0] and "encoder" not in "".join(notes)


def test_texts_are_read_as_sentencepiece_tokens_too(classes, tmp_path):
  file = str(readers.sentencepiece_model(tmp_path))
  tokenizer = tokenizers.sentencepiece(file)
  changes = {
      "tokenizer": {"name": "sentencepiece", "model": file},
      "model.tokens.vocabulary_size": tokenizer.vocabulary_size,
  }
  built, _, losses = trained(tiny(classes, **changes)[0], 2)
  assert np.isfinite(losses).all()
  batch = next(iter(built.task.train_data(Shard())))
  text = tokenizer.decode(batch["tokens"][0][batch["mask"][0]])
  assert text.startswith(f"it is {NAMES[int(batch['label'][0])]}")


def test_scores_have_no_class_of_transformers(scores):
  with pytest.raises(ValueError, match="no scale of scores"):
    glue.transformers(tiny(scores)[0])


def test_names_of_classes_are_written_for_transformers(classes):
  settings = glue.transformers(tiny(classes)[0]).settings
  assert settings["id2label"] == dict(enumerate(NAMES))


@pytest.mark.parametrize(
    ("labels", "error"),
    [(("a", "a"), "line|two classes"), ((), "expected examples")],
)
def test_what_is_wrong_is_one_line(tmp_path, labels, error):
  tmp_path.joinpath("train.jsonl").write_text(lines(*labels))
  with pytest.raises(UserError, match=f"train.jsonl.*({error})"):
    tiny(tmp_path)


def test_the_command_trains_goes_on_and_evaluates(classes, tmp_path, in_fork):
  args = (
      "--config=configs/glue.py:tiny_custom",
      f"--config.custom.folder={classes}",
      f"--workdir={tmp_path}",
  )
  code, _, err = in_fork(
      "experiments.train", *args, "--config.train_examples=128"
  )
  assert code == 0, err
  code, _, err = in_fork(
      "experiments.train", *args, "--config.train_examples=256"
  )
  assert code == 0, err
  assert recorded(tmp_path)[-1]["dev/custom"] >= 0
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["custom"]["class_names"] == list(NAMES)
  read = weights.load(tmp_path)
  assert glue.class_names(read.config, "custom") == NAMES
  code, out, err = in_fork("experiments.evaluate", *args)
  assert code == 0 and "custom_constant" in out, err
  weights.save(tmp_path / "custom.npz", read.config, read.model)
  read = weights.load(tmp_path / "custom.npz")
  assert list(glue.class_names(read.config, "custom")) == list(NAMES)


def test_what_is_confused_is_drawn_for_tasks_with_classes(monkeypatch):
  seen = []

  def matrix(label, predicted, names, title):
    seen.append((label.tolist(), predicted.tolist(), names, title))
    return np.zeros([1, 1, 3], np.uint8)

  monkeypatch.setattr("experiments.engine.figures.matrix", matrix)
  measured = {
      "split": np.array([0, 1, 2, 0]),
      "label": np.float32([1, 2.5, 0, 0]),
      "said": np.float32([1, 2.0, 1, 1]),
  }
  splits = [("cola", "validation"), ("stsb", "validation")]
  splits.append(("mnli", "validation_mismatched"))
  names = {"cola": ("no", "yes"), "stsb": None, "mnli": ("a", "b", "c")}
  drawn = glue.confusions(measured, splits, names)
  assert set(drawn) == {"confusion-cola", "confusion-mnli_mm"}
  assert seen == [
      ([1, 0], [1, 1], ("no", "yes"), "cola"),
      ([0], [1], ("a", "b", "c"), "mnli_mm"),
  ]
