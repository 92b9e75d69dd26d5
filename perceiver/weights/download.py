"""The published files, from their publishers."""

import base64
from collections.abc import Callable
from collections.abc import Mapping
import hashlib
import http.client
import os
import pathlib
from typing import NamedTuple
import urllib.error
import urllib.request

from perceiver.weights.tensors import WeightsError

_DEEPMIND = "https://storage.googleapis.com/perceiver_io/"
_HUGGINGFACE = (
    "https://huggingface.co/deepmind/{}/resolve/main/pytorch_model.bin"
)
_BLOCK = 1 << 20  # bytes read at a time


class Published(NamedTuple):
  """A published model."""

  url: str
  config: str  # Ours: file and variant.
  swap_kernel: bool = False


def official(file: str, config: str) -> Published:
  """A file of the official release."""
  return Published(_DEEPMIND + file, config)


def of_huggingface(
    name: str, config: str, swap_kernel: bool = False
) -> Published:
  """The weights of one of Hugging Face's conversions."""
  return Published(_HUGGINGFACE.format(name), config, swap_kernel)


def fetch(
    url: str,
    file: pathlib.Path,
    progress: Callable[[int, int], None] = lambda done, size: None,
) -> None:
  """Downloads a file whole, or goes on with what is there of it.

  What has come so far is in `FILE.partial`. Size and hash are those that the
  server names.

  Args:
    url: where it is.
    file: where it will be; if it is there already, nothing happens.
    progress: called with bytes so far and bytes in all.

  Raises:
    WeightsError: if it cannot be fetched; it says how to get it by hand. Or if
      it is not what the server says it is.
  """
  if file.exists():
    return
  partial = file.with_name(file.name + ".partial")
  file.parent.mkdir(parents=True, exist_ok=True)
  try:
    described = _describe(url)
    _append(url, partial, int(described["size"]), progress)
  except (OSError, http.client.HTTPException) as error:
    raise WeightsError(
        f"{url} cannot be fetched ({error}). Get it by hand, for example with a"
        f" browser on another machine, and put it at {file}; what has come so"
        " far is kept, and the same command goes on with it."
    ) from error
  with partial.open("rb") as stream:
    for name in ("md5", "sha256"):
      if name in described:
        stream.seek(0)
        digest = hashlib.file_digest(stream, name).hexdigest()
        if digest != described[name]:
          partial.unlink()
          raise WeightsError(
              f"{url}: what has come has {name} {digest}, not"
              f" {described[name]}; it was removed, try again"
          )
  os.replace(partial, file)


def _describe(url: str) -> Mapping[str, str]:
  """Size in bytes, and the md5 or sha256 if the server names one."""
  request = urllib.request.Request(url, method="HEAD")
  try:
    response = urllib.request.build_opener(_Stay).open(request, timeout=60)
  except urllib.error.HTTPError as error:
    if error.code not in (301, 302, 303, 307, 308):
      raise
    response = error  # It names the file behind it.
  headers = response.headers
  described = {
      "size": headers.get("X-Linked-Size") or headers.get("Content-Length", "0")
  }
  for value in headers.get_all("x-goog-hash") or ():
    for item in value.split(","):
      name, _, encoded = item.strip().partition("=")
      if name == "md5":
        described["md5"] = base64.b64decode(encoded).hex()
  etag = (headers.get("X-Linked-ETag") or "").strip('"')
  if len(etag) == 64:
    described["sha256"] = etag
  return described


class _Stay(urllib.request.HTTPRedirectHandler):
  """Follows no redirection."""

  def redirect_request(self, *args, **kwargs):
    return None


def _append(url, partial, size, progress):
  """Fetches what a partial file lacks."""
  done = partial.stat().st_size if partial.exists() else 0
  if size and done >= size:
    return
  request = urllib.request.Request(url)
  if done:
    request.add_header("Range", f"bytes={done}-")
  with urllib.request.urlopen(request, timeout=60) as response:
    if response.status != 206:  # It sends all of it.
      done = 0
    with partial.open("ab" if done else "wb") as stream:
      while block := response.read(_BLOCK):
        stream.write(block)
        done += len(block)
        progress(done, size)
  if size and done != size:
    raise OSError(f"{done} of {size} bytes came")
