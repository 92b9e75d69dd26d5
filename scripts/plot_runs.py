"""Draws metrics of runs against their steps.

    python -m scripts.plot_runs --runs=DIR,DIR --metrics=NAME,NAME
        [--metrics=NAME] --output=FILE.png

Each --metrics is a panel; its names are those of metrics.jsonl.
"""

from collections.abc import Sequence
import pathlib

from absl import flags
import matplotlib.figure

from experiments.engine import command
from experiments.engine import record
from experiments.engine.errors import UserError

Curve = tuple[list[int], list[float]]


def curve(run: pathlib.Path, metric: str) -> Curve:
  """Steps at which a run has measured something, and what.

  Raises:
    UserError: if there is no such run, or it has no such metric.
  """
  file = run / "metrics.jsonl"
  records = record.read(file)
  points = [(r["step"], r[metric]) for r in records if metric in r]
  if not points:
    names = sorted({name for found in records for name in found})
    raise UserError(f"{file} has no {metric!r}; it has {', '.join(names)}")
  steps, values = zip(*points, strict=True)
  return list(steps), list(values)


def draw(
    runs: Sequence[pathlib.Path], panels: Sequence[Sequence[str]]
) -> matplotlib.figure.Figure:
  """A panel for each list of metrics, with a line for each run and metric."""
  figure = matplotlib.figure.Figure(
      figsize=(6 * len(panels), 4), layout="constrained"
  )
  for axes, metrics in zip(
      figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
  ):
    for run in runs:
      for metric in metrics:
        label = metric if len(runs) == 1 else f"{run.name}: {metric}"
        axes.plot(*curve(run, metric), marker=".", label=label)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
  return figure


def main() -> None:
  """Writes the picture."""
  panels = [text.split(",") for text in _METRICS.value]
  draw([pathlib.Path(run) for run in _RUNS.value], panels).savefig(
      _OUTPUT.value, dpi=100
  )


if __name__ == "__main__":
  _RUNS = flags.DEFINE_list(
      "runs", None, "folders with metrics.jsonl", required=True
  )
  _METRICS = flags.DEFINE_multi_string(
      "metrics", None, "NAME,NAME: a panel", required=True
  )
  _OUTPUT = flags.DEFINE_string("output", None, "FILE.png", required=True)
  command.run(main, needs_config=False)
