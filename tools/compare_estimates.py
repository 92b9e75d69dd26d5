"""Compares the TPU compiler's estimates of this code with those of older code.

    git worktree add OLD 0c915ea
    python -m tools.compare_estimates --old=OLD [--steps=imagenet:fourier]

compiles the training steps of `STEPS` in bfloat16 for one v5e chip, those of
this code and those of the checkout OLD, each in a process of its own, reads
both programs in the same way (`compilers.seconds`, and kernels by themselves:
`tools.kernel_estimates`), keeps what it finds in
docs/results/estimates.json and prints the table of it. What is in that file is
not computed again; without --old only this code is compiled. A step takes two
to eight minutes of a core and up to 4 GiB; it needs the extra tpu-compiler.
"""

from collections.abc import Mapping
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from absl import flags

from experiments.engine import command
from experiments.engine.errors import UserError
from scripts.benchmarks import compilers
from scripts.benchmarks import hlo
from tools import kernel_estimates
from tools.scaling_tables import keep
from tools.scaling_tables import known

ROOT = pathlib.Path(__file__).parent.parent
FILE = ROOT / "docs" / "results" / "estimates.json"
DEVICE, CHIP = "tpu_v5e", "TPU v5 lite"
# Examples of the chip. Of flow and Kinetics, more do not fit with older code.
STEPS = {
    "imagenet:fourier": 16,
    "mlm:bytes": 32,
    "flow:patches": 2,
    "kinetics:latents_784": 4,
}

# Both are given a config, a batch and two files: for the program's text, and
# for the bytes that it needs.
_NEW = """
import pathlib, sys
from scripts.benchmarks import compilers
name, batch, text, needed = sys.argv[1:]
on = compilers.devices("tpu_v5e", 1)
from experiments.engine import build, settings
changes = {"compute_dtype": "bfloat16", "batch_size": int(batch)}
compiled = compilers.compile_step(build.build(settings.load(name, changes), on))
"""
# Before there were targets, code asked JAX for its devices.
_OLD = """
import functools, importlib, os, pathlib, sys
name, batch, text, needed = sys.argv[1:]
os.environ |= {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
import jax, numpy as np
jax.config.update("jax_platforms", "cpu")
from jax.experimental import topologies
topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
chips = topology.devices[:1]
from experiments import build
from experiments.training import sharding
sharding.make_mesh = lambda *args: jax.sharding.Mesh(
    np.asarray(chips).reshape(1, 1), ("data", "elements")
)
jax.default_backend = lambda: "tpu"
jax.device_count = lambda *args: 1
file, _, variant = name.partition(":")
config = importlib.import_module(f"configs.{file}").get_config(variant)
config.compute_dtype, config.batch_size = "bfloat16", int(batch)
built = build.build(config)
rows = functools.partial(
    jax.ShapeDtypeStruct, sharding=sharding.of_batch(built.mesh)
)
like = {
    name: rows((int(batch), *x.shape), x.dtype)
    for name, x in built.task.example.items()
}
compiled = built.train_step().lower(built.like, like).compile()
"""
_WRITE = """
pathlib.Path(text).write_text(compiled.as_text())
peak = compiled.memory_analysis().peak_memory_in_bytes
pathlib.Path(needed).write_text(str(peak))
"""


def measure(step: str, checkout: pathlib.Path, code: str) -> dict[str, Any]:
  """What the compiler says of a step of a checkout.

  Args:
    step: a key of `STEPS`.
    checkout: a folder of this project's code.
    code: that compiles it.

  Returns:
    "batch_size", "needed_bytes", and "parts", as `compilers.seconds`.

  Raises:
    UserError: if it fails; its error is printed.
  """
  with tempfile.TemporaryDirectory() as folder:
    text, needed = (pathlib.Path(folder) / name for name in ("text", "needed"))
    if _PROGRAMS.value:
      names = step.replace(":", "_"), "old" if code == _OLD else "new"
      text = pathlib.Path(_PROGRAMS.value).absolute() / "_".join(names)
    done = subprocess.run(
        [
            *(sys.executable, "-c", code + _WRITE),
            *(step, str(STEPS[step]), str(text), str(needed)),
        ],
        cwd=checkout,
        check=False,
    )
    if done.returncode:
      raise UserError(f"{step} of {checkout} was not compiled")
    program = text.read_text()
    return {
        "batch_size": STEPS[step],
        "needed_bytes": int(needed.read_text()),
        "parts": compilers.seconds(hlo.Program(program), CHIP)
        | {compilers.KERNELS: kernel_estimates.seconds(program)},
    }


def table(results: Mapping[str, Any]) -> str:
  """Markdown, of what is in `FILE`."""
  parts = [
      compilers.KERNELS,
      compilers.PRODUCTS,
      compilers.COPIES,
      compilers.REST,
  ]
  columns = ["config, batch", "code", "step", *parts, "memory", "of before"]
  lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
  for step, batch in STEPS.items():
    before = None
    for code in ("old", "new"):
      row = results.get(f"{step} {code}")
      if row is None:
        continue
      total = sum(row["parts"].values())
      ratio = f"{total / before:.0%}" if before else ""
      before = before or total
      cells = [
          f"`{step}`, {batch}" if code == "old" else "",
          {"old": "before", "new": "now"}[code],
          *(f"{1e3 * row['parts'].get(part, 0):.1f} ms" for part in parts),
      ]
      cells.insert(2, f"{1e3 * total:.1f} ms")
      cells += [f"{row['needed_bytes'] / 2**30:.2f} GiB", ratio]
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  """Computes what is missing, keeps and prints it."""
  codes = {"new": (ROOT, _NEW)}
  if _OLD_CODE.value:
    codes = {"old": (pathlib.Path(_OLD_CODE.value).absolute(), _OLD)} | codes
  if missing := compilers.why_not(DEVICE):
    raise UserError(missing)
  for name, (checkout, code) in codes.items():
    for step in _STEPS.value or STEPS:
      key = f"{step} {name}"
      if key not in known(FILE):
        row = measure(step, checkout, code)
        keep(FILE, known(FILE) | {key: row})
  print(table(known(FILE)))


if __name__ == "__main__":
  _OLD_CODE = flags.DEFINE_string("old", None, "a checkout of commit 0c915ea")
  _STEPS = flags.DEFINE_list("steps", [], "some of the steps; default: all")
  _PROGRAMS = flags.DEFINE_string("programs", None, "a folder for their texts")
  command.run(main, needs_config=False)
