"""OFF files as they are found, and points on their surfaces."""

import os
import pathlib

import numpy as np
import pytest

from experiments.data.errors import DataError
from experiments.data.points import meshes

CORNERS = ["0 0 0", "2 0 0", "2 3 0", "0 3 0", "0 0 5"]
FACES = ["4 0 1 2 3", "3 0 1 4"]


def off(vertices=CORNERS, faces=FACES, header="OFF\n", counts=None):
  counts = counts or f"{len(vertices)} {len(faces)} 0"
  lines = [header + counts, *vertices, *faces]
  return "\n".join(lines).encode() + b"\n"


def test_a_face_of_four_corners_is_two_triangles():
  mesh = meshes.read_off(off(), "a.off")
  assert sorted(mesh.triangles.tolist()) == [[0, 1, 2], [0, 1, 4], [0, 2, 3]]
  assert mesh.vertices.tolist()[4] == [0, 0, 5] and len(mesh.vertices) == 5


SAME = {
    "counts glued to the header": off(header="OFF"),
    "counts beside the header": off(header="OFF "),
    "no count of edges": off(counts="5 2"),
    "comments": b"# by hand\n" + off().replace(b"3 0 1 4", b"3 0 1 4 # 0 1 2"),
    "blank lines": b"\n" + off().replace(b"\n", b"\n\n  \n"),
    "a Mac's and Windows' ends of lines": off().replace(b"\n", b"\r\n"),
    "colours of some faces": off(faces=[FACES[0], f"{FACES[1]} 0.5 0.5 1"]),
    "colours of all faces": off(faces=[f"{face} 9 0 7" for face in FACES]),
    "colours of vertices": off(
        [f"{v} 9 0 7" for v in CORNERS], header="COFF\n"
    ),
    "normals of some vertices": off(["0 0 0 0 1 0", *CORNERS[1:]]),
    "points and lines as faces": off(faces=["1 0", "2 4 3", *FACES]),
    "what follows the faces": off() + b"1 2\n",
    "numbers in many forms": off(["0.0e0 -0 0", "+2 0 0", *CORNERS[2:]]),
}


@pytest.mark.parametrize("what", SAME)
def test_it_is_the_same_mesh_with(what):
  plain, mesh = (meshes.read_off(d, "a.off") for d in (off(), SAME[what]))
  np.testing.assert_array_equal(mesh.vertices, plain.vertices)
  assert sorted(mesh.triangles.tolist()) == sorted(plain.triangles.tolist())


DAMAGED = {
    "it does not begin with OFF": b"ply\n5 2 0\n",
    "begin with OFF": b"",
    "no numbers of vertices and faces": b"OFF\n",
    "numbers of vertices": off(counts="5"),
    "-5 vertices": off(counts="-5 2 0"),
    "cut short, 6 lines for 5 vertices and 2": off().rsplit(b"3 ", 1)[0],
    "a face of 4 corners is cut short": off(faces=["4 0 1 2"]),
    "a face of -3 corners": off(faces=["-3 0 1 2"]),
    "a face of 2.5 corners": off(faces=["2.5 0 1 2"]),
    "a face of nan corners": off(faces=["nan 0 1 2"]),
    "corner 5, which is none of 5": off(faces=["3 0 1 5"]),
    "corner -1, which is none": off(faces=["3 0 1 -1"]),
    "corner 1.5, which is none": off(faces=["3 0 1 1.5"]),
    "corner nan, which is none": off(faces=["3 0 1 nan"]),
    "a vertex with 2 coordinates": off(["0 0", *CORNERS[1:]]),
    "or further than 1e+18": off(["0 0 1e39", *CORNERS[1:]]),
    "a vertex that is not finite": off(["0 0 nan", *CORNERS[1:]]),
    "vertex that is not finite": off(["0 -inf 0", *CORNERS[1:]]),
    "could not convert string 'x'": off(["0 x 0", *CORNERS[1:]]),
    "no faces": off(faces=[]),
    "no face": off(faces=["2 0 1"]),
}


@pytest.mark.parametrize("message", DAMAGED)
def test_what_is_damaged_is_named(message):
  with pytest.raises(DataError) as error:
    meshes.read_off(DAMAGED[message], "chair/train/chair_0007.off")
  assert str(error.value).startswith("chair/train/chair_0007.off: ")
  assert message in str(error.value)
  assert "\n" not in str(error.value)


FLAT = {
    "a point": ["1 2 3"] * 5,
    # Rounding leaves it an area of 1e-16 or so.
    "a line": [
        "0.1 0.7 0.3",
        "0.3 2.1 0.9",
        "0.7 4.9 2.1",
        *["1.1 7.7 3.3"] * 2,
    ],
}


@pytest.mark.parametrize("what", FLAT)
def test_a_surface_without_area_is_named(what):
  mesh = meshes.read_off(off(FLAT[what]), "a.off")
  with pytest.raises(DataError, match="a.off: a surface without area"):
    meshes.sample(mesh, 7, np.random.default_rng(0), "a.off")


def test_points_are_on_the_surface_and_spread_by_its_area():
  mesh = meshes.read_off(off(), "a.off")
  points = meshes.sample(mesh, 20_000, np.random.default_rng(0), "a.off")
  x, y, z = points.T
  on_floor = (z == 0) & (0 <= x) & (x <= 2) & (0 <= y) & (y <= 3)
  on_wall = (y == 0) & (0 <= x) & (0 <= z) & (x / 2 + z / 5 <= 1 + 1e-12)
  assert (on_floor | on_wall).all()
  floor, wall = 2 * 3, 2 * 5 / 2
  # A share of 20,000 is uncertain by 0.0035, a mean coordinate by 0.02.
  assert on_floor.mean() == pytest.approx(floor / (floor + wall), abs=0.015)
  assert points[on_floor].mean(0) == pytest.approx([1, 1.5, 0], abs=0.05)
  expected = [2 / 3, 0, 5 / 3]
  assert points[on_wall].mean(0) == pytest.approx(expected, abs=0.05)
  # Evenly within a triangle too, not just about its centre.
  tip = points[on_wall & (z > 2.5)]
  assert len(tip) / on_wall.sum() == pytest.approx(0.25, abs=0.02)


def test_triangles_without_area_are_never_chosen():
  faces = ["3 0 0 1", "3 0 1 2", "3 2 2 2"]
  mesh = meshes.read_off(off(faces=faces), "a.off")
  points = meshes.sample(mesh, 1000, np.random.default_rng(0), "a.off")
  x, y, _ = points.T
  assert (y > 0).all() and (y <= 1.5 * x + 1e-12).all()


@pytest.mark.parametrize("scale", [1e-180, 1e150])
def test_any_unit_of_length_will_do(scale):
  mesh = meshes.read_off(off(), "a.off")
  large = mesh._replace(vertices=mesh.vertices * scale)
  expected, points = (
      meshes.sample(each, 11, np.random.default_rng(0), "a.off")
      for each in (mesh, large)
  )
  np.testing.assert_allclose(points / scale, expected, rtol=1e-9)


def test_points_are_a_function_of_the_random_state():
  mesh = meshes.read_off(off(), "a.off")
  first, again, other = (
      meshes.sample(mesh, 7, np.random.default_rng(seed), "a.off")
      for seed in (0, 0, 1)
  )
  assert first.shape == (7, 3)
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


def test_what_is_written_is_read_again():
  vertices = np.array([[0, 0, 0], [1.5, 0, 0], [1.25e-7, 1, -1], [0, 1, 0.0]])
  faces = np.array([[0, 1, 2, 3]])
  mesh = meshes.read_off(meshes.write_off(vertices, faces), "a.off")
  np.testing.assert_array_equal(mesh.vertices, vertices)
  assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_real_meshes_are_read():
  folder = os.environ.get("PERCEIVER_OFF_FILES")
  if not folder:
    pytest.skip(
        "PERCEIVER_OFF_FILES names no folder of OFF files; Debian's"
        " libcgal-demo has 139 in usr/share/doc/libcgal-dev/data.tar.gz"
    )
  paths = sorted(pathlib.Path(folder).rglob("*.off"))
  assert paths
  for path in paths:
    mesh = None
    try:
      mesh = meshes.read_off(path.read_bytes(), path.name)
    except DataError as error:  # One of them is points alone.
      assert str(error) == "kitten.off: no faces"
    if mesh is not None:
      points = meshes.sample(mesh, 257, np.random.default_rng(0), path.name)
      low, high = mesh.vertices.min(0), mesh.vertices.max(0)
      slack = 1e-9 * np.abs(mesh.vertices).max()
      assert ((low - slack <= points) & (points <= high + slack)).all()
