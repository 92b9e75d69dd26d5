"""The published models here and in Hugging Face's transformers, in turns.

    python -m tools.compare_transformers [--models=mlm,flow] [--rounds=3]
        [--options=--compile] [--json=FILE]
    python -m tools.compare_transformers --accelerator [--models=mlm,flow]
        [--most=4096] [--json=FILE]

The first measures forward passes and training steps on this machine's CPU, each
side in processes of its own. --accelerator measures training steps in bfloat16
as `scripts.benchmark --published` does, and transformers' under `torch.compile`
at the batch that is best for ours. Transformers runs in a virtual environment
of its own, `--environment`, which is made if it is missing.
"""

from collections.abc import Callable
import dataclasses
import importlib.metadata
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import Any
import venv

from absl import flags
import rich.console
import rich.table

from experiments.engine import command
from experiments.engine import export
from experiments.engine.errors import UserError
from perceiver.context import current_target
from scripts import benchmark
from scripts.benchmarks import cases
from scripts.benchmarks import published

ROOT = pathlib.Path(__file__).parent.parent
OURS, THEIRS = "tools.comparisons.ours", "tools.comparisons.theirs"
# PyTorch for CPUs, a tenth of what it is with CUDA.
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


@dataclasses.dataclass(frozen=True)
class Work:
  """What is measured, and what is aimed at."""

  model: str
  what: str  # "forward" or "train"
  calls: int  # timed, in each process
  ratio: float | None = None  # their time / ours, at least
  of_products: float | None = None  # of the rate of large products, at least
  memory: float | None = None  # our highest memory / theirs, at most


WORK = (
    Work("mlm", "forward", 7, 1.25, 0.8),
    Work("mlm", "train", 4, 1.15, 0.65),
    Work("imagenet", "forward", 3, 1.25, 0.8),
    Work("imagenet", "train", 2, 1.15, 0.65),
    Work("kinetics", "forward", 4, 1.6),
    Work("flow", "forward", 1, 2.2, memory=0.5),
    Work("flow", "train", 1, memory=0.5),
)


def measure(
    models: list[str],
    rounds: int,
    environment: pathlib.Path,
    options: list[str],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
  """Runs ours and theirs after each other, each in a process of its own.

  Args:
    models: of `WORK`.
    rounds: how often both run.
    environment: a virtual environment for theirs, made if it is not there.
    options: of theirs, such as "--compile".
    say: told of each result.

  Returns:
    a row for each kind of work: all times, memory and rates of both.

  Raises:
    UserError: if theirs cannot be installed, or a process fails.
  """
  python = prepare(environment, current_target().platform == "cpu", say)
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    for work in WORK:
      if work.model not in models:
        continue
      file = pathlib.Path(folder) / f"{work.model}.json"
      file.write_text(json.dumps(their_config(work.model)))
      ask = [work.what, str(work.calls)]
      ours = [sys.executable, "-m", OURS, work.model]
      theirs = [str(python), "-m", THEIRS, str(file)]
      runs = []
      for _ in range(rounds):
        runs.append((run([*ours, *ask]), run([*theirs, *ask, *options])))
        a, b = (statistics.median(run["seconds"]) for run in runs[-1])
        say(f"{work.model} {work.what}: ours {a:.3f} s, theirs {b:.3f} s")
      rows.append(summary(work, runs))
  return rows


def measure_on_accelerator(
    models: list[str],
    most: int,
    environment: pathlib.Path,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
  """Training steps in bfloat16 on an accelerator, ours and theirs.

  Args:
    models: of `cases.CONFIGS`.
    most: the largest batch to try.
    environment: a virtual environment for theirs, made if it is not there.
    say: told of each result.

  Returns:
    a row for each model, at our best batch; what theirs took is in "theirs", or
    why it failed.

  Raises:
    UserError: if theirs cannot be installed, a model of ours does not fit, or
      its process fails.
  """
  # This process leaves the device's memory to the others.
  python = prepare(environment, False, say)
  rows = []
  for model in models:
    (row,) = published.measure([model], most, say)
    row["theirs"] = beside(model, row["batch_size"], python)
    rows.append(row)
  return rows


def beside(model: str, batch_size: int, python: pathlib.Path) -> dict[str, Any]:
  """Transformers' step at a batch, compiled, in bfloat16."""
  options = ["--compile", "--bfloat16", "--cuda", f"--batch={batch_size}"]
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "config.json"
    file.write_text(json.dumps(their_config(model)))
    asked = [str(file), "train", str(published.CALLS), *options]
    try:
      return run([str(python), "-m", THEIRS, *asked])
    except UserError as error:  # It may not fit, or not compile.
      return {"error": str(error)}


def prepare(
    environment: pathlib.Path, for_cpu: bool, say: Callable[[str], None]
) -> pathlib.Path:
  """The Python of an environment with PyTorch and transformers."""
  environment = environment.expanduser().absolute()
  python = environment / "bin" / "python"
  if not python.exists():
    wanted = requirements()
    say(f"installs {', '.join(wanted)} in {environment}")
    venv.create(environment, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    if for_cpu:
      install += ["--extra-index-url", CPU_WHEELS]
    if subprocess.run(install).returncode:
      shutil.rmtree(environment)
      raise UserError(
          f"{' '.join(wanted)} cannot be installed in {environment};"
          " --environment=DIR names another that has them"
      )
  return python


def requirements() -> list[str]:
  """What the extra `bench` of this project asks for."""
  try:
    found = importlib.metadata.requires("perceiver-io-jax") or []
  except importlib.metadata.PackageNotFoundError as error:
    raise UserError(
        "install the project first: pip install -e '.[train]'"
    ) from error
  return [r.split(";")[0].strip() for r in found if '"bench"' in r]


def their_config(model: str) -> dict[str, Any]:
  """The published model's settings there; GELU is theirs, not its tanh form."""
  config = cases.config_of(model)
  like = cases.build_network(config).like
  return {**export.config_json(config, like), "hidden_act": "gelu"}


def summary(work: Work, runs: list[tuple[dict, dict]]) -> dict[str, Any]:
  """A row: medians over the rounds, ratios of each round."""
  ours, theirs = (list(each) for each in zip(*runs, strict=True))
  medians = lambda runs: [statistics.median(run["seconds"]) for run in runs]
  rates = lambda runs: [run["product_flops_per_second"] for run in runs]
  peak = lambda runs: max(run["peak_bytes"] for run in runs)
  pairs = zip(medians(ours), medians(theirs), strict=True)
  ratios = [theirs / ours for ours, theirs in pairs]
  reached = [ours[0]["flops"] / seconds for seconds in medians(ours)]
  alone = statistics.median(run["products_seconds"] for run in ours)
  shares = [x / y for x, y in zip(reached, rates(ours), strict=True)]
  row = {
      "model": work.model,
      "what": work.what,
      "ratio": statistics.median(ratios),
      "ratio_range": [min(ratios), max(ratios)],
      "ratio_of_products_alone": statistics.median(medians(theirs)) / alone,
      "of_products": statistics.median(shares),
      "memory": peak(ours) / peak(theirs),
      "target": {
          "ratio": work.ratio,
          "of_products": work.of_products,
          "memory": work.memory,
      },
      "compile_seconds": max(run["compile_seconds"] for run in ours),
      "versions": theirs[0]["versions"],
  }
  for side, its in (("ours", ours), ("theirs", theirs)):
    row[side] = {
        "seconds": medians(its),
        "peak_bytes": peak(its),
        "product_flops_per_second": statistics.median(rates(its)),
    }
  row["below_target"] = [
      name
      for name, wanted in row["target"].items()
      if wanted is not None
      and (row[name] > wanted if name == "memory" else row[name] < wanted)
  ]
  return row


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """What is printed."""
  shown = rich.table.Table(
      "model",
      "what",
      "ours",
      "transformers",
      "times faster",
      "target",
      "were it products alone",
      "of products' rate",
      "target",
      "memory, ours / theirs",
      "",
  )
  number = lambda x: "–" if x is None else f"{x:.2f}"
  for row in rows:
    sides = row["ours"], row["theirs"]
    low, high = row["ratio_range"]
    memory = " / ".join(f"{x['peak_bytes'] / 2**30:.2f} GiB" for x in sides)
    shown.add_row(
        row["model"],
        row["what"],
        *(f"{statistics.median(x['seconds']):.3f} s" for x in sides),
        f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})",
        number(row["target"]["ratio"]),
        number(row["ratio_of_products_alone"]),
        f"{row['of_products']:.0%}",
        number(row["target"]["of_products"]),
        memory,
        "below target: " + ", ".join(row["below_target"])
        if row["below_target"]
        else "",
    )
  return shown


def their_rate(row: dict[str, Any]) -> str:
  """Examples a second of transformers, if it ran."""
  seconds = row["theirs"].get("seconds")
  if not seconds:
    return "–"
  return f"{row['batch_size'] / statistics.median(seconds):.1f}"


def run(args: list[str]) -> dict[str, Any]:
  """What a measurement prints; its last line is JSON."""
  done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
  if done.returncode:
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    raise UserError(f"{' '.join(args)} failed: {last}")
  return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
  """Prints the comparison, and writes it where --json says."""
  console = rich.console.Console()
  environment = pathlib.Path(_ENVIRONMENT.value)
  if _ACCELERATOR.value:
    models = cases.chosen(_MODELS.value, cases.CONFIGS)
    found = measure_on_accelerator(
        models, _MOST.value, environment, console.print
    )
    more = {"transformers, examples/s": their_rate}
    console.print(published.table(found, more))
  else:
    models = cases.chosen(
        _MODELS.value, dict.fromkeys(work.model for work in WORK)
    )
    options = _OPTIONS.value.split()
    found = measure(models, _ROUNDS.value, environment, options, console.print)
    console.print(table(found))
  if _JSON.value is not None:
    benchmark.write(found, pathlib.Path(_JSON.value))


if __name__ == "__main__":
  _MODELS = flags.DEFINE_string("models", None, "names, separated by commas")
  _ROUNDS = flags.DEFINE_integer("rounds", 3, "how often each side runs")
  _OPTIONS = flags.DEFINE_string("options", "", "of transformers: '--compile'")
  _ACCELERATOR = flags.DEFINE_bool("accelerator", False, "bfloat16 on a device")
  _MOST = flags.DEFINE_integer("most", 4096, "of --accelerator: largest batch")
  _JSON = flags.DEFINE_string("json", None, "a file for what is measured")
  _ENVIRONMENT = flags.DEFINE_string(
      "environment",
      "~/.cache/perceiver/peers",
      "a virtual environment with PyTorch and transformers; made if missing",
  )
  command.run(main, needs_config=False)
