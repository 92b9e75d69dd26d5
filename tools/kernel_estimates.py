"""A TPU compiler's estimates of attention's kernels, each compiled by itself.

In a whole program the compiler tells nothing of JAX's flash and splash
attention (`compilers.seconds`). Of a kernel in a program of its own it does,
through an option of libtpu that whole programs crash with.

    python -m tools.kernel_estimates PROGRAM

prints the kernels of a program's text: how often each runs, and how long.
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

_NUMBER = re.compile(r"[.\d]+$")
_CYCLES = re.compile(r'hlo_op_name: "([^"]+)"\s+estimated_cycles: (\d+)')


def kernels(text: str) -> dict[str, dict[str, Any]]:
  """Kernels of a program: what it is and computes -> "times", "settings"."""
  found: dict[str, dict[str, Any]] = {}
  program = hlo.Program(text)
  for times, inside, computation, each in program.executed():
    if inside or "tpu_custom_call" not in each.text:
      continue
    shapes = [hlo.shape(kind) for kind in program.operands(each, computation)]
    arrays = [shape for shape in shapes if len(shape) == 4][:3]
    name = _NUMBER.sub("", each.name)
    key = " ".join([name, *("x".join(map(str, shape)) for shape in arrays)])
    block = lambda of, text=each.text: re.search(rf'{of}\\*": (\d+)', text)
    rows, columns = block("block_q"), block("block_kv")
    one = found.setdefault(key, {"name": each.name, "times": 0})
    one["times"] += times
    one["settings"] = {
        "arrays": arrays,
        "blocks": [int(rows[1]), int(columns[1])] if rows and columns else None,
        "segments": any(len(shape) == 3 for shape in shapes),
    }
  # The backward pass has the blocks of the forward pass, and does not say so.
  every = [one["settings"] for one in found.values()]
  for one in every:
    for other in every:
      if one["arrays"] == other["arrays"]:
        one["blocks"] = one["blocks"] or other["blocks"]
  return found


def seconds(text: str, chip: str) -> tuple[float, list[str]]:
  """Of all kernels of a program, and those that have no estimate."""
  total, missing = 0.0, []
  known: dict[str, int] = {}
  for key, kernel in kernels(text).items():
    if key not in known:
      known |= _alone(kernel["settings"])
    if key not in known:
      missing.append(key)
    total += kernel["times"] * known.get(key, 0) / compilers.CLOCK[chip]
  return total, missing


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
        check=False,
    )
  if done.returncode:
    return {}
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  """Prints the kernels of a program."""
  known: dict[str, int] = {}
  for key, kernel in kernels(pathlib.Path(sys.argv[1]).read_text()).items():
    if key not in known:
      known |= _alone(kernel["settings"])
    print(f"{kernel['times']} × {known.get(key)} cycles: {key}", flush=True)


if __name__ == "__main__":
  main()
