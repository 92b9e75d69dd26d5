"""Downloads, from a server on this machine."""

import base64
import hashlib
import http.server
import threading

import pytest

from experiments.engine.declared import of_every_task
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
  with pytest.raises(WeightsError, match="by hand") as error:
    download.fetch(server, file)
  assert str(file) in str(error.value)
  assert not file.exists()
  so_far = (tmp_path / "model.pickle.partial").stat().st_size
  assert so_far > 0
  Server.stop_after = None
  download.fetch(server, file)
  assert file.read_bytes() == DATA
  assert Server.asked == ["all", f"bytes={so_far}-"]


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
