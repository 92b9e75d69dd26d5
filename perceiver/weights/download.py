"""Downloads of published files."""

import base64
from collections.abc import Callable
from collections.abc import Mapping
import hashlib
import http.client
import os
import pathlib
import re
from typing import Any, NamedTuple
import urllib.error
import urllib.request

from perceiver.weights import deepmind
from perceiver.weights import huggingface
from perceiver.weights.tensors import gist
from perceiver.weights.tensors import printable
from perceiver.weights.tensors import WeightsError

_DEEPMIND = "https://storage.googleapis.com/perceiver_io/"
_HUGGINGFACE = (
    "https://huggingface.co/deepmind/{}/resolve/main/pytorch_model.bin"
)
_BLOCK = 1 << 20  # bytes read at a time
_MOST = 16 << 30  # bytes of a file whose size is not known


class FetchError(WeightsError):
  """A file that cannot be fetched; `reason` is without what to do."""

  def __init__(self, message: str, reason: str):
    super().__init__(message)
    self.reason = reason


class Published(NamedTuple):
  """A published model."""

  url: str
  config: str  # Ours: file and variant.
  read: Callable[[pathlib.Path], Any]  # What its file holds; a WeightsError.
  swap_kernel: bool = False


def official(file: str, config: str) -> Published:
  """A file of the official release."""
  return Published(_DEEPMIND + file, config, deepmind.load)


def of_huggingface(
    name: str, config: str, swap_kernel: bool = False
) -> Published:
  """The weights of one of Hugging Face's conversions."""
  url = _HUGGINGFACE.format(name)
  return Published(url, config, huggingface.load, swap_kernel)


def fetch(
    url: str,
    file: pathlib.Path,
    progress: Callable[[int, int], None] = lambda done, size: None,
    read: Callable[[pathlib.Path], Any] = lambda file: None,
    sha256: str = "",
) -> None:
  """Downloads a file, or resumes a partial download.

  What has come so far is in `FILE.partial`. Size and hash are those that the
  server names, unless the hash is known; what has none must be a file that can
  be read.

  Args:
    url: address of the file.
    file: output file; an existing file is kept.
    progress: called with bytes so far and bytes in all; 0: not known.
    read: reads such a file; raises a WeightsError if it is another.
    sha256: hash of the file; empty: unknown.

  Raises:
    FetchError: if it cannot be fetched; it says how to get it by hand.
    WeightsError: if it is not what the server says it is, or what is expected.
  """
  if file.exists():
    return
  partial = file.with_name(file.name + ".partial")
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    if partial.is_symlink() or partial.exists() and not partial.is_file():
      raise WeightsError(f"{partial} is not a regular file: remove it")
    size, hashes = _describe(url)
    if sha256:
      hashes = {"sha256": sha256}
    _append(url, partial, size, progress)
    _check(url, partial, hashes, read)
    os.replace(partial, file)
  except WeightsError:
    raise
  except (OSError, http.client.HTTPException, ValueError) as error:
    reason = _reason(error)
    message = (
        f"{url} cannot be fetched ({reason}). Get it by hand, for example"
        f" with a browser on another machine, and put it at {file}."
    )
    if partial.is_file() and partial.stat().st_size:
      message += (
          " The received part is kept, and the same command resumes the"
          " download."
      )
    raise FetchError(message, reason) from error


def _reason(error: Exception) -> str:
  """Why a server cannot be reached, or what it sent."""
  inner = getattr(error, "reason", None)  # Of a URLError.
  if isinstance(inner, OSError) and inner.strerror:
    return printable(inner.strerror, 200)
  return gist(error)


def _check(
    url: str,
    partial: pathlib.Path,
    hashes: Mapping[str, str],
    read: Callable[[pathlib.Path], Any],
) -> None:
  """Checks a received file and removes it if it is wrong."""
  problem = ""
  with partial.open("rb") as stream:
    for name, expected in hashes.items():
      stream.seek(0)
      digest = hashlib.file_digest(stream, name).hexdigest()
      if digest != expected:
        problem = f"has {name} {digest}, not {expected}"
  if not hashes:
    try:
      read(partial)
    except WeightsError as error:
      problem = f"cannot be read: {error}"
  if problem:
    partial.unlink()
    raise WeightsError(
        f"{url}: the received file {printable(problem, 500)}; it was removed,"
        " try again"
    )


def _describe(url: str) -> tuple[int, dict[str, str]]:
  """Size in bytes, or 0, and the hashes that the server reports."""
  request = urllib.request.Request(url, method="HEAD")
  length = "Content-Length"
  try:
    response = urllib.request.build_opener(_Stay).open(request, timeout=60)
  except urllib.error.HTTPError as error:
    if error.code not in (301, 302, 303, 307, 308):
      raise
    response, length = error, "X-Linked-Size"  # It names the file behind it.
  headers, hashes = response.headers, {}
  size = headers.get("X-Linked-Size") or headers.get(length) or "0"
  if not re.fullmatch("[0-9]{1,15}", size.strip()):
    raise ValueError(f"the server reports an invalid size: {size!r}")
  for value in headers.get_all("x-goog-hash") or ():
    for item in value.split(","):
      name, _, encoded = item.strip().partition("=")
      if name == "md5":
        hashes["md5"] = base64.b64decode(encoded, validate=True).hex()
  etag = (headers.get("X-Linked-ETag") or "").strip('"')
  if len(etag) == 64:
    hashes["sha256"] = etag
  return int(size), hashes


class _Stay(urllib.request.HTTPRedirectHandler):
  """Follows no redirection."""

  def redirect_request(self, *args, **kwargs):
    return None


def _append(
    url: str,
    partial: pathlib.Path,
    size: int,
    progress: Callable[[int, int], None],
) -> None:
  """Downloads the missing part of a partial file.

  One that is too long, or of which nobody knows how long it will be, begins
  again.
  """
  done = partial.stat().st_size if partial.exists() else 0
  if size and done == size:
    return
  if done > size:
    done = 0
  request = urllib.request.Request(url)
  if done:
    request.add_header("Range", f"bytes={done}-")
  with urllib.request.urlopen(request, timeout=60) as response:
    sent = response.headers.get("Content-Range", "").strip()
    if response.status != 206 or not sent.startswith(f"bytes {done}-"):
      if response.status == 206:
        raise OSError(f"the server sent another range: {sent!r}")
      done = 0  # It sends all of it.
    # A link that was put there meanwhile is not followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    flags |= os.O_APPEND if done else os.O_TRUNC
    with open(os.open(partial, flags, 0o666), "wb") as stream:
      while block := response.read(_BLOCK):
        done += len(block)
        if done > (size or _MOST):
          stream.truncate(0)
          raise OSError(f"received more than {size or _MOST} bytes")
        stream.write(block)
        progress(done, size)
  if size and done != size:
    raise OSError(f"received {done} of {size} bytes")
