"""Data sets of labelled images, in folders, zip files and files of TFDS."""

import json
import os
import pickle
import shutil
import zipfile

from array_record.python import array_record_module
import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.data import tfrecord
from experiments.data.errors import DataError
from experiments.data.images import sets
from experiments.data.images.image import ImageError
from tests.readers import framed
from tests.readers import write_meta


def png(level):
  """A file with an image of one grey."""
  return cv2.imencode(".png", np.full([7, 11, 3], level, np.uint8))[1].tobytes()


def level(example):
  """The grey of an example."""
  image = example["image"]
  if isinstance(image, bytes):
    image = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
  return int(image[0, 0, 0])


def contents(source):
  """(grey, label) of each example."""
  every = [source[i] for i in range(len(source))]
  return [(level(e), e["label"].tolist()) for e in every]


def write(root, files):
  """Files of greys, by their paths."""
  for path, grey in files.items():
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(png(grey))


FILES = {
    "train/b/1.JPEG": 1,
    "train/a/2.jpg": 2,
    "train/a/1.png": 3,
    "val/b/7.jpg": 4,
}
TRAIN = [(3, 0), (2, 0), (1, 1)]


@pytest.fixture(params=["folder", "zip", "zip_in_a_folder"])
def pets(request, tmp_path):
  """A folder with a data set that has a training and a validation split."""
  write(tmp_path / "pets", FILES)
  write(tmp_path / "pets", {"train/a/.hidden.jpg": 5})
  (tmp_path / "pets/train/a/notes.txt").write_text("no image")
  (tmp_path / "pets/train/list.jpg").write_text("in no class")
  if request.param != "folder":
    place = tmp_path / "pets.zip"
    shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "pets")
    shutil.rmtree(tmp_path / "pets")
    if request.param == "zip_in_a_folder":
      (tmp_path / "pets").mkdir()
      place.rename(tmp_path / "pets/any_name.zip")
  return str(tmp_path)


def test_classes_are_folders_in_order(pets):
  source = sets.open_images("pets", "train", pets, num_classes=2)
  assert contents(source) == TRAIN
  assert source[2]["label"].dtype == np.int32
  assert source[2]["file"].endswith("train/b/1.JPEG")
  assert contents(pickle.loads(pickle.dumps(source))) == TRAIN


def test_classes_of_other_splits_are_the_training_sets(pets):
  source = sets.open_images("pets", "validation", pets)
  assert contents(source) == [(4, 1)] and source.num_classes == 2


@pytest.mark.parametrize("zipped", [False, True])
def test_a_zip_file_and_folders_have_the_same_labels(tmp_path, zipped):
  files = {
      "_a/1.png": 1,
      "b/images/2.JPEG": 2,
      "b/images/more/3.png": 3,
      "__MACOSX/b/4.png": 4,
      ".c/5.png": 5,
      "d/6.png": 6,
  }
  write(tmp_path / "own", files)
  for i, name in enumerate(("d/7.gif", "d/8.avif", "b/9.gif", "d/.x.gif")):
    (tmp_path / "own" / name).write_bytes(bytes([i]))
  if zipped:
    shutil.make_archive(str(tmp_path / "own"), "zip", tmp_path / "own")
    shutil.rmtree(tmp_path / "own")
  source = sets.open_images("own", "train", str(tmp_path))
  assert contents(source) == [(1, 0), (2, 1), (3, 1), (6, 2)]
  assert source.note() == (
      "left out, as no images that can be read: 1 .avif, 2 .gif"
  )


LISTS = {
    # As Tiny-ImageNet has it, Kaggle, and who writes one for ImageNet.
    "val/val_annotations.txt": (
        "v_1.JPEG\tn2\t0\t0\nv_0.JPEG\tn1\t3\t4\nv_2.JPEG\tn2\t0\t0\n"
    ),
    "LOC_val_solution.csv": (
        "ImageId,PredictionString\nv_0,n1 1 2 3 4\nv_1,n2 1 2 3 4 n2 5 6 7 8\n"
        "v_2,n2 5 5 5 5\n"
    ),
    "val_labels.txt": "n1\nn2\nn2\n",
}


@pytest.mark.parametrize("file", LISTS)
@pytest.mark.parametrize("folder", ["val", "val/images"])
def test_a_list_has_the_labels_of_images_that_lie_in_no_classes(
    tmp_path, file, folder
):
  root = tmp_path / "tiny"
  write(root, {"train/n1/images/a.JPEG": 9, "train/n2/images/b.JPEG": 9})
  write(root, {f"{folder}/v_{i}.JPEG": i for i in range(3)})
  (root / file).write_text(LISTS[file])
  source = sets.open_images("tiny", "validation", str(tmp_path))
  assert contents(source) == [(0, 0), (1, 1), (2, 1)] and not source.note()
  for text, match in (
      ("n1\nn2\n", "2 lines for 3 images"),
      ("n1\nn2\n5\n", "'5' is not a class of the training set, such as 'n1'"),
      ("v_0.JPEG n1\nv_2.JPEG n2\n", "does not name val/.*v_1.JPEG"),
  ):
    (root / file).write_text(text)
    with pytest.raises(ValueError, match=match):
      sets.open_images("tiny", "validation", str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "golden retriever\r\ncat\r\ngolden retriever\r\n",
        "\ufeffv 0.JPEG,golden retriever\nv 1.JPEG,cat\nv 2,golden retriever",
        'file,class\n"v 2.JPEG","golden retriever"\n"v 1","cat"\nv 0,'
        "golden retriever\n",
        "v 0\tgolden retriever\t1\nv 1\tcat\t2\nv 2\tgolden retriever\t1\n",
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_classes_and_files_of_a_list_may_have_spaces(tmp_path, text, zipped):
  root = tmp_path / "pets"
  write(root, {"train/cat/a.JPEG": 9, "train/golden retriever/b.JPEG": 9})
  write(root, {f"val/v {i}.JPEG": i for i in range(3)})
  (root / "val.txt").write_text(text, "utf-8")
  if zipped:
    shutil.make_archive(str(tmp_path / "pets"), "zip", root)
    shutil.rmtree(root)
  source = sets.open_images("pets", "validation", str(tmp_path))
  assert contents(source) == [(0, 1), (1, 0), (2, 1)]


@pytest.mark.parametrize(
    ("numbers", "meta"),
    [
        ("ILSVRC2012_devkit_t12/data/{}", "ILSVRC2012_devkit_t12/data/"),
        ("{}", ""),
        ("val/{}", "val/"),
        ("val/{}", ""),
        ("{}", "ILSVRC2012_devkit_t12/data/"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_numbers_of_imagenets_development_kit_become_classes(
    tmp_path, numbers, meta, zipped
):
  root = tmp_path / "imagenet2012"
  kinds = ("n02096294", "n02100735", "n02119789")  # In the order of labels.
  write(root, {f"train/{kind}/{kind}_1.JPEG": 9 for kind in kinds})
  names = [f"val/ILSVRC2012_val_0000000{i}.JPEG" for i in range(1, 5)]
  write(root, {name: i for i, name in enumerate(names)})
  listed = root / numbers.format("ILSVRC2012_validation_ground_truth.txt")
  listed.parent.mkdir(parents=True, exist_ok=True)
  listed.write_text("3\n1\n2\n1\n")
  read = lambda: sets.open_images("imagenet2012", "validation", str(tmp_path))
  with pytest.raises(DataError, match=r"_truth\.txt has numbers.* meta\.mat"):
    read()
  write_meta(root / f"{meta}meta.mat")
  if zipped:
    shutil.make_archive(str(root), "zip", root)
    shutil.rmtree(root)
  assert contents(read()) == [(0, 0), (1, 2), (2, 1), (3, 2)]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("train", ["train", "Train", "training"])
def test_splits_may_be_in_one_folder_and_called_in_other_ways(
    tmp_path, zipped, train
):
  root = tmp_path / "pets"
  write(root / "pets-main", {f"{train}/a/1.png": 1, f"{train}/b/2.png": 2})
  write(root / "pets-main", {"Valid/b/3.png": 3})
  if zipped:
    shutil.make_archive(str(root), "zip", root)
    shutil.rmtree(root)
  read = lambda split: contents(sets.open_images("pets", split, str(tmp_path)))
  assert read("train") == [(1, 0), (2, 1)] and read("validation") == [(3, 1)]
  splits, classes = sets.about("pets", str(tmp_path))
  assert (list(splits), list(classes)) == (["train", "validation"], ["a", "b"])


def test_classes_in_one_folder_are_found_and_one_class_stays_one(tmp_path):
  write(tmp_path / "pets/all", {"a/1.png": 1, "b/2.png": 2})
  write(tmp_path / "one/a", {"1.png": 1, "more/2.png": 2, "yet/3.png": 3})
  assert list(sets.about("pets", str(tmp_path)).classes) == ["a", "b"]
  assert list(sets.about("one", str(tmp_path)).classes) == ["a"]


def test_links_that_lead_back_are_not_followed(tmp_path):
  write(tmp_path / "pets", {"a/1.png": 1, "b/more/2.png": 2})
  (tmp_path / "pets/b/back").symlink_to(tmp_path / "pets/b")
  source = sets.open_images("pets", "train", str(tmp_path))
  assert contents(source) == [(1, 0), (2, 1)]


def test_names_of_classes_can_be_shown(tmp_path):
  write(tmp_path / "pets", {"a\nb/1.png": 1, os.fsdecode(b"c\xff/2.png"): 2})
  classes = sets.about("pets", str(tmp_path)).classes
  assert list(classes) == ["a b", "c\ufffd"]


def test_a_slice_of_nothing_is_named(pets):
  with pytest.raises(DataError, match=r"'train\[90%:\]' selects none of the 3"):
    sets.open_images("pets", "train[90%:]", pets)


def test_a_damaged_meta_mat_is_named(tmp_path):
  root = tmp_path / "imagenet2012"
  write(root, {"train/n02096294/a.JPEG": 9, "val/b.JPEG": 1})
  (root / "val.txt").write_text("3\n")
  write_meta(root / "meta.mat")
  whole = (root / "meta.mat").read_bytes()
  for content in (b"", whole[:200], b"meta"):
    (root / "meta.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"imagenet2012/meta\.mat: "):
      sets.open_images("imagenet2012", "validation", str(tmp_path))
  (root / "meta.mat").write_bytes(whole)
  (root / "val.txt").write_text("4\n")
  with pytest.raises(DataError, match="'4' is not a class of the training set"):
    sets.open_images("imagenet2012", "validation", str(tmp_path))


def test_some_classes_can_be_chosen_and_get_new_labels(pets):
  assert contents(sets.open_images("pets", "train", pets, classes=[1])) == [
      (1, 0)
  ]
  both = sets.open_images("pets", "train", pets, classes=[1, 0])
  assert contents(both) == [(1, 0), (3, 1), (2, 1)]


@pytest.mark.parametrize("classes", [[2], [-1], [0, 10**30]])
def test_classes_that_are_not_there_are_named(pets, classes):
  with pytest.raises(DataError, match=rf"classes \[{classes[-1]}\] of .*has 2"):
    sets.open_images("pets", "train", pets, classes=classes)


def test_slices_have_every_example_once_and_not_sorted(tmp_path):
  write(tmp_path / "many", {f"train/{i // 20}/{i}.png": i for i in range(60)})
  parts = [
      contents(sets.open_images("many", split, str(tmp_path)))
      for split in ("train[:25%]", "train[25%:]")
  ]
  assert list(map(len, parts)) == [15, 45]
  assert sorted(parts[0] + parts[1]) == [(i, i // 20) for i in range(60)]
  assert {label for _, label in parts[0]} == {0, 1, 2}


def test_numbers_are_classes_in_their_own_order(tmp_path):
  write(
      tmp_path / "imagenet_v2", {"10/a.jpeg": 1, "9/a.jpeg": 2, "0/a.jpeg": 3}
  )
  source = sets.open_images("imagenet_v2", "test", str(tmp_path))
  assert contents(source) == [(3, 0), (2, 1), (1, 2)]
  with pytest.raises(ValueError, match="has no split 'train', but .'test'.$"):
    sets.open_images("imagenet_v2", "train", str(tmp_path))


def test_folders_of_classes_alone_are_for_training(tmp_path):
  write(tmp_path / "imagenet21k", {"n2/a.JPEG": 1, "n1/a.JPEG": 2})
  source = sets.open_images("imagenet21k", "train", str(tmp_path), max_labels=3)
  assert [level(source[i]) for i in (0, 1)] == [2, 1]
  assert source[1]["labels"].tolist() == [1, -1, -1]
  assert source[1]["labels"].dtype == np.int32


def test_what_does_not_fit_in_folders_is_said(tmp_path, pets):
  def refused(match, name, split, **settings):
    with pytest.raises(ValueError, match=match):
      sets.open_images(name, split, pets, **settings)

  refused(r"no split 'tset', but \['train', 'validation'\]", "pets", "tset")
  refused("has 2 classes, and num_classes is 3", "pets", "train", num_classes=3)
  write(tmp_path / "strange", {"train/a/1.jpg": 1, "test/c/1.jpg": 1})
  refused("strange/test/c is not a class of", "strange", "test")
  write(tmp_path / "flat", {"train/1.jpg": 1, "test/a/1.jpg": 1})
  refused("flat/train/ has no folders of classes", "flat", "train")
  (tmp_path / "torn.zip").write_bytes(b"PK")
  refused("torn.zip is not a zip file", "torn", "train")


def test_a_broken_file_in_a_zip_is_named(tmp_path):
  with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
    archive.writestr("train/a/1.png", png(3))
  content = bytearray((tmp_path / "pets.zip").read_bytes())
  content[60] ^= 1  # Inside of the image.
  (tmp_path / "pets.zip").write_bytes(content)
  source = sets.open_images("pets", "train", str(tmp_path))
  with pytest.raises(ImageError, match="pets.zip/train/a/1.png is broken"):
    source[0]


def test_a_file_that_has_gone_is_named(tmp_path):
  write(tmp_path / "pets", FILES)
  source = sets.open_images("pets", "train", str(tmp_path))
  (tmp_path / "pets/train/b/1.JPEG").unlink()
  with pytest.raises(FileNotFoundError, match="train/b/1.JPEG"):
    source[2]


@pytest.mark.parametrize(
    "name, hints",
    [
        ("imagenet2012", ["scripts.prepare_data imagenet", "n01440764"]),
        ("imagenet2012_real", ["tfds build imagenet2012_real ", "val.tar"]),
        ("imagenet_v2", ["tfds build imagenet_v2/matched-frequency", "0/"]),
        ("imagenet_v2/topimages", ["tfds build imagenet_v2/topimages"]),
        ("imagenet21k", ["imagenet21k/n01440764/"]),
        ("cats", ["tfds build cats", "cats/{train,validation,test}/<class>/"]),
    ],
)
def test_a_missing_data_set_tells_how_to_get_it(tmp_path, name, hints):
  with pytest.raises(FileNotFoundError) as error:
    sets.open_images(name, "train", str(tmp_path))
  for hint in (f"{name!r} in {tmp_path}", *hints):
    assert hint in str(error.value)


class Photos(tfds.core.GeneratorBasedBuilder):
  """Greys with their last digit as label; every third has two labels."""

  VERSION = tfds.core.Version("2.0.0")
  pkg_dir_path = None
  BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(name="one"),
      tfds.core.BuilderConfig(name="several"),
  ]

  def _info(self):
    classes = tfds.features.ClassLabel(num_classes=10)
    labels = {"label": classes, "file_name": tfds.features.Text()}
    if self.builder_config.name == "several":
      labels = {
          "original_label": classes,
          "real_label": tfds.features.Sequence(classes),
      }
    image = tfds.features.Image(encoding_format="png")
    features = tfds.features.FeaturesDict({"image": image, **labels})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(100, 123):
      example = {"label": i % 10, "file_name": f"n{i}.JPEG"}
      if self.builder_config.name == "several":
        labels = [i % 10, 7, 9][: i % 3]
        example = {"original_label": i % 10, "real_label": labels}
      yield i, {"image": png(i), **example}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """A folder with "photos", as ArrayRecord."""
  root = tmp_path_factory.mktemp("photos")
  for config in ("one", "several"):
    builder = Photos(config=config, data_dir=root, file_format="array_record")
    builder.download_and_prepare()
  return root


@pytest.fixture
def records(photos, tmp_path, monkeypatch):
  """A folder with "photos/one", as three TFRecord files."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
  folder = tmp_path / "photos/one/2.0.0"
  (file,) = folder.glob("*array_record*")
  reader = array_record_module.ArrayRecordReader(str(file))
  every, lengths = reader.read_all(), [5, 11, 7]
  for i, length in enumerate(lengths):
    shard = f"photos-train.tfrecord-{i:05d}-of-00003"
    with (folder / shard).open("wb") as out:
      for record in [every.pop(0) for _ in range(length)]:
        out.write(framed(record))
  file.unlink()
  info = json.loads((folder / "dataset_info.json").read_text())
  info["fileFormat"] = "tfrecord"
  info["splits"][0]["shardLengths"] = [str(n) for n in lengths]
  (folder / "dataset_info.json").write_text(json.dumps(info))
  return tmp_path


def greys(photos, split="train"):
  """What TFDS itself reads."""
  builder = Photos(config="one", data_dir=photos)
  return [
      (int(e["image"][0, 0, 0]), e["label"])
      for e in builder.as_data_source(split)
  ]


def test_images_of_tfds_are_read_as_files(photos):
  source = sets.open_images("photos/one", "train", str(photos))
  assert contents(source) == greys(photos)
  assert sorted(contents(source)) == [(i, i % 10) for i in range(100, 123)]
  assert isinstance(source[4]["image"], bytes) and source.num_classes == 10
  grey = level(source[4])
  assert source[4]["file"].endswith(f"one/2.0.0 (train), n{grey}.JPEG")


@pytest.mark.parametrize("split", ["train", "train[:6]", "train[4:17]"])
def test_tfrecord_is_read_as_array_record_is(photos, records, split):
  source = sets.open_images("photos/one", split, str(records))
  assert contents(source) == greys(photos, split)
  copy = pickle.loads(pickle.dumps(source))
  assert contents(copy) == contents(source)
  assert isinstance(source[3]["image"], bytes)


def test_records_are_searched_for_once(records, monkeypatch):
  first = contents(sets.open_images("photos/one", "train", str(records)))
  searched = []

  def spy(path, starts=tfrecord.starts_of):
    searched.append(path)
    return starts(path)

  monkeypatch.setattr(tfrecord, "starts_of", spy)
  open_again = lambda: sets.open_images("photos/one", "train", str(records))
  assert contents(open_again()) == first and not searched
  (file,) = records.glob("photos/one/2.0.0/*-00001-of-00003")
  os.utime(file, (1, 1))  # It may have changed.
  assert contents(open_again()) == first and len(searched) == 3
  monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # Nothing can be kept there.
  assert contents(open_again()) == first and len(searched) == 6


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_tfrecord_file_that_is_cut_off_is_named(records, cut):
  (file,) = records.glob("photos/one/2.0.0/*-00001-of-00003")
  file.write_bytes(file.read_bytes()[:-cut])
  with pytest.raises(ValueError, match="00001-of-00003 is cut off"):
    sets.open_images("photos/one", "train", str(records))


def test_a_tfrecord_file_with_other_records_is_named(records):
  one, two = sorted(records.glob("photos/one/2.0.0/*-of-00003"))[:2]
  shutil.copy(one, two)
  with pytest.raises(ValueError, match="00001.* has 5 records, .* wrote 11"):
    sets.open_images("photos/one", "train", str(records))
  two.unlink()
  with pytest.raises(FileNotFoundError, match="00001-of-00003"):
    sets.open_images("photos/one", "train", str(records))


def test_a_record_that_cannot_be_read_is_named(records):
  (file,) = records.glob("photos/one/2.0.0/*-00000-of-00003")
  content = bytearray(file.read_bytes())
  content[12:40] = b"\xff" * 28
  file.write_bytes(content)
  source = sets.open_images("photos/one", "train", str(records))
  with pytest.raises(ImageError, match=r"example 0 of .*one/2.0.0 \(train\)"):
    source[0]


def test_every_changed_byte_of_a_tfrecord_file_is_noticed(records):
  (file,) = records.glob("photos/one/2.0.0/*-00000-of-00003")
  whole = file.read_bytes()
  for place in range(0, len(whole), 17):
    content = bytearray(whole)
    content[place] ^= 1 << place % 8
    file.write_bytes(content)
    os.utime(file, (place, place))
    with pytest.raises(ValueError, match="00000-of-00003.*copy"):
      contents(sets.open_images("photos/one", "train", str(records)))


@pytest.mark.parametrize("content", [b"", b"PK", b"no index", "other"])
def test_a_damaged_index_of_records_is_made_again(records, content):
  open_again = lambda: sets.open_images("photos/one", "train", str(records))
  expected = contents(open_again())
  (kept,) = (records / "cache").rglob("*.npz")
  if content == "other":
    np.savez(kept, starts=np.zeros(3, object), splits=np.zeros(9))
  else:
    kept.write_bytes(content)
  assert contents(open_again()) == expected
  assert len(np.load(kept)["starts"]) == len(expected)


def test_any_number_of_labels_is_padded(photos):
  source = sets.open_images(
      "photos/several", "train", str(photos), max_labels=3
  )
  numbers = set()
  for i in range(len(source)):
    example = source[i]
    grey = level(example)
    expected = [grey % 10, 7][: grey % 3]
    numbers.add(len(expected))
    padded = expected + [-1] * (3 - len(expected))
    assert example["labels"].tolist() == padded
  assert numbers == {0, 1, 2}


def test_any_number_of_labels_must_be_wanted_and_fit(photos):
  with pytest.raises(ValueError, match="set max_labels"):
    sets.open_images("photos/several", "train", str(photos))
  source = sets.open_images(
      "photos/several", "train", str(photos), max_labels=1
  )
  with pytest.raises(ImageError, match="example .* has 2 labels, more than 1"):
    [source[i] for i in range(len(source))]


def test_a_label_out_of_range_is_named():
  images = [
      (b"", [3], "good.jpg"),
      (b"", [10], "bad.jpg"),
      (b"", [-1], "no.jpg"),
  ]
  source = sets.Labelled(images, num_classes=10, max_labels=None)
  assert source[0]["label"] == 3
  with pytest.raises(ImageError, match="bad.jpg has label 10, .* 0 to 9"):
    source[1]
  with pytest.raises(ImageError, match="no.jpg has label -1"):
    source[2]


def test_classes_without_images_are_named(tmp_path):
  write(tmp_path / "pets", {"train/cat/0.jpg": 1, "train/dog/0.jpg": 2})
  (tmp_path / "pets/train/bird").mkdir()
  images = sets.open_images("pets", "train", str(tmp_path))
  assert images.note() == "classes without an image: bird"
