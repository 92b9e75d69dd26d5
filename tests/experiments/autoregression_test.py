"""Perceiver AR as a task: its data, loss, and what it draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import autoregression
from experiments.data import pipeline
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL
from experiments.data.text.tokenizers import PAD
from experiments.engine import build
from experiments.engine import settings
from experiments.engine import weights as weights_lib
from experiments.engine.state import Model
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


def whole(config, model, ids, latents):
  """Logits of what comes next, by all inputs at once and nothing kept."""

  class Whole(autoregression.Sampler):
    latents = property(lambda self: latents)
    window = property(lambda self: len(ids))

  whole = Whole(config, 1, None)
  fill = jax.jit(lambda model, batch: whole.nets[0](model, batch)[0])
  return np.asarray(fill(model, {"tokens": jnp.asarray(ids[None])})[0])


@pytest.mark.parametrize("positions", POSITIONS)
def test_with_what_is_kept_logits_are_those_of_the_whole_window(positions):
  config, model = random_model(positions)
  sampler = autoregression.Sampler(config, 1, None)
  fill, step = map(jax.jit, sampler.nets)
  length, window = 29, sampler.window
  # Of a grid there are no more elements than it has.
  last = length if positions == "on_grid" else length + 9
  ids = some_ids(last)
  compared = 0
  for start in [1, 3, window - 2, window, window + 1, last - 4]:
    begin = max(start - window, 0)
    padded = np.pad(ids[begin:start], (window - start + begin, 0))
    logits, state = fill(model, {"tokens": jnp.asarray(padded[None])})
    for more in range(sampler.steps_per_fill):
      end = start + more
      if end > last:
        break
      if more:
        one = jnp.asarray(ids[end - 1 : end])
        logits, state = step(model, {"ids": one, "state": state})
      given = ids[begin:end]
      short = max(sampler.latents + more - len(given), 0)
      expected = whole(
          config, model, np.pad(given, (short, 0)), sampler.latents + more
      )
      np.testing.assert_allclose(logits[0], expected, atol=2e-4)
      assert np.std(expected) > 0.1
      compared += 1
  assert compared > 15


def drawn_one_by_one(config, model, prompt, number, sampler):
  """The likeliest elements, each by the whole window."""
  ids = list(prompt)
  for done in range(number):
    more = done % sampler.steps_per_fill
    given = np.asarray(ids[-(sampler.window + more) :], np.int32)
    latents = sampler.latents + more
    short = max(latents - len(given), 0)
    logits = whole(config, model, np.pad(given, (short, 0)), latents)
    logits = np.where(np.arange(len(logits)) == PAD, -np.inf, logits)
    ids.append(int(logits.argmax()))
  return ids[len(prompt) :]


def test_prompts_of_different_lengths_go_on_as_each_alone():
  config, model = random_model()
  sampler = autoregression.Sampler(config, 11, None)
  prompts = [some_ids(n, seed=n) for n in (1, 9, 31)]
  likeliest = sampling.Choice(temperature=0.0)
  together = sampler(model, prompts, likeliest, seed=0)
  for prompt, ids in zip(prompts, together, strict=True):
    alone = sampler(model, [prompt], likeliest, seed=0)[0]
    np.testing.assert_array_equal(ids, alone)
  expected = drawn_one_by_one(config, model, prompts[2], 11, sampler)
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


def test_the_network_is_built_for_each_kind_of_positions():
  for positions in POSITIONS.values():
    config = settings.load(VARIANT, {"model.positions": positions})
    assert build.build_network(config).parameters() > 0
