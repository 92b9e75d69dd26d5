"""Inputs that attention is shown over, prepared for the models."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import cv2
import numpy as np

from experiments import audioset
from experiments.data import pipeline
from experiments.data.clips import video
from experiments.data.images import image
from experiments.data.text import tokenizers
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError

FPS = 25.0  # Of the published models' videos.


Layout = Mapping[str, tuple[int, ...]]  # Parts in their order -> their grids.


@dataclasses.dataclass(frozen=True)
class Subject:
  """An input, and how its elements and the output queries lie."""

  name: str
  batch: Mapping[str, np.ndarray]  # One example, without the batch's axis.
  inputs: Layout
  outputs: Layout
  frames: np.ndarray | None = None  # RGB in [0, 1], [T, Y, X, 3].
  wave: np.ndarray | None = None  # [S]
  seconds: float = 0.0  # How long that is.
  ids: np.ndarray | None = None  # Of a text, without padding.


def text_subjects(config, inputs) -> Iterator[Subject]:
  """Texts, for masked language models and for GLUE."""
  tokens = config.model.tokens
  if tokens.vocabulary_size != tokenizers.BYTES_VOCABULARY:
    raise UserError("only models that read bytes are shown, not SentencePiece")
  length = config.get("max_length") or tokens.max_length
  for given in inputs:
    is_file = len(given) < 256 and pathlib.Path(given).is_file()
    with user_errors(given):
      words = pathlib.Path(given).read_text("utf-8") if is_file else given
    parts = [tokenizers.encode(part) for part in words.split("[MASK]")]
    ids = np.concatenate([np.append(part, tokenizers.MASK) for part in parts])[
        :-1
    ]
    if not ids.size:
      raise UserError("the text is empty")
    with user_errors(f"the text {given!r:.60}"):
      padded, mask = tokenizers.padded(ids, length)
    batch: dict[str, Any] = {"tokens": padded, "mask": mask}
    layout, outputs = {"text": (length,)}, {"text": (len(ids),)}
    if config.task == "glue":
      batch["task"] = np.int32(0)
      outputs = {"task": (len(config.tasks),)}
      if config.model.get("task_token"):
        layout, outputs = {"task": (), **layout}, {"query": ()}
    name = pathlib.Path(given).stem if is_file else "text"
    yield Subject(name, batch, layout, outputs, ids=ids)


def image_subjects(config, inputs) -> Iterator[Subject]:
  """Images, as ImageNet's classifiers see them."""
  dims = tuple(config.image_size)
  for path in inputs:
    with user_errors("the input"):
      square = image.for_classification(image.read(path), max(dims))
    pixels = _centre(square, dims)
    grid = _features(dims) if config.model.input.name == "conv" else dims
    frames = np.clip((pixels * image.STD + image.MEAN) / 255.0, 0, 1)[None]
    name = pathlib.Path(path).stem
    batch = {"image": pixels}
    yield Subject(name, batch, {"image": grid}, {"class": ()}, frames=frames)


def flow_subjects(config, inputs) -> Iterator[Subject]:
  """Pairs of frames; each is resized until the model's just fits into it."""
  if len(inputs) % 2:
    raise UserError("optical flow needs two images: the frames")
  dims = tuple(config.frame_size)
  grid = dims if config.model.upsample == 1 else _features(dims)
  inside = grid if config.model.input.concat_frames else (2, *grid)
  for first, second in zip(inputs[::2], inputs[1::2], strict=True):
    frames = []
    for path in (first, second):
      with user_errors("the input"):
        frame = image.read(path)
      height, width, _ = frame.shape
      scale = max(dims[0] / height, dims[1] / width)
      if scale != 1:
        size = round(scale * width), round(scale * height)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
      frames.append(_centre(frame, dims).astype(np.float32))
    frames = np.stack(frames)
    batch = {"frames": frames / 255.0 * 2.0 - 1.0}
    name = pathlib.Path(first).stem
    layouts = {"frames": inside}, {"flow": grid}
    yield Subject(name, batch, *layouts, frames=frames / 255.0)


def kinetics_subjects(config, inputs) -> Iterator[Subject]:
  """Videos with their sound."""
  num_frames, *dims = config.video
  model = config.model
  samples = num_frames * config.samples_per_frame
  sizes = zip(config.video, model.video.patch, strict=True)
  layout = {
      "audio": (samples // model.audio.patch,),
      "video": tuple(n // size for n, size in sizes),
      "label": (),
  }
  outputs = {**layout, "video": tuple(config.video)}
  for path in inputs:
    with user_errors("the input"):
      clip = video.read_clip(
          path, num_frames, max(dims), FPS, config.samples_per_frame
      )
    frames = np.stack([_centre(frame, dims) for frame in clip["video"]])
    batch: dict[str, Any] = {"video": frames, "audio": clip["audio"]}
    batch["label"] = np.int32(0)  # It is hidden.
    yield Subject(
        pathlib.Path(path).stem,
        batch,
        layout,
        outputs,
        frames=frames,
        wave=clip["audio"][:, 0],
        seconds=num_frames / FPS,
    )


def audioset_subjects(config, inputs) -> Iterator[Subject]:
  """The first window of clips, as evaluation reads it."""
  model = config.model
  sizes = zip(config.video, model.video.patch, strict=True)
  layout = {
      "audio": (config.num_audio // model.audio.patch,),
      "video": tuple(n // size for n, size in sizes),
  }
  layout = {
      name: grid for name, grid in layout.items() if name in config.modalities
  }
  decode, *steps = audioset.steps_of(config, is_training=False)
  decode, prepare = (pipeline.in_turn(each) for each in ([decode], steps))
  rng = np.random.default_rng(0)
  for path in inputs:
    clip = {"file": path, "seconds": 0.0, "window": 0, "windows": 1}
    with user_errors("the input"):
      decoded = decode({**clip, "labels": np.zeros(0, np.int32)}, rng)
      example = prepare(decoded, rng)
    batch = {name: example[name] for name in layout}
    frames = (batch["video"] + 1.0) / 2.0 if "video" in layout else None
    yield Subject(
        pathlib.Path(path).stem,
        batch,
        layout,
        {"class": ()},
        frames=frames,
        wave=decoded["audio"][:, 0],
        seconds=config.video[0] / config.fps,
    )


SUBJECTS: Mapping[str, Callable[[Any, Sequence[str]], Iterator[Subject]]] = {
    "mlm": text_subjects,
    "glue": text_subjects,
    "imagenet": image_subjects,
    "flow": flow_subjects,
    "kinetics": kinetics_subjects,
    "audioset": audioset_subjects,
}


def _features(dims) -> tuple[int, ...]:
  """The grid of the convolutional features of an image."""
  return tuple(-(-n // 4) for n in dims)


def _centre(picture: np.ndarray, dims) -> np.ndarray:
  """The central part of a picture [Y, X, 3]."""
  height, width = dims
  top = (picture.shape[0] - height) // 2
  left = (picture.shape[1] - width) // 2
  return picture[top : top + height, left : left + width]
