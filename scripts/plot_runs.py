"""Plots metrics of runs against training steps.

    python -m scripts.plot_runs --runs=DIR,DIR --metrics=NAME,NAME
        [--metrics=NAME] --output=FILE.png

Each --metrics is a panel with names of metrics.jsonl. Runs whose folders differ
only in the seed (`mini` and `mini-seed=1`) are one line, their mean, with a
band from the smallest to the largest value. Baselines are dashed lines.
"""

from collections.abc import Sequence
import os
import pathlib
import re
from typing import Any, NamedTuple

from absl import flags
import matplotlib.figure
import numpy as np

from experiments.engine import command
from experiments.engine import figures
from experiments.engine import metric_names
from experiments.engine import record
from experiments.engine.errors import UserError

Curve = tuple[list[int], list[float]]
DASHES = ("--", ":", "-.", (0, (1, 3)), (0, (6, 3, 1, 3, 1, 3)))


def curve(run: pathlib.Path, metric: str) -> Curve:
  """The steps and values of a metric of a run.

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


def by_seed(runs: Sequence[pathlib.Path]) -> dict[str, list[pathlib.Path]]:
  """Runs by name without the seed: the path below the common folder.

  Of `mini-peak=0.1`, a folder of `scripts.sweep`, it is "mini, peak = 0.1".
  """
  top = os.path.commonpath([run.absolute().parent for run in runs])
  groups: dict[str, list[pathlib.Path]] = {}
  for run in runs:
    name = os.path.relpath(run.absolute(), top)
    name = re.sub(r"[-_]?seed[=_]\d+", "", name)
    name = re.sub(r"-(\w+)=", r", \1 = ", name)
    groups.setdefault(name, []).append(run)
  return groups


class Band(NamedTuple):
  """A metric of one or several seeds, at the steps that all have."""

  steps: np.ndarray
  values: np.ndarray  # [runs, steps]


def band(runs: Sequence[pathlib.Path], metric: str) -> Band:
  """A metric of runs that differ in the seed."""
  curves = [dict(zip(*curve(run, metric), strict=True)) for run in runs]
  steps = sorted(set.intersection(*map(set, curves)))
  values = [[each[step] for step in steps] for each in curves]
  return Band(np.array(steps), np.array(values))


def baselines(run: pathlib.Path, metric: str) -> dict[str, float]:
  """Title -> value of the baselines that a run has measured of a metric."""
  last: dict[str, float] = {}
  for found in record.read(run / "metrics.jsonl"):
    last |= found
  return metric_names.baselines(last, metric)


@figures.styled()
def draw(
    runs: Sequence[pathlib.Path], panels: Sequence[Sequence[str]]
) -> matplotlib.figure.Figure:
  """A panel for each list of metrics, with a line for each run and metric."""
  figure = matplotlib.figure.Figure(figsize=(5.5 * len(panels), 3.8))
  groups = by_seed(runs)
  axes: Any = figure.subplots(1, len(panels), squeeze=False)
  for ax, metrics in zip(axes[0], panels, strict=True):
    _draw_panel(ax, groups, metrics)
  keys = [ax.get_legend_handles_labels() for ax in axes[0]]
  if all(labels == keys[0][1] for _, labels in keys):
    if len(keys[0][1]) > 1:
      rows = -(-sum(map(len, keys[0][1])) // (65 * len(panels)))
      columns = -(-len(keys[0][1]) // rows)
      figure.legend(*keys[0], loc="outside lower center", ncols=columns)
  else:
    for ax in axes[0]:
      ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
  return figure


def _draw_panel(ax, groups, metrics) -> None:
  names = [metric_names.parsed(metric) for metric in metrics]
  lines: dict[str, float] = {}
  for metric, name in zip(metrics, names, strict=True):
    for group, runs in groups.items():
      words = []
      if len(metrics) > 1:
        words.append(name.baseline or f"{name.part} {name.kind.title}".strip())
      if len(runs) > 1:
        words.append(f"{len(runs)} seeds")
      if len(groups) > 1 or not words:
        words = [": ".join([group, *words[:1]]), *words[1:]]
      steps, values = band(runs, metric)
      (line,) = ax.plot(
          steps,
          values.mean(0),
          marker="." if len(steps) < 50 else "",
          label=", ".join(words),
      )
      if len(runs) > 1:
        color = line.get_color()
        ax.fill_between(
            steps, values.min(0), values.max(0), color=color, alpha=0.2, lw=0
        )
      if not name.baseline:
        for title, value in baselines(runs[0], metric).items():
          lines.setdefault(title, value)
  for i, (title, value) in enumerate(lines.items()):
    dash = DASHES[i % len(DASHES)]
    ax.axhline(value, color="0.45", linestyle=dash, linewidth=1.2, label=title)
  ax.set_title(" and ".join(dict.fromkeys(n.part for n in names if n.part)))
  ax.set_xlabel("training step")
  ax.set_ylabel(" and ".join(dict.fromkeys(n.label for n in names)))
  ax.grid()


def main() -> None:
  """Writes the figure."""
  panels = [text.split(",") for text in _METRICS.value]
  draw([pathlib.Path(run) for run in _RUNS.value], panels).savefig(
      _OUTPUT.value, dpi=100
  )


if __name__ == "__main__":
  _RUNS = flags.DEFINE_list(
      "runs", None, "folders with metrics.jsonl", required=True
  )
  _METRICS = flags.DEFINE_multi_string(
      "metrics", None, "NAME,NAME: one panel; may be repeated", required=True
  )
  _OUTPUT = flags.DEFINE_string("output", None, "FILE.png", required=True)
  command.run(main, needs_config=False)
