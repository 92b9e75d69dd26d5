"""What the benchmark measures and says; not how fast anything is."""

import jax
import numpy as np
import pytest

from configs import flow
from configs import quickstart
from experiments.engine.errors import UserError
from scripts import benchmark
from scripts.benchmarks import cases
from scripts.benchmarks import costs
from scripts.benchmarks import published
from scripts.benchmarks import timing

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
  monkeypatch.setattr(timing, "MATRIX", 64)


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
  (row,) = published.measure(["flow"], 64, lambda line: None)
  assert (row["batch_size"], row["largest_batch"]) == (2, 4)
  assert row["goal"] == 0.4
  (row,) = published.measure(["mlm"], 1, lambda line: None)
  assert (row["batch_size"], row["goal"]) == (1, 0.5)


def test_a_step_is_measured_in_bfloat16_and_shown(mini):
  row = published.step("mlm", 3)
  assert row["batch_size"] == 3 and row["utilisation"] > 0
  assert len(row["attention"]) == 3
  row |= {"goal": 0.5, "largest_batch": 3}
  table = published.table([row], {"model again": lambda row: row["model"]})
  assert table.row_count == 1 and list(table.columns[-1].cells) == ["mlm"]


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


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "--config=configs/FILE.py[:variant], --costs"),
        (["--published", "--models=gpt"], "--models=gpt: not in ["),
    ],
)
def test_one_line_says_what_is_wrong(in_fork, args, message):
  code, _, err = in_fork("scripts.benchmark", *args)
  assert code == 2 and message in err and len(err.splitlines()) == 1
