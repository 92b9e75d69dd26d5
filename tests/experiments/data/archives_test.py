"""Zip files, with errors that name them."""

import os
import zipfile

import pytest

from experiments.data import archives
from experiments.data.errors import DataError
from tests import fuzzing


def test_what_is_no_zip_file_is_named(tmp_path):
  path = tmp_path / "a.zip"
  path.write_bytes(b"PK")
  with pytest.raises(DataError, match="a.zip is not a zip file"):
    archives.open_zip(path)


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_broken_file_in_it_is_named(tmp_path, how):
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w", how) as archive:
    archive.writestr("b/whole.txt", b"whole")
    archive.writestr("b/c.txt", bytes(range(100)))
  content = bytearray(path.read_bytes())
  place = content.index(b"b/c.txt") + len("b/c.txt") + 1
  content[place] ^= 255
  path.write_bytes(content)
  with archives.open_zip(path) as archive:
    assert archives.unzipped(archive, "b/whole.txt") == b"whole"
    with pytest.raises(DataError, match="a.zip/b/c.txt is broken: .+"):
      archives.unzipped(archive, "b/c.txt")


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_any_decoder_says_of_a_broken_file_is_named(tmp_path, how):
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w", how) as archive:
    archive.writestr("b.txt", bytes(range(256)) * 9)
  content = bytearray(path.read_bytes())
  place = content.index(b"b.txt") + 12
  content[place : place + 40] = b"\xff" * 40
  path.write_bytes(content)
  with archives.open_zip(path) as archive:
    with pytest.raises(DataError, match="a.zip/b.txt is broken: .+"):
      archives.unzipped(archive, "b.txt")


def test_an_encrypted_file_is_named(tmp_path):
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("b.txt", b"secret")
  content = bytearray(path.read_bytes())
  content[content.index(b"PK\3\4") + 6] |= 1
  content[content.index(b"PK\1\2") + 8] |= 1
  path.write_bytes(content)
  with archives.open_zip(path) as archive:
    with pytest.raises(DataError, match="b.txt is broken: .*encrypted"):
      archives.unzipped(archive, "b.txt")


def test_a_file_that_grows_without_measure_is_refused(tmp_path):
  path, before = tmp_path / "bomb.zip", fuzzing.peak_mib()
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    with archive.open("zeros.jpg", "w", force_zip64=True) as file:
      for _ in range(1 << 10):
        file.write(bytes(1 << 20))
  assert path.stat().st_size < 2 << 20
  with archives.open_zip(path) as archive:
    with pytest.raises(DataError, match="zeros.jpg has 1,073,741,824 bytes"):
      archives.unzipped(archive, "zeros.jpg")
  assert fuzzing.peak_mib() < before + 100


def test_a_missing_file_is_named(tmp_path):
  with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
    archive.writestr("b.txt", b"text")
  with archives.open_zip(tmp_path / "a.zip") as archive:
    with pytest.raises(DataError, match="a.zip/c.txt"):
      archives.unzipped(archive, "c.txt")


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "a.zip")
  with pytest.raises(DataError, match="a.zip is not a regular file"):
    archives.open_zip(tmp_path / "a.zip")
