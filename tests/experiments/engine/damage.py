"""Ways in which a small file is damaged."""

import pathlib

KINDS = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(_half(path)),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x80\n"),
    "nested too deeply": lambda path: path.write_text("[" * 100_000),
    "a list": lambda path: path.write_text("[1]\n"),
    "a number": lambda path: path.write_text("3\n"),
    "null": lambda path: path.write_text("null\n"),
    "an empty object": lambda path: path.write_text("{}\n"),
    "missing": pathlib.Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def _half(path: pathlib.Path) -> bytes:
  content = path.read_bytes()
  return content[: len(content) // 2]
