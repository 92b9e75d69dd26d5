"""What a model is made of, in print."""

import importlib
import io

from conftest import Command
import pytest
import rich.console

from experiments.build import build_network
from scripts import describe


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
    assert f"{part} " in text and f"{count:,}" in text
  assert f"{network.flops_per_example():,}" in text


def test_the_command_describes_any_size_with_changes():
  args = ["--config=configs/imagenet.py:repeated"]
  changes = ["--config.model.processor.num_blocks=0"]
  code, out, err = Command("scripts.describe", *args, *changes).wait()
  assert code == 0, err
  assert "parameters: 7,102,078" in out and "345,4" in out


def test_a_typo_is_one_line():
  args = ["--config=configs/imagenet.py:tiny", "--config.model.encoder.num=3"]
  code, out, err = Command("scripts.describe", *args).wait()
  assert (code, out) == (2, "")
  assert len(err.splitlines()) == 1 and "num" in err
