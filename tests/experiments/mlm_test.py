"""Masked language modelling, from files to metrics."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mlm
from experiments.data.pipeline import Shard
from experiments.data.text import corpus
from experiments.data.text import sources
from experiments.data.text import tokenizers
from experiments.engine import build
from experiments.engine import weights
from experiments.engine.build import load
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from perceiver import attend_by
from perceiver import compiled_for
from perceiver.target import Target

MASK = tokenizers.MASK
UTF8 = tokenizers.utf8()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Two corpora: the words of one are of a, of the other of b, and shorter."""
  folder = tmp_path_factory.mktemp("corpora")
  rng = np.random.default_rng(0)
  for name, letter, size in (("c4", "a", 30), ("wikipedia", "b", 7)):
    files = folder / f"{name}_files"
    files.mkdir()
    for i in range(60):
      words = [letter * n for n in rng.integers(1, 6, size=size)]
      (files / f"{i}.txt").write_text(" ".join(words))
    source = sources.text(name, [str(files)], held_out=3)
    corpus.prepare(source, str(folder), processes=1)
  return str(folder)


def tiny(data_dir, **changes):
  config = importlib.import_module("configs.mlm").get_config("tiny")
  config.data_dir = data_dir
  config.update(changes)
  return config


@pytest.mark.parametrize("model", ["tiny", "bert"])
def test_all_positions_decoded_give_the_loss_and_gradients_of_the_masked(
    data_dir, model
):
  found = []
  for decode_all in (False, True):
    config = tiny(data_dir, decode_all=decode_all)
    if model == "bert":
      config.model = {
          "name": "bert",
          "tokens": config.model.tokens.to_dict(),
          "transformer": {"num_layers": 2, "num_heads": 2},
      }
    task = load(config)
    network = build._built(task, config)
    model_of = jax.jit(network.init)()
    batch = next(iter(task.train_data(Shard())))

    def loss(params, state, batch, task=task, net=network.net):
      outputs, _ = net.apply(params, state, None, batch, True)
      return task.loss(outputs, batch)[0]

    run = jax.jit(jax.value_and_grad(loss))
    found.append(run(model_of.params, model_of.net_state, batch))
  for one, other in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_queries_that_fill_an_accelerators_tile_change_nothing(data_dir):
  task = load(tiny(data_dir))
  batch = jax.tree.map(jnp.asarray, next(iter(task.train_data(Shard()))))
  net = build._built(task, tiny(data_dir)).net
  model = net.init(jax.random.key(3), batch, True)

  def loss(params, state):
    outputs, _ = net.apply(params, state, None, batch, True)
    return task.loss(outputs, batch)[0], outputs["logits"]

  found, products = [], []
  for platform in ("cpu", "gpu"):
    compute = jax.value_and_grad(loss, has_aux=True)
    with compiled_for(Target(platform)), attend_by("plain"):
      found.append(compute(*model))
      products.append(str(jax.make_jaxpr(compute)(*model)))
  is_padded = ["[8,32,262]" in each for each in products]
  assert is_padded == [False, True]
  for one, other in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_decoding_the_masked_alone_costs_what_the_paper_says():
  config = importlib.import_module("configs.mlm").get_config("bytes")
  every = build.build_network(config).flops_per_example()
  masked = build.build(config).network.flops_per_example()
  assert masked == pytest.approx(113e9, rel=1e-3)
  assert every == pytest.approx(120.9e9, rel=1e-3)


def test_tokens_come_from_the_corpora_in_their_shares(data_dir):
  config = tiny(data_dir)
  batches = iter(load(config).train_data(Shard()))
  tokens = np.concatenate([next(batches)["tokens"] for _ in range(40)])
  a, b = ((tokens == tokenizers.encode(name)[0]).sum() for name in "ab")
  assert a / (a + b) == pytest.approx(0.7, abs=0.03)


def test_bert_fills_in_what_stands_between_cls_and_sep(monkeypatch):
  config = importlib.import_module("configs.mlm").get_config("tiny")
  tokens = config.model.tokens.to_dict()
  transformer = {"num_layers": 1, "num_heads": 2}
  config.model = {"name": "bert", "tokens": tokens, "transformer": transformer}
  read, given = weights.random(config), []

  def outputs(batch):
    given.append(batch)
    ids = np.where(batch["tokens"] == MASK, UTF8.encode(b"x"), batch["tokens"])
    return {"logits": jnp.asarray(20.0 * np.eye(262)[ids])}

  monkeypatch.setattr(type(read), "outputs", lambda self, batch: outputs(batch))
  filled = mlm.fill_mask(read, "a[MASK]c[MASK:2]")
  ids = given[0]["tokens"][given[0]["mask"]]
  assert (ids[0], ids[-1]) == (tokenizers.CLS, tokenizers.SEP)
  assert filled.text == "axcxx"
  assert [str(s.strings[0]) for s in filled.spans] == ["x", "xx"]
  with pytest.raises(UserError, match="28 bytes, the model reads 27"):
    mlm.fill_mask(read, "[MASK]" + 27 * "a")


def test_metrics_are_sums_over_all_that_is_masked():
  logits = jnp.log(
      jnp.asarray([[[0.5, 0.25, 0.25]] * 3, [[0.1, 0.1, 0.8]] * 3])
  )
  batch = {
      "targets": jnp.asarray([[0, 1, 0], [2, 0, 0]]),
      "loss_mask": jnp.asarray([[1.0, 1, 0], [1, 0, 0]]),
      "mask": jnp.ones([2, 10], bool),
      **{
          f"{name}_{what}": jnp.ones(2)
          for name in mlm.BASELINES
          for what in ("nats", "right")
      },
  }
  sizes = np.array([2, 3, 4])
  measured = mlm.measure({"logits": logits}, batch, sizes)
  found = mlm.summarize({k: np.asarray(v) for k, v in measured.items()})
  nats = -np.log([0.5, 0.25, 0.8])
  assert found["accuracy"] == pytest.approx(2 / 3)
  assert found["nats"] == pytest.approx(nats.mean(), rel=1e-5)
  bits = nats.sum() / np.log(2)
  assert found["bits_per_byte"] == pytest.approx(bits / (2 + 3 + 4), rel=1e-5)
  assert found["left_bigram_bits_per_byte"] == pytest.approx(2 / np.log(2) / 9)
  assert found["masked_fraction"] == pytest.approx(3 / 20)
  loss, scalars = mlm.loss({"logits": logits}, batch)
  each = nats[:2].mean(), nats[2]
  assert float(loss) == pytest.approx(np.mean(each), rel=1e-5)
  assert float(scalars["masked_fraction"]) == pytest.approx(3 / 20)
  # An example of which nothing is masked changes neither.
  batch["loss_mask"] = batch["loss_mask"].at[1].set(0)
  loss, scalars = mlm.loss({"logits": logits}, batch)
  assert float(loss) == pytest.approx(nats[:2].mean(), rel=1e-5)
  measured = mlm.measure({"logits": logits}, batch, sizes)
  found = mlm.summarize({k: np.asarray(v) for k, v in measured.items()})
  assert found["nats"] == pytest.approx(nats[:2].mean(), rel=1e-5)
  batch["loss_mask"] = jnp.zeros([2, 3])
  loss, scalars = mlm.loss({"logits": logits}, batch)
  assert float(loss) == float(scalars["accuracy"]) == 0
  measured = mlm.measure({"logits": logits}, batch, sizes)
  found = mlm.summarize({k: np.asarray(v) for k, v in measured.items()})
  assert found == {"masked_fraction": 0.0}


def test_a_text_shows_what_was_guessed_right_and_wrong():
  given, masked = tokenizers.encode("ab [[[ cd [["), np.array([3, 4, 5, 10, 11])
  target, guess = tokenizers.encode("xyzvw"), tokenizers.encode("xyzvq")
  shown = mlm.marked(UTF8, given, masked, target, guess)
  assert shown == "ab **xyz** cd ~~vq~~ [vw]"
  none = masked[:0]
  assert mlm.marked(UTF8, given, none, none, none) == "ab [[[ cd [["


def test_a_corpus_without_a_share_is_not_read(data_dir, tmp_path):
  config = tiny(data_dir)
  config.corpora.c4 = 0.0
  assert list(load(config).evals) == ["wikipedia"]
  tokens = next(iter(load(config).train_data(Shard())))["tokens"]
  assert not np.isin(tokenizers.encode("a"), tokens).any()
  config.corpora.c4 = 0.5
  config.data_dir = str(tmp_path)
  with pytest.raises(FileNotFoundError, match="prepare_data mlm --c4=FILES"):
    load(config).train_data(Shard())


def test_a_corpus_with_a_part_of_1_is_all_that_is_read(data_dir):
  config = tiny(data_dir)
  config.corpora = {"c4": 0.7, "wikipedia": 0.3, "own": 1.0}
  config, notes = build.fitted(config)
  assert config.corpora.to_dict() == {"c4": 0.0, "wikipedia": 0.0, "own": 1.0}
  assert config.best == "own/bits_per_byte"
  assert notes[0] == "reads only own: its fraction is 1"
  assert build.fitted(config)[0].to_dict() == config.to_dict()
  config, notes = build.fitted(tiny(data_dir))
  assert config.corpora.to_dict() == {"c4": 0.7, "wikipedia": 0.3}
  assert not notes and config.best == "wikipedia/bits_per_byte"


def test_the_data_goes_on_where_it_was_stopped(data_dir):
  task = load(tiny(data_dir))
  whole = iter(task.train_data(Shard()))
  expected = [next(whole) for _ in range(6)][3:]
  rest = iter(task.train_data(Shard(first=3)))
  for batch in expected:
    other = next(rest)
    for name, array in batch.items():
      np.testing.assert_array_equal(array, other[name])


def test_it_trains_and_fills_in(data_dir, in_fork, tmp_path):
  code, _, err = in_fork(
      "experiments.train",
      "--config=configs/mlm.py:tiny",
      f"--config.data_dir={data_dir}",
      "--config.run.eval_every=2",
      f"--workdir={tmp_path}",
  )
  assert code == 0, err
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  _, last = [r for r in map(json.loads, lines) if "c4/accuracy" in r]
  for guess in ("", "unigram_", "left_bigram_"):
    for name in ("c4", "wikipedia"):
      assert 0 < last[f"{name}/{guess}bits_per_byte"] < 100
  assert "[" in (tmp_path / "figures" / "c4-filled_in-4.md").read_text()


def test_another_vocabulary_is_refused(data_dir):
  config = tiny(data_dir)
  config.model.tokens.vocabulary_size = 263
  with pytest.raises(UserError, match="262 ids, and .* is 263"):
    task = load(config)
    with user_errors("the data"):
      task.train_data(Shard())
