"""Pairs with known flow: drawn ones, photographs in perspective, a real one."""

import importlib.util
import pickle

import cv2
import numpy as np
import pytest

from experiments.data.flow import files as flow_files
from experiments.data.flow import layers as flow_layers
from experiments.data.flow import scenes as flow_scenes
from experiments.data.flow.layers import Layer
from experiments.data.flow.layers import Motion
from experiments.data.flow.scenes import Homographies
from experiments.data.flow.scenes import Scenes
from experiments.data.flow.splines import Box
from experiments.data.images import image

Y, X = 101, 149
CLEAR = {"motion_blur": 0, "fog": 0, "noise": 0}
needs_photographs = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None,
    reason="the photographs are those of scikit-image, which is not installed",
)


@pytest.fixture(scope="module")
def textures(tmp_path_factory):
  """A folder with nine smooth random pictures."""
  folder = tmp_path_factory.mktemp("textures")
  rng = np.random.default_rng(0)
  for i in range(9):
    picture = cv2.resize(
        rng.uniform(0, 255, [19, 23, 3]),
        (139, 127),
        interpolation=cv2.INTER_CUBIC,
    )
    cv2.imwrite(str(folder / f"{i}.png"), np.clip(picture, 0, 255))
  return folder


def scenes(textures, **settings) -> Scenes:
  settings = {"size": (Y, X), "length": 7, "translation": 31.0} | settings
  return Scenes(textures=textures, **settings)


def moved(x: float, y: float, strength: float = 0.0) -> Motion:
  """A translation, and a warp that is strong in places."""
  bumps = np.random.default_rng(0).uniform(-strength, strength, [7, 8, 2])
  matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
  return Motion(matrix, bumps.astype(np.float32))


def layer(level: int, motion: Motion, *box: int) -> Layer:
  """A grey rectangle, or a background; left, top, right, bottom are inside."""
  texture = np.full([5, 7, 3], level, np.uint8)
  outlines = ()
  if box:
    left, top, right, bottom = box
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    outlines = (np.array(corners, np.float32),)
  return Layer(texture, np.eye(2, 3, dtype=np.float32), motion, outlines)


def residuals(pair, back: float = 1.0) -> float:
  """How much frame 1 differs from frame 2, warped back by so much flow."""
  height, width = pair["visible"].shape
  x = back * pair["flow"][..., 0] + np.arange(width, dtype=np.float32)
  y = back * pair["flow"][..., 1] + np.arange(height, dtype=np.float32)[:, None]
  first, second = pair["frames"]
  warped = cv2.remap(
      second, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
  )
  visible = pair["visible"] & pair["known"]
  return np.abs(warped.astype(float) - first)[visible].mean()


def assert_same(pair, other):
  assert pair.keys() == other.keys()
  for name in pair:
    np.testing.assert_array_equal(pair[name], other[name])


@pytest.mark.parametrize(
    "kind, settings", [(Scenes, {}), (Homographies, {"motion": 11.0})]
)
def test_a_pair_is_two_frames_and_their_flow(kind, settings, textures):
  pairs = kind(size=(Y, X), length=3, textures=textures, **settings)
  assert len(pairs) == 3 and len(list(pairs)) == 3
  found = {name: (x.dtype, x.shape) for name, x in pairs[1].items()}
  assert found == {
      "frames": (np.uint8, (2, Y, X, 3)),
      "flow": (np.float32, (Y, X, 2)),
      "known": (bool, (Y, X)),
      "visible": (bool, (Y, X)),
  }
  assert pairs[1]["known"].all() and pairs[1]["visible"].any()
  for index in (-1, 3):
    with pytest.raises(IndexError, match=f"pair {index} of 3"):
      pairs[index]


def test_a_pair_depends_on_its_index_and_the_seed_alone(textures):
  source, other = scenes(textures), scenes(textures, length=5)
  for index in (4, 2):
    assert_same(source[index], other[index])
  assert not np.array_equal(source[2]["frames"], source[4]["frames"])
  assert not np.array_equal(source[2]["flow"], source[4]["flow"])
  assert not np.array_equal(
      source[2]["flow"], scenes(textures, seed=1)[2]["flow"]
  )


def test_what_was_pickled_draws_the_same_and_carries_no_texture(textures):
  source = scenes(textures)
  expected = source[3]
  pickled = pickle.dumps(source)
  assert len(pickled) < 3000
  assert_same(pickle.loads(pickled)[3], expected)


def test_a_texture_is_read_once_and_when_it_is_needed(
    textures, monkeypatch, tmp_path
):
  texture = tmp_path / "a.png"
  texture.write_bytes((textures / "0.png").read_bytes())
  read, paths = image.read, []
  monkeypatch.setattr(
      image, "read", lambda path: paths.append(path) or read(path)
  )
  source = scenes([texture])
  assert not paths
  for index in range(3):
    source[index]
  assert paths == [str(texture)]


@pytest.mark.parametrize("index", range(5))
def test_the_second_frame_warped_back_is_the_first(index, textures):
  pair = scenes(textures, **CLEAR)[index]
  # Twice the flow and the opposite one are no better than none.
  right, *wrong = [residuals(pair, back) for back in (1, 0, 2, -1)]
  assert right < 0.2 * min(wrong)


def test_the_flow_of_pixels_is_that_of_points():
  matrix = np.array([[1.1, -0.2, 7], [0.3, 0.9, -5]], np.float32)
  motion = Motion(matrix, moved(0, 0, strength=8.0).bumps)
  box = Box(67, 5, 131, 89)
  y, x = np.mgrid[5:89, 67:131].astype(np.float32)
  points = np.dstack([x, y]).reshape(-1, 2)
  flow = motion.flow(box)
  assert flow.shape == (84, 64, 2) and flow.dtype == np.float32
  np.testing.assert_allclose(
      flow.reshape(-1, 2), motion(points) - points, atol=1e-4
  )


def test_a_motion_is_inverted_to_a_fiftieth_of_a_pixel(textures):
  size = (211, 307)
  source = scenes(textures, size=size, warp=8.0, objects=(3, 3))
  y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
  second = np.dstack([x, y]).reshape(-1, 2)
  for index in range(3):
    for one in source.layers(index):
      some = second[::97]
      first = one.motion.inverse(some)
      np.testing.assert_allclose(one.motion(first), some, atol=0.01)
      # That which is drawn: a layer whose texture's places are the frame's.
      plain = layer(0, one.motion)
      (places,) = plain.places(Box(0, 0, *size[::-1]), [1])
      places = places.reshape(2, -1).T
      inside = ((places >= 0) & (places < size[::-1])).all(-1)
      error = one.motion(places[inside]) - second[inside]
      assert np.linalg.norm(error, axis=-1).max() < 0.02


def test_the_flow_of_a_translation_is_the_translation():
  pair = flow_layers.draw([layer(9, moved(3.7, -5.3))], (Y, X))
  expected = np.broadcast_to(np.float32([3.7, -5.3]), [Y, X, 2])
  np.testing.assert_allclose(pair["flow"], expected, atol=1e-5)
  y, x = np.mgrid[:Y, :X]
  inside = (x + 3.7 < X - 0.5) & (y - 5.3 >= -0.5)
  np.testing.assert_array_equal(pair["visible"], inside)


def test_an_object_in_front_hides_what_is_behind():
  still, right = moved(0, 0), moved(17, 0)
  layers = [
      layer(50, still),
      layer(100, right, 20, 30, 60, 70),
      layer(200, still, 71, 40, 90, 60),
  ]
  pair = flow_layers.draw(layers, (Y, X))
  # In both frames, what is well inside of something.
  first, second = pair["frames"][..., 0]
  assert first[50, 40] == 100 and second[50, 24] == 50 and second[35, 75] == 100
  assert first[50, 80] == second[50, 80] == 200 and second[50, 67] == 100
  assert pair["flow"][50, 40].tolist() == pytest.approx([17, 0])
  assert not pair["flow"][50, 80].any() and not pair["flow"][9].any()
  # The background in front of which the object comes, and the object's part
  # that goes behind the other one.
  hidden = np.zeros([Y, X], bool)
  hidden[30:71, 61:78] = True
  hidden[40:61, 54:61] = True
  hidden[40:61, 71:91] = False
  edge = cv2.dilate(hidden.view(np.uint8), np.ones([5, 5])) > cv2.erode(
      hidden.view(np.uint8), np.ones([5, 5])
  )
  np.testing.assert_array_equal(pair["visible"][~edge], ~hidden[~edge])
  assert (pair["visible"] == ~hidden).mean() > 0.99


def test_what_leaves_the_frame_is_not_visible():
  layers = [layer(50, moved(0, 0)), layer(100, moved(0, -40), 70, 10, 90, 60)]
  pair = flow_layers.draw(layers, (Y, X))
  assert not pair["visible"][15:35, 75:85].any()
  assert pair["visible"][45:55, 75:85].all()


def test_a_hole_shows_what_is_behind():
  ring = layer(100, moved(0, 0), 20, 30, 60, 70)
  hole = layer(0, moved(0, 0), 35, 45, 45, 55)
  ring = Layer(
      ring.texture, ring.to_texture, moved(7, 0), ring.outlines + hole.outlines
  )
  pair = flow_layers.draw([layer(50, moved(0, 0)), ring], (Y, X))
  first, second = pair["frames"][..., 0]
  assert first[50, 40] == second[50, 47] == 50 and second[50, 36] == 100
  assert not pair["flow"][50, 40].any()
  assert pair["flow"][50, 30].tolist() == pytest.approx([7, 0])


def test_only_what_moves_is_blurred_and_only_along_its_way():
  stripes = np.zeros([Y, X, 3], np.uint8)
  stripes[:, ::6] = stripes[:, 1::6] = stripes[:, 2::6] = 240
  contrast = {}
  for name, motion in {
      "still": moved(0, 0),
      "along": moved(0, 12),
      "across": moved(12, 0),
  }.items():
    background = Layer(stripes, np.eye(2, 3, dtype=np.float32), motion)
    pair = flow_layers.draw([background], (Y, X), exposure=0.5)
    contrast[name] = [frame[20:80, 20:120].std() for frame in pair["frames"]]
  np.testing.assert_allclose(contrast["still"], 120, atol=2)
  np.testing.assert_allclose(contrast["along"], 120, atol=2)
  np.testing.assert_array_less(contrast["across"], 30)


@pytest.mark.parametrize(
    "setting", [{"motion_blur": 0.9}, {"fog": 0.7}, {"noise": 13.0}]
)
def test_what_disturbs_the_frames_does_not_change_the_flow(setting, textures):
  clear = scenes(textures, **CLEAR)
  disturbed = scenes(textures, **CLEAR | setting)
  changes = []
  for index in range(len(clear)):
    expected, pair = clear[index], disturbed[index]
    for name in ("flow", "known", "visible"):
      np.testing.assert_array_equal(pair[name], expected[name])
    difference = pair["frames"].astype(float) - expected["frames"]
    changes.append(np.abs(difference).mean((1, 2, 3)))
  # Both frames of some pairs, but not of all.
  changed = np.array(changes) > 0.5
  assert changed.all(1).any() and (~changed).all(1).any()


def test_still_scenes_do_not_move(textures):
  still = {"translation": 0, "rotation": 0, "scale": 1, "shear": 0, "warp": 0}
  pair = scenes(textures, **CLEAR, **still)[0]
  assert np.abs(pair["flow"]).max() < 1e-4 and pair["visible"].all()
  first, second = pair["frames"].astype(float)
  assert np.abs(first - second).max() <= 1


def test_scenes_have_as_many_objects_as_they_are_told(textures):
  source = scenes(textures, objects=(2, 4), length=30)
  counts = {len(source.layers(index)) - 1 for index in range(30)}
  assert counts == {2, 3, 4}


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"warp": 9.0}, "warp 9.0 is not in"),
        ({"objects": (5, 3)}, r"objects \(5, 3\) is not a range"),
        ({"part": "dev"}, "part 'dev' is not"),
    ],
)
def test_settings_out_of_their_range_are_refused(setting, message, textures):
  with pytest.raises(ValueError, match=message):
    scenes(textures, **setting)
  with pytest.raises(ValueError, match="motion 26.0 is too long"):
    Homographies(size=(Y, X), textures=textures, motion=26.0)


def test_textures_for_tests_are_not_seen_in_training(textures):
  train, test, both = (
      set(scenes(textures, part=part).paths)
      for part in ("train", "test", "all")
  )
  assert len(both) == 9 and len(test) == 2
  assert train | test == both and not train & test


@needs_photographs
def test_photographs_of_scikit_image_are_the_default():
  train, test = (Scenes(part=part).paths for part in ("train", "test"))
  assert len(train) == 10 and len(test) == 3 and not set(train) & set(test)
  pair = Homographies(size=(Y, X), motion=11.0)[0]
  assert pair["frames"].std() > 5
  assert residuals(pair) < 0.4 * residuals(pair, back=0)


def test_without_scikit_image_it_is_named(monkeypatch, textures):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(FileNotFoundError, match="scikit-image: pip install"):
    Scenes()
  with pytest.raises(FileNotFoundError, match="scikit-image: pip install"):
    flow_scenes.motorcycle()
  assert len(scenes(textures)) == 7


def test_a_folder_without_pictures_is_named(tmp_path):
  (tmp_path / "empty").mkdir()
  (tmp_path / "empty" / "a.txt").write_text("no picture")
  with pytest.raises(FileNotFoundError, match="empty holds no images"):
    Scenes(textures=tmp_path / "empty")
  with pytest.raises(FileNotFoundError, match="the list is empty"):
    Scenes(textures=[])
  with pytest.raises(
      FileNotFoundError, match="of 3 textures none is for tests"
  ):
    Scenes(textures=["a.png", "b.png", "c.png"], part="test")


def test_a_homographys_flow_is_exact_at_the_corners(textures):
  source = Homographies(size=(Y, X), textures=textures, motion=23.0)
  for index in range(3):
    flow, matrix = source[index]["flow"], source.homography(index)
    for x, y in [(0, 0), (X - 1, 0), (0, Y - 1), (X - 1, Y - 1), (71, 43)]:
      there = matrix @ [x, y, 1]
      expected = there[:2] / there[2] - [x, y]
      np.testing.assert_allclose(flow[y, x], expected, atol=1e-4)
    corners = flow[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert 1 < np.abs(corners).max() <= 23


def test_a_photograph_in_perspective_warped_back_is_itself(textures):
  source = Homographies(size=(Y, X), textures=textures, motion=23.0)
  for index in range(3):
    pair = source[index]
    assert residuals(pair) < 0.1 * residuals(pair, back=0)
    assert 0.5 < pair["visible"].mean() < 1


@needs_photographs
def test_the_motorcycle_warped_back_is_itself():
  pair = flow_scenes.motorcycle()
  assert pair["frames"].shape == (2, 500, 741, 3)
  assert pair["flow"].shape == (500, 741, 2)
  assert (
      not pair["flow"][..., 1].any() and not pair["flow"][~pair["known"]].any()
  )
  assert pair["flow"][pair["known"]][:, 0].max() < -7
  assert not (pair["visible"] & ~pair["known"]).any()
  assert 0.7 < pair["visible"].mean() < 0.9 < pair["known"].mean() < 0.95
  assert residuals(pair) < 0.2 * residuals(pair, back=0)


@needs_photographs
def test_a_shrunk_motorcycle_has_the_same_flow_in_larger_pixels():
  whole, pair = flow_scenes.motorcycle(), flow_scenes.motorcycle(7)
  assert pair["frames"].shape == (2, 71, 105, 3)
  for y, x in [(0, 2), (13, 31), (70, 104)]:
    block = np.s_[7 * y : 7 * y + 7, 7 * x : 7 * x + 7]
    assert pair["known"][y, x] == whole["known"][block].all()
    if pair["known"][y, x]:
      median = np.median(whole["flow"][block][..., 0]) / 7
      np.testing.assert_allclose(pair["flow"][y, x], [median, 0], rtol=1e-6)
  assert pair["known"].mean() > 0.6
  assert residuals(pair) < 0.5 * residuals(pair, back=0)


def test_autoflows_files_are_read_as_they_were_written(textures, tmp_path):
  source = scenes(textures, length=5)
  folders = [
      flow_scenes.write_autoflow(index, source, tmp_path, batches=3)
      for index in range(5)
  ]
  assert [str(folder.relative_to(tmp_path)) for folder in folders] == [
      f"static_40k_png_1_of_4/table_{table}_batch_{batch}"
      for table, batch in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
  ]
  for folder, pair in zip(folders, source, strict=True):
    assert {path.name for path in folder.iterdir()} == {
        "im0.png",
        "im1.png",
        "forward.flo",
    }
    flow, known = flow_files.read_flo(folder / "forward.flo")
    np.testing.assert_array_equal(flow, pair["flow"])
    np.testing.assert_array_equal(known, pair["known"])
    for number, frame in enumerate(pair["frames"]):
      written = image.read(folder / f"im{number}.png")
      np.testing.assert_array_equal(written, frame)
  (folders[0] / "im0.png").write_bytes(b"mine")
  (folders[1] / "forward.flo").unlink()
  (folders[1] / "im0.png").write_bytes(b"half")
  for index in (0, 1):
    flow_scenes.write_autoflow(index, source, tmp_path, batches=3)
  assert (folders[0] / "im0.png").read_bytes() == b"mine"
  assert (folders[1] / "im0.png").read_bytes() != b"half"
  assert (folders[1] / "forward.flo").exists()
