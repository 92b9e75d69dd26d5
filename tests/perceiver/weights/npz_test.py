"""`.npz` files that are damaged or forged are refused in one line."""

import struct
import zipfile

import numpy as np
import pytest

from perceiver.weights import npz
from perceiver.weights.tensors import WeightsError
from tests import fuzzing

TEXT = "config.json"


def write(file, **more):
  rng = np.random.default_rng(0)
  arrays = {f"net/linear_{i}/w": rng.normal(size=(5, 7)) for i in range(4)}
  np.savez(file, **arrays, **{TEXT: np.asarray('{"task": "mlm"}')}, **more)
  return file


def refused(file, message):
  with pytest.raises(WeightsError, match=message) as error:
    npz.load(file, TEXT)
  assert file.name in str(error.value)
  assert "\n" not in str(error.value)


def with_member(file, data, name="w.npy", **how):
  write(file)
  with zipfile.ZipFile(file, "a") as members:
    members.writestr(zipfile.ZipInfo(name), data, **how)
  return file


def npy(descr="'<f4'", shape="(2,)", data=bytes(8)):
  header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
  size = struct.pack("<H", len(header))
  return b"\x93NUMPY\x01\x00" + size + header.encode() + data


def test_arrays_and_the_text_are_read(tmp_path):
  arrays, text = npz.load(write(tmp_path / "a.npz", b=np.ones(2, bool)), TEXT)
  assert text == '{"task": "mlm"}'
  assert list(arrays) == [f"net/linear_{i}/w" for i in range(4)] + ["b"]
  with np.load(tmp_path / "a.npz") as file:
    for name, value in arrays.items():
      np.testing.assert_array_equal(value, file[name])


MEMBERS = {
    "terabytes": (npy(shape="(1099511627776,)"), "has 8 bytes"),
    "more than there is": (npy(shape="(3,)"), "has 8 bytes"),
    "a size that overflows": (npy(shape=f"({1 << 62}, 4)"), "has 8 bytes"),
    "a negative size": (npy(shape="(-2,)"), "a.npz"),
    "objects": (npy("'|O'"), "objects"),
    "fields": (npy("[('a', '<f4')]"), "fields"),
    "fields with objects": (npy("[('a', '|O')]"), "objects"),
    "a text": (npy("'<U2'"), "'U2' is not a dtype"),
    "complex numbers": (npy("'<c8'", "(1,)"), "'c8' is not a dtype"),
    "dates": (npy("'<M8[s]'", "(1,)"), "not a dtype"),
    "no array": (b"hello", "is not an array"),
    "nothing": (b"", "is not an array"),
    "a header that is none": (npy("os.system('true')"), "a.npz"),
    "a deep header": (npy("(" * 5000), "a.npz"),
    "a header longer than the member": (
        b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f" + b"{}", "a.npz"
    ),
    "another version": (b"\x93NUMPY\x09\x00" + bytes(20), "a.npz"),
}  # fmt: skip


@pytest.mark.parametrize("what", MEMBERS)
def test_a_member_that_is_no_array_of_numbers_is_refused(tmp_path, what):
  before = fuzzing.peak_mib()
  data, message = MEMBERS[what]
  refused(with_member(tmp_path / "a.npz", data), message)
  assert fuzzing.peak_mib() < before + 100


def test_compressed_members_are_refused_before_they_are_read(tmp_path):
  bomb = np.zeros(1 << 25)
  file = tmp_path / "bomb.npz"
  np.savez_compressed(file, bomb)
  refused(file, "larger than the file")
  np.savez_compressed(file, np.random.default_rng(0).bytes(1000))
  refused(file, "larger than the file|compressed")


def test_a_member_twice_is_refused(tmp_path):
  file = tmp_path / "twice.npz"
  with pytest.warns(UserWarning, match="Duplicate"):
    with_member(file, npy(), "net/linear_0/w.npy")
  refused(file, "twice")


def test_encrypted_members_are_refused(tmp_path):
  data = bytearray(write(tmp_path / "a.npz").read_bytes())
  for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    start = data.find(mark)
    while start >= 0:
      data[start + flags] |= 1
      start = data.find(mark, start + 4)
  (tmp_path / "a.npz").write_bytes(data)
  refused(tmp_path / "a.npz", "encrypted")


def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path):
  file = write(tmp_path / "cut.npz")
  whole = file.read_bytes()
  for size in range(0, len(whole), 37):
    file.write_bytes(whole[:size])
    refused(file, r"cut\.npz")


def test_a_changed_number_shows(tmp_path):
  file = write(tmp_path / "a.npz")
  whole = file.read_bytes()
  place = whole.index(np.random.default_rng(0).normal(size=1).tobytes())
  file.write_bytes(whole[:place] + b"\x00" + whole[place + 1 :])
  refused(file, "CRC")


def assert_mutations_are_refused_or_read(tmp_path, count):
  before = fuzzing.peak_mib()
  file = write(tmp_path / "a.npz")
  read = lambda file: npz.load(file, TEXT)
  assert not fuzzing.tracebacks(read, file, count, (WeightsError,))
  assert fuzzing.peak_mib() < before + 200


def test_damaged_files_are_refused_or_read(tmp_path):
  assert_mutations_are_refused_or_read(tmp_path, 500)


@pytest.mark.slow
def test_many_damaged_files_are_refused_or_read(tmp_path):
  assert_mutations_are_refused_or_read(tmp_path, 20_000)
