"""Optical flow: the movement of each pixel from one frame to the next.

Source: Perceiver IO, §4.2 and appendix H.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import functools
import itertools
from typing import Any, NamedTuple

import cv2
from einops import rearrange
import grain
import haiku as hk
import jax
import jax.numpy as jnp
import matplotlib
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
import numpy as np

from experiments.data import pipeline
from experiments.data.flow import augment
from experiments.data.flow import baselines
from experiments.data.flow import colors
from experiments.data.flow import files
from experiments.data.flow import scenes
from experiments.data.flow import sets
from experiments.data.flow.disturbed import Disturbed
from experiments.data.images import image
from experiments.engine import figures
from experiments.engine.choose import choose
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from experiments.inference import commands
from experiments.inference import subjects
from experiments.inference import tiles
from experiments.task import Batch
from experiments.task import Drawn
from experiments.task import each_word
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
from perceiver import losses
from perceiver import outputs
from perceiver import Processor
from perceiver.weights import deepmind
from perceiver.weights import download
from perceiver.weights import huggingface

# What the metrics of the model's flow, and of others', end with.
WAYS = ("", *(f"_{name}" for name in baselines.BASELINES))


def network(config) -> Network:
  """The model: from two frames in [-1, 1] to flow in pixels, [B, Y, X, 2]."""
  model = config.model
  features_of = choose((patches, conv), model.input)

  def of_tile(frames, is_training):
    features = features_of(frames, is_training=is_training)
    # Two index dimensions, or three if the frames stayed apart.
    resolution = model.max_resolution or resolution_of(features)
    x = inputs.pixels(features, model.num_bands, resolution)
    z = Encoder(**model.encoder)(x)  # [B, N, D]
    z = Processor(**model.processor)(z)
    dims = features.shape[-3:-1]
    query = x[:, : dims[0] * dims[1]]  # Those of the first frame.
    linear = hk.Linear(2, w_init=jnp.zeros, name="flow")
    # A flow that starts at zero, in units that suit the loss.
    flow_of = lambda y: linear(y) / 100 * 20
    if model.upsample == 1:
      head = flow_of
    else:
      head = hk.Linear(64, name="coarse")
    y = Decoder(**model.decoder)(query, z, head=head)
    y = y.reshape(y.shape[0], *dims, -1)
    return y if head is flow_of else upsampled(y, flow_of, model.upsample)

  def resolution_of(features):
    """The resolution of each axis, including time for separate frames."""
    *time, height, width = features.shape[1:-1]
    return [*([model.time_resolution] if time else []), height, width]

  size = tuple(config.frame_size)

  def forward(batch, is_training):
    frames = batch["frames"]  # [B, T=2, Y, X, 3]
    if frames.dtype == jnp.uint8:
      frames = frames / 255.0 * 2.0 - 1.0
    height, width = frames.shape[2:4]
    frames, (top, left) = filled_up(frames, size)
    if frames.shape[2:4] == size:
      flow = of_tile(frames, is_training)
    else:
      flow = in_tiles(of_tile, frames, size, **config.tiling)
    return {"flow": flow[:, top : top + height, left : left + width]}

  example = {"frames": jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)}
  return Network(example, forward)


def positions(config) -> Positions:
  """Positions of the features of frames."""
  model, dims = config.model, tuple(config.frame_size)
  if model.input.name == "conv":
    dims = subjects.conv_features(dims)
  if not model.input.concat_frames:
    dims = (model.time_resolution, *dims)
  return Positions(resolutions={"model.max_resolution": dims})


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  size = tuple(config.frame_size)
  open_pairs = functools.partial(pairs_of, config=config)

  def train_data(shard):
    pairs = open_pairs(config.train, part="train")
    pairs = grain.MapDataset.source(pairs).seed(config.seed)
    curriculum = augment.Curriculum(
        pairs.shuffle().repeat(), **config.curriculum
    )
    ranges = augment.Ranges(**config.augmentation)
    return pipeline.train(
        grain.MapDataset.source(curriculum).seed(config.seed),
        [augment.Augment(size, ranges, config.sparse), trained_on],
        batch_size=config.batch_size,
        seed=config.seed,
        shard=shard,
        num_workers=config.num_workers,
    )

  def eval_data(shard, name, noise=None):
    parts = sets.by_size(open_pairs(name, part="test"))
    if noise is not None:
      parts = [Disturbed(part, **noise, seed=config.seed) for part in parts]
    step = functools.partial(
        baselines.with_flows, names=tuple(baselines.BASELINES)
    )
    return itertools.chain.from_iterable(
        pipeline.evaluation(
            part,
            [step],
            batch_size=config.eval_batch_size,
            shard=shard,
            together=1 if noise is None else 2,
        )
        for part in parts
    )

  evals = {
      name: Eval(
          functools.partial(eval_data, name=name), measure, summarize, draw
      )
      for name in config.evals
  }
  for kind, noise in config.noises.items():
    data = functools.partial(
        eval_data, name=config.disturbed, noise=noise.to_dict()
    )
    evals[kind] = Eval(data, measure_change, summarize_change, draw)
  example = {
      "frames": jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8),
      "flow": jax.ShapeDtypeStruct((*size, 2), jnp.float32),
      "known": jax.ShapeDtypeStruct(size, jnp.bool_),
  }
  return Task(example, model.forward, train_data, loss, evals, draw=draw_input)


def pairs_of(name, part, config) -> Any:
  """Pairs of frames of a data set or of generated scenes.

  Generated test pairs have the model's size, and textures of their own.
  """
  settings = {"seed": config.seed, "part": part}
  if part == "test":
    settings |= {"size": tuple(config.frame_size), "length": config.eval_pairs}
  if name == "scenes":
    return scenes.Scenes(**{**config.scenes.to_dict(), **settings})
  if name == "homographies":
    return scenes.Homographies(**{**config.homographies, **settings})
  if name == "motorcycle":
    return [scenes.motorcycle(**config.motorcycle)]
  return sets.open_pairs(name, config.data_dir)


def trained_on(example):
  """The entries of a pair that training reads."""
  return {key: example[key] for key in ("frames", "flow", "known")}


def loss(outputs, batch):
  """The end-point error at known pixels: the mean over pairs of their means."""
  error = losses.end_point_error(outputs["flow"], batch["flow"])
  known = batch["known"]
  each = (error * known).sum((1, 2)) / jnp.maximum(known.sum((1, 2)), 1)
  return each.mean(), {}


def measure(outputs, batch):
  """Sums over the known pixels of each pair, for each method."""
  known = batch["known"]
  length = jnp.linalg.norm(batch["flow"], axis=-1)
  sums = {"known": known.sum((1, 2)).astype(jnp.float32)}
  for name, flow in flows_of(outputs, batch).items():
    error = losses.end_point_error(flow, batch["flow"])
    is_outlier = (error > 3) & (error > 0.05 * length)
    sums[f"epe{name}"] = (error * known).sum((1, 2))
    sums[f"outliers{name}"] = (is_outlier & known).sum((1, 2))
  return sums


def flows_of(outputs, batch):
  """The flows of the model and the baselines, by suffix of their metrics."""
  return {"": outputs["flow"]} | {
      f"_{name}": batch[name] for name in baselines.BASELINES
  }


def summarize(measured):
  """Mean end-point errors in pixels, and outliers in percent (KITTI's Fl-all).

  The error is a mean of each pair's mean; outliers are counted over all pixels.
  Pairs of which nothing is known count for nothing; their number is told.
  """
  known = measured["known"]
  is_known = known > 0
  found = {"without_flow": float((~is_known).sum())}
  for name in WAYS:
    each = measured[f"epe{name}"][is_known] / known[is_known]
    outliers = measured[f"outliers{name}"].sum() / max(known.sum(), 1)
    found[f"epe{name}"] = float(np.mean(each)) if len(each) else float("nan")
    found[f"fl_all{name}"] = 100 * float(outliers)
  return found


def measure_change(outputs, batch):
  """As `measure`, and how much noise changes each flow, mean squares of pixels.

  Every other pair is the one before it with noise.
  """
  measured = measure(outputs, batch) | {"disturbed": batch["disturbed"]}
  for name, flow in flows_of(outputs, batch).items():
    change = jnp.square(flow[1::2] - flow[::2]).mean((1, 2, 3))
    measured[f"change{name}"] = jnp.repeat(change, 2)
  return measured


def summarize_change(measured):
  """End-point errors without noise ("clean") and with it, and the change."""
  disturbed = measured["disturbed"].astype(bool)
  noisy, clean = (
      {name: values[which] for name, values in measured.items()}
      for which in (disturbed, ~disturbed)
  )
  before, found = summarize(clean), summarize(noisy)
  for name in WAYS:
    found[f"clean_epe{name}"] = before[f"epe{name}"]
    found[f"change{name}"] = float(noisy[f"change{name}"].mean())
  return found


# What baselines are called in figures.
NAMES = {"zero": "zero flow", "farneback": "Farnebäck", "dis": "DIS"}


class Shown(NamedTuple):
  """A pair of frames as it is drawn."""

  frames: np.ndarray  # RGB, uint8 [2, Y, X, 3].
  flows: Sequence[np.ndarray]  # True and found, [Y, X, 2]; NaN: unknown.
  longest: float  # Of the true flow, in pixels.
  error: np.ndarray  # In pixels, [Y, X]; NaN: unknown.
  text: str  # The mean errors.


def shown_pairs(outputs, batch) -> list[Shown]:
  """Each pair of a batch, with the errors of its flows."""
  flows, pairs = flows_of(outputs, batch), []
  for i in np.flatnonzero(batch["real"]):
    true = np.where(batch["known"][i][..., None], batch["flow"][i], np.nan)
    longest = np.nanmax(np.linalg.norm(true, axis=-1), initial=1.0)
    errors, lines = {}, []
    for name, flow in flows.items():
      errors[name] = np.linalg.norm(flow[i] - true, axis=-1)
      known = errors[name][batch["known"][i]]
      mean = f"{known.mean():.2f} px" if known.size else "unknown"
      lines.append(f"{NAMES[name[1:]] if name else 'EPE'} {mean}")
    pairs.append(
        Shown(
            batch["frames"][i],
            (true, np.asarray(flows[""][i], np.float32)),
            float(longest),
            errors[""],
            "\n".join(lines),
        )
    )
  return pairs


def error_scale(pairs: Sequence[Shown]) -> figures.Scale:
  """The colour scale of errors, up to the 99th percentile."""
  errors = np.concatenate([pair.error.ravel() for pair in pairs])
  errors = errors[np.isfinite(errors)]
  most = max(float(np.quantile(errors, 0.99)) if errors.size else 1.0, 0.5)
  label = "end-point error (pixels)"
  return figures.Scale(label, Normalize(0.0, most), "magma", extend="max")


def draw(outputs, batch, most=4):
  """A figure with a row per pair: frames, true and predicted flow, error.

  Pairs that follow each other in time, as those of a film do, are a movie too.
  """
  pairs = shown_pairs(outputs, batch)
  drawn: dict[str, Drawn] = {"flow": draw_pairs(pairs[:most])}
  frames, count = batch["frames"], 1
  while count < len(pairs) and np.array_equal(
      frames[count - 1][1], frames[count][0]
  ):
    count += 1
  if count > 1:
    film, magma = pairs[:count], matplotlib.colormaps["magma"]
    norm = error_scale(film).norm
    rows = [
        np.concatenate(
            [
                *pair.frames,
                *(colors.colors(flow, pair.longest) for flow in pair.flows),
                np.uint8(255 * magma(norm(pair.error))[..., :3]),
            ],
            axis=1,
        )
        for pair in film
    ]
    drawn["sequence"] = Movie(np.stack(rows), fps=12.0)
  return drawn


@figures.styled()
def draw_pairs(pairs: Sequence[Shown]) -> np.ndarray:
  """A figure with a row per pair, the colour wheel and the error's scale.

  Returns:
    RGB, uint8 [Y, X, 3].
  """
  heads = ("frame 1", "frame 2", "true flow", "model's flow")
  figure, axes = _rows(len(pairs), (*heads, "", "error"), pairs[0].frames, 4)
  scale = error_scale(pairs)
  for row, pair in zip(axes, pairs, strict=True):
    pictures = [
        *pair.frames,
        *(colors.colors(flow, pair.longest) for flow in pair.flows),
    ]
    for ax, picture in zip(row, pictures, strict=False):
      ax.imshow(picture)
    row[0].set_ylabel(pair.text, rotation=0, ha="right", va="center")
    show_wheel(row[4], pair.longest)
    row[5].imshow(pair.error, norm=scale.norm, cmap=scale.colormap)
    row[5].set_facecolor("0.7")  # Where the true flow is unknown.
  scale.bar(figure, axes[:, 5], shrink=0.9, aspect=30)
  figure.suptitle("optical flow; EPE: mean end-point error of the model")
  return figures.drawn(figure)


@figures.styled()
def draw_input(batch, most=4):
  """A figure with a row per training pair: frames and flow."""
  frames = batch["frames"][:most]
  heads = ("frame 1", "frame 2", "flow", "")
  figure, axes = _rows(len(frames), heads, frames[0], 3)
  for i, row in enumerate(axes):
    flow = np.where(batch["known"][i][..., None], batch["flow"][i], np.nan)
    longest = np.nanmax(np.linalg.norm(flow, axis=-1), initial=1.0)
    for ax, picture in zip(
        row, (*frames[i], colors.colors(flow, longest)), strict=False
    ):
      ax.imshow(picture)
    show_wheel(row[3], float(longest))
  figure.suptitle("pairs of training; black: the flow is unknown")
  return {"input": figures.drawn(figure)}


def _rows(count, heads, frames, wheel):
  """A figure with a row for each pair; its `wheel`-th column is narrow."""
  height, width = frames.shape[1:3]
  wide = 2.8  # Hundreds of pixels.
  widths = [1.0] * len(heads)
  widths[wheel] = 0.4
  size = wide * sum(widths) + 2.0, count * (wide * height / width + 0.3) + 0.8
  figure = Figure(figsize=size)
  axes = figure.subplots(count, len(heads), squeeze=False, width_ratios=widths)
  for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
  for ax, head in zip(axes[0], heads, strict=True):
    ax.set_title(head)
  return figure, axes


def show_wheel(ax, longest: float) -> None:
  """Draws the colour wheel of flows up to a length in pixels."""
  side = np.linspace(-1.0, 1.0, 101)
  flow = np.stack(np.meshgrid(side, side), axis=-1)
  inside = np.linalg.norm(flow, axis=-1) <= 1.0
  wheel = colors.colors(longest * flow, longest)
  ax.imshow(np.where(inside[..., None], wheel, 255).astype(np.uint8))
  ax.set_xlabel(f"colours to\n{longest:.1f} px")


def filled_up(frames, size):
  """Frames padded to the size of a tile by repeating their edges.

  Source: RAFT's `InputPadder`, which does so on both sides.

  Args:
    frames: [B, T, Y, X, C].
    size: size of a tile, y and x.

  Returns:
    frames, and the y and x at which the given ones begin in them.
  """
  missing = [
      max(tile - own, 0)
      for tile, own in zip(size, frames.shape[2:4], strict=True)
  ]
  before = [number // 2 for number in missing]
  around = [(a, number - a) for a, number in zip(before, missing, strict=True)]
  around = [(0, 0), (0, 0), *around, (0, 0)]
  return jnp.pad(frames, around, mode="edge"), before


def in_tiles(of_tile, frames, size, min_overlap, even):
  """The flow of larger frames, one tile after the other to save memory."""
  num_examples, num_frames, height, width, channels = frames.shape
  corners = tiles.corners(height, width, size[0], size[1], min_overlap, even)

  def one(corner):
    start = (0, 0, corner[0], corner[1], 0)
    shape = (num_examples, num_frames, *size, channels)
    return of_tile(jax.lax.dynamic_slice(frames, start, shape), False)

  flows = hk.map(one, jnp.asarray(corners))
  found = dict(zip(corners, flows, strict=True))
  return tiles.blended(
      lambda y, x: found[y, x], height, width, tuple(size), min_overlap, even
  )


def patches(frames, /, size: int, channels: int, concat_frames: bool):
  """Each pixel with its neighbours, projected."""
  x = inputs.frame_patches(frames, size)
  if concat_frames:
    x = rearrange(x, "b t y x c -> b y x (t c)")
  return hk.Linear(channels, name="patches")(x)


def conv(
    frames, /, channels: int, concat_frames: bool, is_training: bool = False
):
  """Convolutional features at a quarter of the resolution."""
  stem = inputs.ConvStem(channels, name="conv_stem")
  if concat_frames:
    return stem(rearrange(frames, "b t y x c -> b y x (t c)"), is_training)
  x = stem(rearrange(frames, "b t y x c -> (b t) y x c"), is_training)
  return rearrange(x, "(b t) y x c -> b t y x c", t=frames.shape[1])


def upsampled(y, flow_of, factor):
  """A coarse flow, upsampled as in RAFT."""
  weights = hk.Linear(9 * factor**2, name="upsample")(y)
  return outputs.raft_upsample(flow_of(y), weights, factor)


SETTINGS = {
    "model.input": (patches, conv),
    "model.max_resolution": Sequence[int] | None,
    "model.encoder": Encoder,
    "model.processor": Processor,
    "model.decoder": Decoder,
    "augmentation": augment.Ranges,
    "curriculum": functools.partial(augment.Curriculum, ()),
    "noises.*": functools.partial(Disturbed, seed=0),
    "scenes": functools.partial(scenes.Scenes, seed=0, part=""),
    "homographies": functools.partial(scenes.Homographies, seed=0, part=""),
    "motorcycle": scenes.motorcycle,
}


def flow_between(
    weights: Weights, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
  """The movement of each pixel from one frame to the next.

  Args:
    weights: a model of optical flow.
    first: RGB, uint8 [Y, X, 3].
    second: frame of the same size.

  Returns:
    x and y in pixels, float32 [Y, X, 2], as in evaluation: of frames that are
    larger than what the model sees in tiles (`config.tiling`), of smaller ones
    as they are with their edges repeated.

  Raises:
    UserError: if the sizes do not fit.
  """
  return predict(weights, (first, second))


def prepare(config, raw) -> Batch:
  """Two frames of one size as the model reads them, "frames" [1, 2, Y, X, 3].

  Args:
    config: config of any model of flow.
    raw: two image files, or RGB uint8 [Y, X, 3].

  Raises:
    UserError: if they are not two, or of different sizes.
  """
  del config  # Any size is cut into tiles.
  if not isinstance(raw, tuple | list) or len(raw) != 2:
    raise UserError("optical flow needs two images: (first, second)")
  first, second = map(commands.rgb, raw)
  if first.shape != second.shape:
    sizes = [f"{len(x)} x {x.shape[1]}" for x in (first, second)]
    raise UserError(f"one is {sizes[0]} pixels, the other {sizes[1]}")
  return {"frames": np.stack([first, second])[None]}


def predict(weights, raw) -> np.ndarray:
  """The flow between two frames, as `flow_between`; `raw` as of `prepare`."""
  batch = prepare(weights.config, raw)
  with user_errors("the frames"):
    found = weights.outputs(batch)
  return np.asarray(found["flow"][0], np.float32)


def write_flow(args, load):
  """Writes the flow between two images, or of a video."""
  if len(args.inputs) > 2:
    raise UserError("flow takes two images or one video")
  is_video = len(args.inputs) == 1
  kinds = (".mp4",) if is_video else (".flo", ".png")
  commands.check_outputs(args.output, kinds, args.inputs)
  frames, fps = [], 0.0
  for file in args.inputs:
    with commands.using(file):
      if is_video:
        from experiments.data.clips import video  # Of the extra `video`.

        fps = video.frame_rate(file)
        frames = [*video.read_frames(file, fps=fps)]
      else:
        frames.append(image.read(file))
  if len(frames) < 2:
    raise UserError(f"{args.inputs[0]} has one frame; flow needs two")
  model = load()
  with commands.using(*args.inputs):
    flows = [
        model.predict((frames[i], frames[i + 1]))
        for i in commands.tracked(range(len(frames) - 1))
    ]
  longest = max(float(np.hypot(x[..., 0], x[..., 1]).max()) for x in flows)
  images = [colors.colors(x, max(longest, 1e-6)) for x in flows]
  if args.side_by_side:
    images = commands.beside(frames, images)
  for file in args.output:
    with commands.using(str(file)):  # A full disk names no file.
      if file.suffix == ".flo":
        files.write_flo(file, flows[0])
      elif file.suffix == ".png":
        commands.write_png(file, images[0])
      else:
        from experiments.data.clips import video

        video.write(file, np.stack(images), fps)
    print(f"{file}: the longest flow is {longest:.1f} pixels")


def add_arguments(parser):
  """Arguments of `write_flow`."""
  parser.add_argument(
      "inputs", nargs="+", metavar="FILE", help="two images or one video"
  )
  commands.add_output(parser)
  commands.add_side_by_side(parser)


def pairs_of_words(config, words, task=None):
  """Words of a command line as pairs of frames."""
  words = each_word(config, words, task)
  return [words[i : i + 2] for i in range(0, len(words), 2)]


PREDICTION = Prediction(
    "flow",
    "configs/flow.py:patches",
    add_arguments,
    write_flow,
    prepare,
    predict,
    pairs_of_words,
)


def attention_subjects(config, inputs) -> Iterator[Subject]:
  """Pairs of frames, resized and cropped to the model's size."""
  if len(inputs) % 2:
    raise UserError("optical flow needs two images: the frames")
  dims = tuple(config.frame_size)
  grid = dims if config.model.upsample == 1 else subjects.conv_features(dims)
  inside = grid if config.model.input.concat_frames else (2, *grid)
  for pair in zip(inputs[::2], inputs[1::2], strict=True):
    frames = []
    for file in pair:
      with commands.using(commands.name_of(file)):
        frame = commands.rgb(file)
      height, width, _ = frame.shape
      scale = max(dims[0] / height, dims[1] / width)
      if scale != 1:
        size = round(scale * width), round(scale * height)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
      frames.append(subjects.centre(frame, dims))
    frames = np.stack(frames)
    yield Subject(
        commands.stem_of(pair[0]),
        {"frames": frames},
        {"frames": inside},
        {"flow": grid},
        frames=frames / 255.0,
    )


PUBLISHED = {
    "flow": download.official(
        "optical_flow_checkpoint.pystate", "flow:patches"
    ),
    "huggingface_flow": download.of_huggingface(
        "optical-flow-perceiver", "flow:patches"
    ),
}
OFFICIAL = deepmind.places("flow")


def transformers(config) -> Transformers:
  """The class for optical flow."""
  resolution = config.model.max_resolution or config.frame_size
  return Transformers(
      "PerceiverForOpticalFlow",
      huggingface.places("flow"),
      {
          "model.input.name": "patches",
          "model.input.size": 3,
          "model.input.concat_frames": True,
          "model.input.channels": 64,
          "model.num_bands": 64,
          "model.upsample": 1,
          "model.decoder.use_query_residual": False,
      },
      {"train_size": list(resolution)},
  )
