"""AudioSet: classification of clips by their sound, their video or both.

Source: Perceiver IO, appendix C; Perceiver, §4.2.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import functools
import math
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from matplotlib import colors
import numpy as np
from sklearn.metrics import average_precision_score

from experiments.data import errors
from experiments.data import pipeline
from experiments.data.clips import augment
from experiments.data.clips import index
from experiments.data.clips import reading
from experiments.data.clips import sound
from experiments.engine import figures
from experiments.engine import settings
from experiments.engine.choose import choose
from experiments.engine.errors import UserError
from experiments.engine.settings import Optional
from experiments.inference import commands
from experiments.task import Batch
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Positions
from experiments.task import Prediction
from experiments.task import Subject
from experiments.task import Task
from perceiver import Encoder
from perceiver import inputs
from perceiver import losses
from perceiver import multimodal
from perceiver import outputs
from perceiver import Processor
from perceiver import RepeatedEncoder

OUTPUTS = (outputs.class_query, outputs.average_and_project)
MODALITIES = ("audio", "video")
SHOWN = 4  # clips
BEST = 5  # classes of each


def network(config) -> Network:
  """The model: from clips to logits [B, classes]; clips have several labels.

  Video is in [-1, 1]: the papers do not say how it is normalised. Audio is
  samples in [-1, 1], or a spectrogram as `sound.log_mel` makes it, frame by
  frame.
  """
  model, modalities = config.model, tuple(config.modalities)
  if not modalities or not set(modalities) <= set(MODALITIES):
    raise ValueError(f"modalities {modalities}: one of {MODALITIES}, or both")
  encoder, processor = model.encoder.to_dict(), model.processor.to_dict()
  classify = choose(OUTPUTS, model.output)

  def forward(batch):
    arrays = {}
    if "audio" in modalities:
      audio = inputs.audio_patches(batch["audio"], model.audio.patch)
      arrays["audio"] = inputs.pixels(
          audio, model.audio.num_bands, model.audio.get("max_resolution")
      )
    if "video" in modalities:
      video = inputs.video_patches(batch["video"], model.video.patch)
      arrays["video"] = inputs.pixels(
          video, model.video.num_bands, model.video.get("max_resolution")
      )
    x = multimodal.Pack(model.min_padding, name="inputs")(arrays)  # [B, M, C]
    if model.reads.num_reads == 1:
      z = Encoder(**encoder)(x)  # [B, N, D]
      z = Processor(**processor)(z)
    else:
      z = RepeatedEncoder(encoder, processor, **model.reads)(x)
    return {"logits": classify(z, config.num_classes)}

  shape = jax.ShapeDtypeStruct
  example = {
      "video": shape((*config.video, 3), jnp.float32),
      # Samples, or the numbers of a mel-spectrogram, one after the other.
      "audio": shape((config.num_audio, 1), jnp.float32),
  }
  return Network({name: example[name] for name in modalities}, forward)


def positions(config) -> Positions:
  """Positions of patches of video and of sound."""
  sizes = zip(config.video, config.model.video.patch, strict=True)
  return Positions(
      resolutions={
          "model.video.max_resolution": tuple(n // size for n, size in sizes),
          "model.audio.max_resolution": (
              config.num_audio // config.model.audio.patch,
          ),
      }
  )


def fitted(config, note):
  """The config with the names of the classes."""
  return settings.changed(config, reading.decided(config, note))


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  check_sizes(config)
  shape = jax.ShapeDtypeStruct
  example = {
      **model.example,
      "labels": shape((config.num_classes,), jnp.float32),
      "skipped": shape((), jnp.int32),
  }
  opened = functools.cache(
      functools.partial(
          reading.open_clips,
          data_dir=config.data_dir,
          num_classes=config.num_classes,
      )
  )

  def train_clips():
    return opened(**config.train)

  def eval_clips(name):
    return opened(**config.sets[name], skip_missing=config.skip_missing)

  def train_data(shard):
    return pipeline.train(
        train_clips(),
        steps_of(config, is_training=True),
        batch_size=config.batch_size,
        seed=config.seed,
        shard=shard,
        num_workers=config.num_workers,
        skip=reading.ClipError,
    )

  def eval_data(shard, name):
    return pipeline.evaluation(
        reading.Windows(eval_clips(name), config.windows),
        steps_of(config, is_training=False),
        batch_size=config.eval_batch_size,
        shard=shard,
    )

  def summary(measured, name):
    scores = summarize(measured, config.windows)
    return {**scores, "coverage": eval_clips(name).coverage}

  def notes():
    yield f"training: {train_clips().note()}"
    for name in config.evals:
      yield f"{name}: {eval_clips(name).note()}"

  heard = Heard(
      config.video[0] / config.fps,
      *(config.spectrogram.get(k, 0) for k in ("num_bands", "low", "high")),
  )
  return Task(
      example=example,
      forward=model.forward,
      train_data=train_data,
      loss=loss,
      evals={
          name: Eval(
              functools.partial(eval_data, name=name),
              measure,
              functools.partial(summary, name=name),
              lambda outputs, batch, name=name: draw(
                  outputs, batch, eval_clips(name).classes, heard
              ),
              # Far apart: the windows of a clip are much alike.
              slice(None, None, -(-config.eval_batch_size // SHOWN)),
          )
          for name in config.evals
      },
      notes=notes,
      draw=lambda batch: draw_input(batch, train_clips().classes, heard),
  )


def check_sizes(config) -> None:
  """Checks that the sizes of the data are those of the model.

  Raises:
    ValueError: if it is not.
  """
  num_frames, size, width = config.video
  if size != width:
    raise ValueError(f"video {tuple(config.video)}: frames must be square")
  if "audio" not in config.modalities:
    return
  numbers = samples = num_frames * config.samples_per_frame
  if config.spectrogram:
    hop, num_bands = config.spectrogram.hop, config.spectrogram.num_bands
    numbers = samples // hop * num_bands
  if numbers != config.num_audio:
    raise ValueError(
        f"num_audio is {config.num_audio}, and the {samples} samples of"
        f" {num_frames} frames make {numbers} numbers"
    )


def steps_of(config, is_training: bool) -> list[pipeline.Step]:
  """The steps from an example of `clips` to one of the task."""
  bind = functools.partial
  frames = {
      "num_frames": config.video[0],
      "fps": config.fps,
      "samples_per_frame": config.samples_per_frame,
      "has_frames": "video" in config.modalities,
  }
  where = "random" if is_training else "window"
  steps: list[pipeline.Step] = [bind(reading.read, where=where, **frames)]
  if "video" in config.modalities:
    crop = augment.random_crop if is_training else augment.centre_crop
    steps.append(bind(crop, size=config.video[1]))
    if is_training:
      steps.append(augment.random_flip)
      change = augment.random_color
      steps.append(bind(change, probability=config.color_augmentation))
    steps.append(augment.normalised)
    if is_training and "audio" in config.modalities:
      drop = bind(augment.dropout, name="video")
      steps.append(bind(drop, probability=config.video_dropout))
  if "audio" in config.modalities and config.spectrogram:
    rate = round(config.fps * config.samples_per_frame)
    steps.append(bind(sound.spectrogram, rate=rate, **config.spectrogram))
    if is_training and config.spec_augment:
      steps.append(bind(sound.spec_augment, **config.spec_augment))
    steps.append(sound.flattened)
  if is_training and config.audio_dropout and len(config.modalities) > 1:
    drop = bind(augment.dropout, name="audio")
    steps.append(bind(drop, probability=config.audio_dropout))
  names = tuple(config.modalities)
  steps.append(bind(finished, names=names, num_classes=config.num_classes))
  return steps


def finished(example, names, num_classes):
  """A step: the model's inputs, and 1 for each class of the clip."""
  labels = np.zeros(num_classes, np.float32)
  labels[example["labels"]] = 1
  return {**{name: example[name] for name in names}, "labels": labels}


def loss(outputs, batch):
  """The binary cross-entropy, summed over classes."""
  logits, labels = outputs["logits"], batch["labels"]
  best = jnp.take_along_axis(labels, logits.argmax(-1)[:, None], axis=-1)
  told = {"skipped_clips": batch["skipped"].sum(), "top1": 100.0 * best.mean()}
  return losses.binary_cross_entropy(logits, labels).mean(), told


def measure(outputs, batch):
  """The scores of a window's classes, and the labels of its clip."""
  logits, labels = outputs["logits"], batch["labels"]
  return {
      "scores": jax.nn.sigmoid(logits.astype(jnp.float32)),
      "labels": labels > 0,
      "loss": losses.binary_cross_entropy(logits, labels),
  }


def summarize(measured, windows):
  """Metrics of clips, whose scores are means over consecutive windows.

  Returns:
    "map": the mean average precision of the clips, in percent, over classes
    that have a positive one; "classes_without_positives": how many have none,
    and are left out; "clips"; "loss": the mean over windows.

  Raises:
    ValueError: if there are other than so many windows of each clip.
  """
  count, left = divmod(len(measured["scores"]), windows)
  if left:
    raise ValueError(
        f"{len(measured['scores'])} rows are not {windows} windows of each clip"
    )
  scores = measured["scores"].reshape(count, windows, -1)
  labels = measured["labels"][::windows]
  precision, missing = mean_average_precision(
      scores.mean(axis=1, dtype=np.float64), labels
  )
  return {
      "map": 100 * precision,
      "classes_without_positives": float(missing),
      "clips": float(count),
      "loss": float(np.mean(measured["loss"], dtype=np.float64)),
  }


def mean_average_precision(scores, labels) -> tuple[float, int]:
  """The mean over classes of the average precision, in percent.

  Args:
    scores: [clips, classes], the higher the likelier.
    labels: [clips, classes], whether a clip is of a class.

  Returns:
    The mean over classes of their average precision over all clips, from 0 to
    1; NaN if no class has a positive clip. And how many classes have none: of
    these nothing can be ranked, and they are left out.
  """
  # Each class by itself: a transposed table would rank a clip's classes.
  counted = np.flatnonzero(labels.any(axis=0))
  each = [average_precision_score(labels[:, k], scores[:, k]) for k in counted]
  missing = labels.shape[1] - len(counted)
  return float(np.mean(each)) if each else math.nan, missing


class Heard(NamedTuple):
  """Settings of figures of sound."""

  seconds: float
  num_bands: int = 0  # Of a spectrogram; 0: audio is samples.
  low: float = 0.0  # Where the lowest band begins, in Hz.
  high: float = 0.0  # Where the highest band ends, in Hz.


def draw(outputs, batch, classes, heard):
  """Figures of some clips with the most likely classes of the shown window.

  Args:
    outputs: outputs of the model.
    batch: the model's input.
    classes: their names.
    heard: how long the sound is, and what its numbers are.
  """
  scores = 1 / (1 + np.exp(-np.float64(outputs["logits"])))

  def answers(row):
    right = np.flatnonzero(batch["labels"][row])
    lines = [(", ".join(classes[k] for k in right), figures.RIGHT)]
    for k in np.argsort(-scores[row])[:BEST]:
      color = "#1a7f37" if k in right else figures.WRONG
      lines.append((f"{scores[row, k]:.0%}  {classes[k]}", color))
    return lines

  rows = np.flatnonzero(batch["real"])[:SHOWN]
  title = "held-out clips: two frames; sound; labels, likeliest classes below"
  return {"predictions": _drawn(batch, rows, heard, answers, title)}


def draw_input(batch, classes, heard):
  """Figures of some training clips with their classes; see `draw`."""

  def answers(row):
    right = np.flatnonzero(batch["labels"][row])
    return [(classes[k], figures.RIGHT) for k in right]

  rows = np.arange(min(SHOWN, len(batch["labels"])))
  title = "clips of training: two frames; sound; labels"
  return {"input": _drawn(batch, rows, heard, answers, title)}


def _drawn(batch, rows, heard, answers, title):
  """A row of plots for each clip: frames, sound, coloured lines of text."""
  scale = None
  if heard.num_bands and "audio" in batch:
    scale = figures.Scale("level of sound (dB)", colors.Normalize(-100.0, 0.0))

  def show(ax, i):
    row, column = rows[i // 4], i % 4
    if column < 2 and "video" in batch:
      frame = batch["video"][row][(0, -1)[column]]
      ax.imshow(np.uint8(np.clip(127.5 * (frame + 1), 0, 255)))
      if i < 4:
        ax.set_title(("first frame", "last frame")[column])
    if column == 2 and "audio" in batch:
      ax.axis("on")
      ax.set_xlabel("time (s)")
      show_sound(ax, batch["audio"][row], heard, scale)
    if column == 3:
      for line, (text, color) in enumerate(answers(row)):
        ax.text(0, 0.9 - 0.15 * line, text, color=color)

  size = (10.0, 10.0)
  return figures.sixteen(4 * len(rows), show, title, size, scale)


def show_sound(ax, audio, heard, scale) -> None:
  """Draws a window's samples, or its mel-spectrogram, into a plot."""
  if scale is None:
    seconds = np.linspace(0.0, heard.seconds, len(audio), endpoint=False)
    ax.plot(seconds, audio, linewidth=0.3)
    ax.set_ylim(-1, 1)
    ax.set_ylabel("amplitude")
    return
  decibels = 50.0 * (audio.reshape(-1, heard.num_bands).T - 1.0)
  mel = lambda hertz: np.log1p(hertz / 700)
  low, high = mel(heard.low), mel(heard.high)
  edges = (0.0, heard.seconds, low, high)
  how = {"norm": scale.norm, "cmap": scale.colormap, "extent": edges}
  ax.imshow(decibels, aspect="auto", origin="lower", **how)
  hertz = 250 * 2 ** np.arange(8)
  hertz = hertz[(heard.low <= hertz) & (hertz <= heard.high)]
  ax.set_yticks(mel(hertz), [f"{x / 1000:g}" for x in hertz])
  ax.set_ylabel("frequency (kHz)")


_CLIPS = functools.partial(
    reading.open_clips, data_dir="", num_classes=0, skip_missing=True
)
SETTINGS = {
    "class_names": Sequence[str],
    "train": _CLIPS,
    "sets.*": _CLIPS,
    "spectrogram": Optional(functools.partial(sound.spectrogram, rate=0)),
    "spec_augment": Optional(sound.spec_augment),
    "model.video.max_resolution": Sequence[int] | None,
    "model.audio.max_resolution": Sequence[int] | None,
    "model.encoder": Encoder,
    "model.processor": Processor,
    "model.reads": functools.partial(RepeatedEncoder, {}, {}),
    "model.output": OUTPUTS,
}


def prepare(config, raw) -> Batch:
  """A clip as evaluation reads it: a batch of its windows.

  Args:
    config: config of the model.
    raw: a video file, with or without sound; or, for a model of sound alone, a
      file of sound.

  Raises:
    UserError: if it cannot be decoded, or is too short.
  """
  with commands.using(os.fspath(raw)):
    needs_frames = "video" in config.modalities
    found = index.probe(pathlib.Path(raw), needs_frames)
    if found.reason:
      errors.opened(raw).close()  # It may not be there.
      kind = "video" if needs_frames else "video or sound"
      raise UserError(f"{raw}: expected a whole {kind} file: {found.reason}")
    clip = {
        "file": os.fspath(raw),
        "labels": np.zeros(0, np.int32),
        "seconds": found.seconds,
    }
    (batch,) = pipeline.evaluation(
        reading.Windows([clip], config.windows),
        steps_of(config, is_training=False),
        batch_size=config.windows,
        shard=pipeline.Shard(),
    )
  return {name: batch[name] for name in config.modalities}


def predict(weights, raw, labels=None) -> list[commands.Scored]:
  """The tags of a clip, the most likely first.

  Scores are the mean over the clip's windows, as in evaluation.

  Args:
    weights: the model.
    raw: a video file.
    labels: a file with the names of the classes; None: the model's own.
  """
  config = weights.config
  known = config.get("class_names", ())  # Older files have none.
  names = commands.read_names(labels, config.num_classes, known)
  logits = weights.outputs(prepare(config, raw))["logits"]
  scores = jax.nn.sigmoid(logits.astype(np.float32))
  return commands.ranked(scores.mean(axis=0), names)


def tag(args, load):
  """Prints the most likely tags of clips with their scores."""
  model = load()
  for file in args.inputs:
    classes = model.predict(file, labels=args.labels)
    print(file)
    commands.print_classes(classes)


def add_arguments(parser):
  """Arguments of `tag`."""
  parser.add_argument("inputs", nargs="+", metavar="CLIP")
  commands.add_labels(parser)


PREDICTION = Prediction(
    "tag", "configs/audioset.py:mel", add_arguments, tag, prepare, predict
)


def attention_subjects(config, inputs) -> Iterator[Subject]:
  """The first windows of clips, prepared as for evaluation."""
  model = config.model
  sizes = zip(config.video, model.video.patch, strict=True)
  layout = {
      "audio": (config.num_audio // model.audio.patch,),
      "video": tuple(n // size for n, size in sizes),
  }
  layout = {
      name: grid for name, grid in layout.items() if name in config.modalities
  }
  steps = steps_of(config, is_training=False)
  for file in inputs:
    clip = {"file": file, "labels": np.zeros(0, np.int32), "seconds": 0.0}
    prepared = functools.partial(
        pipeline.evaluation,
        reading.Windows([clip], 1),
        batch_size=1,
        shard=pipeline.Shard(),
    )
    with commands.using(file):
      (decoded,), (example,) = prepared(steps[:1]), prepared(steps)
    batch = {name: example[name][0] for name in layout}
    yield Subject(
        pathlib.Path(file).stem,
        batch,
        layout,
        {"class": ()},
        frames=(batch["video"] + 1.0) / 2.0 if "video" in layout else None,
        wave=decoded["audio"][0, :, 0],
        seconds=config.video[0] / config.fps,
    )
