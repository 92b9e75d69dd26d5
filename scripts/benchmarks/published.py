"""Training steps of the published models in bfloat16 on an accelerator."""

from collections.abc import Callable
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import rich.table

from experiments.engine import record
from experiments.engine.errors import UserError
from scripts.benchmarks import cases
from scripts.benchmarks import peers
from scripts.benchmarks import theirs

GOALS = {"flow": 0.4}  # Model FLOPs utilisation; of the others:
GOAL = 0.5
CALLS = 10
CHANGES = {"compute_dtype": "bfloat16"}


def measure(
    models: list[str],
    most: int,
    environment: pathlib.Path | None,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
  """Rows of the best batch of each model, and theirs at it.

  Args:
    models: of `cases.CONFIGS`.
    most: the largest batch to try; they double from 1 while memory suffices.
    environment: a virtual environment with PyTorch and transformers for the
      same device; None: ours alone.
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
    if environment is not None:
      best["theirs"] = beside(model, best["batch_size"], environment)
    rows.append(best)
  return rows


def in_process(model: str, batch_size: int) -> dict[str, Any] | None:
  """A measurement in a process of its own; None if memory does not suffice."""
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
      theirs.timed(lambda: jax.block_until_ready(call()), CALLS)
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
  device = jax.devices()[0]
  stats = device.memory_stats() or {}
  peak = record.peak_flops(device, case.config.compute_dtype)
  if not peak:
    x = jnp.ones([theirs.MATRIX, theirs.MATRIX], case.config.compute_dtype)
    product = jax.jit(jnp.dot)
    rate = theirs.product_rate(lambda: product(x, x).block_until_ready())
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
      "peak_bytes": stats.get("peak_bytes_in_use", theirs.peak_bytes()),
      "temporary_bytes": memory.temp_size_in_bytes,
      "attention": attention,
      "environment": record.environment(),
  }


def beside(
    model: str, batch_size: int, environment: pathlib.Path
) -> dict[str, Any]:
  """Transformers' step at a batch, compiled, in bfloat16."""
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "config.json"
    file.write_text(json.dumps(peers.their_config(model)))
    options = ["--compile", "--bfloat16", "--cuda", f"--batch={batch_size}"]
    python = str(peers.prepare(environment, print))
    command = [python, str(peers.THEIRS), str(file), "train", str(CALLS)]
    try:
      return peers.run([*command, *options])
    except UserError as error:  # It may not fit, or not compile.
      return {"error": str(error)}


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """What is printed."""
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
      "transformers, examples/s",
  )
  for row in rows:
    other = row.get("theirs", {}).get("seconds")
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
        f"{size / statistics.median(other):.1f}" if other else "–",
    )
  return shown


if __name__ == "__main__":
  print(json.dumps(step(sys.argv[1], int(sys.argv[2]))))
