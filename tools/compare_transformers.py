"""Compares the published models with Hugging Face's transformers, in turns.

    python -m tools.compare_transformers [--models=mlm,flow] [--calls=9]
        [--work=train] [--beside=eager --beside=products=written]
        [--set=PATH=VALUE ...] [--json=FILE]
    python -m tools.compare_transformers --accelerator [--models=mlm,flow]
        [--most=4096] [--json=FILE]

The first measures forward passes and training steps on this machine's CPU. Each
side is a process that waits while another one computes, and single calls take
turns: ours, theirs, ours, theirs. So a machine whose speed changes changes both
calls of a pair, and their ratio is what is reported. --beside says what takes
turns with ours: transformers in eager mode or under `torch.compile`, or ours
with a change, such as `products=written` (`perceiver.orders`). --set changes
ours on both sides, such as `num_points=0`: all outputs of Kinetics.
--accelerator measures training steps in bfloat16 as `scripts.benchmark
--published` does, and transformers' under `torch.compile` at the batch that is
best for ours.
Transformers runs in a virtual environment of its own, `--environment`, which is
made if it is missing.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
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
  """A measurement and its target."""

  model: str
  what: str  # "forward" or "train"
  calls: int  # of each side
  ratio: float | None = None  # their time / ours, at least
  memory: float | None = None  # our highest memory / theirs, at most


WORK = (
    Work("mlm", "forward", 21, 1.1),
    Work("mlm", "train", 9, 1.0),
    Work("imagenet", "forward", 9, 1.2),
    Work("imagenet", "train", 7, 1.0),
    Work("kinetics", "forward", 11, 1.7),
    Work("kinetics", "train", 9, 1.6),
    Work("flow", "forward", 5, 1.85, 1 / 3),
    Work("flow", "train", 3, 1.5, 1 / 4),
)
# Transformers' modes, and their options.
MODES = {"eager": [], "compiled": ["--compile"]}


def measure(
    works: list[Work],
    modes: list[str],
    changes: list[str],
    environment: pathlib.Path,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
  """Calls ours and theirs in turns, each in a process of its own.

  Args:
    works: of `WORK`.
    modes: of `MODES`, or PATH=VALUE: ours with this change. All of them take
      turns with ours.
    changes: of ours, PATH=VALUE.
    environment: a virtual environment for theirs, made if it is not there.
    say: told of each result.

  Returns:
    a row for each work and mode: all times, ratios, memory and rates of both.

  Raises:
    UserError: if a mode is unknown, theirs cannot be installed, or a process
      fails.
  """
  for mode in modes:
    if mode not in MODES and "=" not in mode:
      raise UserError(
          f"--beside={mode}: neither of {', '.join(MODES)} nor PATH=VALUE"
      )
  python = pathlib.Path(sys.executable)
  if not MODES.keys().isdisjoint(modes):
    python = prepare(environment, current_target().platform == "cpu", say)
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    for work in works:
      file = pathlib.Path(folder) / f"{work.model}.json"
      file.write_text(json.dumps(their_config(work.model)))
      theirs = [str(python), "-m", THEIRS, str(file), work.what]
      own = [sys.executable, "-m", OURS, work.model, work.what, *changes]
      sides = [own]
      for mode in modes:
        options = MODES.get(mode)
        sides.append([*own, mode] if options is None else [*theirs, *options])
      ours, *others = in_turns(sides, work.calls)
      for mode, run in zip(modes, others, strict=True):
        row = summary(work, mode, ours, run)
        low, high = row["ratio_range"]
        say(
            f"{work.model} {work.what}, {mode}: {row['ratio']:.2f} times as"
            f" fast ({low:.2f} to {high:.2f})"
        )
        rows.append(row)
  return rows


def in_turns(commands: list[list[str]], calls: int) -> list[dict[str, Any]]:
  """The results of commands that serve calls; each has its "seconds".

  All processes live at the same time, and one of them computes.

  Raises:
    UserError: if a process fails.
  """
  with contextlib.ExitStack() as stack:
    sides = []
    for command in commands:
      sides.append(stack.enter_context(_served(command)))
      sides[-1]()  # One after the other: compiling takes all cores.
    seconds = [[side("call") for side in sides] for _ in range(calls)]
    results = [side(None) for side in sides]
  each = zip(*seconds, strict=True)
  return [
      {**result, "seconds": list(its)}
      for result, its in zip(results, each, strict=True)
  ]


@contextlib.contextmanager
def _served(args: list[str]) -> Iterator[Callable[..., Any]]:
  """A process of `timing.serve`, called by one line of input."""
  with tempfile.TemporaryFile("w+") as errors:
    process = subprocess.Popen(
        args,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    say, hear = process.stdin, process.stdout

    def ask(line: str | None = "") -> Any:
      """Sends a line, or the end; the next answer."""
      with contextlib.suppress(BrokenPipeError):  # Then no answer comes.
        if line is None:
          say.close()
        elif line:
          say.write(line + "\n")
          say.flush()
      for answer in hear:
        with contextlib.suppress(ValueError):  # Libraries print, too.
          return json.loads(answer)
      errors.seek(0)
      last = (errors.read().strip() or "no message").splitlines()[-1]
      raise UserError(f"{' '.join(args)} failed: {last}")

    try:
      yield ask
    finally:
      process.kill()
      process.wait()
      hear.close()


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
    command = [str(python), "-m", THEIRS, str(file), "train", *options]
    try:
      return in_turns([command], published.CALLS)[0]
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
  """The requirements of the extra `bench`."""
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


def summary(
    work: Work, mode: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> dict[str, Any]:
  """A row: the ratio of each pair of calls, medians, targets."""
  pairs = zip(ours["seconds"], theirs["seconds"], strict=True)
  ratios = [theirs / ours for ours, theirs in pairs]
  median = statistics.median(ours["seconds"])
  row = {
      "model": work.model,
      "what": work.what,
      "mode": mode,
      "ratio": statistics.median(ratios),
      "ratio_range": [min(ratios), max(ratios)],
      "ratios": ratios,
      "ratio_of_products_alone": (
          statistics.median(theirs["seconds"]) / ours["products_seconds"]
      ),
      "share_of_products": ours["products_seconds"] / median,
      "memory": ours["peak_bytes"] / theirs["peak_bytes"],
      "target": {"ratio": work.ratio, "memory": work.memory},
      "ours": ours,
      "theirs": theirs,
  }
  row["below_target"] = [
      name
      for name, wanted in row["target"].items()
      if wanted is not None
      and (row[name] > wanted if name == "memory" else row[name] < wanted)
  ]
  return row


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """The printed table."""
  shown = rich.table.Table(
      "model",
      "what",
      "beside",
      "ours, s",
      "theirs, s",
      "times faster",
      "target",
      "were it products alone",
      "memory, ours / theirs, GiB",
      "target",
      "",
  )
  number = lambda x: "–" if x is None else f"{x:.2f}"
  for row in rows:
    sides = row["ours"], row["theirs"]
    low, high = row["ratio_range"]
    memory = " / ".join(f"{x['peak_bytes'] / 2**30:.2f}" for x in sides)
    shown.add_row(
        row["model"],
        row["what"],
        row["mode"],
        *(f"{statistics.median(x['seconds']):.3f}" for x in sides),
        f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})",
        number(row["target"]["ratio"]),
        number(row["ratio_of_products_alone"]),
        f"{memory} = {row['memory']:.2f}",
        number(row["target"]["memory"]),
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


def main() -> None:
  """Prints the comparison, and writes it to --json."""
  # A table of many columns; a file has no width.
  width = None if sys.stdout.isatty() else 160
  console = rich.console.Console(width=width)
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
    works = [
        dataclasses.replace(work, calls=_CALLS.value or work.calls)
        for work in WORK
        if work.model in models and work.what in _WORK.value
    ]
    found = measure(
        works, _BESIDE.value, _SET.value, environment, console.print
    )
    console.print(table(found))
  if _JSON.value is not None:
    benchmark.write(found, pathlib.Path(_JSON.value))


if __name__ == "__main__":
  _MODELS = flags.DEFINE_string("models", None, "names, separated by commas")
  _CALLS = flags.DEFINE_integer(
      "calls", None, "per program; default: 3 to 21, by the model", 1
  )
  _WORK = flags.DEFINE_multi_enum(
      "work", ["forward", "train"], ["forward", "train"], "what to measure"
  )
  _BESIDE = flags.DEFINE_multi_string(
      "beside", ["eager"], f"{', '.join(MODES)}, or PATH=VALUE of ours"
  )
  _SET = flags.DEFINE_multi_string("set", [], "PATH=VALUE for ours")
  _ACCELERATOR = flags.DEFINE_bool(
      "accelerator", False, "bfloat16 on a GPU or TPU"
  )
  _MOST = flags.DEFINE_integer("most", 4096, "for --accelerator: largest batch")
  _JSON = flags.DEFINE_string("json", None, "a file for the results")
  _ENVIRONMENT = flags.DEFINE_string(
      "environment",
      "~/.cache/perceiver/peers",
      "a virtual environment with PyTorch and transformers; made if missing",
  )
  command.run(main, needs_config=False)
