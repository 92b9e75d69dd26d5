"""What the benchmark measures and says; not how fast anything is."""

from collections import Counter
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import flow
from configs import quickstart
from experiments.engine.errors import UserError
from scripts import benchmark
from scripts.benchmarks import cases
from scripts.benchmarks import costs
from scripts.benchmarks import ours
from scripts.benchmarks import peers
from scripts.benchmarks import products
from scripts.benchmarks import published
from scripts.benchmarks import theirs

MINI = {
    "mlm": ("mlm:tiny", None),
    "imagenet": ("imagenet:tiny", None),
    "imagenet_learned": ("imagenet:tiny", None),
    "imagenet_conv": ("imagenet:tiny", None),
    "kinetics": ("kinetics:tiny", {"video": 7, "audio": 3}),
    "flow": ("flow:tiny", None),
}


@pytest.fixture
def mini(monkeypatch):
  """Small models instead of the published ones."""
  monkeypatch.setattr(cases, "CONFIGS", MINI)
  monkeypatch.setattr(theirs, "MATRIX", 64)


# These take as long again and go the same way.
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("imagenet", "flow")
]


@pytest.mark.parametrize("model", ["mlm", "kinetics", *SLOW])
def test_a_case_is_run_forward_and_trained(mini, model):
  forward = ours.measure(model, "forward", 2)
  train = ours.measure(model, "train", 2)
  assert train["flops"] == 3 * forward["flops"]
  for found in (forward, train):
    assert len(found["seconds"]) == 2 and min(found["seconds"]) > 0
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


def test_reading_training_data_is_timed_by_itself(data_dir):
  config = quickstart.get_config("mini")
  config.data_dir = data_dir
  found = benchmark.measure_input(config.lock(), 0.1)
  assert found["examples"] > 0 and found["examples"] % 16 == 0
  for rate in ("examples_per_second", "examples_per_second_and_core"):
    assert found[rate] > 0


def test_memory_is_known_without_computing_and_for_any_shape():
  config = flow.get_config("tiny").lock()
  usual = benchmark.measure_memory(config, {})
  assert usual["step_temporary_bytes"] > usual["forward_temporary_bytes"] > 0
  large = benchmark.measure_memory(config, {"frames": (2, 50, 70, 3)})
  assert "step_temporary_bytes" not in large
  more = 4 * 2 * (50 * 70 - 14 * 22) * 3  # Of a batch, in bytes.
  before, after = (x["forward_argument_bytes"] for x in (usual, large))
  assert after - before == more
  # Tile by tile, what else is needed does not grow as the frames do.
  assert large["forward_temporary_bytes"] < 5 * usual["forward_temporary_bytes"]
  with pytest.raises(UserError, match=r"--shape: \['frame'\] are not of"):
    benchmark.measure_memory(config, {"frame": (2, 3)})


def test_a_step_of_training_changes_every_parameter_that_is_used(mini):
  case = cases.make("mlm")
  state, scalars = case.train_step()(case.state(), case.batch)
  assert np.isfinite(scalars["loss"]) and scalars["grad_norm"] > 0
  before, after = (
      x["processor/layers/self_attention/mlp/hidden"]["w"]
      for x in (case.model.params, state.model.params)
  )
  assert (np.asarray(before) != np.asarray(after)).mean() > 0.9


def test_a_chunk_of_a_video_is_as_many_points_as_are_asked_for(mini):
  batch = cases.make("kinetics", batch_size=2).batch
  assert batch["video_points"].shape == (2, 7)
  assert batch["audio_points"].tolist() == [[0, 1, 2]] * 2


def test_the_published_models_are_as_transformers_has_them():
  found = {name: peers.their_config(name) for name in ("mlm", "flow")}
  assert found["mlm"]["d_latents"] == 1280
  assert found["flow"]["train_size"] == [368, 496]
  assert {x["hidden_act"] for x in found.values()} == {"gelu"}


def test_a_row_has_ratios_of_rounds_and_what_is_below_its_target():
  def run(seconds, peak):
    return {
        "seconds": [seconds, 9.0, seconds],  # A median forgives one.
        "peak_bytes": peak,
        "product_flops_per_second": 100.0,
        "flops": 70,
        "compile_seconds": 1.0,
        "products_seconds": 0.25,
        "versions": {},
    }

  runs = [(run(1.0, 6), run(2.0, 10)), (run(1.0, 5), run(1.5, 11))]
  row = peers.summary(peers.Work("mlm", "train", 3, 1.8, 0.6, 0.5), runs)
  assert (row["ratio"], row["ratio_range"]) == (1.75, [1.5, 2.0])
  assert row["of_products"] == pytest.approx(0.7)
  assert row["memory"] == 6 / 11
  assert row["ratio_of_products_alone"] == 1.75 / 0.25
  assert row["below_target"] == ["ratio", "memory"]
  row = peers.summary(peers.Work("mlm", "train", 3, 1.7, 0.6, 0.6), runs)
  assert row["below_target"] == []


def test_what_is_installed_for_the_peers_is_the_extra_bench():
  names = sorted(r.partition(">")[0] for r in peers.requirements())
  assert names == ["torch", "transformers"]


def test_what_fails_over_there_is_said():
  with pytest.raises(peers.UserError, match="failed: .*No such file"):
    peers.run(["python", "-c", "open('nothing')"])


def test_the_best_batch_is_found_and_the_largest_is_named(monkeypatch):
  shares = {1: 0.2, 2: 0.5, 4: 0.4}  # 8 does not fit.

  def in_process(model, size):
    return size in shares and {
        "batch_size": size,
        "utilisation": shares[size],
        "seconds": 1.0,
        "peak": "",
        "peak_bytes": 1,
    }

  monkeypatch.setattr(published, "in_process", in_process)
  (row,) = published.measure(["flow"], 64, None, lambda line: None)
  assert (row["batch_size"], row["largest_batch"]) == (2, 4)
  assert row["goal"] == 0.4
  (row,) = published.measure(["mlm"], 1, None, lambda line: None)
  assert (row["batch_size"], row["goal"]) == (1, 0.5)


def test_a_step_is_measured_in_bfloat16_and_shown(mini):
  row = published.step("mlm", 3)
  assert row["batch_size"] == 3 and row["utilisation"] > 0
  assert len(row["attention"]) == 3
  row |= {"goal": 0.5, "largest_batch": 3}
  assert published.table([row]).row_count == 1


def test_costs_that_are_linear_are_found_to_be(tmp_path):
  curve = costs.fitted([1, 2, 4, 8], [3, 5, 9, 17], 1)
  np.testing.assert_allclose(curve.coefficients, [2, 1])
  assert curve.r_squared == pytest.approx(1)
  compiling = {"stacked": [1.0, 1.0], "unrolled": [2.0, 5.0]}
  costs.draw(dict.fromkeys("MONL", curve), compiling, tmp_path / "costs.png")
  assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_a_gradient_is_timed():
  sizes = costs.Sizes(M=17, O=13, N=7, L=2)
  assert costs.gradient_seconds(sizes) > 0


def test_unrolled_and_stacked_layers_compute_gradients_of_one_size():
  sizes = costs.Sizes(M=17, O=13, N=7, L=2)
  counts = [
      sum(x.size for x in jax.tree.leaves(costs.compiled(sizes, unrolled)[0]()))
      for unrolled in (False, True)
  ]
  assert counts[0] == counts[1]


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
    found = theirs.measure(str(file), "train", 2)
    assert len(found["seconds"]) == 2


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "--config=configs/FILE.py[:variant], --peers"),
        (["--peers", "--models=gpt"], "--models=gpt: not in ["),
    ],
)
def test_one_line_says_what_is_wrong(in_fork, args, message):
  code, _, err = in_fork("scripts.benchmark", *args)
  assert code == 2 and message in err and len(err.splitlines()) == 1
