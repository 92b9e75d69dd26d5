"""Files of optical flow, as others write and read them."""

import cv2
import numpy as np
import pytest

from experiments.data.errors import DataError
from experiments.data.flow import files
from experiments.data.images import image
from tests.conftest import SHARED

Y, X = 7, 11
SAMPLES = SHARED / "data/flow_samples"


@pytest.fixture
def flow():
  """Random, with one pixel of whose flow nothing is known."""
  known = np.ones([Y, X], bool)
  known[3, 5] = False
  flow = np.random.default_rng(0).normal(0, 40, [Y, X, 2]).astype(np.float32)
  return np.where(known[..., None], flow, 0), known


def test_flo_files_are_read_as_they_were_written(flow, tmp_path):
  files.write_flo(tmp_path / "a.flo", *flow)
  for found, expected in zip(
      files.read_flow(tmp_path / "a.flo"), flow, strict=True
  ):
    np.testing.assert_array_equal(found, expected)
  theirs = cv2.readOpticalFlow(str(tmp_path / "a.flo"))
  np.testing.assert_array_equal(theirs[flow[1]], flow[0][flow[1]])
  assert (theirs[3, 5] > 1e9).all()


def test_a_flow_of_three_components_is_not_written(tmp_path):
  with pytest.raises(DataError, match="a.flo: a flow is .* not .*5, 7, 3"):
    files.write_flo(tmp_path / "a.flo", np.ones([5, 7, 3]))


def test_flo_files_of_opencv_are_read(flow, tmp_path):
  cv2.writeOpticalFlow(str(tmp_path / "a.flo"), flow[0])
  found, known = files.read_flo(tmp_path / "a.flo")
  np.testing.assert_array_equal(found, flow[0])
  assert known.all()


def test_what_is_not_a_number_is_not_known(flow, tmp_path):
  flow[0][1, 2, 0] = np.nan
  files.write_flo(tmp_path / "a.flo", flow[0])
  found, known = files.read_flo(tmp_path / "a.flo")
  assert np.argwhere(~known).tolist() == [[1, 2]] and not found[1, 2].any()


def test_kittis_files_are_exact_to_a_128th_of_a_pixel(flow, tmp_path):
  files.write_kitti(tmp_path / "a.png", *flow)
  found, known = files.read_flow(tmp_path / "a.png")
  assert np.abs(found - flow[0]).max() <= 1 / 128
  np.testing.assert_array_equal(known, flow[1])


def test_kittis_channels_are_those_of_its_development_kit(tmp_path):
  # Blue, green, red as OpenCV has them: known, y, x.
  image = np.array([[[1, 2**15 - 64, 2**15 + 32], [0, 9, 9]]], np.uint16)
  cv2.imwrite(str(tmp_path / "a.png"), image)
  found, known = files.read_kitti(tmp_path / "a.png")
  assert found.tolist() == [[[0.5, -1], [0, 0]]]
  assert known.tolist() == [[True, False]]


def test_a_flow_too_long_for_kitti_is_refused(flow, tmp_path):
  flow[0][0, 0, 1] = -600
  with pytest.raises(DataError, match=r"a.png: .*a flow is 600.00"):
    files.write_kitti(tmp_path / "a.png", *flow)
  flow[1][0, 0] = False  # Not written.
  files.write_kitti(tmp_path / "a.png", *flow)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"begins with b''"),
        (b"PIEX" + bytes(20), r"begins with b'PIEX'"),
        (b"PIEH\1\0\0\0", "its header is cut off"),
        (b"PIEH\2\0\0\0\3\0\0\0" + bytes(47), "2 × 3 pixels, which take 60"),
        (b"PIEH\2\0\0\0\3\0\0\0" + bytes(49), "has 61 bytes"),
        (b"PIEH\0\0\0\0\3\0\0\0", "0 × 3 pixels"),
    ],
)
def test_a_broken_flo_file_is_named(data, message, tmp_path):
  (tmp_path / "b.flo").write_bytes(data)
  with pytest.raises(DataError, match="b.flo .*" + message):
    files.read_flo(tmp_path / "b.flo")


def test_a_picture_that_is_no_flow_is_named(tmp_path):
  cv2.imwrite(str(tmp_path / "c.png"), np.zeros([Y, X, 3], np.uint8))
  with pytest.raises(DataError, match=r"c.png is uint8 of shape \[7, 11"):
    files.read_kitti(tmp_path / "c.png")
  cv2.imwrite(str(tmp_path / "c.png"), np.zeros([Y, X], np.uint16))
  with pytest.raises(DataError, match=r"c.png is uint16 of shape \[7, 11\]"):
    files.read_kitti(tmp_path / "c.png")


@pytest.mark.parametrize("data", [b"", b"text"])
def test_what_is_no_picture_is_named(data, tmp_path):
  (tmp_path / "f.png").write_bytes(data)
  with pytest.raises(DataError, match="f.png holds no image"):
    files.read_kitti(tmp_path / "f.png")


def test_masks_are_where_they_are_not_black(tmp_path):
  mask = np.zeros([Y, X], np.uint8)
  mask[2, 3] = 255
  cv2.imwrite(str(tmp_path / "m.png"), mask)
  found = files.read_marked(tmp_path / "m.png")
  assert np.argwhere(found).tolist() == [[2, 3]]


def test_a_real_pair_of_flying_chairs_is_read():
  folder = SAMPLES / "flying_chairs"
  if not folder.exists():
    pytest.skip(f"{folder} is not there")
  first, second = (image.read(folder / f"00001_img{i}.ppm") for i in (1, 2))
  flow, known = files.read_flo(folder / "00001_flow.flo")
  assert first.shape == second.shape == (50, 50, 3)
  assert flow.shape == (50, 50, 2) and known.all()
  # What is read where the flow points to looks as what is there.
  x, y = np.meshgrid(*map(np.arange, (50, 50)))
  at = (flow + np.dstack([x, y])).astype(np.float32)
  back = cv2.remap(second, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
  inside = ((at >= 0) & (at <= 49)).all(-1)
  error = lambda frame: np.abs(frame - first.astype(float))[inside].mean()
  assert error(back) < 0.6 * error(second)
