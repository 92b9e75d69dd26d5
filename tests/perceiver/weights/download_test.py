"""Downloads, from a server on this machine."""

import base64
import contextlib
import hashlib
import http.server
import os
import pickle
import threading

import numpy as np
import pytest

from experiments.engine.declared import of_every_task
from perceiver.weights import deepmind
from perceiver.weights import download
from perceiver.weights.tensors import WeightsError
from tests.conftest import ROOT

PUBLISHED = {
    name: published
    for of_task in of_every_task("PUBLISHED").values()
    for name, published in of_task.items()
}
DATA = bytes(range(256)) * 9000 + b"end"  # More than two blocks.


class Server(http.server.BaseHTTPRequestHandler):
  """Serves DATA as the publishers do; what is asked for is written down."""

  asked: list[str] = []
  stop_after: int | None = None  # bytes, then the connection breaks
  headers_of = staticmethod(lambda: {})

  def do_HEAD(self):
    self.send_response(200)
    self.send_header("Content-Length", str(len(DATA)))
    for name, value in self.headers_of().items():
      self.send_header(name, value)
    self.end_headers()

  def do_GET(self):
    self.asked.append(self.headers.get("Range", "all"))
    first = int(self.headers.get("Range", "bytes=0-")[6:-1])
    self.send_response(206 if first else 200)
    if first:
      last = len(DATA) - 1
      self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
    self.send_header("Content-Length", str(len(DATA) - first))
    self.end_headers()
    end = len(DATA) if self.stop_after is None else first + self.stop_after
    self.wfile.write(DATA[first:end])

  def log_message(self, *args):
    pass


@pytest.fixture
def server():
  Server.asked, Server.stop_after = [], None
  md5 = base64.b64encode(hashlib.md5(DATA).digest()).decode()
  Server.headers_of = staticmethod(
      lambda: {"x-goog-hash": f"crc32c=AAAAAA==,md5={md5}"}
  )
  httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
  threading.Thread(target=httpd.serve_forever, daemon=True).start()
  yield f"http://127.0.0.1:{httpd.server_port}/model.pickle"
  httpd.shutdown()
  httpd.server_close()


def test_a_file_comes_whole_and_once(server, tmp_path):
  file, seen = tmp_path / "cache" / "model.pickle", []
  download.fetch(server, file, lambda done, size: seen.append((done, size)))
  assert file.read_bytes() == DATA
  assert seen[-1] == (len(DATA), len(DATA))
  download.fetch(server, file)
  assert Server.asked == ["all"]
  assert [f.name for f in file.parent.iterdir()] == ["model.pickle"]


def test_a_broken_download_goes_on_where_it_was(server, tmp_path):
  file = tmp_path / "model.pickle"
  Server.stop_after = 1_500_000
  with pytest.raises(WeightsError, match="by hand.*part is kept") as error:
    download.fetch(server, file)
  assert str(file) in str(error.value)
  assert not file.exists()
  so_far = (tmp_path / "model.pickle.partial").stat().st_size
  assert so_far > 0
  Server.stop_after = None
  download.fetch(server, file)
  assert file.read_bytes() == DATA
  assert Server.asked == ["all", f"bytes={so_far}-"]


def test_without_a_network_no_part_is_said_to_be_kept(tmp_path):
  with pytest.raises(WeightsError, match="by hand") as error:
    download.fetch("http://127.0.0.1:1/a.zip", tmp_path / "a.zip")
  assert "kept" not in str(error.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-goog-hash": f"md5={base64.b64encode(bytes(16)).decode()}"},
        {"X-Linked-ETag": f'"{"0" * 64}"', "X-Linked-Size": str(len(DATA))},
    ],
)
def test_another_file_than_the_server_says_is_not_kept(
    server, tmp_path, headers
):
  Server.headers_of = staticmethod(lambda: headers)
  with pytest.raises(WeightsError, match="not 00000000"):
    download.fetch(server, tmp_path / "model.pickle")
  assert list(tmp_path.iterdir()) == []


def serve(heads, body, status=200, more=()):
  """A server that says and sends what it is told; its address."""

  class Told(http.server.BaseHTTPRequestHandler):

    def do_HEAD(self):
      self.send_response(heads.get("status", 200))
      for name, value in heads.items():
        if name != "status":
          self.send_header(name, value)
      self.end_headers()

    def do_GET(self):
      self.send_response(status)
      for name, value in more:
        self.send_header(name, value)
      self.end_headers()
      with contextlib.suppress(OSError):  # We may have gone.
        self.wfile.write(body)

    def log_message(self, *args):
      pass

  httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
  threading.Thread(target=httpd.serve_forever, daemon=True).start()
  return httpd, f"http://127.0.0.1:{httpd.server_port}/model.pickle"


GOOD = pickle.dumps({"m": {"w": np.ones(3)}})
HTML = b"<html><body>Please log in</body></html>"
LENGTH = str(len(GOOD))
MD5 = "md5=" + base64.b64encode(hashlib.md5(GOOD).digest()).decode()
# What is told -> (headers, content, status, headers that come with it).
LIES = {
    "more than the size": ({"Content-Length": LENGTH}, GOOD + b"more"),
    "less than the size": ({"Content-Length": LENGTH}, GOOD[:-5]),
    "a page instead of the file": ({}, HTML),
    "a page of the size that is named": (
        {"Content-Length": str(len(HTML))}, HTML
    ),
    "a page with a hash": ({"x-goog-hash": MD5}, HTML),
    "nothing": ({}, b""),
    "the file cut off": ({}, GOOD[:-5]),
    "a size that is a text": ({"Content-Length": "many"}, GOOD),
    "a negative size": ({"Content-Length": "-5"}, GOOD),
    "a size of a thousand digits": ({"X-Linked-Size": "9" * 1000}, GOOD),
    "a size in other digits": ({"X-Linked-Size": "1_3"}, GOOD),
    "a hash that is no base64": ({"x-goog-hash": "md5=???"}, GOOD),
    "a hash that is too short": ({"x-goog-hash": "md5=AAAA"}, GOOD),
    "a hash that is empty": ({"x-goog-hash": "md5="}, GOOD),
    "a hash with other letters": ({"X-Linked-ETag": "z" * 64}, GOOD),
    "no file": ({"status": 404}, GOOD),
    "an error after the head": ({}, b"", 503),
    "a part that was not asked for": (
        {}, GOOD, 206, [("Content-Range", "bytes 5-9/10")]
    ),
    "a page elsewhere": ({"status": 302, "Location": "/login"}, HTML),
    "another scheme": (
        {}, b"", 302, [("Location", "file:///etc/passwd")]
    ),
    "an address that is none": ({}, b"", 302, [("Location", "http://[")]),
    "a circle": ({}, b"", 302, [("Location", "/model.pickle")]),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_what_is_not_the_file_is_never_accepted(tmp_path, what):
  httpd, url = serve(*LIES[what])
  file = tmp_path / "model.pickle"
  with pytest.raises(WeightsError, match="model.pickle") as error:
    download.fetch(url, file, read=deepmind.load)
  assert "\n" not in str(error.value)
  assert not file.exists()
  httpd.shutdown()
  httpd.server_close()


@pytest.mark.parametrize("heads", [{}, {"Content-Length": LENGTH}])
def test_a_file_without_a_hash_is_accepted_if_it_can_be_read(tmp_path, heads):
  httpd, url = serve(heads, GOOD)
  file = tmp_path / "model.pickle"
  (tmp_path / "model.pickle.partial").write_bytes(b"x" * 5000)  # Too long.
  download.fetch(url, file, read=deepmind.load)
  assert file.read_bytes() == GOOD
  assert [f.name for f in tmp_path.iterdir()] == ["model.pickle"]
  httpd.shutdown()
  httpd.server_close()


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "fifo"])
def test_a_partial_file_that_is_none_is_refused(server, tmp_path, kind):
  partial, other = tmp_path / "model.pickle.partial", tmp_path / "other"
  if kind == "folder":
    partial.mkdir()
  elif kind == "fifo":
    os.mkfifo(partial)
  else:
    partial.symlink_to(other)
    if kind == "link":
      other.write_bytes(DATA)
  with pytest.raises(WeightsError, match="partial is not a regular file"):
    download.fetch(server, tmp_path / "model.pickle")
  assert not (tmp_path / "model.pickle").exists()
  assert other.exists() == (kind == "link")


def test_where_there_is_no_network_it_says_where_to_put_the_file(tmp_path):
  file = tmp_path / "model.pickle"
  with pytest.raises(WeightsError, match="put it at") as error:
    download.fetch("http://127.0.0.1:1/model.pickle", file)
  assert str(file) in str(error.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_published_file_has_a_config(name):
  published = PUBLISHED[name]
  configs = ROOT / "configs"
  file, variant = published.config.split(":")
  assert f'"{variant}"' in (configs / f"{file}.py").read_text()
  assert published.url.startswith("https://")


def test_the_release_and_its_conversions_are_all_there():
  assert len(PUBLISHED) == 12
