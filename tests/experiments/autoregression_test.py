"""Perceiver AR as a task: its data, loss, and what it draws."""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import autoregression
from experiments.data import pipeline
from experiments.data.images import image
from experiments.data.text import corpus
from experiments.data.text import sources
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL
from experiments.data.text.tokenizers import PAD
from experiments.engine import build
from experiments.engine import settings
from experiments.engine import state as state_lib
from experiments.engine import weights as weights_lib
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.inference import commands
from perceiver import sampling

VARIANT = "autoregression:tiny"  # 29 elements, 7 latents.
POSITIONS = {
    "rotary": {"name": "rotary", "longest": 29.0},
    "sinusoidal": {"name": "sinusoidal"},
    "learned": {"name": "learned", "number": 29},
    "on_grid": {"name": "on_grid", "dims": (4, 7, 1)},
}


@functools.cache
def random_model(positions="rotary"):
  """A config, and a model whose logits are not all 0."""
  config = settings.load(VARIANT, {"model.positions": POSITIONS[positions]})
  made = weights_lib.random(config)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype) + x,
      made.model.params,
  )
  return made.config, Model(params, made.model.net_state)


def some_ids(length, seed=0):
  rng = np.random.default_rng(seed)
  ids = NUM_SPECIAL + rng.integers(256, size=length)
  return np.concatenate([[BOS], ids[: length - 1]]).astype(np.int32)


@functools.cache
def whole(positions, latents):
  """Of ids, logits after each of the newest, [latents, V]; nothing is kept."""
  config, model = random_model(positions)

  def forward(batch):
    seen, pos = autoregression.places(batch["tokens"])
    return autoregression.perceiver_ar(
        batch["tokens"], seen, pos, latents, False, **config.model
    )

  net = state_lib.make_net(
      forward, config.compute_dtype, config.attention, config.products
  )
  apply = jax.jit(
      lambda model, batch: net.apply(*model, None, batch, False)[0][0]
  )

  def of(ids):
    ids = np.pad(ids, (max(latents - len(ids), 0), 0))
    return np.array(apply(model, {"tokens": jnp.asarray(ids[None])}))

  return of


@pytest.mark.parametrize("positions", POSITIONS)
def test_with_what_is_kept_logits_are_those_of_the_whole_window(positions):
  config, model = random_model(positions)
  # Of a grid there are no more elements than it has.
  reads_all = positions == "on_grid"
  sampler = autoregression.Sampler(config, 1, None, reads_all=reads_all)
  fill, step = map(jax.jit, sampler.nets)
  length, window = 29, sampler.window
  last = length if reads_all else length + 9
  ids = some_ids(last)
  compared = 0
  starts = [1, window - 2, window, min(window + 1, last), last - 4]
  for start in starts if positions == "rotary" else starts[::2]:
    begin = max(start - window, 0)
    padded = np.pad(ids[begin:start], (window - start + begin, 0))
    logits, state = fill(model, {"tokens": jnp.asarray(padded[None])})
    ends = range(start, min(start + sampler.steps_per_fill, last + 1))
    latents = sampler.latents + len(ends) - 1
    # A latent sees no later one, so one pass says what each of them expects.
    expected = whole(positions, latents)(ids[begin : ends[-1]])
    assert np.std(expected) > 0.1
    for end, logits_expected in zip(ends, expected[-len(ends) :], strict=True):
      if end > start:
        one = jnp.asarray(ids[end - 1 : end])
        logits, state = step(model, {"ids": one, "state": state})
      np.testing.assert_allclose(logits[0], logits_expected, atol=2e-4)
      compared += 1
  assert compared > 8


def likeliest_ids(prompt, drawn, sampler):
  """After the prompt and those before it, by whole windows: for each drawn."""
  ids, found = np.concatenate([prompt, drawn]), []
  for done in range(0, len(drawn), sampler.steps_per_fill):
    more = min(sampler.steps_per_fill, len(drawn) - done) - 1
    start = len(prompt) + done
    given = ids[max(start - sampler.window, 0) : start + more]
    logits = whole("rotary", sampler.latents + more)(given)
    logits[:, PAD] = -np.inf
    found += logits[-more - 1 :].argmax(axis=1).tolist()
  return found


def test_prompts_of_different_lengths_go_on_as_each_alone():
  config, model = random_model()
  sampler = autoregression.Sampler(config, 11, None)
  prompts = [some_ids(n, seed=n) for n in (1, 9, 31)]
  likeliest = sampling.Choice(temperature=0.0)
  together = sampler(model, prompts, likeliest, seed=0)
  for prompt, ids in zip(prompts, together, strict=True):
    alone = sampler(model, [prompt], likeliest, seed=0)[0]
    np.testing.assert_array_equal(ids, alone)
  expected = likeliest_ids(prompts[2], together[2], sampler)
  np.testing.assert_array_equal(together[2], expected)


def test_after_the_stop_there_is_padding():
  config, model = random_model()
  prompts = [some_ids(5, seed=1), some_ids(9, seed=2)]
  likeliest = sampling.Choice(temperature=0.0)
  free = autoregression.Sampler(config, 8, None)(model, prompts, likeliest, 0)
  stop = int(free[0, 3])
  stopped = autoregression.Sampler(config, 8, stop)(
      model, prompts, likeliest, 0
  )
  for ids, whole in zip(stopped, free, strict=True):
    (ends,) = np.nonzero(whole == stop)
    end = ends[0] + 1 if len(ends) else 8
    np.testing.assert_array_equal(ids[:end], whole[:end])
    np.testing.assert_array_equal(ids[end:], PAD)


def test_a_seed_gives_the_same_and_another_one_something_else():
  config, model = random_model()
  sampler = autoregression.Sampler(config, 12, None, never=(BOS,))
  draw = lambda seed: sampler(model, [some_ids(4)], sampling.Choice(), seed)
  np.testing.assert_array_equal(draw(1), draw(1))
  assert (draw(1) != draw(2)).any()


def test_every_element_of_the_second_half_is_evaluated_once():
  config = settings.load(VARIANT, {"eval_examples": 6})
  task = autoregression.task(config)
  (eval_,) = task.evals.values()
  counted = targets = 0
  for batch in eval_.data(pipeline.Shard()):
    _, counts = autoregression.predicted(batch, 7)
    counted += (np.asarray(counts).sum(-1) * batch["real"]).sum()
    targets += (batch["counted"] * batch["real"]).sum()
  assert counted == targets == 2 * 15  # Of two sequences.


def test_a_sequence_is_exact_if_all_of_its_windows_are():
  config = settings.load(VARIANT, {"eval_examples": 11, "batch_size": 4})
  (eval_,) = autoregression.task(config).evals.values()
  found = []
  for number, batch in enumerate(eval_.data(pipeline.Shard())):
    targets, _ = autoregression.predicted(batch, 7)
    logits = np.array(jax.nn.one_hot(targets, 262))
    if number == 0:  # An error in the last window of the first sequence, ...
      logits[2, -1] = 0
    if number == 1:  # ... and in an element that does not count, of another.
      assert batch["counted"][1] < 7
      logits[1, 0] = 0
    arrays = jax.tree.map(jnp.asarray, batch)
    each = eval_.measure({"logits": jnp.asarray(logits)}, arrays)
    found.append({k: np.asarray(x)[batch["real"]] for k, x in each.items()})
  every = {k: np.concatenate([x[k] for x in found]) for k in found[0]}
  assert every["sequence"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
  summary = eval_.summarize(every)
  np.testing.assert_allclose(summary["exact_match"], 8 / 9)
  np.testing.assert_allclose(summary["exact_sequences"], 2 / 3)


def test_the_loss_counts_what_is_known_and_no_padding():
  tokens = np.array([[PAD, PAD, BOS, 9, 10, EOS]])
  batch = {"tokens": jnp.asarray(tokens), "counted": jnp.asarray([4])}
  targets, counts = autoregression.predicted(batch, 4)
  np.testing.assert_array_equal(targets, [[BOS, 9, 10, EOS]])
  np.testing.assert_array_equal(counts, [[False, True, True, True]])
  logits = jnp.zeros([1, 4, 16]).at[0, 0].set(jnp.arange(16.0))
  value, _ = autoregression.loss({"logits": logits}, batch)
  np.testing.assert_allclose(value, np.log(16), rtol=1e-6)
  value, _ = autoregression.loss({"logits": logits}, batch, z_loss=0.1)
  np.testing.assert_allclose(
      value, np.log(16) + 0.1 * np.log(16) ** 2, rtol=1e-6
  )


def test_another_number_of_ids_than_the_datas_is_refused():
  config = settings.load(VARIANT, {"model.vocabulary_size": 300})
  with pytest.raises(ValueError, match="has 262 ids.*is 300"):
    autoregression.task(config).train_data(pipeline.Shard())


def test_padding_within_a_sequence_takes_places():
  ids = jnp.asarray([[PAD, PAD, BOS, PAD, 9], [BOS, 9, PAD, PAD, 8]])
  seen, pos = autoregression.places(ids)
  np.testing.assert_array_equal(seen, ids != PAD)
  np.testing.assert_array_equal(pos, [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]])


def test_the_network_is_built_for_each_kind_of_positions():
  for positions in POSITIONS.values():
    config = settings.load(VARIANT, {"model.positions": positions})
    assert build.build_network(config).parameters() > 0


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A corpus of two sentences again and again, and pictures of one colour."""
  folder = tmp_path_factory.mktemp("data")
  files = folder / "files"
  files.mkdir()
  for i in range(60):
    words = ("all of it again and again", "something else, once more")[i % 2]
    (files / f"{i}.txt").write_text(" ".join([words] * 5))
  source = sources.text("own", [str(files)], held_out=3)
  corpus.prepare(source, str(folder), processes=1)
  for split in ("train", "test"):
    for name, value in (("dark", 10), ("light", 200)):
      place = folder / "images" / split / name
      place.mkdir(parents=True)
      for i in range(8):
        picture = np.full([9, 12, 3], value + i, np.uint8)
        commands.write_png(place / f"{i}.png", picture)
  return str(folder)


TEXT = {
    "data": {"name": "text", "corpora": {"own": 1.0}, "order": 4},
    "best": "own/bits_per_byte",
}
IMAGES = {
    "data": {
        "name": "images",
        "dataset": "images",
        "size": 3,
        "channels": 3,
    },
    "model.positions": {"name": "on_grid", "dims": (3, 3, 3)},
    "model.max_length": 27,
    "best": "test/bits_per_value",
}


def measured(config):
  """Metrics of the first eval, of a model as it is before training."""
  task, made = build.load(config), build.build(config)
  model = made.initial_state().model
  ((_, eval_),) = task.evals.items()
  found = []
  for batch in eval_.data(pipeline.Shard()):
    batch = jax.tree.map(jnp.asarray, batch)
    outputs = made.net.apply(*model, jax.random.key(0), batch, False)[0]
    each = eval_.measure(outputs, batch)
    real = batch["real"]
    found.append({name: np.asarray(x)[real] for name, x in each.items()})
  return eval_.summarize(
      {name: np.concatenate([x[name] for x in found]) for name in found[0]}
  )


def test_text_is_measured_in_bits_for_each_byte_beside_what_others_need(
    data_dir,
):
  config = settings.load(VARIANT, {**TEXT, "data_dir": data_dir})
  config.eval_examples = 1000
  found = measured(config)
  # All ids are as likely; BOS and EOS cost bits and are no bytes.
  assert 8.03 < found["bits_per_byte"] < 8.3
  np.testing.assert_allclose(found["perplexity"], 262.0, rtol=1e-3)
  assert found["ngram_bits_per_byte"] < 1.5 < found["unigram_bits_per_byte"] < 5
  after, alone = (
      found[f"xz_{when}bits_per_byte"] for when in ("after_training_", "")
  )
  assert 0 < after < alone < 4


def test_pictures_are_measured_in_bits_for_each_value(data_dir):
  config = settings.load(VARIANT, {**IMAGES, "data_dir": data_dir})
  config.eval_examples = 1000
  found = measured(config)
  np.testing.assert_allclose(found["bits_per_value"], np.log2(262), rtol=1e-5)
  assert found["ngram_bits_per_value"] < found["unigram_bits_per_value"] < 5.5
  assert found["png_bits_per_value"] > 8  # Of 27 values, its file is large.


@pytest.mark.parametrize("changes", [TEXT, IMAGES], ids=["text", "images"])
def test_batches_of_training_are_windows(data_dir, changes):
  config = settings.load(VARIANT, {**changes, "data_dir": data_dir})
  task = build.load(config)
  batch = next(iter(task.train_data(pipeline.Shard())))
  for name, like in task.example.items():
    assert batch[name].shape == (8, *like.shape)
    assert batch[name].dtype == like.dtype
  _, counts = autoregression.predicted(batch, 7)
  assert counts.sum() > 8


def run_predict(capsys, weights, *args):
  parser = argparse.ArgumentParser()
  autoregression.add_arguments(parser)
  autoregression.generated(parser.parse_args(args), lambda: weights)
  return capsys.readouterr().out


def some_weights(data_dir, changes):
  config = settings.load(VARIANT, {**changes, "data_dir": data_dir})
  return weights_lib.random(config)


def test_a_text_goes_on_with_the_same_bytes_for_the_same_seed(
    data_dir, capsys, tmp_path
):
  weights = some_weights(data_dir, TEXT)
  args = "all of", "it", "--number=40", "--seed=3"
  file = tmp_path / "texts.txt"
  first = run_predict(capsys, weights, *args, f"--output={file}")
  assert first == run_predict(capsys, weights, *args)
  assert "all of" in first and len(first) > 20
  assert first.strip().startswith("all of")
  assert "all of" in file.read_text()
  assert first != run_predict(capsys, weights, *args[:-1], "--seed=4")


def test_a_picture_is_completed_from_its_upper_half(data_dir, capsys, tmp_path):
  weights = some_weights(data_dir, IMAGES)
  given = f"{data_dir}/images/test/light/0.png"
  file = tmp_path / "completed.png"
  run_predict(capsys, weights, given, "--samples=2", f"--output={file}")
  picture = image.read(file)
  assert picture.shape == (3, 6, 3)
  np.testing.assert_array_equal(picture[:1], 200)
  assert (picture[1:] != 200).any()
  assert (picture[:, :3] != picture[:, 3:]).any()


def sampled(data_dir, changes) -> tuple[Any, Any]:
  """What training shows of a model as it is before training."""
  config = settings.load(
      VARIANT,
      {**changes, "data_dir": data_dir, "samples": 4, "eval_examples": 1000},
  )
  ((_, eval_),) = build.load(config).evals.items()
  assert eval_.sample is not None
  return config, eval_.sample(weights_lib.random(config).model)


def test_texts_go_on_from_nothing_and_from_what_was_held_out(data_dir):
  _, found = sampled(data_dir, TEXT)
  texts = found["samples"].split("\n\n---\n\n")
  given = [text.partition("▸")[0].strip() for text in texts]
  assert given[0] == "" and set(given[1:]) <= {"al", "so"}
  assert all(text.partition("▸")[2].strip() for text in texts)


def test_images_are_completed_below_those_of_the_data(data_dir):
  _, found = sampled(data_dir, IMAGES)
  picture = found["samples"]
  times = 64 // 3
  assert picture.shape == (6 * times, 12 * times, 3)
  small = picture[::times, ::times].astype(int)
  data, drawn = small[:3], small[3:]
  for column in range(4):
    part = slice(3 * column, 3 * column + 3)
    assert len(np.unique(data[:, part])) == 1  # Of one colour.
    half = column < 2
    assert (drawn[0, part] == data[0, part]).all() == half
    assert (drawn[1:, part] != data[1:, part]).any()


def test_copies_are_counted():
  config, found = sampled("", {})
  right = [
      0 <= int(line.split()[3]) < 15 for line in found["samples"].splitlines()
  ]
  assert right == [True] * 4
  (eval_,) = build.load(config).evals.values()
  assert eval_.sample is not None
  none = settings.changed(config, {"samples": 0})
  (eval_,) = build.load(none).evals.values()
  assert eval_.sample is None


def test_what_is_predicted_in_python_is_what_the_command_writes(
    data_dir, capsys, tmp_path
):
  weights = some_weights(data_dir, IMAGES)
  file, given = tmp_path / "a.png", f"{data_dir}/images/test/light/0.png"
  run_predict(capsys, weights, given, "--seed=5", f"--output={file}")
  (found,) = autoregression.predict(weights, given, seed=5)
  assert len(found.ids) == 28 and found.given == 10
  np.testing.assert_array_equal(found.shown, image.read(file))
  (same,) = autoregression.predict(weights, image.read(given), seed=5)
  np.testing.assert_array_equal(same.ids, found.ids)


def test_a_sequence_is_prepared_as_its_last_window_is_evaluated(data_dir):
  config = settings.load(VARIANT, {**IMAGES, "data_dir": data_dir})
  config.eval_examples = 4  # All windows of the first picture.
  (eval_,) = build.load(config).evals.values()
  (batch,) = eval_.data(pipeline.Shard())
  given = f"{data_dir}/images/test/dark/0.png"
  found = autoregression.prepare(config, given)
  np.testing.assert_array_equal(found["tokens"][0], batch["tokens"][3])
  assert found["counted"] == 7 and batch["counted"][3] == 6


@pytest.mark.parametrize(
    ("changes", "args", "message"),
    [
        (TEXT, ["a", "--top_p=1.5"], "top_p = 1.5"),
        (TEXT, ["a", "--number=0"], "number = 0"),
        (TEXT, ["a", "--output=a.png"], r"a\.png: the suffix must be \.txt"),
        (IMAGES, ["no.png", "--output=a.png"], r"no\.png"),
        (IMAGES, [], r"--output=FILE\.png is missing"),
        ({}, ["first"], "'first': the number of a sequence was expected"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused(
    data_dir, capsys, changes, args, message
):
  weights = some_weights(data_dir, changes)
  with pytest.raises((UserError, FileNotFoundError), match=message):
    run_predict(capsys, weights, *args)
