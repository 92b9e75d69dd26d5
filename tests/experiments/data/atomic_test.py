"""Files that are complete whenever they are there."""

import pytest

from experiments.data import atomic


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
  path = tmp_path / "new" / "a.mp4"
  with atomic.complete(path) as partial:
    partial.write_bytes(b"all")
    assert partial.suffix == ".mp4" and not path.exists()
    assert partial.name.startswith(atomic.PARTIAL)
  assert path.read_bytes() == b"all"
  assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_file_is_what_it_was(tmp_path):
  path = tmp_path / "a.json"
  atomic.write_json(path, {"a": 1})
  with pytest.raises(KeyboardInterrupt), atomic.complete(path) as partial:
    partial.write_bytes(b"half")
    raise KeyboardInterrupt
  assert atomic.read_json(path) == {"a": 1}
  assert list(tmp_path.iterdir()) == [path]


def test_a_table_has_quotes_where_they_are_needed(tmp_path):
  atomic.write_table(tmp_path / "a.csv", [("a", "b, c"), (1, "é")])
  expected = 'a,"b, c"\r\n1,é\r\n'
  assert (tmp_path / "a.csv").read_bytes() == expected.encode()
