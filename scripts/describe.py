"""Prints the shapes, parameters and FLOPs of a model by module.

    python -m scripts.describe --config=configs/X.py[:variant]
        [--devices=8,64 --device=h100 [--utilisation=0.4] [--json=FILE]
         [--programs=DIR]]

With --devices, it also prints an estimate of a training step on these numbers
of accelerators: memory, communication, attention implementations and time. The
estimate comes from the accelerator's compiler, which needs no accelerator, if
it is installed (extras tpu-compiler and cuda-compiler), or else from a CPU's
program. The command reads no data and computes nothing, so it works for any
size on any machine.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import json
import math
import pathlib
from typing import Any

from absl import flags
import rich.console
import rich.table
import rich.tree

from experiments.engine import command
from experiments.engine.build import build_network
from experiments.engine.build import BuiltNetwork
from experiments.engine.errors import UserError
from perceiver import flops
from perceiver import orders
from scripts.benchmarks import compilers
from scripts.benchmarks import scaling


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
  """The table of an example's arrays."""
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
  """The table of FLOPs of one example's forward pass.

  Model FLOPs are of the products as the papers write them, and those by which
  models and utilisation are compared. Attention computes fewer where another
  order of them is cheaper, and what does not depend on the example (latents,
  learned queries) is projected once for a batch: each further example takes
  fewer again.
  """
  parts, first = network.flops_by_part(), network.flops_by_part(None)
  both = network.flops_by_part(None, 2)
  columns = [
      parts,
      first,
      {part: both[part] - count for part, count in first.items()},
  ]
  total = sum(parts.values())
  table = rich.table.Table(
      "GFLOPs", "model", "", "computed", "further example", show_footer=True
  )
  table.columns[0].footer = "one example, forward"
  for column in table.columns[1:]:
    column.justify = "right"
  for column, counts in zip((1, 3, 4), columns, strict=True):
    table.columns[column].footer = giga(sum(counts.values()))
  for part, count in parts.items():
    computed, further = (giga(counts[part]) for counts in columns[1:])
    table.add_row(
        part, giga(count), percentage(count, total), computed, further
    )
  return table


def orders_table(network: BuiltNetwork) -> rich.table.Table:
  """The table of orders of products (`perceiver.orders`).

  GFLOPs are those of one call for one example, as written and as computed; a
  module in a loop is called many times.
  """
  table = rich.table.Table(
      "attention", "N × M", "heads", "scores", "result", "GFLOPs"
  )
  for column in table.columns[1:]:
    column.no_wrap = True
  for name, (sizes, order) in network.orders().items():
    written, computed = (
        2e-9 * orders.multiply_accumulates(each, sizes)
        for each in (orders.Order(), order)
    )
    table.add_row(
        name.removesuffix("/attention").removesuffix("/cross_attention"),
        f"{sizes.queries:,} × {sizes.keys:,}",
        str(sizes.heads),
        *order,
        f"{written:.4g} → {computed:.4g}",
    )
  return table


def giga(count: int) -> str:
  """Billions, to a million."""
  return f"{count / 1e9:,.3f}"


def shape_of(x: Any) -> str:
  """Sizes of the axes; "1" if there are none."""
  return " × ".join(map(str, x.shape)) or str(math.prod(x.shape))


def percentage(part: int, whole: int) -> str:
  """A fraction in percent; 0 if the whole is 0."""
  return f"{100 * part / max(whole, 1):.1f} %"


def attention_table(row: Mapping[str, Any]) -> rich.table.Table:
  """The attention implementations of one of `estimates`."""
  table = rich.table.Table(
      "attention", f"queries × keys of one of {row['devices']} devices"
  )
  for module, how in row["attention"].items():
    table.add_row(module.removesuffix("/attention"), how)
  return table


def estimates(
    config: Any,
    counts: list[int],
    device: str,
    utilisation: float,
    programs: pathlib.Path | None = None,
) -> Iterator[dict[str, Any]]:
  """`scaling.estimate` for each number of devices, and the "compiler".

  The programs' texts are kept in a folder, if there is one for them.

  Raises:
    UserError: if the device is not known, or a number of them does not divide
      the batch.
  """
  devices, compiler, missing = scaling.devices(device, counts)
  for count, on in devices.items():
    text = None if programs is None else programs / f"{count}_{device}.txt"
    found = compilers.measure(config, on, text)
    row = scaling.estimate(config, found, count, device, utilisation)
    yield row | {"compiler": compiler, "estimated_because": missing}


def main() -> None:
  """Prints all of it."""
  console = rich.console.Console(highlight=False, markup=False)
  if _COUNTS.value:
    if not all(count.isdigit() for count in _COUNTS.value):
      raise UserError(f"--devices={','.join(_COUNTS.value)} is not 8,64")
    counts = [int(count) for count in _COUNTS.value]
    device, utilisation = _DEVICE.value, _UTILISATION.value
    programs = pathlib.Path(_PROGRAMS.value) if _PROGRAMS.value else None
    if programs is not None:
      programs.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in estimates(
        command.config(), counts, device, utilisation, programs
    ):
      rows.append(row)
      if _JSON.value:  # Each may take minutes.
        text = json.dumps(rows, indent=2) + "\n"
        pathlib.Path(_JSON.value).write_text(text)
    console.print(
        scaling.table(rows, f"a training step on {device}s"),
        attention_table(rows[-1]),
        scaling.origin(rows[-1], utilisation),
    )
    return
  network = build_network(command.config())
  console.print(example_table(network))
  console.print(parameter_tree(network))
  console.print(flops_table(network))
  console.print(orders_table(network))


if __name__ == "__main__":
  _COUNTS = flags.DEFINE_list("devices", [], "numbers of accelerators")
  _DEVICE = flags.DEFINE_string(
      "device", "h100", f"one of {', '.join(scaling.ACCELERATORS)}"
  )
  _UTILISATION = flags.DEFINE_float(
      "utilisation",
      0.4,
      "assumed fraction of the peak rate, without a compiler's estimate",
  )
  _JSON = flags.DEFINE_string("json", None, "a file for the estimates")
  _PROGRAMS = flags.DEFINE_string(
      "programs", None, "a folder for the texts of the compiled programs"
  )
  command.run(main)
