"""Zip files, with errors that name them."""

import zipfile

import pytest

from experiments.data import archives
from experiments.data.errors import DataError


def test_what_is_no_zip_file_is_named(tmp_path):
  path = tmp_path / "a.zip"
  path.write_bytes(b"PK")
  with pytest.raises(DataError, match="a.zip is no zip file"):
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
