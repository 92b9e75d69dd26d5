"""Measures a config's training step and forward pass on this machine.

    python -m scripts.benchmark --config=configs/X.py [--devices=N]
        [--json=FILE]
    python -m scripts.benchmark --input --config=configs/X.py
    python -m scripts.benchmark --memory --config=configs/X.py [--devices=N]
        [--shape=NAME=2,436,1088,3]
    python -m scripts.benchmark --costs=FILE.png
    python -m scripts.benchmark --published [--models=mlm,flow] [--most=4096]

The first command measures a task's training step and forward pass on random
batches; it needs no data. --input measures the input pipeline of training.
--memory only compiles, so it works for any size, for inputs of other shapes
(--shape), and for simulated devices
(XLA_FLAGS=--xla_force_host_platform_device_count=8). --costs plots time against
M, O, N and the number of layers. --published measures training steps of the
published models in bfloat16 on an accelerator, at the largest batch that fits.
Rates are fractions of the rate of a plain matrix product in the same run, so
they can be compared between machines.
"""

from collections.abc import Callable
from collections.abc import Mapping
import functools
import json
import pathlib
import re
import resource
import statistics
import time
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import rich.console
import rich.table

from experiments import task as task_lib
from experiments.data.pipeline import Shard
from experiments.engine import command
from experiments.engine import record
from experiments.engine import sharding
from experiments.engine import step as step_lib
from experiments.engine.build import build
from experiments.engine.build import load
from experiments.engine.errors import UserError
from scripts.benchmarks import cases
from scripts.benchmarks import costs
from scripts.benchmarks import published
from scripts.benchmarks.hlo import exchanged

ROUNDS = 10
WARM_UP = 2
INPUT_SECONDS = 20.0
MATRIX = 2048  # Rows and columns of the product that sets the scale.


def seconds(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
  """Median time of a call, including its results."""
  times = []
  for _ in range(WARM_UP + rounds):
    start = time.perf_counter()
    jax.block_until_ready(call())
    times.append(time.perf_counter() - start)
  return statistics.median(times[WARM_UP:])


def matrix_product_rate(compute_dtype: str) -> float:
  """FLOP/s of one device in a large product."""
  x = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX), compute_dtype)
  product = jax.jit(jnp.dot)
  return 2 * MATRIX**3 / seconds(lambda: product(x, x))


def noise(task: task_lib.Task, batch_size: int) -> dict[str, np.ndarray]:
  """A batch of the task's shapes: normal numbers, and zeros for integers."""
  rng = np.random.default_rng(0)
  return {
      name: (
          rng.normal(size=(batch_size, *x.shape)).astype(x.dtype)
          if jnp.issubdtype(x.dtype, jnp.floating)
          else np.zeros((batch_size, *x.shape), x.dtype)
      )
      for name, x in task.example.items()
  }


def measure(config: task_lib.Config, num_devices: int | None) -> dict[str, Any]:
  """A row of results: times in seconds, rates in FLOP/s, memory in bytes."""
  built = build(config, num_devices)
  device = built.mesh.devices.flat[0]
  state = built.initial_state()
  batch = sharding.spread(noise(built.task, config.batch_size), built.mesh)
  forward = step_lib.compile_eval_step(
      built.net, lambda out, batch: jax.tree.map(jnp.sum, out), built.layout
  )

  start = time.perf_counter()
  compiled = built.train_step().lower(state, batch).compile()
  compile_seconds = time.perf_counter() - start
  memory: Any = compiled.memory_analysis()
  forward_seconds = seconds(lambda: forward(state.model, batch))
  holder = [state]  # The step overwrites the state that it is given.

  def step():
    holder[0], scalars = compiled(holder[0], batch)
    return scalars

  step_seconds = seconds(step)
  count = built.network.flops_per_example() * config.batch_size
  rate = matrix_product_rate(config.compute_dtype) * built.mesh.size
  if device.platform == "cpu":
    rate /= built.mesh.size  # They are all the same processor.
  return {
      "task": config.task,
      "batch_size": config.batch_size,
      "compute_dtype": config.compute_dtype,
      "parameters": built.network.parameters(),
      "forward_flops_per_example": built.network.flops_per_example(),
      "compile_seconds": compile_seconds,
      "forward_seconds": forward_seconds,
      "step_seconds": step_seconds,
      "examples_per_second": config.batch_size / step_seconds,
      "matrix_product_flops_per_second": rate,
      "forward_fraction_of_matrix_product": count / forward_seconds / rate,
      "step_fraction_of_matrix_product": 3 * count / step_seconds / rate,
      "step_argument_bytes": memory.argument_size_in_bytes,
      "step_temporary_bytes": memory.temp_size_in_bytes,
      "peak_bytes": peak_bytes(device),
      "environment": record.environment(),
  }


def measure_input(config: task_lib.Config, least: float) -> dict[str, Any]:
  """The rate of the input pipeline.

  Args:
    config: of a task; its input is prepared in threads of this process, so that
      the time of all cores is known.
    least: seconds to read for, after the first batch.

  Returns:
    examples a second, of the clock and of one core's time.
  """
  config = ConfigDict({**config.to_dict(), "num_workers": 0})
  batches = iter(load(config).train_data(Shard()))
  next(batches)
  count, clock, cores = 0, time.perf_counter(), time.process_time()
  while (passed := time.perf_counter() - clock) < least:
    next(batches)
    count += config.batch_size
  return {
      "task": config.task,
      "batch_size": config.batch_size,
      "examples": count,
      "examples_per_second": count / passed,
      "examples_per_second_and_core": count / (time.process_time() - cores),
      "environment": record.environment(),
  }


def measure_memory(
    config: task_lib.Config,
    shapes: Mapping[str, tuple[int, ...]],
    num_devices: int = 1,
) -> dict[str, Any]:
  """The memory of a training step and a forward pass, in bytes per device.

  Args:
    config: config of a task.
    shapes: of an example's arrays, where they are not the task's; the forward
      pass alone has them.
    num_devices: that share the work.

  Returns:
    "argument": the state and the batch; "temporary": all else at once; and, by
    kind of collective, what devices send each other.

  Raises:
    UserError: if an example has no such array.
  """
  built = build(config, num_devices)
  rows = functools.partial(
      jax.ShapeDtypeStruct, sharding=sharding.of_batch(built.mesh)
  )
  like = {
      name: rows((config.batch_size, *x.shape), x.dtype)
      for name, x in built.task.example.items()
  }
  if unknown := shapes.keys() - like.keys():
    raise UserError(f"--shape: {sorted(unknown)} are not of {sorted(like)}")
  forward = step_lib.compile_eval_step(
      built.net, lambda out, batch: jax.tree.map(jnp.sum, out), built.layout
  )
  others = {
      name: rows((config.batch_size, *shape), like[name].dtype)
      for name, shape in shapes.items()
  }
  lowered = {"forward": forward.lower(built.like.model, {**like, **others})}
  if not shapes:
    lowered["step"] = built.train_step().lower(built.like, like)
  found = {"task": config.task, "batch_size": config.batch_size}
  for name, what in lowered.items():
    compiled = what.compile()
    memory: Any = compiled.memory_analysis()
    found[f"{name}_argument_bytes"] = memory.argument_size_in_bytes
    found[f"{name}_temporary_bytes"] = memory.temp_size_in_bytes
    for kind, size in exchanged(compiled.as_text() or "").items():
      found[f"{name}_{kind.replace('-', '_')}_bytes"] = size
  return {**found, "environment": record.environment()}


def _shape_of(text: str) -> tuple[str, tuple[int, ...]]:
  name, equals, sizes = text.partition("=")
  if not equals or not re.fullmatch(r"\d+(,\d+)*", sizes):
    raise UserError(f"--shape={text} is not --shape=NAME=2,436,1088,3")
  return name, tuple(map(int, sizes.split(",")))


def peak_bytes(device: Any) -> int:
  """Peak memory of the device, or on a CPU of the process."""
  stats = device.memory_stats() or {}
  kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return stats.get("peak_bytes_in_use", kilobytes * 1024)


def main() -> None:
  """Prints the requested measurements, and writes them to --json."""
  console = rich.console.Console()
  if _PUBLISHED.value:
    models = cases.chosen(_MODELS.value, cases.CONFIGS)
    found: Any = published.measure(models, _MOST.value, console.print)
    console.print(published.table(found))
  elif _COSTS.value is not None:
    curves = costs.measure()
    compiling = costs.compile_seconds()
    costs.draw(curves, compiling, pathlib.Path(_COSTS.value))
    found = {name: curve._asdict() for name, curve in curves.items()}
    found["compile_seconds"] = compiling
    console.print_json(data=found)
  elif command.CONFIG.value is None:
    raise UserError(
        "--config=configs/FILE.py[:variant], --costs=FILE or --published is"
        " missing"
    )
  elif _INPUT.value:
    found = measure_input(command.config(), INPUT_SECONDS)
    console.print(table_of(found))
  elif _MEMORY.value:
    found = measure_memory(
        command.config(),
        dict(map(_shape_of, _SHAPE.value)),
        _DEVICES.value or 1,
    )
    console.print(table_of(found))
  else:
    found = measure(command.config(), _DEVICES.value)
    console.print(table_of(found))
  if _JSON.value is not None:
    write(found, pathlib.Path(_JSON.value))


def write(found: Any, file: pathlib.Path) -> None:
  """Writes measurements as JSON, with the machine."""
  if "environment" not in found:
    found = {"environment": record.environment(), "results": found}
  file.write_text(json.dumps(found, indent=2) + "\n")


def table_of(row: dict[str, Any]) -> rich.table.Table:
  """The table of one config's measurements."""
  table = rich.table.Table("measured", "")
  for name, value in row.items():
    if name != "environment":
      style = {float: ",.4g", int: ","}.get(type(value), "")
      table.add_row(name, format(value, style))
  return table


if __name__ == "__main__":
  _DEVICES = flags.DEFINE_integer("devices", None, "number; default: all")
  _JSON = flags.DEFINE_string("json", None, "a file for the results")
  _INPUT = flags.DEFINE_bool("input", False, "time the input pipeline only")
  _MEMORY = flags.DEFINE_bool("memory", False, "report memory; compile only")
  _SHAPE = flags.DEFINE_multi_string("shape", [], "for --memory: NAME=Y,X,C")
  _COSTS = flags.DEFINE_string("costs", None, "FILE.png: time against sizes")
  _PUBLISHED = flags.DEFINE_bool(
      "published", False, "time the published models"
  )
  _MOST = flags.DEFINE_integer("most", 4096, "for --published: largest batch")
  _MODELS = flags.DEFINE_string("models", None, "names, separated by commas")
  command.run(main, needs_config=False)
