"""Prints what a TPU's compiler estimates of training steps on one chip.

    python -m tools.estimate_tpu [--steps=imagenet:fourier=16,mlm:bytes=8]
        [--topology=v5e:2x2] [--set=PATH=VALUE ...] [--json=FILE] [--attention]

With --attention: what computes each module's attention there; that compiles
nothing. Needs the package libtpu, and no TPU. Each step takes one to five
minutes of a core and up to 3 GiB.
"""

from collections.abc import Mapping
import functools
import json
import pathlib
import re
import time
from typing import Any

from absl import flags
import jax

from experiments.engine import build
from experiments.engine import command
from experiments.engine import settings
from experiments.engine import sharding
from experiments.engine.errors import UserError
from scripts.benchmarks import compilers

# A chip's part of the paper's batch on 64.
STEPS = (
    "imagenet:fourier=16",
    "mlm:bytes=8",
    "flow:patches=4",
    "kinetics:latents_784=8",
)


def estimate_step(
    name: str, batch_size: int, changes: Mapping[str, str], chip: Any
) -> dict[str, Any]:
  """A config's training step in bfloat16, on one chip.

  Returns:
    seconds, and of which parts (`compilers.seconds`), bytes at the peak, what
    attention takes, and how long compiling took; or what it would need of
    memory if it does not fit.
  """
  fixed = {"compute_dtype": "bfloat16", "batch_size": batch_size}
  config = settings.changed(settings.load(name, fixed), changes, are_texts=True)
  built = build.build(config, [chip])
  rows = functools.partial(
      jax.ShapeDtypeStruct, sharding=sharding.of_batch(built.mesh)
  )
  batch = {
      name: rows((batch_size, *x.shape), x.dtype)
      for name, x in built.task.example.items()
  }
  found = {
      "config": name,
      "batch_size": batch_size,
      "attention": built.network.attention(batch_size, built.layout),
  }
  start = time.perf_counter()
  try:
    compiled = built.train_step().lower(built.like, batch).compile()
  except jax.errors.JaxRuntimeError as e:
    if "RESOURCE_EXHAUSTED" not in str(e):
      raise
    used = re.search(r"Used ([\d.]+\w) of", str(e))
    return {**found, "does_not_fit": used[1] if used else str(e)[:200]}
  memory: Any = compiled.memory_analysis()
  parts = compilers.seconds(compiled, chip.device_kind)
  unknown = parts.pop(compilers.NOT_ESTIMATED, 0)
  return {
      **found,
      "kernels_not_estimated": unknown,
      "seconds": sum(parts.values()),
      "parts": parts,
      "peak_bytes": memory.peak_memory_in_bytes,
      "compile_seconds": time.perf_counter() - start,
  }


def attention_rows(
    name: str, batch_size: int, changes: Mapping[str, str], chip: Any
) -> list[str]:
  """Rows of Markdown: a config's modules and what computes their attention."""
  fixed = {"compute_dtype": "bfloat16", "batch_size": batch_size}
  config = settings.changed(settings.load(name, fixed), changes, are_texts=True)
  built = build.build(config, [chip])
  taken = built.network.attention(batch_size, built.layout)
  return [
      f"| `{name}` | {module.removesuffix('/attention')} | {how} |"
      for module, how in taken.items()
  ]


def row_of(found: Mapping[str, Any]) -> str:
  """A row of Markdown."""
  cells = [f"`{found['config']}`", str(found["batch_size"])]
  if "does_not_fit" in found:
    return f"| {' | '.join([*cells, found['does_not_fit']])} |"
  parts = found["parts"]
  more = " and more" if found["kernels_not_estimated"] else ""
  cells.append(f"{1e3 * found['seconds']:.1f} ms{more}")
  cells += [
      f"{1e3 * parts.get(part, 0):.1f}"
      for part in (
          compilers.PRODUCTS,
          compilers.KERNELS,
          compilers.COPIES,
          compilers.REST,
      )
  ]
  cells.append(f"{found['peak_bytes'] / 2**30:.2f} GiB")
  cells.append(f"{found['compile_seconds']:.0f} s")
  return f"| {' | '.join(cells)} |"


def main() -> None:
  """Prints rows as they are found."""
  chip = compilers.tpu(_TOPOLOGY.value)[0]
  changes: dict[str, str] = {}
  for change in _SET.value:
    path, _, value = change.partition("=")
    changes[path] = value
  if _ATTENTION.value:
    print("| config | module | attention, queries × keys |\n|---|---|---|")
  else:
    print(
        "| config | batch | a step | products | kernels | copies | rest |"
        " memory | compiling |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
  rows = []
  for text in _STEPS.value:
    name, _, size = text.partition("=")
    if not size.isdigit():
      raise UserError(f"--steps={text} is not CONFIG=BATCH, as {STEPS[0]}")
    if _ATTENTION.value:
      print(*attention_rows(name, int(size), changes, chip), sep="\n")
      continue
    rows.append(estimate_step(name, int(size), changes, chip))
    print(row_of(rows[-1]), flush=True)
    if _JSON.value:
      pathlib.Path(_JSON.value).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
  _STEPS = flags.DEFINE_list("steps", list(STEPS), "CONFIG=BATCH,...")
  _TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "its first chip")
  _SET = flags.DEFINE_multi_string("set", [], "PATH=VALUE of the configs")
  _ATTENTION = flags.DEFINE_bool("attention", False, "what computes it alone")
  _JSON = flags.DEFINE_string("json", None, "a file for what is found")
  command.run(main, needs_config=False)
