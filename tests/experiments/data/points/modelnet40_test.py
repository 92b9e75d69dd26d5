"""ModelNet40 as it is downloaded, and shapes in its layout."""

import zipfile

import numpy as np
import pytest

from experiments.data import pipeline
from experiments.data.builders import modelnet40
from experiments.data.builders import shapes as shapes_builder
from experiments.data.points import shapes
from scripts import prepare_data


def tetrahedron(offset=0.0):
  """Edges of 1, 2 and 3 along the axes."""
  corners = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3.0]]) + offset
  lines = ["OFF4 4 6"]  # As some of ModelNet40's files begin.
  lines += [" ".join(map(repr, corner)) for corner in corners.tolist()]
  lines += ["3 0 1 2", "3 0 1 3", "3 0 2 3", "3 1 2 3"]
  return "\n".join(lines).encode()


FILES = {
    "ModelNet40/chair/train/chair_0001.off": tetrahedron(),
    "ModelNet40/chair/train/chair_0002.off": tetrahedron(),
    "ModelNet40/night_stand/train/night_stand_0003.off": tetrahedron(1e9),
    "ModelNet40/xbox/test/xbox_0100.off": tetrahedron(),
    # What is no mesh of a class.
    "ModelNet40/README.txt": b"",
    "ModelNet40/.DS_Store": b"",
    "__MACOSX/ModelNet40/chair/train/._chair_0001.off": b"\0",
}
TRAIN = {
    "chair/train/chair_0001.off": 8,
    "chair/train/chair_0002.off": 8,
    "night_stand/train/night_stand_0003.off": 23,
}
DAMAGED = {
    "ModelNet40/chair/train/chair_0004.off": b"OFF\n3 1 0\n0 0 0\n",
    "ModelNet40/chair/train/chair_0005.off": b"OFF\n0 0 0\n",
    "ModelNet40/dog/train/dog_0001.off": tetrahedron(),
}


def as_folder(place, files):
  for name, data in files.items():
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def as_archive(place, files):
  place.mkdir()
  with zipfile.ZipFile(place / "ModelNet40.zip", "w") as archive:
    for name, data in files.items():
      archive.writestr(name, data)


def prepared(tmp_path, write, files):
  """The sources of both splits."""
  write(tmp_path / "manual", files)
  prepare_data.main(
      [
          "modelnet40",
          f"--manual_dir={tmp_path / 'manual'}",
          f"--data_dir={tmp_path}",
      ]
  )
  return [
      pipeline.source("modelnet40", split, str(tmp_path))
      for split in ("train", "test")
  ]


def by_file(source):
  return {
      bytes(x["file"]).decode(): x
      for x in map(source.__getitem__, range(len(source)))
  }


def test_the_archive_and_its_folders_are_prepared_alike(tmp_path, capsys):
  found = []
  for write in (as_folder, as_archive):
    place = tmp_path / write.__name__
    place.mkdir()
    train, test = map(by_file, prepared(place, write, FILES))
    assert {name: x["label"] for name, x in train.items()} == TRAIN
    assert {name: x["label"] for name, x in test.items()} == {
        "xbox/test/xbox_0100.off": 39
    }
    found.append({name: x["points"] for name, x in {**train, **test}.items()})
  first, second = found
  for name, points in first.items():
    assert points.shape == (2048, 3) and points.dtype == np.float32
    np.testing.assert_array_equal(points, second[name])
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
  one, other, far, _ = (first[name] for name in sorted(first))
  assert (one != other).any()  # Each object has its own points.
  # Far from the origin, where float32 has steps of 64, nothing is lost.
  np.testing.assert_allclose(np.ptp(far, axis=0), [1, 2, 3], rtol=0.1)
  assert "left out" not in capsys.readouterr().err


def test_damaged_files_are_named_counted_and_left_out(tmp_path, capsys):
  train, _ = prepared(tmp_path, as_folder, {**FILES, **DAMAGED})
  assert by_file(train).keys() == TRAIN.keys()
  notes = [
      line
      for line in capsys.readouterr().err.splitlines()
      if line.startswith("note: ")
  ]
  assert notes == [
      "note: chair/train/chair_0004.off: cut short, 1 lines for 3 vertices and"
      " 1 faces; left out",
      "note: chair/train/chair_0005.off: no faces; left out",
      "note: dog/train/dog_0001.off: there is no class 'dog'; left out",
      "note: 3 of 6 files left out",
  ]


MISSING = {
    "nothing": ({}, "is empty or missing. Name another"),
    "no meshes": (
        {"ModelNet40/README.txt": b""},
        "neither ModelNet40.zip nor CLASS/train/CLASS_0001.off in",
    ),
    "no test": (
        {"chair/train/chair_0001.off": tetrahedron()},
        "nor CLASS/test/CLASS_0001.off in",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_one_line_says_what_is_missing(tmp_path, capsys, what):
  files, message = MISSING[what]
  with pytest.raises(SystemExit) as ended:
    prepared(tmp_path, as_folder, files)
  *_, last = capsys.readouterr().err.splitlines()
  assert ended.value.code == 2
  assert last.startswith("error: ") and message in last


def test_all_classes_are_there_in_their_order():
  assert len(set(modelnet40.CLASSES)) == 40
  assert list(modelnet40.CLASSES) == sorted(modelnet40.CLASSES)


def test_generated_shapes_are_prepared(tmp_path, monkeypatch):
  monkeypatch.setattr(shapes_builder, "EACH", {"train": 2, "test": 1})
  prepare_data.main(["shapes", f"--data_dir={tmp_path}"])
  for split, each in shapes_builder.EACH.items():
    source = pipeline.source("shapes", split, str(tmp_path))
    assert len(source) == each * len(shapes.SHAPES)
    for name, example in by_file(source).items():
      kind = list(shapes.SHAPES)[example["label"]]
      assert name.startswith(f"{kind}/{split}/{kind}_000")


@pytest.mark.parametrize("kind", shapes.SHAPES)
def test_no_two_shapes_are_the_same(kind):
  drawn = [shapes.draw(kind, np.random.default_rng(seed)) for seed in (0, 0, 1)]
  (first, _), (again, _), (other, _) = drawn
  np.testing.assert_array_equal(first, again)
  assert (np.abs(first - other) > 0.01).any()
  for vertices, faces in drawn:
    assert np.abs(vertices).max() < 4
    # A hole is no more than a part.
    assert len(faces) > len(vertices) / 2


def test_more_shapes_leave_the_first_as_they_are():
  few, more = (dict(shapes.files("test", each)) for each in (1, 3))
  assert len(more) == 3 * len(few) == 3 * len(shapes.SHAPES)
  assert few.items() < more.items()
  assert not few.items() & dict(shapes.files("test", 1, seed=1)).items()
  assert not set(few.values()) & set(dict(shapes.files("train", 1)).values())
  assert modelnet40._NAME.fullmatch(next(iter(few)))
