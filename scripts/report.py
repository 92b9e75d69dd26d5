"""Makes a static page of runs: curves, numbers, images, videos, settings.

    python -m scripts.report --runs=DIR --output=report/

Every folder below DIR with a metrics.jsonl is a run. report/index.html has the
best metric of each run and the settings in which runs differ. The page of a run
has its curves, its last metrics with baselines, its newest figures and videos,
its commit and its machine. The pages work offline, and report/ can be copied
anywhere.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import html
import json
import math
import pathlib
import re
import shutil
from typing import Any, NamedTuple

from absl import flags
import jinja2
from matplotlib import ticker
import numpy as np

from experiments.data import atomic
from experiments.engine import command
from experiments.engine import metric_names
from experiments.engine import record
from experiments.engine.errors import UserError

PAGES = pathlib.Path(__file__).parent / "report_pages"
FIGURES = ("figures", "pictures")  # Older runs have the second.
MOST_LINES = 12  # Of a chart that can be read.
MOST_POINTS = 250  # Of a line.
MOST_SETTINGS = 12  # Columns of the table of differences.
WIDTH, HEIGHT = 380, 230  # Of a chart.
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 10, 34


@dataclasses.dataclass(frozen=True)
class Run:
  """The records of a run."""

  name: str  # The path below the folder of all runs.
  folder: pathlib.Path
  page: str  # The name of its page.
  records: Sequence[Mapping[str, float]]
  config: Mapping[str, Any]  # Dotted path -> value; empty: not recorded.
  starts: Sequence[Mapping[str, Any]]

  @property
  def group(self) -> str:
    """The task; without a config, the first folder."""
    return str(self.config.get("task") or self.name.partition("/")[0])

  @property
  def short(self) -> str:
    """The name without the group where it begins with it."""
    return self.name.removeprefix(f"{self.group}/")

  @functools.cached_property
  def metrics(self) -> list[str]:
    """Metrics of evaluations, the best checkpoint's first."""
    every = dict.fromkeys(name for entry in self.records for name in entry)
    names = metric_names.ordered(every)
    best = self.config.get("best")
    return sorted(names, key=lambda name: name != best)

  @functools.cached_property
  def last(self) -> dict[str, float]:
    """The last value of everything that was recorded."""
    found: dict[str, float] = {}
    for entry in self.records:
      found |= entry
    return found

  def curve(self, name: str) -> tuple[list[int], list[float]]:
    """Steps and finite values of a metric."""
    points = [
        (int(r["step"]), r[name])
        for r in self.records
        if math.isfinite(r.get(name, math.nan))
    ]
    return [step for step, _ in points], [value for _, value in points]

  def best_of(self, name: str) -> tuple[float, int] | None:
    """(value, step) at which a metric was best."""
    steps, values = self.curve(name)
    if not values:
      return None
    is_cost = metric_names.parsed(name).kind.is_cost
    if name == self.config.get("best"):
      is_cost = not self.config.get("best_is_largest", True)
    i = int(np.argmin(values) if is_cost else np.argmax(values))
    return values[i], steps[i]


def read_runs(folder: pathlib.Path) -> list[Run]:
  """All runs below a folder, by name.

  Raises:
    UserError: if there are none.
  """
  files = sorted(folder.rglob("metrics.jsonl"))
  if not files:
    raise UserError(f"{folder}: no run below it, which has a metrics.jsonl")
  runs, pages = [], set()
  for file in files:
    name = file.parent.relative_to(folder).as_posix()
    if name == ".":
      name = folder.resolve().name
    page = re.sub(r"[^\w.]+", "-", name).strip("-.")
    while page in pages:
      page += "_"
    pages.add(page)
    config = file.with_name("config.json")
    starts = file.with_name("starts.jsonl")
    runs.append(
        Run(
            name,
            file.parent,
            page,
            record.read(file),
            dict(_flat(atomic.read_json(config))) if config.exists() else {},
            record.read_starts(starts) if starts.exists() else [],
        )
    )
  return runs


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple]:
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      yield from _flat(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def differences(runs: Sequence[Run]) -> list[str]:
  """Settings that are not the same in all runs that have a config."""
  configs = [run.config for run in runs if run.config]
  keys = dict.fromkeys(key for config in configs for key in config)
  texts = lambda key: {json.dumps(c.get(key), sort_keys=True) for c in configs}
  return [key for key in keys if len(texts(key)) > 1]


class Line(NamedTuple):
  """A line of a chart."""

  name: str
  steps: Sequence[int]
  values: Sequence[float]


def chart(
    lines: Sequence[Line],
    label: str,
    baselines: Mapping[str, float] | None = None,
) -> str:
  """Lines against training steps, as SVG with the colours of the page.

  Args:
    lines: of one metric.
    label: its title and unit.
    baselines: name -> value, drawn as dashed lines.
  """
  baselines = {k: v for k, v in (baselines or {}).items() if math.isfinite(v)}
  values = [v for line in lines for v in line.values] + [*baselines.values()]
  steps = [s for line in lines for s in line.steps]
  ticks = ticker.MaxNLocator(4).tick_values(min(values), max(values))
  last = max(*steps, 1)
  across = np.array(ticker.MaxNLocator(4, integer=True).tick_values(0, last))
  across = across[(across >= 0) & (across <= last)]
  low, high = float(ticks[0]), float(ticks[-1])
  at_x = lambda s: LEFT + (WIDTH - LEFT - RIGHT) * s / last
  at_y = (
      lambda v: HEIGHT
      - BOTTOM
      - (HEIGHT - TOP - BOTTOM) * (v - low) / (high - low)
  )
  right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
  parts = [
      f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
      f' aria-label="{html.escape(label)} by training step">'
  ]
  for tick in ticks:
    y = at_y(tick)
    parts.append(
        f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/><text class="y"'
        f' x="{LEFT - 6}" y="{y + 4:.1f}">{number(tick)}</text>'
    )
  for tick in across:
    parts.append(
        f'<text class="x" x="{at_x(tick):.1f}" y="{bottom + 15}">'
        f"{tick:,.0f}</text>"
    )
  parts.append(
      f'<text class="x" x="{(LEFT + right) / 2}" y="{HEIGHT - 4}">'
      "training step</text>"
  )
  for i, (name, value) in enumerate(baselines.items()):
    parts.append(
        f'<path class="baseline b{i % 4}"'
        f' d="M{LEFT} {at_y(value):.1f}H{right}">'
        f"<title>{html.escape(name)}: {number(value)}</title></path>"
    )
  for i, line in enumerate(lines):
    every = -(-len(line.steps) // MOST_POINTS)
    points = [*zip(line.steps, line.values, strict=True)]
    points = [*points[:-1:every], *points[-1:]]
    path = " ".join(f"{at_x(s):.1f},{at_y(v):.1f}" for s, v in points)
    parts.append(
        f'<polyline class="line c{i % 7}" points="{path}">'
        f"<title>{html.escape(line.name)}</title></polyline>"
    )
    if len(points) <= 40:
      parts += [
          f'<circle class="c{i % 7}" cx="{at_x(s):.1f}" cy="{at_y(v):.1f}"'
          f' r="2.5"><title>{html.escape(line.name)}: {number(v)} after'
          f" {s:,} steps</title></circle>"
          for s, v in points
      ]
  parts.append("</svg>")
  keys = [(f"line c{i % 7}", line.name) for i, line in enumerate(lines)]
  keys = keys if len(keys) > 1 else []
  keys += [(f"baseline b{i % 4}", name) for i, name in enumerate(baselines)]
  legend = "".join(
      '<li><svg viewBox="0 0 28 8" aria-hidden="true">'
      f'<path class="{style}" d="M0 4H28"/></svg>{html.escape(name)}</li>'
      for style, name in keys
  )
  return (
      f'<figure class="chart"><figcaption>{html.escape(label)}</figcaption>'
      f"{''.join(parts)}"
      + (f"<ul>{legend}</ul>" if legend else "")
      + "</figure>"
  )


def number(value: float) -> str:
  """Four digits, as few characters as that takes."""
  if not math.isfinite(value):
    return str(value)
  return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _curves(run: Run) -> tuple[list[str], list[str]]:
  """Charts of evaluations and the loss, and of all other metrics."""
  names = dict.fromkeys(name for entry in run.records for name in entry)
  own = [*run.metrics, *(n for n in names if n == "train/loss")]
  rest = [
      name
      for name in names
      if name not in own
      and name != "step"
      and not metric_names.parsed(name).baseline
  ]
  drawn: tuple[list[str], list[str]] = ([], [])
  for charts, some in zip(drawn, (own, rest), strict=True):
    for name in some:
      line = Line(run.name, *run.curve(name))
      if not line.steps:
        continue
      parsed = metric_names.parsed(name)
      label = f"{parsed.part}: {parsed.label}"
      # What never changes is a number, not a curve.
      if name in run.metrics[:1] or len(set(line.values)) > 1:
        baselines = metric_names.baselines(run.last, name)
        charts.append(chart([line], label, baselines))
  return drawn


class Media(NamedTuple):
  """The newest figures of a run, by name."""

  title: str
  step: int
  kind: str  # "image", "video" or "text"
  file: str  # Relative to the page; of a text, its content in HTML.


def _media(run: Run, output: pathlib.Path) -> list[Media]:
  """Copies the newest of the run's figures into the report."""
  newest: dict[tuple[str, str], tuple[int, pathlib.Path]] = {}
  for folder in FIGURES:
    for file in (run.folder / folder).glob("*"):
      match = re.fullmatch(r"(.+)-(\d+)\.(png|mp4|md)", file.name)
      if match:
        key, step = (match[1], match[3]), int(match[2])
        if step >= newest.get(key, (-1, file))[0]:
          newest[key] = step, file
  found = []
  for (name, ending), (step, file) in sorted(newest.items()):
    if ending == "md":
      text = file.read_text(encoding="utf-8")
      found.append(Media(name, step, "text", _marked(text)))
      continue
    place = output / "files" / run.page / file.name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)
    kind = "image" if ending == "png" else "video"
    path = f"files/{run.page}/{file.name}"
    found.append(Media(name, step, kind, path))
  return found


def _marked(text: str) -> str:
  """The little of Markdown that predictions have, in HTML."""
  text = html.escape(text.strip())
  text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text, flags=re.DOTALL)
  text = re.sub(r"~~(.+?)~~", r"<s>\1</s>", text, flags=re.DOTALL)
  parts = [part.replace("\n", "<br>") for part in re.split(r"\n\n+", text)]
  return "".join(f"<p>{part}</p>" for part in parts)


def _numbers(run: Run) -> list[dict[str, Any]]:
  """A row for each metric: the last value, the best one, baselines."""
  rows = []
  for name in run.metrics:
    best = run.best_of(name)
    if best is None:
      continue
    parsed = metric_names.parsed(name)
    baselines = metric_names.baselines(run.last, name).items()
    rows.append(
        {
            "part": parsed.part,
            "label": parsed.label,
            "last": number(run.last[name]),
            "best": number(best[0]),
            "step": f"{best[1]:,}",
            "baselines": ", ".join(f"{k} {number(v)}" for k, v in baselines),
        }
    )
  return rows


def _starts(run: Run) -> list[dict[str, str]]:
  """The starts of a run: time, commit and machine."""
  rows = []
  for start in run.starts:
    commit = (start.get("commit") or "unknown")[:12]
    if start.get("uncommitted_changes"):
      commit += " with uncommitted changes"
    devices = start.get("devices") or []
    kinds = ", ".join(
        f"{devices.count(kind)} × {kind}" for kind in dict.fromkeys(devices)
    )
    packages = start.get("packages") or {}
    rows.append(
        {
            "time": str(start.get("time", "")),
            "step": f"{start.get('from_step', 0):,}",
            "commit": commit,
            "machine": f"{kinds or 'unknown'}, {start.get('cores', '?')} cores",
            "versions": ", ".join(f"{k} {v}" for k, v in packages.items()),
            "command": " ".join(map(str, start.get("command") or [])),
        }
    )
  return rows


def _summary(run: Run, changed: Sequence[str]) -> dict[str, Any]:
  """The run's row of the index."""
  head = run.metrics[0] if run.metrics else ""
  best = run.best_of(head) if head else None
  parsed = metric_names.parsed(head)
  starts = _starts(run)
  return {
      "name": run.short,
      "page": f"{run.page}.html",
      "metric": f"{parsed.part}: {parsed.label}" if best else "",
      "best": number(best[0]) if best else "",
      "at": f"{best[1]:,}" if best else "",
      "steps": f"{int(run.last.get('step', 0)):,}",
      "commit": starts[-1]["commit"] if starts else "not recorded",
      "machine": starts[-1]["machine"] if starts else "not recorded",
      "settings": [
          json.dumps(run.config[key]) if key in run.config else ""
          for key in changed[:MOST_SETTINGS]
      ],
  }


def _overview(runs: Sequence[Run]) -> str:
  """A chart of the first metric that most runs of a group have."""
  heads = [run.metrics[0] for run in runs if run.metrics]
  if not heads:
    return ""
  head = max(dict.fromkeys(heads), key=heads.count)
  lines = [Line(run.short, *run.curve(head)) for run in runs]
  lines = [line for line in lines if len(line.steps) > 1]
  if not 1 < len(lines) <= MOST_LINES:
    return ""
  parsed = metric_names.parsed(head)
  baselines = metric_names.baselines(runs[0].last, head)
  return chart(lines, f"{parsed.part}: {parsed.label}", baselines)


def write(folder: pathlib.Path, output: pathlib.Path) -> int:
  """Writes the pages of all runs below a folder; returns how many runs.

  Raises:
    UserError: if there are none, or the output is not a report's folder.
  """
  runs = read_runs(folder)
  if output.exists() and not output.is_dir():
    raise UserError(f"{output} is a file; --output is a folder")
  output.mkdir(parents=True, exist_ok=True)
  pages = jinja2.Environment(
      loader=jinja2.FileSystemLoader(PAGES),
      autoescape=True,
      trim_blocks=True,
      lstrip_blocks=True,
      undefined=jinja2.StrictUndefined,
  )
  groups: dict[str, list[Run]] = {}
  for run in runs:
    groups.setdefault(run.group, []).append(run)
  sections = []
  for group, members in sorted(groups.items()):
    changed = differences(members)
    sections.append(
        {
            "name": group,
            "rows": [_summary(run, changed) for run in members],
            "chart": _overview(members),
            "settings": changed[:MOST_SETTINGS],
            "more": len(changed) - MOST_SETTINGS,
        }
    )
    for run in members:
      curves, rest = _curves(run)
      page = pages.get_template("run.html").render(
          title=run.name,
          numbers=_numbers(run),
          curves=curves,
          rest=rest,
          media=_media(run, output),
          starts=_starts(run),
          changed=[(key, json.dumps(run.config.get(key))) for key in changed],
          config=[(k, json.dumps(v)) for k, v in run.config.items()],
      )
      (output / f"{run.page}.html").write_text(page, encoding="utf-8")
  index = pages.get_template("index.html").render(
      title="Runs", sections=sections, count=len(runs)
  )
  (output / "index.html").write_text(index, encoding="utf-8")
  return len(runs)


def main() -> None:
  """Writes the report."""
  output = pathlib.Path(_OUTPUT.value)
  count = write(pathlib.Path(_RUNS.value), output)
  print(f"{count} runs: {output / 'index.html'}")


if __name__ == "__main__":
  _RUNS = flags.DEFINE_string(
      "runs", None, "a folder that contains runs", required=True
  )
  _OUTPUT = flags.DEFINE_string(
      "output", None, "a folder for the pages", required=True
  )
  command.run(main, needs_config=False)
