"""What a model is made of, in print."""

import importlib
import io
import json

import pytest
import rich.console

from experiments.engine import settings
from experiments.engine.build import build_network
from experiments.engine.errors import UserError
from scripts import describe
from scripts.benchmarks import compilers
from scripts.benchmarks import scaling
from tests.conftest import Command


def printed(what):
  console = rich.console.Console(file=io.StringIO(), width=80, markup=False)
  console.print(what)
  return console.file.getvalue()


@pytest.fixture(scope="module")
def network():
  """A small model of images."""
  config = importlib.import_module("configs.imagenet").get_config("tiny")
  return build_network(config)


def test_parameters_are_modules_in_modules():
  params = {"a/b": {"w": 1}, "a": {"x": 2}, "c": {"b": 3}}
  assert describe.nested(params) == {
      "a": {"b": {"w": 1}, "x": 2},
      "c": {"b": 3},
  }


def test_the_example_has_shapes(network):
  assert "14 × 14 × 3" in printed(describe.example_table(network))


def test_counts_of_top_level_modules_sum_to_the_whole(network):
  tree = describe.parameter_tree(network)
  assert tree.label == "parameters: 7,266"
  labels = [str(branch.label) for branch in tree.children]
  counts = [int(x.split()[1].replace(",", "")) for x in labels]
  assert sum(counts) == 7266
  text = printed(tree)
  assert "latents: 112" in text and "array 7 × 16" in text
  assert "w 2 × 16 × 16" in text  # Of both layers.


def test_flops_of_the_parts_sum_to_the_whole(network):
  text = printed(describe.flops_table(network))
  for part, count in network.flops_by_part().items():
    assert f"{part} " in text and describe.giga(count) in text
  assert describe.giga(network.flops_per_example()) in text


def test_the_order_of_products_of_each_attention_is_said():
  config = importlib.import_module("configs.imagenet").get_config("fourier")
  text = printed(describe.orders_table(build_network(config)))
  (encoder,) = [x for x in text.splitlines() if "50,176" in x]
  cells = [cell.strip() for cell in encoder.split("│")[1:-1]]
  assert cells[0] == "encoder" and cells[3:5] == ["on_queries", "on_result"]
  assert cells[5] == "41.04 → 27.51"


def test_the_command_describes_any_size_with_changes():
  args = ["--config=configs/imagenet.py:repeated"]
  changes = ["--config.model.processor.num_blocks=0"]
  code, out, err = Command("scripts.describe", *args, *changes).wait()
  assert code == 0, err
  assert "parameters: 7,102,078" in out and "345.500" in out


def test_a_typo_is_one_line(in_fork):
  args = ["--config=configs/imagenet.py:tiny", "--config.model.encoder.num=3"]
  code, out, err = in_fork("scripts.describe", *args)
  assert (code, out) == (2, "")
  assert len(err.splitlines()) == 1 and "num" in err


@pytest.mark.slow
@pytest.mark.skipif(
    not compilers.why_not("a100"), reason="GPUs have a compiler here"
)
def test_without_a_compiler_a_step_is_estimated_and_that_is_said(tmp_path):
  path = tmp_path / "estimates.json"
  args = ("--config=configs/imagenet.py:tiny", "--devices=1,4", "--device=a100")
  code, out, err = Command("scripts.describe", *args, f"--json={path}").wait()
  assert code == 0, err
  assert "a training step on a100s" in out
  assert "Estimated from a CPU's program" in out and "cuda-compiler" in out
  assert "encoder" in out and "× 196" in out  # What computes its attention.
  one, four = json.loads(path.read_text())
  assert (one["devices"], four["devices"]) == (1, 4)
  assert one["sent_bytes"] == 0 < four["sent_bytes"]
  assert four["state_bytes"] <= one["state_bytes"] < one["needed_bytes"]
  assert one["memory_bytes"] == 80 * 10**9
  assert one["compute_seconds"] == pytest.approx(4 * four["compute_seconds"])
  # Three forward passes of a batch, at two fifths of an A100's TF32 rate.
  network = build_network(
      importlib.import_module("configs.imagenet").get_config("tiny")
  )
  products = 3 * network.flops_per_example() * one["batch_size"]
  assert one["compute_seconds"] == pytest.approx(products / (0.4 * 156e12))
  assert one["utilisation"] == pytest.approx(0.4)


FOUND = {"needed_bytes": 3 * 10**9, "sent_bytes": 0, "beside_bytes": 0}


@pytest.mark.parametrize(
    ("device", "devices", "more", "bottleneck", "sending", "waiting"),
    [
        ("h100", 8, {}, "products", 0, 0),
        ("h100", 8, {"sent_bytes": 9 * 10**10}, "interconnect", 0.2, 0.2),
        ("h100", 16, {"sent_bytes": 10**10}, "interconnect", 0.2, 0.2),
        (
            "h100",
            16,
            {"sent_bytes": 10**10, "beside_bytes": 10**10},
            "interconnect",
            0.2,
            0.2,
        ),
        # Beside longer computing, sending takes no time.
        (
            "tpu_v5e",
            4,
            {
                "sent_bytes": 10**9,
                "beside_bytes": 9 * 10**8,
                "parts": {"products": 0.3, "rest": 0.2},
            },
            "products",
            0.01,
            0.501,
        ),
        ("h100", 8, {"needed_bytes": 81 * 10**9}, "memory", 0, 0),
        ("tpu_v5e", 8, {"needed_bytes": 10**9, "fits": False}, "memory", 0, 0),
    ],
)
def test_what_limits_a_step_is_named(
    device, devices, more, bottleneck, sending, waiting
):
  config = settings.load("imagenet:tiny", {"compute_dtype": "bfloat16"})
  row = scaling.estimate(config, FOUND | more, devices, device, 0.5)
  assert row["bottleneck"] == bottleneck
  assert row["sending_seconds"] == pytest.approx(sending)
  assert row["step_seconds"] == pytest.approx(waiting, abs=1e-4)
  steps = config.train_examples // config.batch_size
  assert row["run_days"] == pytest.approx(row["step_seconds"] * steps / 86400)
  assert len(scaling.cells(row)) == len(scaling.COLUMNS)


def test_what_a_compiler_refuses_has_its_memory_alone():
  config = settings.load("imagenet:tiny", {"compute_dtype": "bfloat16"})
  found = {"attention": {}, "fits": False, "needed_bytes": 3 * 2**34}
  row = scaling.estimate(config, found, 8, "tpu_v5e", 0.5)
  cells = scaling.cells(row)
  assert cells[:2] == ["8", "48.00 of 14.90 GiB"] and cells[-1] == "memory"
  assert len(cells) == len(scaling.COLUMNS)


def test_an_unknown_accelerator_or_rate_is_named():
  config = importlib.import_module("configs.imagenet").get_config("tiny")
  with pytest.raises(UserError, match="--device=abacus is not one of"):
    scaling.devices("abacus", [8])
  with pytest.raises(UserError, match="tpu_v4 in float32 is not known"):
    scaling.estimate(config, FOUND, 8, "tpu_v4", 0.5)
