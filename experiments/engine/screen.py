"""Output of a command: lines and, on a terminal, progress bars."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import time
from typing import Any

import rich.console
import rich.progress

FIRST_TIME = "the first time this takes a minute or more"
_EVERY = 30.0  # Seconds between lines of how far it is, without a terminal.


class Screen:
  """Lines on standard output; on a terminal, bars with the time left below."""

  def __init__(self, is_active: bool = True):
    """Prepares it.

    Args:
      is_active: whether it shows anything: of several processes, one does.
    """
    self._is_active = is_active
    # A notebook gets lines: of bars it would keep every state.
    is_notebook = rich.console.Console().is_jupyter
    self._console = rich.console.Console(
        highlight=False,
        soft_wrap=True,
        force_jupyter=False,
        force_terminal=False if is_notebook else None,
    )
    self._bars: rich.progress.Progress | None = None

  def __enter__(self):
    if self._is_active and self._console.is_terminal:
      self._bars = rich.progress.Progress(
          rich.progress.TextColumn("{task.fields[what]}"),
          rich.progress.MofNCompleteColumn(),
          rich.progress.BarColumn(),
          rich.progress.TextColumn("{task.description}"),
          rich.progress.TimeRemainingColumn(),
          console=self._console,
      )
      self._bars.start()
    return self

  def __exit__(self, *exception):
    if self._bars is not None:
      self._bars.stop()
      self._bars = None

  @property
  def has_bars(self) -> bool:
    """Whether bars are shown: on a terminal, while the screen is open."""
    return self._bars is not None

  def line(self, text: str) -> None:
    """Prints one or several lines."""
    if self._is_active:
      self._console.print(text, markup=False)

  def bar(self, what: str, total: int | None, done: int = 0) -> "Bar":
    """A progress bar; nothing without a terminal."""
    return Bar(self._bars, what, total, done)

  def tracked(
      self, what: str, items: Iterable[Any], total: int | None
  ) -> Iterator[Any]:
    """The items, with a progress bar, or with lines without a terminal.

    Args:
      what: they are.
      items: one after another.
      total: their number; None: unknown.
    """
    bar, said = self.bar(what, total), time.monotonic()
    try:
      for i, item in enumerate(items):
        yield item
        bar.move(i + 1)
        if self._bars is None and time.monotonic() - said > _EVERY:
          said = time.monotonic()
          self.line(f"{what} {i + 1}/{total or '?'}")
    finally:
      bar.remove()


class Bar:
  """One of the bars of a screen."""

  def __init__(
      self,
      bars: rich.progress.Progress | None,
      what: str,
      total: int | None,
      done: int,
  ):
    self._bars = bars
    if bars is not None:
      self._task = bars.add_task("", total=total, completed=done, what=what)

  def move(self, done: int, text: str = "") -> None:
    """Shows how many are done, and a text beside the bar."""
    if self._bars is not None:
      self._bars.update(self._task, completed=done, description=text)

  def remove(self) -> None:
    """Takes the bar away."""
    if self._bars is not None:
      self._bars.remove_task(self._task)


def table(metrics: Mapping[str, float], best: str = "") -> str:
  """Metrics named EVAL/METRIC: a line a metric, a column an eval.

  Args:
    metrics: by name.
    best: the name of the one that chooses the best checkpoint, which is first
      and has a star.
  """
  names = sorted(metrics, key=lambda name: name != best)
  pairs = [name.rpartition("/")[::2] for name in names]
  evals = list(dict.fromkeys(name for name, _ in pairs))
  rows = [["", *evals]]
  for metric in dict.fromkeys(metric for _, metric in pairs):
    row = [metric]
    for name in evals:
      key = f"{name}/{metric}" if name else metric
      shown = f"{metrics[key]:.4g}" if key in metrics else ""
      row.append(shown + "*" * (key == best and key in metrics))
    rows.append(row)
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for first, *others in rows:
    cells = [x.rjust(n) for x, n in zip(others, widths[1:], strict=True)]
    lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
  return "\n".join(lines)
