"""Training steps of the published models in bfloat16 on an accelerator."""

from collections.abc import Callable
from collections.abc import Mapping
import itertools
import json
import statistics
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import rich.table

from experiments.engine import record
from experiments.engine.errors import UserError
from scripts.benchmarks import cases
from scripts.benchmarks import timing

GOALS = {"flow": 0.4}  # Model FLOPs utilisation; of the others:
GOAL = 0.5
CALLS = 10
CHANGES = {"compute_dtype": "bfloat16"}


def measure(
    models: list[str],
    most: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
  """Rows of the best batch of each model.

  Args:
    models: of `cases.CONFIGS`.
    most: the largest batch to try; they double from 1 while memory suffices.
    say: told of each result.

  Raises:
    UserError: if a model does not fit at all, or a process fails.
  """
  rows = []  # This process leaves the device's memory to the others.
  for model in models:
    tried = []
    batch_size = 1
    while batch_size <= most and (row := in_process(model, batch_size)):
      tried.append(row)
      say(
          f"{model}, batch {batch_size}: {row['seconds']:.4f} s a step,"
          f" {row['utilisation']:.1%} of {row['peak']},"
          f" {row['peak_bytes'] / 2**30:.1f} GiB"
      )
      batch_size *= 2
    if not tried:
      raise UserError(f"{model} does not fit this device")
    best = max(tried, key=lambda row: row["utilisation"])
    best["goal"] = GOALS.get(model, GOAL)
    best["largest_batch"] = tried[-1]["batch_size"]
    rows.append(best)
  return rows


def in_process(model: str, batch_size: int) -> dict[str, Any] | None:
  """A measurement in a separate process; None if memory is too short."""
  command = [sys.executable, "-m", __name__, model, str(batch_size)]
  done = subprocess.run(command, capture_output=True, text=True)
  if "RESOURCE_EXHAUSTED" in done.stderr or "ut of memory" in done.stderr:
    return None
  if done.returncode:
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    raise UserError(f"{' '.join(command)} failed: {last}")
  return json.loads(done.stdout.strip().splitlines()[-1])


def step(model: str, batch_size: int) -> dict[str, Any]:
  """Time, memory and FLOPs of a training step, and of its parts."""
  case = cases.make(model, batch_size, CHANGES)
  attention = case.network.attention(batch_size)
  flops, batch = 3 * case.flops(), case.batch
  median = lambda call: statistics.median(
      timing.timed(lambda: jax.block_until_ready(call()), CALLS)
  )
  forward, gradient = jax.jit(case.forward), jax.jit(case.gradient)
  forward_seconds = median(lambda: forward(case.model, batch))
  gradient_seconds = median(lambda: gradient(case.model, batch))
  held = [case.state()]
  train_step = jax.jit(case.train_step(), donate_argnums=0)
  compiled = train_step.lower(held[0], batch).compile()
  memory: Any = compiled.memory_analysis()

  def call():
    held[0], scalars = compiled(held[0], batch)
    return scalars

  seconds = median(call)
  device = next(iter(jax.tree.leaves(held[0])[0].devices()))
  stats = device.memory_stats() or {}
  peak = record.peak_flops(device, case.config.compute_dtype)
  if not peak:
    x = jnp.ones([timing.MATRIX, timing.MATRIX], case.config.compute_dtype)
    product = jax.jit(jnp.dot)
    rate = timing.product_rate(lambda: product(x, x).block_until_ready())
  return {
      "model": model,
      "batch_size": batch_size,
      "seconds": seconds,
      "forward_seconds": forward_seconds,
      "gradient_seconds": gradient_seconds,
      "flops": flops,
      "utilisation": flops / seconds / (peak or rate),
      "peak": "the device's peak" if peak else "a large product's rate",
      "device": device.device_kind,
      "peak_bytes": stats.get("peak_bytes_in_use", timing.peak_bytes()),
      "temporary_bytes": memory.temp_size_in_bytes,
      "attention": attention,
      "environment": record.environment(),
  }


def table(
    rows: list[dict[str, Any]],
    more: Mapping[str, Callable[[dict[str, Any]], str]] | None = None,
) -> rich.table.Table:
  """What is printed, with further columns: a heading, and a row's cell."""
  more = more or {}
  shown = rich.table.Table(
      "model",
      "best batch",
      "largest",
      "examples/s",
      "of peak",
      "goal",
      "forward",
      "backward",
      "update",
      "memory",
      *more,
  )
  for row in rows:
    size, seconds = row["batch_size"], row["seconds"]
    ends = [0, row["forward_seconds"], row["gradient_seconds"], seconds]
    shown.add_row(
        row["model"],
        str(size),
        str(row["largest_batch"]),
        f"{size / seconds:.1f}",
        f"{row['utilisation']:.1%}",
        f"{row['goal']:.0%}",
        *(f"{(b - a) / seconds:.0%}" for a, b in itertools.pairwise(ends)),
        f"{row['peak_bytes'] / 2**30:.1f} GiB",
        *(cell(row) for cell in more.values()),
    )
  return shown


if __name__ == "__main__":
  print(json.dumps(step(sys.argv[1], int(sys.argv[2]))))
