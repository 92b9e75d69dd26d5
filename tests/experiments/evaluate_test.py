"""Evaluation is exact, and a checkpoint evaluates to what its run recorded."""

import json

import jax
import numpy as np
import pytest

from configs import quickstart
from experiments.data import pipeline
from experiments.engine import settings
from experiments.engine import sharding
from experiments.engine import state as state_lib
from experiments.engine.build import load
from experiments.engine.errors import UserError
from experiments.evaluate import evaluate
from experiments.evaluate import make_evaluate
from experiments.task import Eval
from experiments.train import train as train_here
from tests.conftest import Command
from tests.conftest import recorded


@pytest.fixture(scope="module")
def config(data_dir):
  config = quickstart.get_config("mini")
  config.data_dir = data_dir
  return config


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  train_here(config, workdir)
  return workdir


def test_the_batch_size_changes_no_metric(config):
  task = load(config)
  net = state_lib.make_net(task.forward, "float32")
  model = state_lib.initial_model(net, task.example, seed=0)
  found = []
  for batch_size in (7, 300):
    with config.copy_and_resolve_references().unlocked() as changed:
      changed.batch_size = batch_size
    evals = load(changed).evals
    metrics, _ = make_evaluate(
        evals, net, sharding.Layout(sharding.make_mesh())
    )(model)
    found.append(metrics)
  for metrics in found[1:]:
    assert metrics["test/top1"] == found[0]["test/top1"]
    np.testing.assert_allclose(
        metrics["test/loss"], found[0]["test/loss"], rtol=1e-6
    )


def test_padding_does_not_count_and_summaries_see_every_example_in_order():
  class Numbers:

    def __len__(self):
      return 13

    def __getitem__(self, i):
      return {"i": np.int32(i)}

  seen = []

  def summarize(measured):
    seen.append(measured["i"])
    return {"sum": float(measured["i"].sum())}

  number = Eval(
      lambda shard: pipeline.evaluation(
          Numbers(), [], batch_size=5, shard=shard
      ),
      measure=lambda outputs, batch: {"i": outputs},
      summarize=summarize,
  )
  net = state_lib.make_net(lambda batch, is_training: batch["i"], "float32")
  example = {"i": jax.ShapeDtypeStruct((), "int32")}
  model = state_lib.initial_model(net, example, seed=0)
  metrics, _ = make_evaluate(
      {"n": number}, net, sharding.Layout(sharding.make_mesh())
  )(model)
  assert metrics == {"n/sum": 78.0}
  assert seen[0].tolist() == list(range(13))


def test_a_checkpoint_evaluates_to_what_its_run_recorded(config, run):
  last = [r for r in recorded(run) if "test/top1" in r][-1]
  metrics = evaluate(config, run, "latest")
  assert metrics == last


def test_evaluating_leaves_what_a_run_is_writing_alone(config, run):
  being_written = run / "checkpoints" / "99.orbax-checkpoint-tmp"
  being_written.mkdir()
  evaluate(config, run, "latest")
  assert being_written.is_dir()
  being_written.rmdir()


def test_a_checkpoint_says_what_config_it_is_of(config, run):
  (about,) = run.glob("checkpoints/12/about/metadata")
  saved = json.loads(about.read_text())["config"]
  assert saved == json.loads(settings.complete(config).to_json())


def test_the_best_checkpoint_is_kept_and_found(config, run):
  records = [r for r in recorded(run) if "test/top1" in r]
  best = max(records, key=lambda r: (r["test/top1"], r["step"]))
  metrics = evaluate(config, run, "best")
  assert metrics["test/top1"] == best["test/top1"]


def test_the_command_prints_the_metrics_as_json(config, run, data_dir):
  command = Command(
      "experiments.evaluate",
      "--config=configs/quickstart.py:mini",
      f"--workdir={run}",
      f"--config.data_dir={data_dir}",
      "--config.batch_size=50",
      devices=2,
  )
  code, out, err = command.wait()
  assert code == 0, err
  found, expected = json.loads(out), evaluate(config, run, "latest")
  assert found["test/top1"] == expected["test/top1"]
  np.testing.assert_allclose(found["test/loss"], expected["test/loss"], 1e-5)


@pytest.mark.parametrize(
    "which, message", [("7", "not '7'"), ("newest", "not 'newest'")]
)
def test_a_checkpoint_that_is_not_there_is_named(config, run, which, message):
  with pytest.raises(UserError, match=message):
    evaluate(config, run, which)


def test_a_checkpoint_of_another_model_is_refused(config, run):
  with config.copy_and_resolve_references().unlocked() as other:
    other.model.encoder.num_latents = 11
  with pytest.raises(UserError, match="latents"):
    evaluate(other, run, "latest")
