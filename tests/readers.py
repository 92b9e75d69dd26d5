"""Everything that reads a file, with a good file for it.

    python -m tests.readers [--count=500] [NAME ...]

damages each of them in so many ways and prints how many were read, how many
were refused in a line that names the file, and what else came of them.
"""

import argparse
import bz2
from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import gzip
import importlib.util
import io
import json
import os
import pathlib
import pickle
import tempfile
from typing import Any
import wave
import zipfile

import cv2
import numpy as np
import safetensors.numpy
import scipy.io
import tensorflow_datasets as tfds

from configs import quickstart
from experiments.data import pipeline
from experiments.data.builders import modelnet40
from experiments.data.clips import index as clip_index
from experiments.data.clips import reading
from experiments.data.clips import spoken_images
from experiments.data.clips import video
from experiments.data.errors import DataError
from experiments.data.flow import files as flow_files
from experiments.data.flow import sets as flow_sets
from experiments.data.images import image
from experiments.data.images import sets as image_sets
from experiments.data.sequences import midi
from experiments.data.text import corpus
from experiments.data.text import documents
from experiments.data.text import glue
from experiments.data.text import sources
from experiments.data.text import tokenizers
from experiments.data.text import wikipedia
from experiments.engine import weights
from experiments.engine.errors import UserError
from experiments.inference import commands
from perceiver.weights import deepmind
from perceiver.weights import huggingface
from perceiver.weights.tensors import WeightsError
from tests import fuzzing

Read = Callable[[pathlib.Path], Any]
ALLOWED = (DataError, UserError, WeightsError, FileNotFoundError)


@dataclasses.dataclass(frozen=True)
class Reader:
  """How to make a good file in an empty folder, and how to read it."""

  make: Callable[[pathlib.Path], pathlib.Path]
  read: Read


def picture(rng: np.random.Generator | None = None, size=(24, 31)):
  """Smooth colours, uint8 [Y, X, 3]."""
  rng = rng or np.random.default_rng(0)
  small = rng.integers(0, 255, (5, 6, 3)).astype(np.uint8)
  return cv2.resize(small, size[::-1])


def encoded(ending: str, pixels: np.ndarray | None = None) -> bytes:
  """A file of a picture."""
  pixels = picture() if pixels is None else pixels
  return cv2.imencode(ending, pixels)[1].tobytes()


def written(name: str, content: bytes | str):
  """What makes a file of this content."""

  def make(folder):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return folder / name

  return make


def decode(file):
  """Both ways in which pictures are read."""
  image.read(file)
  image.decode(file.read_bytes(), str(file))


def classes_zip(how: int):
  """Pictures of two classes in a zip file."""

  def make(folder):
    with zipfile.ZipFile(folder / "pets.zip", "w", how) as members:
      for name in "ab":
        for i in range(2):
          members.writestr(f"train/{name}/{i}.png", encoded(".png"))
    return folder / "pets.zip"

  return make


def read_classes(file):
  """All pictures of a data set, decoded."""
  source = image_sets.open_images("pets", "train", str(file.parent))
  for i in range(len(source)):
    example = source[i]
    image.decode(example["image"], example["file"])


def meshes_zip(folder):
  """A zip file of meshes."""
  with zipfile.ZipFile(folder / "ModelNet40.zip", "w") as members:
    members.writestr("ModelNet40/chair/train/chair_0001.off", OFF)
  return folder / "ModelNet40.zip"


OFF = (
    "OFF\n6 6 0\n"
    + "".join(f"{x} {y:.2f} {x * y:.1f}\n" for x in (0, 1) for y in (0, 1.5, 3))
    + "3 0 1 2\n3 1 2 3\n4 2 3 4 5\n3 0 4 5\n3 1 4 5\n3 0 1 5\n"
)


def read_mesh(file):
  """Points of a mesh, as they are written to a data set."""
  name = f"chair/train/{file.name}"
  example = modelnet40._example(name, file.read_bytes(), {"chair"})
  assert np.isfinite(example["points"]).all()


def read_meshes(file):
  """Points of all meshes of a zip file."""
  found = modelnet40.files(file.parent, "train")
  for _, example in modelnet40.examples(found, ["chair"]):
    assert np.isfinite(example["points"]).all()


KINETICS = "label,youtube_id,time_start,time_end\n" + "".join(
    f"{label},{name},3,13\n"
    for label, name in (("dancing", "a"), ("café", "b"))
)
AUDIOSET = (
    "# YTID, start, end, labels\n"
    'a, 30.000, 40.000, "/m/09x0r,/t/dd00088"\nb, 0.000, 10.000, "/m/09x0r"\n'
)
AUDIOSET_CLASSES = (
    'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/t/dd00088,"Gush, hiss"\n'
)


def listed(rows, classes):
  """What reads a list of clips."""

  def read(file):
    return list(rows(file)), classes and classes(file)

  return read


def mp4(file):
  """Writes a clip with sound."""
  rng = np.random.default_rng(0)
  frames = np.stack([picture(rng, (32, 48)) for _ in range(12)])
  sound = rng.uniform(-0.5, 0.5, (8000, 1)).astype(np.float32)
  video.write(file, frames, 12.0, sound, 8000)
  return file


def clip(folder):
  """A clip."""
  return mp4(folder / "a_000003_000013.mp4")


def read_clip(file):
  """A part of a clip, and what an index says of it."""
  clip_index.probe(file)
  example = {"file": str(file), "seconds": 1.0, "labels": np.zeros(1)}
  reading.read(
      example,
      np.random.default_rng(0),
      num_frames=4,
      fps=8.0,
      samples_per_frame=500,
      where="random",
  )


def read_video(file):
  """All of a video, as a command does."""
  video.frame_rate(file)
  video.read_frames(file, fps=12.0)
  video.read_audio(file)


def indexed(name: str):
  """A file of an index of clips."""

  def make(folder):
    (folder / "videos").mkdir()
    clip(folder / "videos")
    clip_index.prepare(
        clip_index.kinetics_rows(written("train.csv", KINETICS)(folder)),
        {"dancing": "dancing", "café": "café"},
        folder / "videos",
        folder / "kinetics" / "train.json",
        min_seconds=0.5,
        processes=1,
    )
    return folder / "kinetics" / name

  return make


def read_index(file):
  """All records of an index of clips."""
  root = str(file.parent.parent)
  clips = reading.open_clips("kinetics", "train", root, num_classes=2)
  return [clips[i] for i in range(len(clips))], clips.coverage, clips.note()


def looked_at(folder):
  """What is known of files when an indexing was stopped."""
  index = indexed("train.json")(folder)
  index.unlink()
  what = ["a_000003_000013.mp4", 1.0, True, ""]
  notes = index.with_suffix(".looked_at")
  notes.write_text(json.dumps(what) + "\n" + json.dumps(["b.mp4", *what[1:]]))
  return notes


def go_on_indexing(file):
  """Goes on with an indexing."""
  root = file.parent.parent
  kept = file.read_bytes()
  clip_index.prepare(
      clip_index.kinetics_rows(root / "train.csv"),
      {"dancing": "dancing", "café": "café"},
      root / "videos",
      file.with_suffix(".json"),
      min_seconds=0.5,
      processes=1,
  )
  file.write_bytes(kept)


def wav_zip(folder):
  """A zip file with a recording."""
  content = io.BytesIO()
  with wave.open(content, "wb") as file:
    file.setparams((1, 2, 8000, 0, "NONE", ""))
    file.writeframes(np.arange(-400, 400, dtype="<i2").tobytes())
  with zipfile.ZipFile(folder / "spoken.zip", "w") as members:
    members.writestr("recordings/3_george_7.wav", content.getvalue())
  return folder / "spoken.zip"


def read_wav(file):
  """A recording of a zip file."""
  spoken_images._opened.cache_clear()
  spoken_images._read_wave(file, "recordings/3_george_7.wav")


def flow_pair(name: str):
  """A file of a pair of FlyingChairs, or of the list of its parts."""

  def make(folder):
    data = folder / "chairs" / "data"
    data.mkdir(parents=True)
    for i in (1, 2):
      (data / f"00001_img{i}.ppm").write_bytes(encoded(".ppm"))
    flow = np.random.default_rng(0).normal(size=(24, 31, 2))
    flow_files.write_flo(data / "00001_flow.flo", flow.astype(np.float32))
    (folder / "chairs" / "FlyingChairs_train_val.txt").write_text("1\n")
    return next((folder / "chairs").rglob(name))

  return make


def read_flow_pair(file):
  """All pairs of FlyingChairs, by their sizes."""
  root = next(p for p in file.parents if p.name == "chairs").parent
  for pairs in flow_sets.by_size(
      flow_sets.open_pairs("chairs_train", str(root))
  ):
    for i in range(len(pairs)):
      pairs[i]


def kitti_flow(folder):
  """A flow of KITTI."""
  flow = np.random.default_rng(0).normal(size=(24, 31, 2)).astype(np.float32)
  flow_files.write_kitti(folder / "flow.png", flow)
  return folder / "flow.png"


def sentencepiece_model(folder):
  """A SentencePiece model."""
  import sentencepiece

  model = io.BytesIO()
  rng = np.random.default_rng(0)
  words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(300)]
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter([" ".join(words)] * 3),
      model_writer=model,
      model_type="unigram",
      vocab_size=300,
      byte_fallback=True,
      pad_id=0,
      pad_piece="[PAD]",
      bos_id=1,
      bos_piece="[BOS]",
      eos_id=2,
      eos_piece="[EOS]",
      control_symbols=["[MASK]", "[CLS]", "[SEP]"],
      unk_id=6,
      unk_piece="[UNK]",
      hard_vocab_limit=False,
      minloglevel=2,
  )
  return written("sentencepiece.model", model.getvalue())(folder)


def read_sentencepiece(file):
  """A tokenizer, and what it makes of a text and of its ids."""
  made = tokenizers.sentencepiece(str(file))
  ids = made.encode("a bad cab, café".encode())
  assert ((0 <= ids) & (ids < made.vocabulary_size)).all()
  made.decode(np.arange(made.vocabulary_size))


def prepared_corpus(name: str):
  """A file of a corpus."""

  def make(folder):
    text = folder / "a.txt"
    text.write_text("A paragraph.\n\nAnother one, café.\n" * 20)
    made = sources.text("novels", [str(text)], held_out=3, max_bytes=200)
    corpus.prepare(made, str(folder), processes=1, note=lambda line: None)
    return next((folder / "novels").rglob(name))

  return make


def read_corpus(file):
  """All documents of a corpus, after it was prepared once more."""
  root = next(p for p in file.parents if p.name == "novels").parent
  made = corpus.open_documents("novels", "train", str(root))
  return [made[i] for i in range(len(made))]


def go_on_preparing(file):
  """Prepares a corpus once more."""
  root = next(p for p in file.parents if p.name == "novels").parent
  (root / "novels" / "corpus.json").unlink(missing_ok=True)
  made = sources.text(
      "novels", [str(root / "a.txt")], held_out=3, max_bytes=200
  )
  corpus.prepare(made, str(root), processes=1, note=lambda line: None)


C4 = b"".join(
    json.dumps({"text": f"Text {i}, café.", "url": "a"}).encode() + b"\n"
    for i in range(20)
)
WIKIPEDIA = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><siteinfo>'
    '<namespaces><namespace key="6">Datei</namespace></namespaces></siteinfo>'
    + "".join(
        f"<page><title>T{i}</title><ns>0</ns><revision><text>''A'' [[b|c]]"
        f" {{{{d}}}} and {i}.</text></revision></page>"
        for i in range(5)
    )
    + "</mediawiki>"
)


def read_c4(file):
  """All documents of a file of C4."""
  return list(documents.c4([("a", file)], documents.Dropped()))


def read_plain(file):
  """All documents of a text file."""
  return list(documents.plain([("a", file)], 100, 5, documents.Dropped()))


def read_wikipedia(file):
  """All articles of a dump."""
  dropped = documents.Dropped()
  for block in wikipedia.blocks(file, 50):
    list(wikipedia.articles(block, 5, dropped))


COLA = "".join(f"gj04\t{i % 2}\t\tA sentence, {i}.\n" for i in range(9))
STS = "A text.\tAnother text.\n" * 4


def glue_file(name: str, content: str, *more):
  """A file of GLUE."""

  def make(folder):
    for path, text in ((name, content), *more):
      (folder / "glue" / path).parent.mkdir(parents=True, exist_ok=True)
      (folder / "glue" / path).write_text(text)
    return folder / "glue" / name

  return make


def read_glue(task: str, split: str = "train"):
  """What reads a task of GLUE."""

  def read(file):
    root = next(p for p in file.parents if p.name == "glue").parent
    return list(glue.read(task, split, str(root), note=lambda line: None))

  return read


class Greys(tfds.core.GeneratorBasedBuilder):
  """Pictures."""

  VERSION = tfds.core.Version("1.0.0")
  pkg_dir_path = None

  def _info(self):
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
    )
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(6):
      yield i, {"image": encoded(".jpg"), "label": i % 2}


def tfds_file(name: str, file_format: str = "array_record"):
  """A file of a data set of TFDS, with pictures."""

  def make(folder):
    builder = Greys(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    data = folder / "greys" / "1.0.0"
    if file_format == "tfrecord":
      to_tfrecord(data)
    return next(data.glob(name))

  return make


def to_tfrecord(data: pathlib.Path) -> None:
  """The same records as TFRecord."""
  from array_record.python import array_record_module  # pyright: ignore

  (file,) = data.glob("*array_record*")
  every = array_record_module.ArrayRecordReader(str(file)).read_all()
  renamed = data / file.name.replace("array_record", "tfrecord")
  renamed.write_bytes(b"".join(map(framed, every)))
  file.unlink()
  info = json.loads((data / "dataset_info.json").read_text())
  info["fileFormat"] = "tfrecord"
  (data / "dataset_info.json").write_text(json.dumps(info))


def framed(record: bytes) -> bytes:
  """A record as a TFRecord file has it, by its definition, bit by bit."""
  length = len(record).to_bytes(8, "little")
  masked = lambda data: _masked_crc(data).to_bytes(4, "little")
  return length + masked(length) + record + masked(record)


def _masked_crc(data: bytes) -> int:
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
  crc ^= 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_greys(file):
  """All pictures of a data set of TFDS; they are the very ones."""
  os.environ["XDG_CACHE_HOME"] = str(file.parent.parent.parent / "cache")
  root = str(file.parent.parent.parent)
  source = image_sets.open_images("greys", "train", root)
  every = [source[i] for i in range(len(source))]
  for example in every:
    image.decode(example["image"], example["file"])
    assert example["image"] == encoded(".jpg"), "other content"
  assert sorted(e["label"] for e in every) == [0, 0, 0, 1, 1, 1], "other label"


def record_index(folder):
  """The index of TFRecord files that is kept."""
  read_greys(tfds_file("*tfrecord*", "tfrecord")(folder))
  return next((folder / "cache").rglob("*.npz"))


def read_by_index(file):
  """Reads by an index that was kept."""
  root = file.parent.parent.parent
  read_greys(next((root / "greys" / "1.0.0").glob("*.tfrecord*")))


def read_source(file):
  """All examples of a data set of TFDS, as most tasks read them."""
  root = str(file.parent.parent.parent)
  source = pipeline.source("greys", "train", root)
  return [source[i] for i in range(len(source))]


LABELS = json.dumps({"id2label": {str(i): f"name {i}" for i in range(4)}})


def weights_tree():
  """Parameters as the official release has them."""
  rng = np.random.default_rng(0)
  return {
      f"net/linear_{i}": {
          "w": rng.normal(size=(3, 4)).astype(np.float32),
          "b": np.zeros(4),
          "n": np.int32(i),
      }
      for i in range(3)
  }


def some_music(folder):
  notes = [(60, 66, 0.0, 0.5), (64, 66, 0.25, 3.0), (60, 102, 0.5, 0.75)]
  (folder / "a.mid").write_bytes(midi.content(midi.encode(notes)))
  return folder / "a.mid"


def npy_weights(folder):
  """The same in a `.npy`."""
  np.save(folder / "w.npy", np.asarray(weights_tree(), object))
  return folder / "w.npy"


def our_weights(folder):
  """A model of ours."""
  read = weights.random(quickstart.get_config("mini"))
  weights.save(folder / "w.npz", read.config, read.model)
  return folder / "w.npz"


def safetensors_weights(folder):
  """A file of safetensors."""
  tree = weights_tree()
  arrays = {key: value["w"] for key, value in tree.items()}
  safetensors.numpy.save_file(arrays, folder / "w.safetensors")
  return folder / "w.safetensors"


def write_meta(file):
  """ImageNet's meta.mat, with four of its synsets."""
  dtype = [
      ("ILSVRC2012_ID", "O"),
      ("WNID", "O"),
      ("words", "O"),
      ("gloss", "O"),
      ("num_children", "O"),
      ("children", "O"),
      ("wordnet_height", "O"),
      ("num_train_images", "O"),
  ]
  synsets = np.empty((4, 1), dtype)
  rows = [
      (1, "n02119789", "kit fox, Vulpes macrotis", "small grey fox", []),
      (2, "n02100735", "English setter", "an English breed", []),
      (3, "n02096294", "Australian terrier", "small greyish terrier", []),
      (1001, "n02084071", "dog, domestic dog", "a member of Canis", [2, 3]),
  ]
  for i, (number, wnid, words, gloss, children) in enumerate(rows):
    synsets[i, 0] = (
        np.array([[number]], np.uint16),
        wnid,
        words,
        gloss,
        np.array([[len(children)]], np.uint8),
        np.array([children], np.float64),
        np.array([[len(children) > 0]], np.uint8),
        np.array([[1300]], np.uint16),
    )
  file.parent.mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(file, {"synsets": synsets}, do_compression=True)


def numbered_classes(folder):
  """ImageNet's meta.mat, beside pictures with a list of its numbers."""
  for place in ("train/n02096294", "val"):
    (folder / "imagenet2012" / place).mkdir(parents=True)
    file = folder / "imagenet2012" / place / "a.png"
    file.write_bytes(encoded(".png"))
  (folder / "imagenet2012/val.txt").write_text("3\n")
  write_meta(folder / "imagenet2012/meta.mat")
  return folder / "imagenet2012/meta.mat"


def read_numbered(file):
  """The label of the picture that has a number."""
  place = str(file.parent.parent)
  return image_sets.open_images("imagenet2012", "validation", place)[0]


READERS: Mapping[str, Reader] = {
    **{
        f"weights, pickle of protocol {protocol}": Reader(
            written("w.pickle", pickle.dumps(weights_tree(), protocol)),
            deepmind.load,
        )
        for protocol in (2, 4, 5)
    },
    "weights, .npy": Reader(npy_weights, deepmind.load),
    "weights, .npz": Reader(our_weights, weights.load),
    "weights, .safetensors": Reader(safetensors_weights, huggingface.load),
    **{
        f"image {ending}": Reader(
            written(f"a{ending}", encoded(ending)), decode
        )
        for ending in (".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm")
    },
    **{
        f"zip of images, {name}": Reader(classes_zip(how), read_classes)
        for name, how in (
            ("stored", zipfile.ZIP_STORED),
            ("deflate", zipfile.ZIP_DEFLATED),
            ("bzip2", zipfile.ZIP_BZIP2),
            ("lzma", zipfile.ZIP_LZMA),
        )
    },
    "zip of recordings": Reader(wav_zip, read_wav),
    "zip of meshes": Reader(meshes_zip, read_meshes),
    "mesh": Reader(written("a.off", OFF), read_mesh),
    "TFRecord": Reader(tfds_file("*tfrecord*", "tfrecord"), read_greys),
    "index of TFRecord": Reader(record_index, read_by_index),
    "ArrayRecord of TFDS": Reader(tfds_file("*array_record*"), read_greys),
    "dataset_info.json": Reader(tfds_file("dataset_info.json"), read_source),
    "features.json": Reader(tfds_file("features.json"), read_source),
    "Kinetics' list": Reader(
        written("train.csv", KINETICS),
        listed(clip_index.kinetics_rows, clip_index.kinetics_classes),
    ),
    "AudioSet's list": Reader(
        written("eval.csv", AUDIOSET), listed(clip_index.audioset_rows, None)
    ),
    "AudioSet's classes": Reader(
        written("class_labels_indices.csv", AUDIOSET_CLASSES),
        clip_index.audioset_classes,
    ),
    "index of clips": Reader(indexed("train.json"), read_index),
    "records of clips": Reader(indexed("train.array_record"), read_index),
    "clips looked at": Reader(looked_at, go_on_indexing),
    "clip": Reader(clip, read_clip),
    "video": Reader(clip, read_video),
    "pair of frames": Reader(flow_pair("*_img1.ppm"), read_flow_pair),
    "flow of a pair": Reader(flow_pair("*.flo"), read_flow_pair),
    "list of pairs": Reader(flow_pair("*.txt"), read_flow_pair),
    "KITTI's flow": Reader(kitti_flow, flow_files.read_flow),
    "KITTI's flow as a mask": Reader(kitti_flow, flow_files.read_marked),
    "SentencePiece model": Reader(sentencepiece_model, read_sentencepiece),
    "corpus.json": Reader(prepared_corpus("corpus.json"), read_corpus),
    "documents of a corpus": Reader(
        prepared_corpus("train/00000.array_record"), read_corpus
    ),
    "sources of a corpus": Reader(
        prepared_corpus("sources.json"), go_on_preparing
    ),
    "job of a corpus": Reader(
        prepared_corpus("jobs/00000.json"), go_on_preparing
    ),
    "C4": Reader(
        written("c4-train.00000-of-00001.json.gz", gzip.compress(C4)), read_c4
    ),
    "text": Reader(written("a.txt", STS), read_plain),
    "text, compressed": Reader(
        written("a.txt.gz", gzip.compress(STS.encode())), read_plain
    ),
    "Wikipedia": Reader(written("a.xml", WIKIPEDIA), read_wikipedia),
    "Wikipedia, compressed": Reader(
        written("a.xml.bz2", bz2.compress(WIKIPEDIA.encode())), read_wikipedia
    ),
    "GLUE's table": Reader(
        glue_file("CoLA/train.tsv", COLA, ("CoLA/dev.tsv", COLA)),
        read_glue("cola"),
    ),
    "GLUE's test set": Reader(
        glue_file("CoLA/test.tsv", "index\tsentence\n0\tA text.\n1\tB.\n"),
        read_glue("cola", "test"),
    ),
    "GLUE's pairs": Reader(
        glue_file(
            "STS2012/train/STS.input.a.txt",
            STS,
            ("STS2012/train/STS.gs.a.txt", "3.5\n" * 4),
            ("STS2012/test/STS.gs.a.txt", "3.5\n" * 4),
        ),
        read_glue("stsb"),
    ),
    "ImageNet's meta.mat": Reader(numbered_classes, read_numbered),
    "names of classes": Reader(
        written("labels.json", LABELS),
        lambda file: commands.read_names(str(file), 4),
    ),
}
if importlib.util.find_spec("pretty_midi"):  # An extra.
  READERS = {**READERS, "music": Reader(some_music, midi.read)}


def damage(
    name: str, folder: pathlib.Path, count: int, seed: int = 0
) -> list[str]:
  """What a reader raised that it may not, of so many damaged files."""
  reader = READERS[name]
  file = reader.make(folder)
  reader.read(file)
  return fuzzing.tracebacks(reader.read, file, count, ALLOWED, seed)


def main() -> None:
  """Prints the counts, as a table of Markdown."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--count", type=int, default=500)
  parser.add_argument("--verbose", action="store_true")
  parser.add_argument("names", nargs="*")
  args = parser.parse_args()
  print(f"| reader | tracebacks, of {args.count} |\n| --- | ---: |", flush=True)
  # Decoders say on their own what they do not like.
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
  for name in args.names or READERS:
    with tempfile.TemporaryDirectory() as folder:
      wrong = damage(name, pathlib.Path(folder), args.count)
    print(f"| {name} | {len(wrong)} |", flush=True)
    if args.verbose:
      for line in sorted({line.partition(": ")[2] for line in wrong})[:8]:
        print(f"    {line}", flush=True)


if __name__ == "__main__":
  main()
