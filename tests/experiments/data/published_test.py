"""Files that others publish, in the formats in which they are published."""

import hashlib
import io
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile

import cv2
import numpy as np
import pytest
import scipy.io

from experiments.data import published
from experiments.data.errors import DataError
from experiments.data.images import cifar10
from experiments.data.images import imagenet
from experiments.data.images import sets
from experiments.data.text import glue
from experiments.data.text import glue_archives
from scripts import prepare_data

CONTENT = b"what is published"


def file_of(name="a.zip", content=CONTENT, **changes):
  file = published.File(
      name,
      len(content),
      f"https://nowhere/{name}",
      hashlib.sha256(content).hexdigest(),
  )
  return file._replace(**changes)


def never(file, path):
  raise AssertionError(f"{file} is downloaded to {path}")


def test_what_lies_there_is_compared_and_not_downloaded(tmp_path):
  beside, by_hand = tmp_path / "beside", tmp_path / "by_hand"
  by_hand.mkdir()
  (by_hand / "a.zip").write_bytes(CONTENT)
  find = lambda file: published.found([file], [beside, by_hand], never)
  assert find(file_of()) == [by_hand / "a.zip"]
  with pytest.raises(DataError, match="17 bytes, and a.zip as published has 9"):
    find(file_of(size=9))
  with pytest.raises(DataError, match="sha256 .* not 00"):
    find(file_of(sha256="00"))


def test_missing_files_are_one_short_line_and_a_list(tmp_path):
  asked = []

  def fetch(file, path):
    asked.append(file.name)
    raise OSError("no network")

  files = [
      file_of(),
      file_of("b.zip", size=147_897_477_120),
      file_of("c.zip", sha256=""),
  ]
  with pytest.raises(published.MissingError) as raised:
    published.found(files, [tmp_path], fetch)
  assert raised.value.files == files
  assert str(files[1]) == "b.zip (147.9 GB, https://nowhere/b.zip)"
  assert str(raised.value) == (
      "missing files: a.zip (17 bytes, https://nowhere/a.zip) and 2 more; the"
      f" download failed: no network. Download them by hand to {tmp_path}, or"
      " name their folder with --manual_dir"
  )
  assert asked == ["a.zip"]  # Who has no network waits once.
  with pytest.raises(published.MissingError) as raised:
    published.found(files[2:], [tmp_path], never)
  assert str(raised.value) == (
      "missing files: c.zip (17 bytes, https://nowhere/c.zip). Download them by"
      f" hand to {tmp_path}, or name their folder with --manual_dir"
  )


@pytest.mark.parametrize("name", ["cifar10", "glue", "imagenet", "modelnet40"])
def test_without_a_network_the_error_is_short_and_says_what_to_do(
    name, tmp_path, monkeypatch, capsys
):
  def refuse(*args, **kwargs):
    raise urllib.error.URLError(OSError(-2, "Name or service not known"))

  monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
  with pytest.raises(SystemExit):
    prepare_data.main([name, f"--data_dir={tmp_path}"])
  *_, line = capsys.readouterr().err.splitlines()
  without_path = line.replace(str(tmp_path), "")
  assert line.startswith("error: ") and len(without_path) < 300
  assert "--manual_dir" in line and "https://" in line
  if name in ("cifar10", "glue"):
    assert "the download failed: Name or service not known." in line


def test_what_may_be_downloaded_is(tmp_path):
  fetch = lambda file, path: path.write_bytes(CONTENT)
  assert published.found([file_of()], [tmp_path], fetch) == [tmp_path / "a.zip"]
  assert published.found([file_of()], [tmp_path], never) == [tmp_path / "a.zip"]


def add(archive, name, content):
  info = tarfile.TarInfo(name)
  info.size = len(content)
  archive.addfile(info, io.BytesIO(content))


NAMES = ("airplane", "automobile", "bird")


@pytest.fixture
def cifar(tmp_path, monkeypatch):
  """A small archive as CIFAR-10's, and its pictures: [(label, RGB)]."""
  rng = np.random.default_rng(3)
  pictures = [
      (label, rng.integers(0, 255, [32, 32, 3], np.uint8))
      for label in (2, 0, 1, 2, 0, 1, 2)
  ]
  rows = [
      bytes([label]) + picture.transpose(2, 0, 1).tobytes()
      for label, picture in pictures
  ]
  path = tmp_path / "by_hand" / cifar10.ARCHIVE.name
  path.parent.mkdir()
  with tarfile.open(path, "w:gz") as archive:
    folder = "cifar-10-batches-bin"
    add(archive, f"{folder}/batches.meta.txt", "\n".join(NAMES).encode())
    for i in range(5):
      add(archive, f"{folder}/data_batch_{i + 1}.bin", rows[i])
    add(archive, f"{folder}/test_batch.bin", b"".join(rows[5:]))
  file = file_of(path.name, path.read_bytes())
  monkeypatch.setattr(cifar10, "ARCHIVE", file)
  return path.parent, pictures


def test_cifar10_is_made_of_its_archive(tmp_path, cifar, capsys):
  by_hand, pictures = cifar
  args = ["cifar10", f"--data_dir={tmp_path}"]
  # First beside the data set, where it is looked for as well.
  (tmp_path / "cifar10").mkdir()
  shutil.copy(by_hand / cifar10.ARCHIVE.name, tmp_path / "cifar10")
  for more in ([], [f"--manual_dir={by_hand}"], []):
    if more:
      shutil.rmtree(tmp_path / "cifar10")
    prepare_data.main([*args, *more])
    out, _ = capsys.readouterr()
    lines = [line.split("│")[1:-1] for line in out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert ["train", "5", "50,000"] in cells
    assert ["test", "2", "10,000"] in cells
  assert sets.about("cifar10", str(tmp_path)).classes == list(NAMES)
  for split, its in (("train", pictures[:5]), ("test", pictures[5:])):
    images = sets.open_images("cifar10", split, str(tmp_path))
    expected = sorted(its, key=lambda pair: pair[0])
    assert len(images) == len(its)
    for i, (label, picture) in enumerate(expected):
      assert images[i]["label"] == label
      found = cv2.imdecode(np.frombuffer(images[i]["image"], np.uint8), 1)
      if sum(other == label for other, _ in its) == 1:
        np.testing.assert_array_equal(found[..., ::-1], picture)


def jpeg(level):
  _, encoded = cv2.imencode(".jpg", np.full([9, 11, 3], level, np.uint8))
  return encoded.tobytes()


@pytest.fixture
def archives_of_imagenet(tmp_path, monkeypatch):
  """Small archives as ImageNet's: two classes, three validation images."""
  by_hand = tmp_path / "by_hand"
  by_hand.mkdir()
  kinds = ("n01440764", "n02119789")
  with tarfile.open(by_hand / imagenet.TRAIN.name, "w") as whole:
    for kind in kinds:
      stream = io.BytesIO()
      with tarfile.open(fileobj=stream, mode="w") as inner:
        for i in range(2):
          add(inner, f"{kind}_{i}.JPEG", jpeg(i))
      add(whole, f"{kind}.tar", stream.getvalue())
  with tarfile.open(by_hand / imagenet.VALIDATION.name, "w") as images:
    for i in (3, 1, 2):
      add(images, f"ILSVRC2012_val_{i:08}.JPEG", jpeg(50 * i))
  synsets = np.zeros(
      3, [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
  )
  synsets["ILSVRC2012_ID"] = [1, 2, 3]
  synsets["WNID"] = [kinds[1], kinds[0], "n00001740"]
  stream = io.BytesIO()
  scipy.io.savemat(stream, {"synsets": synsets})
  with tarfile.open(by_hand / imagenet.KIT.name, "w:gz") as kit:
    folder = "ILSVRC2012_devkit_t12/data"
    add(kit, f"{folder}/meta.mat", stream.getvalue())
    truth = f"{folder}/ILSVRC2012_validation_ground_truth.txt"
    add(kit, truth, b"2\n1\n2\n")
  for name in ("TRAIN", "VALIDATION"):
    file = getattr(imagenet, name)
    size = (by_hand / file.name).stat().st_size
    monkeypatch.setattr(imagenet, name, file._replace(size=size))
  return by_hand


def test_imagenet_is_unpacked_from_its_archives(
    tmp_path, archives_of_imagenet, capsys
):
  by_hand = archives_of_imagenet
  # The first class was unpacked when it was broken off.
  growing = tmp_path / "imagenet2012" / ".partial-train" / "n01440764"
  growing.mkdir(parents=True)
  (growing / "n01440764_0.JPEG").write_bytes(jpeg(77))
  args = ["imagenet", f"--data_dir={tmp_path}"]
  prepare_data.main([*args, f"--manual_dir={by_hand}"])
  assert "1,281,167" in capsys.readouterr().out
  train = sets.open_images("imagenet2012", "train", str(tmp_path))
  assert [train[i]["label"] for i in range(len(train))] == [0, 1, 1]
  test = sets.open_images("imagenet2012", "validation", str(tmp_path))
  assert [test[i]["label"] for i in range(3)] == [0, 1, 0]
  assert test[1]["image"] == jpeg(100)  # In the order of the names.
  prepare_data.main(args)  # It is there.


def test_what_imagenet_lacks_is_said(tmp_path, capsys):
  with pytest.raises(SystemExit):
    prepare_data.main(["imagenet", f"--data_dir={tmp_path}"])
  head, *files, line = capsys.readouterr().err.splitlines()
  assert head == "missing files:"
  for words, file in zip(
      ("img_train.tar (147.9 GB", "img_val.tar (6.7 GB", "devkit"),
      files,
      strict=True,
  ):
    assert words in file
  assert "img_train.tar (147.9 GB" in line and "and 2 more" in line
  assert str(tmp_path / "imagenet2012") in line and "--manual_dir" in line


def rows_of(task, split):
  """A file of GLUE's as its archive has it."""
  settings = glue.TASKS[task]
  *texts, label = settings.columns
  is_test = split.startswith("test")
  lines = []
  if task != "cola" or is_test:
    lines.append("\t".join(["index", *texts, *([] if is_test else [label])]))
  for i in range(3):
    if task == "cola" and not is_test:
      lines.append(f"gj04\t{i % 2}\t\tA {split} {i}.")
      continue
    answer = "0.5" if settings.labels is None else settings.labels[i % 2]
    answer = (
        answer if settings.spelled or settings.labels is None else str(i % 2)
    )
    words = [f"A {split} {name} {i}." for name in texts]
    lines.append("\t".join([str(i), *words, *([] if is_test else [answer])]))
  return "\n".join(lines).encode() + b"\n"


@pytest.fixture
def archives_of_glue(tmp_path, monkeypatch):
  """Small archives as GLUE's, of all of its tasks."""
  by_hand, files = tmp_path / "by_hand", {}
  by_hand.mkdir()
  for task, its in glue_archives.FILES.items():
    if task == "mrpc":
      continue
    settings = glue.TASKS[task]
    with zipfile.ZipFile(by_hand / its[0].name, "w") as archive:
      splits = ["train", *(s for s in settings.tests if s != "ax")]
      splits += [s.replace("validation", "dev") for s in settings.evaluated]
      for split in splits:
        name = f"{settings.folder}/{split}.tsv"
        archive.writestr(name, rows_of(task, split))
      archive.writestr(f"{settings.folder}/original/raw/x.tsv", "nothing")
    files[task] = its
  header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
  pairs = [f"{i % 2}\t{i}\t{i + 50}\tA {i}.\tB {i}." for i in range(5)]
  text = "\r\n".join([header, *pairs, ""]).encode()
  for file in glue_archives.FILES["mrpc"][:2]:
    (by_hand / file.name).write_bytes(text)
  (by_hand / glue_archives.FILES["mrpc"][2].name).write_bytes(b"1\t51\n4\t54\n")
  files["mrpc"] = glue_archives.FILES["mrpc"]
  files = {
      task: tuple(
          file_of(file.name, (by_hand / file.name).read_bytes()) for file in its
      )
      for task, its in files.items()
  }
  monkeypatch.setattr(glue_archives, "FILES", files)
  return by_hand


def test_glue_is_unpacked_from_its_archives(tmp_path, archives_of_glue, capsys):
  args = ["glue", f"--data_dir={tmp_path}"]
  prepare_data.main([*args, f"--manual_dir={archives_of_glue}"])
  out, err = capsys.readouterr()
  assert "raw corpus" not in err
  for task, settings in glue.TASKS.items():
    for split in ("train", *settings.evaluated):
      assert f"│ {task} " in out
      examples = glue.read(task, split, str(tmp_path))
      assert len(examples) == {"mrpc": {"train": 3}.get(split, 2)}.get(task, 3)
  held_out = glue.read("mrpc", "validation", str(tmp_path))
  assert [example["first"] for example in held_out] == ["A 1.", "A 4."]
  asked = glue.read("mrpc", "test", str(tmp_path))
  assert [example["index"] for example in asked] == [0, 1, 2, 3, 4]
  assert asked[3]["first"] == "A 3."
  assert not (tmp_path / "glue" / "CoLA" / "original").exists()
  prepare_data.main(args)  # It is there.


def test_the_tasks_that_are_missing_are_named(tmp_path, monkeypatch, capsys):
  nowhere = {
      task: tuple(file._replace(url="http://127.0.0.1:1/x") for file in files)
      for task, files in glue_archives.FILES.items()
  }
  monkeypatch.setattr(glue_archives, "FILES", nowhere)
  args = ["glue", "--tasks=cola,sst2", f"--data_dir={tmp_path}"]
  with pytest.raises(SystemExit):
    prepare_data.main(args)
  said = capsys.readouterr().err
  assert "\n  CoLA.zip (377.0 kB, " in said and "\n  SST-2.zip (7.4 MB" in said
  assert "RTE" not in said and " and 1 more" in said
  with pytest.raises(SystemExit):
    prepare_data.main(["glue", "--tasks=sst", f"--data_dir={tmp_path}"])
  assert "'sst' is not one of" in capsys.readouterr().err
