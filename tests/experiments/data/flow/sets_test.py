"""Data sets of optical flow, read from files that are laid out as theirs."""

import pickle

import cv2
import numpy as np
import pytest

from experiments.data.flow import files
from experiments.data.flow import sets

Y, X = 7, 11


def frame(number):
  """A picture that is one colour, another for each number."""
  return np.full([Y, X, 3], number, np.uint8)


def flow(number):
  """A flow of a length that is told by a number."""
  return np.full([Y, X, 2], number, np.float32)


def marked(*where):
  """White at some pixels."""
  mask = np.zeros([Y, X], np.uint8)
  for y, x in where:
    mask[y, x] = 255
  return mask


def picture(path, array):
  """Writes it, and the folders above."""
  path.parent.mkdir(parents=True, exist_ok=True)
  assert cv2.imwrite(str(path), array)


def flo(path, array):
  """Writes it, and the folders above."""
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_flo(path, array)


def write_autoflow(root):
  for i, (part, table) in enumerate([(1, "0_batch_3"), (2, "17_batch_0")]):
    folder = root / "autoflow" / f"static_40k_png_{part}_of_4/table_{table}"
    flo(folder / "forward.flo", flow(i))
    for j in range(2):
      picture(folder / f"im{j}.png", frame(10 * i + j))


def write_sintel(root):
  root = root / "sintel/training"
  for scene, base in (("alley_1", 1), ("cave_2", 50)):
    for i in range(3):
      name = f"frame_{i + 1:04d}"
      picture(root / "clean" / scene / f"{name}.png", frame(base + i))
      picture(root / "final" / scene / f"{name}.png", frame(100 + base + i))
      picture(root / "invalid" / scene / f"{name}.png", marked((1, 2)))
      if i < 2:
        flo(root / "flow" / scene / f"{name}.flo", flow(base + i))
        picture(root / "occlusions" / scene / f"{name}.png", marked((3, 4)))


def write_kitti(root):
  for year, frames in (("2012", "colored_0"), ("2015", "image_2")):
    training = root / f"kitti_{year}/training"
    for i in range(2):
      for j in range(2):
        picture(training / frames / f"{i:06d}_1{j}.png", frame(10 * i + j))
      known = marked((1, 2), (3, 4)) > 0
      for kind, where in (("occ", known), ("noc", marked((1, 2)) > 0)):
        folder = training / f"flow_{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        files.write_kitti(folder / f"{i:06d}_10.png", flow(i), where)


def write_chairs(root):
  folder = root / "chairs"
  for i in range(3):
    flo(folder / f"data/{i + 1:05d}_flow.flo", flow(i))
    for j in range(2):
      path = folder / f"data/{i + 1:05d}_img{j + 1}.ppm"
      picture(path, frame(10 * i + j))
  (folder / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n")


@pytest.fixture
def data_dir(tmp_path):
  """A folder with some pairs of every data set."""
  for write in (write_autoflow, write_sintel, write_kitti, write_chairs):
    write(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
    "name, colours, lengths",
    [
        ("autoflow", [(0, 1), (10, 11)], [0, 1]),
        ("sintel_clean", [(1, 2), (2, 3), (50, 51), (51, 52)], [1, 2, 50, 51]),
        (
            "sintel_final",
            [(101, 102), (102, 103), (150, 151), (151, 152)],
            [1, 2, 50, 51],
        ),
        ("kitti_2012", [(0, 1), (10, 11)], [0, 1]),
        ("kitti_2015", [(0, 1), (10, 11)], [0, 1]),
        ("chairs_train", [(0, 1), (20, 21)], [0, 2]),
        ("chairs_validation", [(10, 11)], [1]),
    ],
)
def test_pairs_are_found_where_a_data_set_has_them(
    data_dir, name, colours, lengths
):
  pairs = pickle.loads(pickle.dumps(sets.open_pairs(name, str(data_dir))))
  found = [pairs[i] for i in range(len(pairs))]
  for pair in found:
    assert pair["frames"].shape == (2, Y, X, 3)
    assert pair["known"].dtype == pair["visible"].dtype == bool
  assert [tuple(p["frames"][:, 0, 0, 0].tolist()) for p in found] == colours
  assert [p["flow"][p["known"]].max() for p in found] == lengths


def test_what_is_invalid_or_occluded_in_sintel_is_told(data_dir):
  pair = sets.open_pairs("sintel_clean", str(data_dir))[0]
  assert np.argwhere(~pair["known"]).tolist() == [[1, 2]]
  assert np.argwhere(~pair["visible"]).tolist() == [[1, 2], [3, 4]]


def test_what_is_known_or_occluded_in_kitti_is_told(data_dir):
  pair = sets.open_pairs("kitti_2015", str(data_dir))[1]
  assert np.argwhere(pair["known"]).tolist() == [[1, 2], [3, 4]]
  assert np.argwhere(pair["visible"]).tolist() == [[1, 2]]


def test_grey_frames_and_those_with_transparency_are_read(data_dir):
  folder = data_dir / "autoflow/static_40k_png_1_of_4/table_0_batch_3"
  picture(folder / "im0.png", marked((1, 2)))
  picture(folder / "im1.png", np.full([Y, X, 4], 9, np.uint8))
  frames = sets.open_pairs("autoflow", str(data_dir))[0]["frames"]
  assert frames[0, 1, 2].tolist() == [255] * 3 and (frames[1] == 9).all()


def test_frames_of_another_size_than_the_flow_are_named(data_dir):
  folder = data_dir / "autoflow/static_40k_png_1_of_4/table_0_batch_3"
  picture(folder / "im1.png", np.zeros([Y, X + 2, 3], np.uint8))
  pairs = sets.open_pairs("autoflow", str(data_dir))
  with pytest.raises(ValueError, match="forward.flo is 7 × 11 .* is 7 × 13"):
    pairs[0]


def test_a_missing_frame_is_named(data_dir):
  (data_dir / "chairs/data/00001_img2.ppm").unlink()
  pairs = sets.open_pairs("chairs_train", str(data_dir))
  with pytest.raises(FileNotFoundError, match="00001_img2.ppm"):
    pairs[0]


def test_where_a_data_set_should_be_is_said(tmp_path):
  for name in sets.SETS:
    with pytest.raises(FileNotFoundError, match=f"{name!r} in .* it has "):
      sets.open_pairs(name, str(tmp_path))
  with pytest.raises(FileNotFoundError, match="'sintel' in .*sintel_clean"):
    sets.open_pairs("sintel", str(tmp_path))


def test_a_folder_of_ones_own_has_a_folder_for_each_pair(tmp_path):
  for i, ending in enumerate(("png", "jpg")):
    folder = tmp_path / "mine" / f"scene_{i}" / "pair"
    for frame in range(2):
      picture(folder / f"im{frame}.{ending}", np.zeros([Y, X, 3], np.uint8))
    files.write_flo(folder / "forward.flo", np.full([Y, X, 2], i, np.float32))
  (tmp_path / "mine/scene_1/pair/im1.jpg").unlink()
  pairs = sets.open_pairs("mine", str(tmp_path))
  assert len(pairs) == 2 and (pairs[0]["flow"] == 0).all()
  assert pairs[0]["frames"].shape == (2, Y, X, 3)
  with pytest.raises(FileNotFoundError, match="scene_1/pair/im1"):
    pairs[1]


def test_a_list_of_parts_of_another_length_is_refused(data_dir):
  (data_dir / "chairs/FlyingChairs_train_val.txt").write_text("1\n")
  with pytest.raises(ValueError, match="has 1 lines, and .* has 3 flows"):
    sets.open_pairs("chairs_train", str(data_dir))
