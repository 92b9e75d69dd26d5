"""GLUE, from files to the paper's metrics; weights to start from; sweeps."""

import importlib
import itertools
import json

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import glue
from experiments.data.pipeline import Shard
from experiments.data.text import tokenizers
from experiments.engine import build
from experiments.engine import initialisation
from experiments.engine import weights
from experiments.engine.build import load
from experiments.engine.errors import UserError
from experiments.inference import masks
from perceiver import baselines
from scripts import sweep

TASKS = {"cola": 2, "mrpc": 2, "stsb": 1}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A few lines of three tasks, 12, 6 and 6 of them to train on."""
  root = tmp_path_factory.mktemp("data")
  rows = {
      "CoLA": (None, lambda i: ["x", str(i % 2), "", f"text {i % 2} {i}"]),
      "MRPC": (
          ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
          lambda i: [str(i % 2), "1", "2", f"one {i}", f"other {i}"],
      ),
      "STS-B": (
          ["index", "sentence1", "sentence2", "score"],
          lambda i: [str(i), f"a much too long sentence {i}", "b", str(i % 6)],
      ),
  }
  for folder, (header, row) in rows.items():
    (root / "glue" / folder).mkdir(parents=True)
    for split, size in (("train", 12 if folder == "CoLA" else 6), ("dev", 5)):
      lines = [header] * bool(header) + [row(i) for i in range(size)]
      file = root / "glue" / folder / f"{split}.tsv"
      file.write_text("".join("\t".join(line) + "\n" for line in lines))
  return str(root)


def tiny(data_dir, tasks=TASKS, **changes):
  config = importlib.import_module("configs.glue").get_config("tiny_cola")
  config.data_dir = data_dir
  config.tasks = tasks
  config.batch_size = 4
  config.train_examples = 8 * 4
  config.schedule.warmup = 1
  config.update_from_flattened_dict(changes)
  return config


def test_pairs_are_joined_and_what_is_cut_is_told(data_dir):
  task = load(tiny(data_dir))
  batches = iter(task.train_data(Shard()))
  rows = [
      {name: array[i] for name, array in batch.items()}
      for batch in (next(batches) for _ in range(20))
      for i in range(4)
  ]
  shown = {
      (int(row["task"]), bytes(row["tokens"][row["mask"]].astype(np.uint8)))
      for row in rows
  }
  pair = [
      *tokenizers.encode("one 3"),
      tokenizers.SEP,
      *tokenizers.encode("other 3"),
  ]
  assert (1, bytes(np.uint8(pair))) in shown
  cut = [*tokenizers.encode("a much too long sentence 3"), tokenizers.SEP]
  assert (2, bytes(np.uint8([*cut, *tokenizers.encode("b")]))) in shown
  assert list(task.notes()) == []
  task = load(tiny(data_dir, max_length=17))
  task.train_data(Shard())
  (note,) = task.notes()
  expected = "6 of 6 examples are longer than 17 ids and lose 66 of them"
  assert note == f"stsb, train: {expected}"


BERT = {
    "name": "bert",
    "tokens": {"vocabulary_size": 262, "channels": 12, "max_length": 29},
    "transformer": {"num_layers": 2, "num_heads": 2},
}


def written(ids):
  """Ids of bytes with their special ones."""
  shown = masks.shown(ids.tolist(), tokenizers.utf8())
  return shown.replace("[CLS]", "<").replace("[SEP]", "|")


def test_bert_reads_what_it_was_pretrained_to_read(data_dir):
  config = tiny(data_dir, max_length=17)
  config.model = BERT
  task = load(config)
  (dev,) = task.evals.values()
  batches = [*dev.data(Shard())]
  batches += itertools.islice(task.train_data(Shard()), 20)
  shown = {
      written(row[mask])
      for batch in batches
      for row, mask in zip(batch["tokens"], batch["mask"], strict=True)
  }
  # One text, two of them, and two that are cut.
  assert {"<text 0 2|", "<one 1|other 1|", "<a much too lo|b|"} <= shown
  assert all(text[0] == "<" and text[-1] == "|" for text in shown)
  told = "6 of 6 examples are longer than 15 ids and lose 78 of them"
  assert f"stsb, train: {told}" in list(task.notes())


def test_bert_classifies_from_the_output_of_cls_alone(data_dir):
  config = tiny(data_dir)
  config.model = BERT
  built = build.build(config)
  batch = next(iter(built.task.train_data(Shard())))
  assert (batch["tokens"][:, 0] == tokenizers.CLS).all()
  batch = jax.tree.map(jnp.asarray, batch)

  def without(place, value):
    """Logits, with other outputs of the Transformer at some places."""

    def change(layer, args, kwargs, context):
      y = layer(*args, **kwargs)
      module, is_call = context.module, context.method_name == "__call__"
      if is_call and isinstance(module, baselines.Transformer):
        y = y.at[:, place].set(value)
      return y

    with hk.intercept_methods(change):
      model = built.initial_state().model
      return built.network.net.apply(*model, jax.random.key(0), batch, False)[0]

  logits = without(slice(0, 0), 0.0)
  others = without(slice(1, None), np.nan)
  jax.tree.map(np.testing.assert_array_equal, logits, others)
  cls = without(0, np.nan)
  assert all(np.isnan(x).all() for x in cls.values())


@pytest.mark.parametrize("power, share", [(1.0, 0.5), (0.0, 1 / 3)])
def test_tasks_are_drawn_in_proportion_to_a_power_of_their_size(
    data_dir, power, share
):
  task = load(tiny(data_dir, size_power=power))
  batches = iter(task.train_data(Shard()))
  drawn = [next(batches)["task"] for _ in range(30)]
  zeros = np.concatenate(drawn) == 0
  assert zeros.mean() == pytest.approx(share, abs=0.02)
  rest = iter(task.train_data(Shard(first=20)))
  for expected in drawn[20:]:
    np.testing.assert_array_equal(next(rest)["task"], expected)


def test_a_task_learns_from_its_own_examples_alone():
  outputs = {
      "cola": jnp.asarray([[1.0, 2.0]] * 3),
      "mrpc": jnp.asarray([[3.0, 1.0]] * 3),
      "stsb": jnp.asarray([[2.5]] * 3),
  }
  batch = {"task": jnp.arange(3), "label": jnp.asarray([0.0, 0.0, 4.0])}
  nats, said = glue.answers(outputs, batch, list(TASKS))
  np.testing.assert_allclose(said, [1, 0, 2.5])
  expected = [np.log(1 + np.e), np.log(1 + np.exp(-2.0)), 1.5**2]
  np.testing.assert_allclose(nats, expected, rtol=1e-5)
  slopes = jax.grad(lambda o: glue.loss(o, batch, list(TASKS))[0])(outputs)
  for i, task in enumerate(TASKS):
    is_moved = np.asarray(slopes[task]).any(-1)
    np.testing.assert_array_equal(is_moved, np.arange(3) == i)


def test_metrics_are_the_papers_and_mnli_counts_once():
  splits = [
      ("cola", "validation"),
      ("mnli", "validation_matched"),
      ("mnli", "validation_mismatched"),
      ("stsb", "validation"),
  ]
  said = [[0, 1, 1, 0], [2, 1, 0, 0], [1, 1, 1, 1], [1.0, 2.0, 3.0, 5.0]]
  label = [[0, 1, 0, 0], [2, 1, 0, 1], [1, 1, 0, 0], [0.0, 2.0, 2.0, 4.0]]
  measured = {
      "loss": np.arange(16.0),
      "said": np.float32(said).reshape(-1),
      "label": np.float32(label).reshape(-1),
      "split": np.repeat(np.arange(4), 4),
      "constant": np.zeros(16, np.float32),
  }
  found = glue.summarize(measured, splits)
  assert found["mnli_m"] == 75 and found["mnli_mm"] == 50
  assert found["cola"] == pytest.approx(100 / 3**0.5)
  assert found["stsb"] == pytest.approx(
      100 * np.corrcoef(said[3], label[3])[0, 1]
  )
  mean = (found["cola"] + 62.5 + found["stsb"]) / 3
  assert found["average"] == pytest.approx(mean)
  assert (found["cola_constant"], found["stsb_constant"]) == (0, 0)
  assert found["mnli_mm_constant"] == 50


SLOW = ("shared", "per_task")


@pytest.mark.parametrize(
    "token",
    [None, *(pytest.param(x, marks=pytest.mark.slow) for x in SLOW)],
)
def test_every_way_to_several_tasks_trains(data_dir, token, tmp_path):
  config = tiny(data_dir)
  config.model.task_token = token
  built = build.build(config)
  state, data = built.initial_state(), iter(built.task.train_data(Shard()))
  step = built.train_step()
  losses = []
  for _ in range(3):
    state, scalars = step(state, next(data))
    losses.append(float(scalars["loss"]))
  assert np.isfinite(losses).all()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
  """A file with the weights of a masked language model."""
  config = importlib.import_module("configs.mlm").get_config("tiny")
  read = weights.random(config)
  file = tmp_path_factory.mktemp("pretrained") / "mlm.npz"
  weights.save(file, read.config, read.model)
  return file, read.model


def started(built, note):
  return initialisation.initial_state(built, initialisation.given(built), note)


def test_a_run_starts_from_weights_and_tells_what_is_new(data_dir, pretrained):
  file, model = pretrained
  built = build.build(tiny(data_dir, **{"init.pretrained": str(file)}))
  notes = []
  params = started(built, notes.append).model.params
  latents = "encoder/latents"
  np.testing.assert_array_equal(
      params[latents]["array"], model.params[latents]["array"]
  )
  new, left = notes
  assert "cola_logits/w" in new and "query/array" in new
  assert "queries/array" in left and "encoder" not in new + left


def test_weights_of_other_sizes_are_refused_or_left_out(data_dir, pretrained):
  config = tiny(data_dir, **{"init.pretrained": str(pretrained[0])})
  config.model.processor.widening_factor = 3
  with pytest.raises(UserError) as raised:
    initialisation.given(build.build(config))
  message = str(raised.value)
  assert "mlp/hidden/b [2, 16] there, [2, 48] here" in message
  # What it says to do is enough.
  _, _, quoted = message.partition("--config.init.reinitialize=")
  config.init.reinitialize = quoted.strip("'")
  notes = []
  started(build.build(config), notes.append)
  assert "mlp/hidden/w" in notes[0] and "attention/q" not in notes[0]
  config.init.reinitialize = "processor"
  started(build.build(config), notes.append)
  assert notes[2].count("processor") == 1 and "of processor" in notes[2]


def test_what_is_frozen_is_told_and_stays_through_training(
    data_dir, pretrained
):
  changes = {
      "init.pretrained": str(pretrained[0]),
      "init.frozen": "coder|processor|token|position",
  }
  built = build.build(tiny(data_dir, **changes))
  notes = []
  state = started(built, notes.append)
  assert notes[0].startswith("frozen: ") and "of encoder" in notes[0]
  assert "query/array" not in notes[0]
  step, data = built.train_step(), iter(built.task.train_data(Shard()))
  for _ in range(2):  # The rate of the first is 0.
    state, _ = step(state, next(data))
  params, before = state.model.params, pretrained[1].params
  for module in before.keys() & params.keys():
    for name, x in params[module].items():
      np.testing.assert_array_equal(x, before[module][name])
  fresh = built.initial_state().model.params
  assert (params["cola_logits"]["w"] != fresh["cola_logits"]["w"]).any()


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("encodr", "matches none of the"),
        ("", None),
        (".", "matches all of the"),
        ("(", "is not a regular expression"),
    ],
)
@pytest.mark.parametrize("setting", ["frozen", "zeros"])
def test_what_freezes_or_zeroes_nothing_or_everything_is_refused(
    data_dir, setting, pattern, error
):
  config = tiny(data_dir, **{f"init.{setting}": pattern})
  if error is None:
    build.build(config)
    return
  with pytest.raises(UserError, match=error):
    build.build(config)


def test_weights_of_another_tokenizer_are_refused(data_dir, pretrained):
  config = tiny(data_dir, **{"init.pretrained": str(pretrained[0])})
  config.tokenizer = {"name": "sentencepiece", "model": "x"}
  with pytest.raises(UserError, match="trained with the tokenizer"):
    initialisation.given(build.build(config))


def test_a_folder_of_a_sweep_says_what_was_changed():
  changes = {"schedule.peak": 3e-4, "init.reinitialize": "coder|latents/array"}
  assert (
      sweep.folder_name(changes)
      == "peak=0.0003-reinitialize=coder+latents+array"
  )


@pytest.mark.slow
def test_a_sweep_runs_each_combination_once(data_dir, in_fork, tmp_path):
  args = (
      "--config=configs/glue.py:tiny_cola",
      f"--config.data_dir={data_dir}",
      "--config.train_examples=64",
      "--config.schedule.warmup=1",
      "--sweep=batch_size=4,8;schedule.peak=1e-3",
      f"--workdir={tmp_path}",
  )
  for _ in range(2):
    code, out, err = in_fork("scripts.sweep", *args)
    assert code == 0, err
  assert out.count("dev/average") == 2 and out.count("best") == 1
  rows = json.loads((tmp_path / "sweep.json").read_text())["tiny_cola"]
  changes = [tuple(row["changes"].values()) for row in rows]
  assert changes == [(4, 1e-3), (8, 1e-3)]
  for row in rows:
    assert row["score"] == row["metrics"]["dev/average"]
  starts = tmp_path / "tiny_cola" / "batch_size=4-peak=0.001" / "starts.jsonl"
  assert len(starts.read_text().splitlines()) == 2  # It went on from its end.
