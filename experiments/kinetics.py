"""Kinetics: an autoencoder of videos, their sound and their class.

Any of the three may be left out (`config.modalities`).

Source: Perceiver IO, §4.3 and appendix I; official video autoencoding notebook.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import math
import pathlib
from typing import NamedTuple

from einops import rearrange
import haiku as hk
import jax
import jax.numpy as jnp
from matplotlib import colors
from matplotlib.figure import Figure
import numpy as np

from experiments.data import errors
from experiments.data import pipeline
from experiments.data.clips import reading
from experiments.data.clips import video as video_lib
from experiments.engine import figures
from experiments.engine import settings
from experiments.engine.errors import UserError
from experiments.inference import commands
from experiments.task import Batch
from experiments.task import CLASSES
from experiments.task import Drawn
from experiments.task import Eval
from experiments.task import Movie
from experiments.task import Network
from experiments.task import Positions
from experiments.task import Prediction
from experiments.task import Subject
from experiments.task import Task
from experiments.task import Transformers
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import losses
from perceiver import metrics
from perceiver import multimodal
from perceiver import no_recording
from perceiver import position
from perceiver import Processor
from perceiver.weights import deepmind
from perceiver.weights import download
from perceiver.weights import huggingface

MODALITIES = ("audio", "video", "label")
FPS = 25.0


def network(config) -> Network:
  """The model: reconstructs video in [0, 1], audio in [-1, 1] and label.

  With "video_points" and "audio_points" in the batch, indices of voxels and of
  audio patches, only those are decoded: [B, points, 3] and [B, points, patch].
  Without, all are, `num_chunks` after each other: [B, T, Y, X, 3], [B, S, 1].
  The label is always logits. Modalities that are left out are not in it.
  """
  model, modalities = config.model, tuple(config.modalities)
  unknown = set(modalities) - set(MODALITIES)
  if unknown or not {"audio", "video"} & set(modalities):
    raise ValueError(
        f"modalities {modalities} are not of {MODALITIES}, or neither audio nor"
        " video is among them"
    )

  def forward(batch, is_training):
    is_masked = jnp.ones([batch["label"].shape[0], 1], bool)
    if is_training:
      is_masked = jax.random.bernoulli(
          hk.next_rng_key(), config.label_mask_rate, is_masked.shape
      )
    # [B, M, C]
    x = encoded(batch, is_masked, modalities, config.num_classes, model)
    z = Encoder(**model.encoder)(x)  # [B, N, D]
    z = Processor(**model.processor)(z)
    dims = {
        "video": batch["video"].shape[1:4],
        "audio": batch["audio"].shape[1:2],
    }
    decode = make_decode(z, dims, modalities, config.num_classes, model)
    if "video_points" in batch:
      return decode(
          {
              name: batch[f"{name}_points"]
              for name in ("audio", "video")
              if name in modalities
          }
      )
    return decode_all(
        decode, z.shape[0], dims, modalities, model, config.num_chunks
    )

  shape = jax.ShapeDtypeStruct
  num_samples = config.video[0] * config.samples_per_frame
  example = {
      "video": shape((*config.video, 3), jnp.float32),
      "audio": shape((num_samples, 1), jnp.float32),
      "label": shape((), jnp.int32),
  }
  example |= {
      name: shape((min(config.num_points, count),), jnp.int32)
      for name, count in num_points(config).items()
      if config.num_points
  }
  return Network(example, forward)


def positions(config) -> Positions:
  """Positions of patches of video and of samples."""
  sizes = zip(config.video, config.model.video.patch, strict=True)
  return Positions(
      resolutions={
          "model.video.max_resolution": tuple(n // size for n, size in sizes),
          "model.audio.max_resolution": (
              config.video[0] * config.samples_per_frame,
          ),
      }
  )


def num_points(config):
  """The numbers of voxels and audio patches of a clip."""
  num_samples = config.video[0] * config.samples_per_frame
  return {
      "video_points": math.prod(config.video),
      "audio_points": num_samples // config.model.audio.patch,
  }


def encoded(batch, label_masked, modalities, num_classes, model):
  """The input array: audio, video, label."""
  video = inputs.video_patches(batch["video"], model.video.patch)
  audio = inputs.audio_patches(batch["audio"], model.audio.patch)
  samples = batch["audio"].shape[1:2]
  arrays = {
      "audio": inputs.pixels(
          audio, model.audio.num_bands, model.audio.max_resolution or samples
      ),
      "video": inputs.pixels(
          video, model.video.num_bands, model.video.max_resolution
      ),
      "label": jax.nn.one_hot(batch["label"], num_classes)[:, None],
  }
  arrays = {name: x for name, x in arrays.items() if name in modalities}
  masked = {"label": label_masked} if "label" in modalities else {}
  return multimodal.Pack(model.min_padding, name="inputs")(arrays, masked)


def too_narrow(config) -> Iterator[str]:
  """A warning if patches of sound have more samples than decoded channels."""
  model, patch = config.model, config.model.audio.patch
  decoder = {"qk_channels": None, "v_channels": None, **model.decoder}
  widths = {
      "model.query_channels": model.query_channels,
      "model.decoder.v_channels": decoder["v_channels"]
      or decoder["qk_channels"]
      or model.encoder.latent_channels,
      "model.output_channels": model.output_channels,
  }
  few = {name: width for name, width in widths.items() if width < patch}
  if "audio" in config.modalities and few:
    given = ", ".join(f"{name} is {width}" for name, width in few.items())
    yield f"sound: {patch} samples a patch are read off fewer numbers: {given}"


def make_decode(z, dims, modalities, num_classes, model):
  """A function that decodes {"audio": [B, patches], "video": [B, voxels]}."""
  patch = model.audio.patch
  resolution = model.video.max_resolution or [
      n // size
      for n, size in zip(dims["video"], model.video.patch, strict=True)
  ]
  label_query = LearnedArray(1, model.label_channels, name="label_query")
  pack = multimodal.Pack(channels=model.query_channels, name="queries")
  read = Decoder(**model.decoder)
  project = hk.Linear(model.output_channels, name="output")
  heads = {
      "audio": hk.Linear(patch, name="audio"),
      "video": hk.Linear(3, name="video"),
      "label": hk.Linear(num_classes, name="label"),
  }
  # What the points are numbers of, and their positions' features.
  grids = {
      "audio": (
          [dims["audio"][0] // patch],
          model.audio.num_bands,
          model.audio.max_resolution or dims["audio"],
      ),
      "video": (dims["video"], model.video.num_bands, resolution),
  }

  def positions(points, grid, num_bands, max_resolution):
    pos = position.of_indices(points.reshape(-1), grid)
    features = position.fourier_features(pos, num_bands, max_resolution)
    return features.reshape(*points.shape, -1)

  def decode(points):
    queries = {
        name: positions(points[name], *grids[name])
        for name in ("audio", "video")
        if name in modalities
    }
    if "label" in modalities:
      # As many as there are of the others: one for all examples if they are.
      count = max((x.shape[0] for x in queries.values()), default=1)
      own = label_query()
      queries["label"] = jnp.broadcast_to(own, (count, *own.shape[1:]))
    y = project(read(pack(queries), z))  # [B, O, E]
    parts = multimodal.unpack(
        y, {name: query.shape[1] for name, query in queries.items()}
    )
    decoded = {name: heads[name](part) for name, part in parts.items()}
    if "label" in decoded:
      decoded["label"] = decoded["label"][:, 0]
    return decoded

  return decode


def decode_all(decode, batch_size, dims, modalities, model, num_chunks):
  """Decodes every voxel and every sample in chunks."""
  counts = {
      "audio": dims["audio"][0] // model.audio.patch,
      "video": math.prod(dims["video"]),
  }
  counts = {name: n for name, n in counts.items() if name in modalities}

  def chunks(count):
    size = -(-count // num_chunks)
    points = jnp.arange(num_chunks * size) % count  # The last one is filled up.
    return points.reshape(num_chunks, 1, size)  # The same in all examples.

  points = {name: chunks(count) for name, count in counts.items()}
  if hk.running_init():  # A loop's body may not make parameters.
    decode({name: x[0] for name, x in points.items()})

  def decode_chunk(points):
    with no_recording():  # A loop's body cannot hand any weights out.
      return decode(points)

  decoded = hk.map(decode_chunk, points)
  whole = {}
  for name, count in counts.items():
    x = rearrange(decoded[name], "n b p c -> b (n p) c")[:, :count]
    channels = 1 if name == "audio" else -1
    whole[name] = x.reshape(batch_size, *dims[name], channels)
  if "label" in decoded:
    whole["label"] = decoded["label"][0]
  return whole


def fitted(config, note):
  """The config with the names of the classes."""
  return settings.changed(config, reading.decided(config, note))


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  train_steps = steps_of(config, "random")
  eval_steps = steps_of(config, "center")
  open_clips = functools.cache(
      functools.partial(
          reading.open_clips,
          data_dir=config.data_dir,
          num_classes=config.num_classes,
      )
  )

  def with_points(example, rng):
    points = {
        name: rng.choice(
            count, min(config.num_points, count), replace=False
        ).astype(np.int32)
        for name, count in num_points(config).items()
    }
    return {**example, **points}

  def train_data(shard):
    return pipeline.train(
        open_clips(**config.train),
        train_steps + [with_points] * bool(config.num_points),
        batch_size=config.batch_size,
        seed=config.seed,
        shard=shard,
        num_workers=config.num_workers,
        skip=reading.ClipError,
    )

  def held_out(name):
    return open_clips(**config.sets[name], skip_missing=config.skip_missing)

  def eval_data(shard, name):
    return pipeline.evaluation(
        held_out(name),
        eval_steps,
        batch_size=config.eval_batch_size,
        shard=shard,
    )

  def summarized(measured, name):
    return {**summarize(measured), "coverage": held_out(name).coverage}

  def notes():
    yield from too_narrow(config)
    yield f"training: {open_clips(**config.train).note()}"
    for name in config.evals:
      yield f"{name}: {held_out(name).note()}"

  names = figures.names_of(config.get("class_names", ()), config.num_classes)
  confusion = functools.partial(figures.confusion, names=names)
  return Task(
      example={**model.example, "skipped": jax.ShapeDtypeStruct((), jnp.int32)},
      forward=model.forward,
      train_data=train_data,
      loss=functools.partial(loss, weights=config.loss_weights.to_dict()),
      evals={
          name: Eval(
              functools.partial(eval_data, name=name),
              measure,
              functools.partial(summarized, name=name),
              functools.partial(draw, rate=rate_of(config), names=names),
              draw_all=confusion if "label" in config.modalities else None,
          )
          for name in config.evals
      },
      notes=notes,
  )


def steps_of(config, where: str) -> list[pipeline.Step]:
  """The steps from an example of `reading` to one of the task.

  Raises:
    ValueError: if the model's frames are not square.
  """
  num_frames, size, width = config.video
  if size != width:
    raise ValueError(f"video {config.video}: frames must be square")
  read = functools.partial(
      reading.read,
      num_frames=num_frames,
      fps=FPS,
      samples_per_frame=config.samples_per_frame,
      where=where,
  )
  return [read, functools.partial(finished, size=size)]


def finished(example, size):
  """A step: square frames in [0, 1], sound, and the one label of Kinetics."""
  (label,) = example["labels"]
  frames = video_lib.squared(example["video"], size)
  return {
      "video": frames.astype(np.float32) / 255.0,
      "audio": example["audio"],
      "label": np.int32(label),
  }


def rate_of(config) -> int:
  """Samples of sound per second."""
  return round(FPS * config.samples_per_frame)


def loss(outputs, batch, weights):
  """The weighted sum of L1 of pixels and samples, and cross-entropy."""
  targets = {"audio": batch["audio"], "video": batch["video"]}
  if "video_points" in batch:
    pixels = rearrange(batch["video"], "b t y x c -> b (t y x) c")
    patch = outputs["audio"].shape[-1] if "audio" in outputs else 1
    patches = rearrange(batch["audio"], "b (a p) 1 -> b a p", p=patch)
    targets = {
        name: jnp.take_along_axis(x, batch[f"{name}_points"][..., None], axis=1)
        for name, x in {"audio": patches, "video": pixels}.items()
    }
  parts = {
      name: jnp.abs(outputs[name] - target).mean()
      for name, target in targets.items()
      if name in outputs
  }
  if "label" in outputs:
    labels = losses.soft_labels(batch["label"], outputs["label"].shape[-1])
    parts["label"] = losses.cross_entropy(outputs["label"], labels).mean()
  total = jnp.stack([weights[name] * parts[name] for name in parts]).sum()
  return total, {**parts, "skipped_clips": batch["skipped"].sum()}


def measure(outputs, batch):
  """Errors of the decoded clip and of baselines that see the clip.

  These are silence, the colour that the clip has on average, and the mean of
  its frames.
  """
  measured = {}

  def compare(name, found, truth):
    error = jnp.mean((found - truth) ** 2, axis=range(1, truth.ndim))
    measured[f"{name}_error"] = error

  if "audio" in outputs:
    compare("audio", outputs["audio"], batch["audio"])
    compare("audio_silence", 0.0, batch["audio"])
  if "video" in outputs:
    video = batch["video"]
    compare("video", outputs["video"], video)
    compare("video_mean_color", video.mean((1, 2, 3), keepdims=True), video)
    compare("video_mean_frame", video.mean(1, keepdims=True), video)
  if "label" in outputs:
    measured["top1"] = metrics.top_k(outputs["label"], batch["label"])
    measured |= {
        "label": batch["label"],
        "predicted": outputs["label"].argmax(-1),
    }
  return measured


def summarize(measured):
  """PSNR in dB of the mean squared errors of all clips; top-1 in percent."""
  summary = {}
  for name, values in measured.items():
    if name == "top1":
      summary[name] = float(np.mean(values, dtype=np.float64))
    elif name not in CLASSES:
      kind, _, baseline = name.removesuffix("_error").partition("_")
      ending = f"_{baseline}" if baseline else ""
      summary[f"{kind}_psnr{ending}"] = metrics.psnr(values)
  return summary


def draw(outputs, batch, rate, names=()):
  """Clips above decoded clips: frames, spectrograms, and two movies.

  Args:
    outputs: outputs of the model.
    batch: the model's input.
    rate: samples of sound in a second.
    names: names of the classes, by number; of a model that predicts them.
  """
  count = batch["real"].sum()
  decoded = in_range(outputs)
  pairs = {name: (batch[name], x) for name, x in decoded.items()}
  drawn: dict[str, Drawn] = {}
  if "video" in pairs:
    logits = outputs.get("label")
    chances = None if logits is None else np.asarray(jax.nn.softmax(logits))

    def show_frames(ax, i):
      shown = np.linspace(0, batch["video"].shape[1] - 1, 4).astype(int)
      rows = [np.concatenate(list(x[i, shown]), axis=1) for x in pairs["video"]]
      ax.imshow(np.concatenate(rows))
      if chances is not None:
        label, said = batch["label"][i], chances[i].argmax()
        words = names[label], names[said]
        figures.answer(ax, *words, chances[i, said], said == label)

    title = "above: four frames of a held-out clip; below: decoded"
    if chances is not None:
      title += "; label → prediction and its probability"
    drawn["video"] = figures.sixteen(count, show_frames, title, (10.0, 5.8))
  if "audio" in pairs:
    sounds, others = pairs["audio"]
    drawn["sound"] = draw_sound(sounds[:count], others[:count], rate)
  for i in range(min(count, 2)):
    if "video" in pairs:
      frames = np.concatenate([x[i] for x in pairs["video"]], axis=2)
      frames = as_bytes(frames)
      sound = pairs["audio"][1][i] if "audio" in pairs else None
      drawn[f"clip-{i}"] = Movie(frames, FPS, sound, rate)
  return drawn


@figures.styled()
def draw_sound(sounds, decoded, rate) -> np.ndarray:
  """Spectrograms of up to eight sounds and of the decoded ones.

  Args:
    sounds: [B, S, 1] in [-1, 1].
    decoded: as `sounds`.
    rate: samples per second.

  Returns:
    RGB, uint8 [Y, X, 3].
  """
  scale = figures.Scale("level (dB)", colors.Normalize(-100.0, 0.0))
  rows = min(-(-len(sounds) // 2), 4)
  figure = Figure(figsize=(11.0, 1.0 + 2.0 * rows))
  figure.suptitle("spectrograms of held-out clips, each beside the decoded one")
  axes = figure.subplots(rows, 4, sharex=True, sharey=True, squeeze=False)
  edges = (0.0, sounds.shape[1] / rate, 0.0, rate / 2000)
  for i, ax in enumerate(axes.flat):
    clip, is_decoded = divmod(i, 2)
    if clip >= len(sounds):
      ax.axis("off")
      continue
    sound = (decoded if is_decoded else sounds)[clip, :, 0]
    ax.imshow(
        spectrogram(sound),
        norm=scale.norm,
        cmap=scale.colormap,
        extent=edges,
        aspect="auto",
    )
    ax.set_title(f"clip {clip + 1}" + ", decoded" * is_decoded)
  for ax in axes[:, 0]:
    ax.set_ylabel("frequency (kHz)")
  for ax in axes[-1]:
    ax.set_xlabel("time (s)")
  scale.bar(figure, axes, shrink=0.8, aspect=40)
  return figures.drawn(figure)


def in_range(outputs) -> dict[str, np.ndarray]:
  """Decoded video and sound, clipped to [0, 1] and [-1, 1]."""
  return {
      name: np.clip(np.asarray(outputs[name], np.float32), least, 1.0)
      for name, least in (("video", 0.0), ("audio", -1.0))
      if name in outputs
  }


def as_bytes(video) -> np.ndarray:
  """Video in [0, 1] as uint8."""
  return np.round(video * 255.0).astype(np.uint8)


def spectrogram(sound):
  """Loudness in decibels, from high to low frequencies, [F, T]."""
  window = int(np.clip(len(sound) // 16, 16, 512))
  starts = np.arange(0, len(sound) - window + 1, window // 2)
  pieces = sound[starts[:, None] + np.arange(window)] * np.hanning(window)
  heard = np.abs(np.fft.rfft(pieces)) / (window / 4)
  return 20.0 * np.log10(np.maximum(heard, 1e-5)).T[::-1]


_CLIPS = functools.partial(
    reading.open_clips, data_dir="", num_classes=0, skip_missing=True
)
SETTINGS = {
    "class_names": Sequence[str],
    "train": _CLIPS,
    "sets.*": _CLIPS,
    "model.video.max_resolution": Sequence[int] | None,
    "model.audio.max_resolution": Sequence[int] | None,
    "model.encoder": Encoder,
    "model.processor": Processor,
    "model.decoder": Decoder,
}


def read_clips(config, file: str, count: int = 1) -> Iterable[Batch]:
  """Consecutive clips from the beginning of a file, each a batch of one.

  They are prepared as in evaluation; their label, which the model is not told,
  is 0.

  Raises:
    ValueError: if the model's frames are not square, the file is too short, or
      cannot be decoded; it names the file.
  """
  clip = {
      "file": file,
      "labels": np.zeros(1, np.int32),
      "seconds": count * config.video[0] / FPS,
  }
  return pipeline.evaluation(
      reading.Windows([clip], count),
      steps_of(config, "window"),
      batch_size=1,
      shard=pipeline.Shard(),
  )


class Remembered(NamedTuple):
  """Reconstructed clips of a video."""

  video: np.ndarray  # RGB in [0, 1], [T, Y, X, 3].
  audio: np.ndarray  # In [-1, 1], [S, 1].
  classes: list[list[commands.Scored]]  # Of each clip, likeliest first.
  seen: np.ndarray  # As `video`: what the model was given.


def prepare(config, raw, clips=1) -> Batch:
  """The first clips of a video file, "video", "audio" and a masked "label"."""
  errors.opened(raw).close()
  with commands.using(raw):  # All of it: what is missing shows now.
    found = [*read_clips(config, raw, clips)]
  return {key: np.concatenate([x[key] for x in found]) for key in found[0]}


def predict(weights, raw, clips=1, labels=None) -> Remembered:
  """The reconstruction of a video file.

  Args:
    weights: the model.
    raw: the file.
    clips: number of consecutive clips from its beginning.
    labels: a file with the names of the classes.
  """
  config = weights.config
  names = commands.read_names(
      labels, config.num_classes, config.get("class_names", ())
  )
  batch = prepare(config, raw, clips)
  parts = []
  for i in commands.tracked(range(clips)):  # One at a time: they are large.
    one = {key: x[i : i + 1] for key, x in batch.items()}
    parts.append(jax.device_get(weights.outputs(one)))
  whole = [in_range(outputs) for outputs in parts]
  return Remembered(
      video=np.concatenate([x["video"][0] for x in whole]),
      audio=np.concatenate([x["audio"][0] for x in whole]),
      classes=[commands.one_of(x["label"][0], names) for x in parts],
      seen=np.concatenate(batch["video"]),
  )


def autoencode(args, load):
  """Writes the reconstruction of a video."""
  (file,) = args.inputs
  commands.check_outputs(args.output, (".mp4",), args.inputs)
  if args.clips < 1:
    raise UserError(f"--clips={args.clips}: at least 1 is needed")
  errors.opened(file).close()
  model = load()
  found = model.predict(file, clips=args.clips, labels=args.labels)
  for i, classes in enumerate(found.classes):
    print(f"{file}, from {i * model.config.video[0] / FPS:.2f} s")
    commands.print_classes(classes)
  video = found.video
  if args.side_by_side:
    video = np.concatenate([found.seen, video], axis=2)
  rate = rate_of(model.config)
  for output in args.output:
    video_lib.write(output, as_bytes(video), FPS, found.audio, rate)
    print(output)


def add_arguments(parser):
  """Arguments of `autoencode`."""
  parser.add_argument("inputs", nargs=1, metavar="VIDEO")
  parser.add_argument(
      "--clips", type=int, default=1, help="number of consecutive clips"
  )
  commands.add_output(parser)
  commands.add_side_by_side(parser)
  commands.add_labels(parser)


PREDICTION = Prediction(
    "autoencode",
    "configs/kinetics.py:published",
    add_arguments,
    autoencode,
    prepare,
    predict,
)


def attention_subjects(config, inputs) -> Iterator[Subject]:
  """The beginnings of videos with their sound; the label is masked."""
  sizes = zip(config.video, config.model.video.patch, strict=True)
  layout = {
      "audio": (num_points(config)["audio_points"],),
      "video": tuple(n // size for n, size in sizes),
      "label": (),
  }
  outputs = {**layout, "video": tuple(config.video)}
  for file in inputs:
    with commands.using(file):
      (batch,) = read_clips(config, file)
    example = {name: batch[name][0] for name in ("video", "audio", "label")}
    yield Subject(
        pathlib.Path(file).stem,
        example,
        layout,
        outputs,
        frames=example["video"],
        wave=example["audio"][:, 0],
        seconds=config.video[0] / FPS,
    )


PUBLISHED = {
    "kinetics": download.official(
        "video_autoencoding_checkpoint.pystate", "kinetics:published"
    ),
    "huggingface_kinetics": download.of_huggingface(
        "multimodal-perceiver", "kinetics:published"
    ),
}
OFFICIAL = deepmind.places("kinetics")


def transformers(config) -> Transformers:
  """The class for video, sound and class."""
  model, (frames, height, width) = config.model, config.video
  resolution = model.video.max_resolution
  size = resolution[1] if resolution else height // 4
  square = {"video": (frames, height, height)}
  if resolution:
    square = {"model.video.max_resolution": (frames, size, size)}
  return Transformers(
      "PerceiverForMultimodalAutoencoding",
      huggingface.places("kinetics"),
      {
          "model.video.patch": (1, 4, 4),
          "model.video.num_bands": 32,
          "model.audio.num_bands": 192,
          "model.min_padding": 4,
          # The label's query is the widest, and has a padding of 2.
          "model.query_channels": model.label_channels + 2,
          "model.decoder.use_query_residual": False,
          **square,
      },
      {
          "num_labels": config.num_classes,
          "num_frames": frames,
          "image_size": size,
          "audio_samples_per_frame": config.samples_per_frame,
          "samples_per_patch": model.audio.patch,
          "output_shape": [1, frames, height, width],
          "output_num_channels": model.output_channels,
          "_label_trainable_num_channels": model.label_channels,
      },
  )
