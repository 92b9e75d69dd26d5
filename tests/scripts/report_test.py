"""The pages of runs: nothing of them is missing, nothing is loaded."""

from html.parser import HTMLParser
import json
import pathlib
import shutil
import subprocess
import urllib.parse

import cv2
import numpy as np
import pytest

from experiments.data.clips import video
from experiments.engine.errors import UserError
from scripts import report

TAGS = {"area", "base", "br", "hr", "img", "input", "link", "meta", "path"}
TAGS |= {"circle", "polyline"}  # Without an end.


class Page(HTMLParser):
  """What a page refers to; fails where tags do not match."""

  def __init__(self, file: pathlib.Path):
    super().__init__()
    self.links, self.ids, self.text, self._open = [], set(), "", []
    self.feed(file.read_text(encoding="utf-8"))
    assert not self._open

  def handle_starttag(self, tag, attrs):
    if tag not in TAGS:
      self._open.append(tag)
    for name, value in attrs:
      if name in ("src", "href", "poster"):
        self.links.append(value)
      if name == "id":
        self.ids.add(value)

  def handle_endtag(self, tag):
    if tag not in TAGS:
      assert self._open.pop() == tag

  def handle_data(self, data):
    self.text += f" {data}"


def write_run(folder: pathlib.Path, seed: int, epe: float) -> None:
  """A run's folder as training leaves it, with figures of two steps."""
  figures = folder / "figures"
  figures.mkdir(parents=True)
  lines = []
  for step, more in ((5, 1.0), (10, 0.0)):
    lines.append({"step": step, "train/loss": 2 + more, "scenes/epe": "nan"})
    evaluated = {"scenes/epe": epe + more, "scenes/epe_zero": 4.0}
    lines.append({"step": step, **evaluated, "scenes/fl_all": 7.0})
    pixels = np.full([16, 24, 3], 100, np.uint8)
    cv2.imwrite(str(figures / f"scenes-flow-{step}.png"), pixels)
    text = "it is **right** 60%\n\n~~<wrong>~~ [x]"
    (figures / f"dev-predictions-{step}.md").write_text(text)
  frames = np.zeros([5, 16, 24, 3], np.uint8)
  sound = np.zeros([9600, 1], np.float32)
  video.write(figures / "scenes-clip-0-10.mp4", frames, 25.0, sound)
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "metrics.jsonl").write_text(text)
  config = {"task": "flow", "seed": seed, "model": {"width": 3}}
  config |= {"best": "scenes/epe", "best_is_largest": False}
  (folder / "config.json").write_text(json.dumps(config))
  start = {"from_step": 0, "commit": "0123456789abcdef", "cores": 2}
  start |= {"devices": ["cpu"], "time": "now", "command": ["train.py", "<x>"]}
  (folder / "starts.jsonl").write_text(json.dumps(start) + "\ndamaged\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
  """The report of three runs, one of them with its numbers alone."""
  folder = tmp_path_factory.mktemp("runs")
  write_run(folder / "flow" / "a b", 0, 3.0)
  write_run(folder / "flow" / "a-b", 1, 2.0)
  (folder / "other").mkdir()
  line = json.dumps({"step": 3, "test/top1": 50.0})
  (folder / "other" / "metrics.jsonl").write_text(line + "\n")
  output = tmp_path_factory.mktemp("report")
  assert report.write(folder, output) == 3
  return output


def test_all_that_pages_refer_to_is_there_and_local(made):
  pages = {file.name: Page(file) for file in made.glob("*.html")}
  assert len(pages) == 4
  media = 0
  for page in pages.values():
    for link in page.links:
      parts = urllib.parse.urlparse(link)
      assert parts.scheme in ("", "data"), link
      if parts.path and not parts.scheme:
        path = urllib.parse.unquote(parts.path)
        assert (made / path).is_file(), link
        media += path.endswith((".png", ".mp4"))
      elif parts.fragment:
        assert parts.fragment in page.ids, link
  assert media == 2 * 3  # An image, which is a link as well, and a video.


def test_the_index_has_the_best_metric_of_each_run_and_what_differs(made):
  text = " ".join(Page(made / "index.html").text.split())
  assert "a b 3 scenes: end-point error (pixels) 10 10 0123456789ab" in text
  assert "a-b 2 scenes: end-point error (pixels) 10 10 0123456789ab" in text
  assert "other 50 test: top-1 accuracy (%) 3 3 not recorded" in text
  assert "Settings that differ run seed a b 0 a-b 1" in text


def test_a_page_has_the_newest_figures_numbers_baselines_and_machine(made):
  page = Page(made / "flow-a-b.html")
  text = " ".join(page.text.split())
  assert "end-point error (pixels) scenes 3 3 10 zero flow 4" in text
  assert "scenes-flow after step 10" in text and "after step 5" not in text
  assert "1 × cpu, 2 cores" in text and "train.py <x>" in text
  source = (made / "flow-a-b.html").read_text()
  assert "<b>right</b>" in source and "<s>&lt;wrong&gt;</s>" in source


def test_a_chart_spans_what_it_shows():
  lines = [report.Line("a<b", [0, 1000], [1.0, 3.0])]
  svg = report.chart(lines, "error", {"guess": 5.0})
  assert "a&lt;b" in svg and "guess" in svg
  ys = [
      float(p.split(",")[1])
      for p in svg.split('points="')[1].split('"')[0].split()
  ]
  assert report.TOP < ys[1] < ys[0] <= report.HEIGHT - report.BOTTOM
  # A constant has a chart, too.
  assert "polyline" in report.chart([report.Line("a", [3], [2.0])], "error")


def test_a_folder_without_runs_is_named(tmp_path):
  with pytest.raises(UserError, match="no run below it"):
    report.write(tmp_path, tmp_path / "report")


@pytest.mark.slow
def test_a_browser_loads_the_pages_without_an_error(made, tmp_path):
  names = ("chromium", "chromium-browser", "google-chrome")
  browser = next(filter(None, map(shutil.which, names)), None)
  if browser is None:
    pytest.skip("no browser is installed")
  options = ["--headless=new", "--no-sandbox", "--disable-gpu"]
  options += [f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
  for file in made.glob("*.html"):
    done = subprocess.run(
        [browser, *options, "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "</html>" in done.stdout
