"""Evaluation is exact, and a checkpoint evaluates to what its run recorded.

As a module of its own, it prints what `Rows` finds on the devices there are.
"""

import dataclasses
import functools
import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from experiments.data import pipeline
from experiments.engine import settings
from experiments.engine import sharding
from experiments.engine import state as state_lib
from experiments.engine import step as step_lib
from experiments.engine import weights
from experiments.engine.build import load
from experiments.engine.errors import UserError
from experiments.evaluate import Evaluate
from experiments.evaluate import evaluate
from experiments.evaluate import measured_and_drawn
from experiments.task import Eval
from experiments.train import train as train_here
from scripts.benchmarks import hlo
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


@pytest.fixture(scope="module")
def with_ema(config):
  with config.copy_and_resolve_references().unlocked() as changed:
    changed.ema, changed.best = 0.5, "test_ema/top1"
  return changed


@pytest.fixture(scope="module")
def averaged(with_ema, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("averaged")
  train_here(with_ema, workdir)
  return workdir


@pytest.mark.slow
def test_the_batch_size_changes_no_metric(config):
  task = load(config)
  net = state_lib.make_net(task.forward, "float32")
  model = state_lib.initial_model(net, task.example, seed=0)
  found = []
  for batch_size in (7, 300):
    with config.copy_and_resolve_references().unlocked() as changed:
      changed.batch_size = batch_size
    evals = load(changed).evals
    metrics, _ = Evaluate(evals, net, sharding.Layout(sharding.make_mesh()))(
        model
    )
    found.append(metrics)
  for metrics in found[1:]:
    assert metrics["test/top1"] == found[0]["test/top1"]
    np.testing.assert_allclose(
        metrics["test/loss"], found[0]["test/loss"], rtol=1e-6
    )


class Numbers:
  """Examples that are their own numbers."""

  def __init__(self):
    self.read = []

  def __len__(self):
    return 13

  def __getitem__(self, i):
    self.read.append(i)
    return {"i": np.int32(i)}


class Rows:
  """An eval of large outputs, and what is drawn of them."""

  WIDTH = 1000  # Numbers that the network says of each example.

  def __init__(self, draw_rows, batch_size=8):
    self.numbers, self.drawn = Numbers(), []
    self.eval = Eval(
        lambda shard: pipeline.evaluation(
            self.numbers, [], batch_size=batch_size, shard=shard
        ),
        measure=lambda outputs, batch: {"sum": outputs["logits"].sum(-1)},
        draw=self.draw,
        draw_rows=draw_rows,
    )
    self.net = state_lib.make_net(self.forward, "float32")
    example = {"i": jax.ShapeDtypeStruct((), "int32")}
    self.model = state_lib.initial_model(self.net, example, seed=0)
    self.layout = sharding.Layout(sharding.make_mesh())

  def forward(self, batch, is_training):
    # Not before it is spread is it large.
    wide = jnp.arange(self.WIDTH) * batch["i"][:, None]
    return {"logits": wide.astype(jnp.float32)}

  def draw(self, outputs, batch):
    assert outputs["logits"].shape == (len(batch["i"]), self.WIDTH)
    np.testing.assert_array_equal(outputs["logits"][:, 1], batch["i"])
    self.drawn += batch["i"][batch["real"]].tolist()
    return {"rows": "drawn"}

  def run(self):
    evaluate = Evaluate({"n": self.eval}, self.net, self.layout)
    metrics, pictures = evaluate(self.model)
    assert pictures == {"n-rows": "drawn"}
    assert metrics["n/sum"] == 6 * self.WIDTH * (self.WIDTH - 1) / 2
    return self.drawn

  def lowered(self):
    """The program that is run on every batch."""
    step = step_lib.compile_eval_step(
        self.net,
        functools.partial(measured_and_drawn, self.eval),
        self.layout,
    )
    batch = next(iter(self.eval.data(pipeline.Shard())))
    return step.lower(self.model, sharding.spread(batch, self.layout.mesh))


@pytest.mark.parametrize(
    ("rows", "batch_size", "expected"),
    [
        (slice(16), 8, range(8)),
        (slice(3), 8, range(3)),
        (slice(None, None, 3), 8, (0, 3, 6)),
        (slice(16), 13, range(13)),
        (slice(16), 20, range(13)),  # The other rows are not real.
    ],
)
def test_rows_of_the_first_batch_are_drawn_and_data_is_read_once(
    rows, batch_size, expected
):
  eval_of = Rows(rows, batch_size)
  assert eval_of.run() == list(expected)
  assert sorted(eval_of.numbers.read) == list(range(13))


def test_no_more_than_the_rows_that_are_drawn_leaves_the_devices():
  _, _, (outputs, batch) = Rows(slice(3)).lowered().out_info
  assert outputs["logits"].shape == (3, Rows.WIDTH)
  assert batch["i"].shape == (3,)
  program = Rows(slice(3))
  program.eval = Eval(program.eval.data, program.eval.measure)
  assert program.lowered().out_info[2] is None


def test_the_same_rows_are_drawn_on_several_devices():
  command = Command("tests.experiments.evaluate_test", devices=4)
  code, out, err = command.wait()
  assert code == 0, err
  found = json.loads(out)
  assert found["drawn"] == Rows(slice(1, 9, 3), 64).run() == [1, 4, 7]
  # Far less than the batch's outputs.
  assert 0 < found["exchanged"] < 8 * Rows.WIDTH * 4


def test_samples_are_of_the_model_that_is_evaluated():
  rows = Rows(slice(3))
  model = rows.model._replace(params={"layer": {"w": jnp.arange(3.0)}})
  sample = lambda model: {"made": f"{model.params['layer']['w']}"}
  with_samples = dataclasses.replace(rows.eval, sample=sample)
  run = Evaluate({"n": with_samples}, rows.net, rows.layout)
  _, figures = run(model, "_ema")
  assert figures == {"n_ema-rows": "drawn", "n_ema-made": "[0. 1. 2.]"}


def test_padding_does_not_count_and_summaries_see_every_example_in_order():
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
  metrics, _ = Evaluate(
      {"n": number}, net, sharding.Layout(sharding.make_mesh())
  )(model)
  assert metrics == {"n/sum": 78.0}
  assert seen[0].tolist() == list(range(13))


def test_a_checkpoint_evaluates_to_what_its_run_recorded(config, run):
  last = [r for r in recorded(run) if "test/top1" in r][-1]
  metrics = evaluate(config, run, "latest")
  assert metrics == last


@pytest.mark.slow
def test_averaged_parameters_are_evaluated_and_saved_beside(
    config, run, with_ema, averaged
):
  plain = [r for r in recorded(run) if "test/top1" in r][-1]
  last = [r for r in recorded(averaged) if "test/top1" in r][-1]
  assert {k: v for k, v in last.items() if "_ema" not in k} == plain
  found = evaluate(with_ema, averaged, "latest:ema")
  assert found == {
      k.replace("_ema", ""): v
      for k, v in last.items()
      if "_ema" in k or k == "step"
  }
  assert found["test/loss"] != plain["test/loss"]
  assert (averaged / "figures" / "test_ema-predictions-12.png").is_file()
  read = weights.load(averaged, checkpoint="latest:ema")
  newest = weights.load(averaged)
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(read.model.params, newest.model.params)
  with pytest.raises(UserError, match="12 has no average of the parameters"):
    evaluate(config, run, "latest:ema")
  with pytest.raises(UserError, match="latest:mean: only :ema is possible"):
    evaluate(config, run, "latest:mean")


@pytest.mark.slow
def test_a_run_with_an_average_goes_on_as_if_it_had_not_been_stopped(
    with_ema, averaged, tmp_path
):
  shutil.copytree(averaged, tmp_path, dirs_exist_ok=True)
  shutil.rmtree(tmp_path / "checkpoints" / "12")
  train_here(with_ema, tmp_path)
  starts = (tmp_path / "starts.jsonl").read_text().splitlines()
  assert 0 < json.loads(starts[-1])["from_step"] < 12
  whole, continued = (
      [r for r in recorded(folder) if "test/top1" in r]
      for folder in (averaged, tmp_path)
  )
  assert continued == whole


def test_a_run_of_a_version_without_averages_goes_on(config, run, tmp_path):
  shutil.copytree(run, tmp_path, dirs_exist_ok=True)
  lacking = list(settings.ADDED)
  for file in (
      tmp_path / "config.json",
      tmp_path / "checkpoints/12/about/metadata",
  ):
    content = json.loads(file.read_text())
    written = content.get("config", content)
    for path in lacking:
      *sections, key = path.split(".")
      del functools.reduce(dict.__getitem__, sections, written)[key]
    file.write_text(json.dumps(content))
  checkpoint = tmp_path / "checkpoints/12"
  assert not (checkpoint / "ema").exists()
  with config.copy_and_resolve_references().unlocked() as changed:
    changed.run.log_every = 1
  train_here(changed, tmp_path)  # Finds that all is done.
  starts = (tmp_path / "starts.jsonl").read_text().splitlines()
  assert json.loads(starts[-1])["from_step"] == 12


@pytest.mark.slow
def test_a_run_that_is_made_longer_equals_one_that_was_as_long(
    config, tmp_path, capsys
):
  def trained(folder, steps, **changes):
    with config.copy_and_resolve_references().unlocked() as changed:
      changed.train_examples = 16 * steps
      changed.schedule = {"name": "constant", "peak": 1e-3}
      changed.update_from_flattened_dict(changes)
    train_here(changed, folder)
    return [
        {k: v for k, v in record.items() if not k.startswith("speed/")}
        for record in recorded(folder)
    ]

  whole = trained(tmp_path / "whole", 12)
  longer = tmp_path / "longer"
  assert trained(longer, 6) == whole[: len(whole) // 2]
  assert trained(longer, 12) == whole
  told = capsys.readouterr().out
  assert "longer than before: train_examples is 96 there and 192 here" in told
  starts = [
      json.loads(line)
      for line in (longer / "starts.jsonl").read_text().splitlines()
  ]
  assert [(s["from_step"], s["train_examples"]) for s in starts] == [
      (0, 96),
      (6, 192),
  ]
  with pytest.raises(UserError, match="train_examples is 192 there and 96 her"):
    trained(longer, 6)
  with pytest.raises(UserError, match="schedule.peak is 0.001 there and 0.002"):
    trained(longer, 12, **{"schedule.peak": 2e-3})
  with pytest.raises(UserError, match=r"config: seed is 0 there and 1 here\."):
    trained(longer, 13, seed=1)
  rates = trained(longer, 13, **{"schedule.peak": 2e-3})
  assert [r["train/learning_rate"] for r in rates if "train/loss" in r] == [
      *[np.float32(1e-3)] * 12,
      np.float32(2e-3),
  ]
  assert starts[1]["schedule"] == {"name": "constant", "peak": 1e-3}


def test_a_failed_evaluation_loses_no_step_and_is_made_up_for(
    config, run, tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(Evaluate, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      train_here(config, tmp_path)
  assert (tmp_path / "checkpoints" / "6").is_dir()
  assert not any("test/top1" in record for record in recorded(tmp_path))
  train_here(config, tmp_path)
  mended, whole = (
      [record for record in recorded(folder) if "test/top1" in record]
      for folder in (tmp_path, run)
  )
  assert mended == whole
  assert evaluate(config, tmp_path, "best") == evaluate(config, run, "best")


def test_what_an_evaluation_cannot_compute_stops_a_run_before_it_begins(
    config, tmp_path, monkeypatch
):
  def scaled(example):
    return {"image": example["image"].astype(np.float32)}

  monkeypatch.setattr("experiments.digits.scaled", scaled)
  with pytest.raises(UserError, match="eval 'test': label"):
    train_here(config, tmp_path / "run")
  assert not (tmp_path / "run" / "metrics.jsonl").exists()


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
      "--json=-",
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


if __name__ == "__main__":
  _rows = Rows(slice(1, 9, 3), 64)
  _sent = hlo.exchanged(_rows.lowered().compile().as_text())
  print(json.dumps({"drawn": _rows.run(), "exchanged": sum(_sent.values())}))
