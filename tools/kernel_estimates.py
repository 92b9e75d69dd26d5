"""A TPU compiler's estimates of attention's kernels, each compiled by itself.

In a whole program the compiler tells nothing of JAX's flash and splash
attention (`compilers.seconds`). Of a kernel in a program of its own it does,
through an option of libtpu that whole programs, and features that are no
multiple of 128, crash with, as do several blocks of splash attention. Features
are therefore rounded up, as the matrix unit does, and long arrays are cut to
one block, of flash attention to eight; time is in proportion to blocks.

    python -m tools.kernel_estimates PROGRAM

prints the kernels of a program's text for v5e chips (`tools.compare_estimates
--programs`): for how many examples each runs, and how long for one.
"""

from collections.abc import Mapping
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

from scripts.benchmarks import compilers
from scripts.benchmarks import hlo

# Of the backward pass, by the number of gradients that a kernel computes.
KINDS = {1: "queries", 2: "keys and values", 3: "backward"}
CHIP = "TPU v5 lite"
_EXAMPLES = 2  # That are compiled for: of one alone, JAX drops the axis.
_CYCLES = re.compile(r'hlo_op_name: "([^"]+)"\s+estimated_cycles: (\d+)')


def kernels(text: str) -> dict[str, dict[str, Any]]:
  """Kernels of a program: what they compute of one example -> how.

  Returns:
    kernel -> its "name" in the program, the "examples" of all its calls, and
    "settings" for `_alone`.
  """
  found: dict[str, dict[str, Any]] = {}
  program = hlo.Program(text)
  for times, inside, computation, each in program.executed():
    if inside or "tpu_custom_call" not in each.text:
      continue
    operands = program.operands(each, computation)
    shapes = [hlo.shape(kind) for kind in operands]
    arrays = [shape for shape in shapes if len(shape) == 4]
    gradients = sum(len(shape) > 3 for shape in hlo.shapes(each.type))
    kind = KINDS[gradients] if arrays[3:] else "forward"
    examples, of_one = arrays[0][0], [shape[1:] for shape in arrays[:3]]
    key = _key(kind, arrays[:3])
    block = lambda of, text=each.text: re.search(rf'{of}\\*": (\d+)', text)
    rows, columns = block("block_q"), block("block_kv")
    flops = compilers.kernel_flops(operands, hlo.shapes(each.type))
    one = found.setdefault(key, {"name": each.name, "examples": 0})
    one["examples"] += times * examples
    one["counted"] = flops / examples / compilers.kernel_rate(CHIP)
    one["settings"] = {
        "arrays": [[_EXAMPLES, *shape] for shape in of_one],
        "blocks": [int(rows[1]), int(columns[1])] if rows and columns else None,
        "segments": "segmented" in each.name,
    }
  # The backward pass has the blocks of the forward pass, and may not say so.
  every = [one["settings"] for one in found.values()]
  for one in every:
    for other in every:
      if one["arrays"] == other["arrays"]:
        one["blocks"] = one["blocks"] or other["blocks"]
  return found


def _key(kind: str, arrays: list[list[int]]) -> str:
  sizes = ("×".join(map(str, shape[1:])) for shape in arrays)
  return f"{kind} of {' '.join(sizes)}"


def _cut(settings: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
  """Settings of less of the same, and which share of it that is."""
  arrays, share = [], 1.0
  rows, columns = settings["blocks"] or (8 * 128, 8 * 128)
  for place, (examples, heads, length, features) in enumerate(
      settings["arrays"]
  ):
    short = min(length, rows if place == 0 else columns)
    share *= short / length if place < 2 else 1
    arrays.append([examples, heads, short, -(-features // 128) * 128])
  return {**settings, "arrays": arrays}, share


# Prints {kernel: cycles} of forward pass and gradient.
_ALONE = """
import glob, json, os, sys
folder, settings = sys.argv[1], json.loads(sys.argv[2])
from scripts.benchmarks import compilers
from tools import kernel_estimates
(chip,) = compilers.devices("tpu_v5e", 1)
import jax
import jax.numpy as jnp
from perceiver.kernels import splash
q, k, v = settings["arrays"]
if settings["blocks"]:
  kernel = splash._kernel(q[1], q[2], k[2], *settings["blocks"], None)
  run = jax.vmap(kernel)
else:
  from jax.experimental.pallas.ops.tpu import flash_attention
  run = lambda q, k, v, segments: flash_attention.flash_attention(q, k, v)
of = lambda shape, dtype=jnp.bfloat16: jax.ShapeDtypeStruct(
    shape, dtype, sharding=jax.sharding.SingleDeviceSharding(chip)
)
segments = None
if settings["segments"] and settings["blocks"]:
  from jax.experimental.pallas.ops.tpu import splash_attention
  segments = splash_attention.SegmentIds(
      of((q[0], q[2]), jnp.int32), of((k[0], k[2]), jnp.int32)
  )
def both(q, k, v, segments, dy):
  y, pull = jax.vjp(lambda *x: run(*x, segments), q, k, v)
  return y, pull(dy)
y = of((*q[:3], v[3]))
compiled = jax.jit(both).lower(of(q), of(k), of(v), segments, y).compile()
cycles = {}
for file in glob.glob(os.path.join(folder, "*.textproto")):
  cycles |= dict(kernel_estimates._CYCLES.findall(open(file).read()))
found = kernel_estimates.kernels(compiled.as_text())
names = {key: kernel["name"] for key, kernel in found.items()}
print(json.dumps({
    key: int(cycles[name]) for key, name in names.items() if name in cycles
}))
"""


def _alone(settings: Mapping[str, Any]) -> dict[str, int]:
  with tempfile.TemporaryDirectory() as folder:
    option = f"--xla_jf_dump_static_llo_profile_to={folder}"
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, folder, json.dumps(settings)],
        env={**os.environ, "LIBTPU_INIT_ARGS": option},
        cwd=pathlib.Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # It says how libtpu crashed.
        check=False,
    )
  if done.returncode:
    return {}
  return json.loads(done.stdout.splitlines()[-1])


def seconds(text: str) -> float:
  """Of all kernels of a program; prints those of each.

  A kernel that the compiler does not estimate is taken as `compilers.seconds`
  takes all: at a share of the peak rate.
  """
  known: dict[str, int] = {}
  total = 0.0
  for key, kernel in kernels(text).items():
    settings, share = _cut(kernel["settings"])
    compiled = _key(key.split(" of ")[0], settings["arrays"])
    if compiled not in known:
      known |= _alone(settings)
    one, how = kernel["counted"], "counted"
    if compiled in known:
      cycles = known[compiled] / share / _EXAMPLES
      one, how = cycles / compilers.CLOCK[CHIP], "estimated"
    total += kernel["examples"] * one
    print(
        f"{kernel['examples']} × {1e3 * one:.4f} ms, {how}: {key}", flush=True
    )
  return total


if __name__ == "__main__":
  print(f"{1e3 * seconds(pathlib.Path(sys.argv[1]).read_text()):.1f} ms")
