"""Pickles are read without being run: forged ones are refused."""

import io
import pickle
import struct
import time

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver.weights import deepmind
from perceiver.weights.tensors import WeightsError
from tests import fuzzing


def refused(tmp_path, data, message):
  """Reads a file; it must be refused in one line that names it."""
  file = tmp_path / "forged.pickle"
  file.write_bytes(data)
  with pytest.raises(WeightsError, match=message) as error:
    deepmind.load(file)
  assert "forged.pickle" in str(error.value)
  assert "\n" not in str(error.value)
  assert len(str(error.value)) < 500


def tree(array):
  return {"module": {"w": array}}


class Call:
  """Pickles to a call of anything, and then to a state."""

  def __init__(self, function, args, state=None):
    self.reduced = (
        (function, args) if state is None else (function, args, state)
    )

  def __reduce__(self):
    return self.reduced


RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float32(0).__reduce__()[0]
FROM_BUFFER = np.zeros(1).__reduce_ex__(5)[0]


def dtype(name, *state):
  """A dtype with a state, as a pickle may forge it."""
  return Call(np.dtype, (name, False, True), tuple(state) or None)


def array(shape, kind, data):
  """An array with a state, as a pickle may forge it."""
  return Call(
      RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, kind, False, data)
  )


PLAIN = dtype("f4", 3, "<", None, None, None, -1, -1, 0)
OBJECTS = dtype("O8", 3, "|", None, None, None, -1, -1, 63)
FIELDS = {"a": (np.dtype("O"), 0)}
WITH_FIELDS = (3, "|", None, ("a",), FIELDS, 8, 1, 0)
# What is forged -> (what it is, what the error says).
FORGED = {
    "fields that are objects": (
        array((2,), dtype("V8", *WITH_FIELDS), bytes(16)),
        "V8",
    ),
    "fields in the state of a float": (
        array((2,), dtype("f8", *WITH_FIELDS), bytes(16)),
        "another state",
    ),
    "another size of an item": (
        array((2,), dtype("f4", 3, "<", None, None, None, 64, 64, 0), bytes(8)),
        "another state",
    ),
    "a part of an item": (
        array(
            (2,), dtype("f4", 3, "<", (np.dtype("O"), 2), None, None, 8, 1, 0),
            bytes(8),
        ),
        "another state",
    ),
    "a state that is none": (array((2,), dtype("f4", 3), bytes(8)), "state"),
    "two marks of order": (
        array((1,), dtype("f4", 3, "<>", *[None] * 3, -1, -1, 0), bytes(4)),
        "byte order",
    ),
    "objects": (np.array([1, "a"], object), "list of objects"),
    "objects of bytes": (
        array((2,), OBJECTS, bytes(16)),
        "'O8' is not a dtype",
    ),
    "objects hidden in a text": (
        array((1,), dtype("O8,O8"), bytes(16)), "'O8,O8' is not a dtype"
    ),
    "fewer bytes than numbers": (array((1 << 40,), PLAIN, bytes(8)), "8 bytes"),
    "more bytes than numbers": (array((1,), PLAIN, bytes(8)), "8 bytes"),
    "a size that overflows": (
        array((1 << 62, 1 << 62), PLAIN, bytes(0)), "0 bytes"
    ),
    "a negative size": (array((-1,), PLAIN, bytes(4)), "shape"),
    "a size that is no number": (array((1.0,), PLAIN, bytes(4)), "shape"),
    "a thousand axes": (array((1,) * 1000, PLAIN, bytes(4)), "shape"),
    "numbers in a list": (array((1,), PLAIN, [1.0]), "without bytes"),
    "bool that is neither": (
        array((1,), dtype("b1", 3, "|", *[None] * 3, -1, -1, 0), b"\x02"),
        "0 and 1",
    ),
    "no state": (Call(RECONSTRUCT, (np.ndarray, (0,), b"b")), "without a"),
    "texts": (np.array(["a", "b"]), "'U1.*' is not a dtype"),
    "bytes": (np.array([b"a", b"b"]), "'S1.*' is not a dtype"),
    "complex numbers": (np.ones(2, complex), "'c16' is not a dtype"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), "M8"),
    "fields": (np.zeros(2, [("a", "f4")]), "V4"),
    "a scalar of objects": (
        Call(SCALAR, (OBJECTS, b"")),
        "'O8'",
    ),
    "a buffer of objects": (
        Call(FROM_BUFFER, (bytearray(8), OBJECTS, (1,), "C")),
        "'O8'|bytearray",
    ),
    "a number of a thousand bits": (1 << 1000, "64 bits"),
    "an array that is called": (
        Call(np.ndarray, ((2,), np.dtype("f4"))), r"calls numpy\.ndarray"
    ),
    "eval": (Call(eval, ("1",)), r"builtin(s|__)\.eval"),
    "getattr": (Call(getattr, (1, "real")), r"builtin(s|__)\.getattr"),
    "numpy's loader": (Call(np.load, ("file",)), r"numpy\.load"),
    "a class": (io.BytesIO(), r"_io\.BytesIO"),
    "a set": ({1, 2}, "refused"),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_is_refused_by_name(tmp_path, what, protocol):
  made, message = FORGED[what]
  if isinstance(made, np.ndarray) and protocol == 5:
    message = message.replace("list of objects", "list of objects|'O8'")
  refused(tmp_path, pickle.dumps(tree(made), protocol), message)


def test_a_state_set_on_what_is_no_array_is_refused(tmp_path):
  forged = b"\x80\x02}q\x00}q\x01b."
  refused(tmp_path, forged, "sets the state of a dict")


@pytest.mark.parametrize("index", [1 << 28, (1 << 32) - 1])
def test_an_index_of_the_memo_takes_no_memory(tmp_path, index):
  before = fuzzing.peak_mib()
  data = b"\x80\x02}r" + struct.pack("<I", index) + b"."
  file = tmp_path / "memo.pickle"
  file.write_bytes(data)
  assert deepmind.load(file) == {}
  assert fuzzing.peak_mib() < before + 100


LONG_NAME = b"\x8d" + struct.pack("<Q", 1 << 60)
PROGRAMS = {
    "a text longer than the file": (
        b"\x80\x04" + LONG_NAME + b"a.", "no pickle"
    ),
    "bytes longer than the file": (
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"a.", "no pickle"
    ),
    "a frame longer than the file": (
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.", "NoneType"
    ),
    "lists in lists": (
        b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "list"
    ),
    "marks in marks": (b"\x80\x02" + b"(" * 50_000 + b".", "no pickle"),
    "steps without an end": (b"\x80\x02" + b"N" * 2_000_000 + b".", "steps"),
    "tuples of tuples as a key": (
        b"\x80\x02})" + b"q\x00h\x00\x86" * 80 + b"Ns.", "a key is a tuple"
    ),
    "a text that becomes bytes often": (
        b"\x80\x02}c_codecs\nencode\nq\x00X" + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20) + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86q\x03"
        + b"h\x00h\x03R" * 50_000 + b".",
        "many times",
    ),
    "no stop": (b"\x80\x02}", "no pickle"),
    "a persistent id": (b"\x80\x02Pname\n.", "PERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "a buffer from elsewhere": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "escapes of a terminal": (
        pickle.dumps({"\x1b[31m\nred" * 100: {"w": "text"}}), "is a str"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_program_that_wants_too_much_is_refused(tmp_path, what):
  before, start = fuzzing.peak_mib(), time.process_time()
  data, message = PROGRAMS[what]
  refused(tmp_path, data, message)
  assert fuzzing.peak_mib() < before + 400
  assert time.process_time() < start + 60


@pytest.mark.parametrize("protocol", range(6))
def test_every_kind_of_number_and_order_is_read(tmp_path, protocol):
  kinds = "b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 >f4 >i8".split()
  base = np.arange(6).reshape(2, 3)
  arrays = {kind: base.astype(kind) for kind in kinds}
  arrays |= {
      "bfloat16": base.astype(jnp.bfloat16),
      "fortran": np.asfortranarray(base),
      "strided": np.arange(12)[::2],
      "empty": np.zeros((0, 3), np.float32),
      "no axes": np.ones((), np.float32),
      "scalar": np.float32(2.5),
      "int": 3,
      "float": 1.5,
  }
  file = tmp_path / "numbers.pickle"
  file.write_bytes(pickle.dumps({"m": arrays}, protocol))
  read = deepmind.load(file)
  for name, expected in arrays.items():
    np.testing.assert_array_equal(read[f"m|{name}"], expected, err_msg=name)
    if isinstance(expected, np.ndarray):
      assert read[f"m|{name}"].dtype == expected.dtype


def sample(protocol):
  """A small checkpoint of everything that one may have."""
  rng = np.random.default_rng(0)
  params = {
      f"net/linear_{i}": {
          "w": rng.normal(size=(3, 4)).astype(np.float32),
          "b": np.zeros(4, np.float64),
          "n": np.int32(i),
          "k": rng.normal(size=5).astype(jnp.bfloat16),
      }
      for i in range(3)
  }
  return pickle.dumps({"params": params, "state": {}}, protocol)


def assert_mutations_are_refused_or_read(tmp_path, count):
  before = fuzzing.peak_mib()
  for protocol in (2, 4, 5):
    file = tmp_path / "model.pickle"
    file.write_bytes(sample(protocol))
    assert len(deepmind.load(file)) == 12

    def read(file):
      for value in deepmind.load(file).values():
        assert value.dtype.kind in "biufV" and value.tobytes() is not None

    assert not fuzzing.tracebacks(read, file, count, (WeightsError,))
  assert fuzzing.peak_mib() < before + 200


def test_damaged_pickles_are_refused_or_read(tmp_path):
  assert_mutations_are_refused_or_read(tmp_path, 300)


@pytest.mark.slow
def test_many_damaged_pickles_are_refused_or_read(tmp_path):
  assert_mutations_are_refused_or_read(tmp_path, 10_000)
