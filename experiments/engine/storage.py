"""Where checkpoints may be: in a folder, or at a URL of an object store.

Orbax writes to Google's by itself. TensorStore, which writes its arrays, knows
S3 as well, and so does etils, which handles its files; `_teach_orbax` brings
the two together.
"""

import functools
import importlib.util
import os
from typing import Any

from etils import epath
from orbax.checkpoint import options

from experiments.engine.errors import UserError

# What has to be installed for a URL.
PACKAGES = {"gs": ("gcsfs", "google.cloud.storage"), "s3": ("s3fs",)}


def place(name: str | os.PathLike[str]) -> epath.Path:
  """The absolute path of a folder, or a URL, as a path to read and write.

  Raises:
    UserError: if it is a URL of another kind, or its package is missing.
  """
  name = os.fspath(name)
  scheme, is_url, rest = name.partition("://")
  if is_url and scheme == "file":
    name, is_url = rest, ""
  if not is_url:
    return epath.Path(os.path.abspath(os.path.expanduser(name)))
  if scheme not in PACKAGES:
    raise UserError(
        f"{name}: a folder, file://, gs:// or s3:// was expected, not {scheme}://"
    )
  if not all(map(_is_installed, PACKAGES[scheme])):
    raise UserError(f"{name} needs `pip install -e '.[{scheme}]'`")
  if scheme == "s3":
    _teach_orbax()
  return epath.Path(name)


def atomicity(path: epath.Path) -> options.AtomicityOptions:
  """How a checkpoint appears at once: object stores have no renaming."""
  mode = options.AtomicityMode.AUTO
  if str(path).startswith("s3://"):
    mode = options.AtomicityMode.COMMIT_FILE
  return options.AtomicityOptions(mode)


def move(source: epath.Path, target: epath.Path) -> None:
  """Renames a folder; in an object store, copies all of it and removes it."""
  if "://" not in str(source):
    source.rename(target)
    return
  _copy(source, target)
  source.rmtree()


def _copy(source: epath.Path, target: epath.Path) -> None:
  target.mkdir(parents=True, exist_ok=True)
  for path in source.iterdir():
    if path.is_dir():
      _copy(path, target / path.name)
    else:
      path.copy(target / path.name)


def _is_installed(package: str) -> bool:
  try:
    return importlib.util.find_spec(package) is not None
  except ModuleNotFoundError:  # Not even what it is a part of.
    return False


@functools.cache
def _teach_orbax() -> None:
  """Lets Orbax name S3 to TensorStore, where it asks for Google's store."""
  # Needed: what turns a path into TensorStore's name of a place, and what says
  # which paths are in a store. Orbax has no public name for either, and no
  # option in their stead; storage_test.py notices a change.
  from orbax.checkpoint._src.path import gcs_utils
  from orbax.checkpoint._src.serialization import tensorstore_utils

  google = gcs_utils.get_kvstore_for_gcs

  def kvstore(path: str) -> dict[str, Any]:
    return s3(path) if path.startswith("s3://") else google(path)

  made: Any = tensorstore_utils
  made._use_gcs_driver = lambda path: path.startswith(("gs://", "s3://"))
  made._normalize_path = _normalized
  gcs_utils.get_kvstore_for_gcs = kvstore


def s3(url: str) -> dict[str, Any]:
  """TensorStore's name of s3://BUCKET/PATH; the server is the environment's."""
  bucket, _, path = url.removeprefix("s3://").partition("/")
  named = {"driver": "s3", "bucket": bucket, "path": path}
  env = os.environ.get
  endpoint = env("AWS_ENDPOINT_URL_S3") or env("AWS_ENDPOINT_URL")
  region = env("AWS_REGION") or env("AWS_DEFAULT_REGION")
  if endpoint:
    named |= {"endpoint": endpoint, "aws_region": region or "us-east-1"}
  return named


def _normalized(path: str) -> str:
  scheme, is_url, rest = path.partition("://")
  return (
      f"{scheme}://{os.path.normpath(rest)}"
      if is_url
      else os.path.normpath(path)
  )
