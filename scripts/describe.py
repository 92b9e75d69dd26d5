"""Prints what a model is made of: shapes, parameters, FLOPs.

    python -m scripts.describe --config=configs/X.py[:variant]

Nothing is computed and no data is read, so that any size can be described
anywhere.
"""

from collections.abc import Mapping
import math
from typing import Any

import rich.console
import rich.table
import rich.tree

from experiments import command
from experiments.build import build_network
from experiments.build import BuiltNetwork
from perceiver import flops


def nested(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """Parameters as modules in modules; Haiku has each under its whole path."""
  tree: dict[str, Any] = {}
  for path, arrays in params.items():
    module = tree
    for name in path.split("/"):
      module = module.setdefault(name, {})
    module.update(arrays)
  return tree


def example_table(network: BuiltNetwork) -> rich.table.Table:
  """What one example is made of."""
  table = rich.table.Table("one example", "shape", "type")
  for name, x in network.example.items():
    table.add_row(name, shape_of(x), str(x.dtype))
  return table


def parameter_tree(network: BuiltNetwork) -> rich.tree.Tree:
  """Modules with the count of their parameters, down to single arrays."""
  total = network.parameters()
  tree = rich.tree.Tree(f"parameters: {total:,}")

  def grow(branch, modules):
    for name, inside in modules.items():
      if isinstance(inside, Mapping):
        count = flops.count_parameters(inside)
        label = f"{name}: {count:,}"
        if branch is tree:
          label += f" ({percentage(count, total)})"
        grow(branch.add(label), inside)
      else:
        branch.add(f"{name} {shape_of(inside)}")

  grow(tree, nested(network.like.params))
  return tree


def flops_table(network: BuiltNetwork) -> rich.table.Table:
  """Where the FLOPs of one example's forward pass go."""
  parts = network.flops_by_part()
  total = sum(parts.values())
  table = rich.table.Table("part", "FLOPs", "", show_footer=True)
  table.columns[0].footer = "forward pass of one example"
  table.columns[1].footer = f"{total:,}"
  table.columns[1].justify = table.columns[2].justify = "right"
  for part, count in parts.items():
    table.add_row(part, f"{count:,}", percentage(count, total))
  return table


def shape_of(x: Any) -> str:
  """Sizes of the axes; "1" if there are none."""
  return " × ".join(map(str, x.shape)) or str(math.prod(x.shape))


def percentage(part: int, whole: int) -> str:
  """A part of a whole; of nothing, nothing."""
  return f"{100 * part / max(whole, 1):.1f} %"


def main() -> None:
  """Prints all of it."""
  network = build_network(command.config())
  console = rich.console.Console(highlight=False, markup=False)
  console.print(example_table(network))
  console.print(parameter_tree(network))
  console.print(flops_table(network))


if __name__ == "__main__":
  command.run(main)
