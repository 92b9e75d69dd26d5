"""What the comparison with transformers measures and says; not who wins."""

from collections import Counter
import json
import sys

import jax
import jax.numpy as jnp
import pytest

from scripts.benchmarks import cases
from scripts.benchmarks import published
from scripts.benchmarks import timing
from tests.conftest import Command
from tools import compare_transformers as peers
from tools.comparisons import ours
from tools.comparisons import products
from tools.comparisons import theirs

MINI = {
    "mlm": ("mlm:tiny", None),
    "imagenet": ("imagenet:tiny", None),
    "kinetics": ("kinetics:tiny", {"video": 7, "audio": 3}),
    "flow": ("flow:tiny", None),
}


@pytest.fixture
def mini(monkeypatch):
  """Small models instead of the published ones."""
  monkeypatch.setattr(cases, "CONFIGS", MINI)
  monkeypatch.setattr(timing, "MATRIX", 64)


# These take as long again and go the same way.
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("imagenet", "flow")
]


@pytest.mark.parametrize("model", ["mlm", "kinetics", *SLOW])
def test_a_case_is_run_forward_and_trained(mini, model):
  results = []
  for what in ("forward", "train"):
    call, result = ours.prepare(model, what, "products=written")
    call()
    call()  # The first one's state was overwritten.
    results.append(result())
  forward, train = results
  assert train["flops"] == 3 * forward["flops"]
  for found in results:
    assert found["product_flops_per_second"] > 0
    assert found["peak_bytes"] > 2**20
    assert found["products_seconds"] > 0


def test_products_are_counted_as_often_as_they_run():
  def repeat(x, w):
    x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=7)
    return x.T @ x

  x, w = jnp.ones([3, 5]), jnp.ones([5, 5])
  found = products.products(jax.grad(lambda x: repeat(x, w).sum()), x)
  shapes = Counter()
  for product, times in found.items():
    shapes[product.shapes] += times
  # Backward, the product with x.T has two more, that with w one: w is given.
  assert shapes[((3, 5), (5, 5))] >= 7 + 7 and shapes.total() == 7 + 1 + 7 + 2
  assert products.seconds(found) > 0


def test_the_published_models_are_as_transformers_has_them():
  found = {name: peers.their_config(name) for name in ("mlm", "flow")}
  assert found["mlm"]["d_latents"] == 1280
  assert found["flow"]["train_size"] == [368, 496]
  assert {x["hidden_act"] for x in found.values()} == {"gelu"}


def test_a_row_has_the_ratio_of_each_pair_and_what_is_below_its_target():
  def run(seconds, peak):
    return {
        "seconds": seconds,
        "peak_bytes": peak,
        "product_flops_per_second": 100.0,
        "products_seconds": 0.25,
        "versions": {},
    }

  # The machine's speed halves in between.
  runs = run([1.0, 1.0, 2.0], 6), run([2.0, 1.5, 3.5], 11)
  row = peers.summary(peers.Work("mlm", "train", 3, 1.8, 0.5), "eager", *runs)
  assert row["ratios"] == [2.0, 1.5, 1.75]
  assert (row["ratio"], row["ratio_range"]) == (1.75, [1.5, 2.0])
  assert row["share_of_products"] == 0.25
  assert row["memory"] == 6 / 11
  assert row["ratio_of_products_alone"] == 2 / 0.25
  assert row["below_target"] == ["ratio", "memory"]
  row = peers.summary(peers.Work("mlm", "train", 3, 1.7, 0.6), "eager", *runs)
  assert row["below_target"] == []
  assert peers.table([row]).row_count == 1


SERVER = """
import pathlib
from scripts.benchmarks import timing
def call():
  with open({file!r}, "a") as file:
    file.write({name!r})
  print("a line of a library")
timing.serve(call, lambda: {{"name": {name!r}}})
"""


def test_calls_of_live_processes_take_turns(tmp_path):
  file = str(tmp_path / "calls")
  commands = [
      [sys.executable, "-c", SERVER.format(file=file, name=name)]
      for name in "AB"
  ]
  results = peers.in_turns(commands, 3)
  # One call each to begin with.
  assert (tmp_path / "calls").read_text() == "AB" + "AB" * 3
  assert [result["name"] for result in results] == ["A", "B"]
  for result in results:
    assert len(result["seconds"]) == 3 and min(result["seconds"]) > 0


def test_what_is_installed_for_the_peers_is_the_extra_bench():
  names = sorted(r.partition(">")[0] for r in peers.requirements())
  assert names == ["torch", "transformers"]


def test_what_fails_over_there_is_said():
  with pytest.raises(peers.UserError, match="failed: .*No such file"):
    peers.in_turns([[sys.executable, "-c", "open('nothing')"]], 1)


def test_transformers_is_measured(tmp_path):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  for model in ("mlm", "imagenet"):
    config = peers.their_config(model) | {
        "num_latents": 7,
        "d_latents": 64,
        "num_blocks": 1,
        "num_self_attends_per_block": 1,
        "max_position_embeddings": 16,
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    call, result = theirs.prepare(str(file), "train")
    call()
    assert result()["peak_bytes"] > 2**20


def test_on_an_accelerator_theirs_runs_at_our_best_batch(monkeypatch, tmp_path):
  rows = [{"batch_size": 4, "seconds": 1.0}, {"batch_size": 2, "seconds": 1.0}]
  best = iter(rows)
  monkeypatch.setattr(published, "measure", lambda *args: [next(best)])
  asked = []

  def in_turns(commands, calls):
    (args,) = commands
    asked.append(args)
    if "--batch=2" in args:
      raise peers.UserError("out of memory")
    return [{"seconds": [0.5, 0.4, 9.0]}]

  monkeypatch.setattr(peers, "in_turns", in_turns)
  (tmp_path / "bin").mkdir()
  (tmp_path / "bin" / "python").touch()  # So that nothing is installed.
  found = peers.measure_on_accelerator(["mlm", "flow"], 8, tmp_path, print)
  assert [args[-1] for args in asked] == ["--batch=4", "--batch=2"]
  assert [peers.their_rate(row) for row in found] == ["8.0", "–"]
  assert found[1]["theirs"] == {"error": "out of memory"}


def test_theirs_starts_where_only_pythons_own_library_is():
  blocked = "jax", "numpy", "haiku", "experiments", "perceiver"
  code = f"import sys; sys.modules.update(dict.fromkeys({blocked}))"
  code += f"; import {peers.THEIRS} as theirs"
  code += "; theirs.timing.serve(lambda: None, dict)"
  (found,) = peers.in_turns([[sys.executable, "-c", code]], 1)
  assert len(found["seconds"]) == 1


def test_a_model_that_is_not_known_is_named():
  args = ["--models=gpt"]
  code, _, err = Command("tools.compare_transformers", *args).wait()
  assert code == 2 and "--models=gpt: not in [" in err
  assert len(err.splitlines()) == 1


def test_a_mode_that_is_not_known_is_named():
  args = ["--beside=compield"]
  code, _, err = Command("tools.compare_transformers", *args).wait()
  assert code == 2 and "--beside=compield: neither of eager, compiled" in err
  assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_ours_takes_turns_with_itself_changed(tmp_path):
  args = ["--models=mlm", "--work=forward", "--calls=1"]
  args += ["--beside=products=written", f"--json={tmp_path / 'found.json'}"]
  code, _, err = Command("tools.compare_transformers", *args).wait()
  assert code == 0, err
  (row,) = json.loads((tmp_path / "found.json").read_text())["results"]
  assert row["mode"] == "products=written" and len(row["ratios"]) == 1
