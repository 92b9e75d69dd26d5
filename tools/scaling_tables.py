"""Makes the tables of docs/scaling.md: the full-size steps on accelerators.

    python -m tools.scaling_tables --device=DEVICE,... [--counts=8,64,256]
        [--steps=imagenet:fourier,mlm:bytes]

compiles the steps by `scripts.describe --devices`, each in a process of its
own, keeps what it says in docs/results/scaling.json and prints the table. What
is in that file is not computed again. A program takes one to five minutes of a
core and up to 4 GiB.

    python -m tools.scaling_tables --device=DEVICE,... --attention

writes each module's attention implementation to docs/results/attention.json
and prints it; that compiles nothing, but needs the compilers as well. Without a
device, either prints what is in the file.
"""

from collections.abc import Mapping
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from absl import flags

from experiments.engine import build
from experiments.engine import command
from experiments.engine import settings
from experiments.engine.errors import UserError
from scripts.benchmarks import compilers
from scripts.benchmarks import scaling

_RESULTS = pathlib.Path(__file__).parent.parent / "docs" / "results"
FILE, ATTENTION = _RESULTS / "scaling.json", _RESULTS / "attention.json"
# At the papers' batches, or the configs' where the papers give none. What
# follows a config makes it fit.
STEPS = (
    "imagenet:fourier",
    "imagenet:fourier accumulate=2",
    "imagenet:learned",
    "imagenet:learned accumulate=4",
    "imagenet:conv",
    "imagenet:conv accumulate=2",
    "imagenet:repeated",
    "imagenet:repeated accumulate=4",
    "mlm:bytes",
    "mlm:sentencepiece",
    "mlm:bytes_plus_plus",
    "mlm:bytes_plus_plus accumulate=2",
    "mlm:bert_base",
    "glue:mnli",
    "flow:patches",
    "flow:patches accumulate=2",
    "flow:patches accumulate=4",
    "flow:conv",
    "kinetics:latents_784",
    "kinetics:latents_784 accumulate=2",
    "audioset:raw_audio",
    "audioset:mel_audio",
    "starcraft",
    "modelnet40",
)
# Examples of one device, about those of one of 64.
EXAMPLES = {
    "imagenet:fourier": 16,
    "imagenet:learned": 16,
    "imagenet:conv": 16,
    "imagenet:repeated": 16,
    "mlm:bytes": 32,
    "mlm:sentencepiece": 32,
    "mlm:bytes_plus_plus": 32,
    "mlm:bert_base": 32,
    "glue:mnli": 8,
    "flow:patches": 4,
    "flow:conv": 8,
    "kinetics:latents_784": 8,
    "audioset:raw_audio": 16,
    "audioset:mel_audio": 16,
    "starcraft": 32,
    "modelnet40": 8,
}


def known(file: pathlib.Path) -> dict[str, Any]:
  """The content of a file of results."""
  return json.loads(file.read_text("utf-8")) if file.exists() else {}


def keep(file: pathlib.Path, results: Mapping[str, Any]) -> None:
  """Writes results, in order."""
  text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False)
  file.write_text(text + "\n", "utf-8")


def describe(
    step: str, device: str, count: int, programs: str | None = None
) -> dict[str, Any]:
  """A row of `scripts.describe`, made in another process.

  Args:
    step: a config and changes, as in `STEPS`.
    device: a key of `scaling.ACCELERATORS`.
    count: how many.
    programs: a folder for the text of the program; None: it is not kept.

  Raises:
    UserError: if it fails; its error is printed.
  """
  name, *changes = step.split()
  file, colon, variant = name.partition(":")
  with tempfile.NamedTemporaryFile(suffix=".json") as rows:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.describe"),
            f"--config=configs/{file}.py{colon}{variant}",
            "--config.compute_dtype=bfloat16",
            *(f"--config.{change}" for change in changes),
            f"--devices={count}",
            f"--device={device}",
            f"--json={rows.name}",
            *([f"--programs={programs}"] if programs else []),
        ],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
      raise UserError(f"{step} was not compiled for {count} {device}")
    (row,) = json.loads(pathlib.Path(rows.name).read_text("utf-8"))
  return row


def scaling_table(results: Mapping[str, Any]) -> str:
  """The Markdown table of `FILE`."""
  columns = ["config", "on", *scaling.COLUMNS[1:]]
  lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
  for step in STEPS:
    rows = [row for row in results.values() if row["step"] == step]
    rows.sort(key=lambda row: (row["device"], row["devices"]))
    for row in rows:
      name, *changes = step.split()
      config = ", ".join([f"`{name}`", *changes]) if row is rows[0] else ""
      count, *cells = scaling.cells(row)
      on = f"{count} {row['device']}"
      lines.append(f"| {' | '.join([config, on, *cells])} |")
  return "\n".join(lines)


def attention(device: str) -> dict[str, dict[str, str]]:
  """The attention implementations: config -> module -> implementation."""
  missing = compilers.why_not(device)
  if missing:
    raise UserError(missing)
  (on,) = compilers.devices(device, 1)
  found = {}
  for name, examples in EXAMPLES.items():
    changes = {"compute_dtype": "bfloat16", "batch_size": examples}
    built = build.build(settings.load(name, changes), [on])
    found[name] = dict(built.network.attention(examples, built.layout))
  return found


def attention_table(results: Mapping[str, Any]) -> str:
  """The Markdown table of `ATTENTION`."""
  devices = list(results)
  lines = [
      f"| config | module | queries × keys | {' | '.join(devices)} |",
      "|---" * (3 + len(devices)) + "|",
  ]
  for name in EXAMPLES:
    modules = results[devices[0]].get(name, {})
    for module in modules:
      ways = [results[device][name][module] for device in devices]
      sizes = ways[0].split(", ", 1)[1].split(" in ")[0]
      cells = [way.replace(f", {sizes}", "") for way in ways]
      config = f"`{name}`" if module == next(iter(modules)) else ""
      short = module.removesuffix("/attention").removesuffix("/cross_attention")
      lines.append(f"| {config} | {short} | {sizes} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  """Computes missing results, saves and prints them."""
  devices = _DEVICE.value
  if _ATTENTION.value:
    results = known(ATTENTION)
    for device in devices:
      results[device] = attention(device)
      keep(ATTENTION, results)
    print(attention_table(results))
    return
  results = known(FILE)
  for device in devices:
    for count in _COUNTS.value:
      for step in _STEPS.value or STEPS:
        key = f"{step} on {count} {device}"
        if key not in results:
          row = describe(step, device, int(count))
          row.pop("attention")
          results = known(FILE) | {key: {"step": step, **row}}
          keep(FILE, results)
  print(scaling_table(results))


if __name__ == "__main__":
  _DEVICE = flags.DEFINE_list("device", [], "such as tpu_v5e,h100")
  _COUNTS = flags.DEFINE_list("counts", ["64"], "numbers of devices")
  _STEPS = flags.DEFINE_list("steps", [], "some of the steps; default: all")
  _ATTENTION = flags.DEFINE_bool("attention", False, "only implementations")
  command.run(main, needs_config=False)
