"""What the published models are for: from text, images and video to the same.

Each function prepares its input as the release's examples do, and makes of the
output what they show.

Repeated calls with the same weights compile once.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import heapq
import itertools
import re
from typing import Any, NamedTuple

import haiku as hk
import jax
import numpy as np

from experiments.data.images import image as image_lib
from experiments.data.text import tokenizers as text_lib
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.engine.weights import Weights
from experiments.inference import tiles

TOP = 5  # How many candidates there are of each thing.
_MASK = r"\[MASK(?::(\d{1,6}))?\]"
_SPECIAL = ("PAD", "BOS", "EOS", "MASK", "CLS", "SEP")


class Label(NamedTuple):
  """A class, and how likely it is."""

  index: int
  probability: float


class Bytes(NamedTuple):
  """Ids of bytes, and how likely they are."""

  ids: tuple[int, ...]
  probability: float

  def __str__(self) -> str:
    return shown(self.ids)


class Span(NamedTuple):
  """What may be at a masked place, likeliest first."""

  start: int  # Its first byte in the text.
  by_byte: list[list[Bytes]]  # At each of its bytes.
  strings: list[Bytes]  # In all of it, if its bytes do not hang together.


class Filled(NamedTuple):
  """A text without masks."""

  text: str
  spans: list[Span]


class Clip(NamedTuple):
  """Video, sound and class."""

  video: np.ndarray  # [T, Y, X, 3] in [0, 1].
  audio: np.ndarray  # [S, 1] in [-1, 1].
  labels: list[Label]  # Likeliest first.


def require(weights: Weights, task: str) -> None:
  """Nothing, if the weights are of this task.

  Raises:
    UserError: if they are not.
  """
  if weights.config.task != task:
    raise UserError(
        f"the weights are of task {weights.config.task!r}, not {task!r}"
    )


def fill_mask(
    weights: Weights, text: str, masks: Sequence[str] = (), top: int = TOP
) -> Filled:
  """A text with its masked bytes filled in.

  A model guesses better if what is masked begins with the space before a word.

  Args:
    weights: a masked language model of bytes.
    text: `[MASK]` is a masked byte in it, `[MASK:9]` are nine of them.
    masks: parts of the text that are masked as well, wherever they are.
    top: how many candidates there are.

  Raises:
    UserError: if nothing is masked, or the text is too long.
  """
  require(weights, "mlm")
  tokens = weights.config.model.tokens
  if tokens.vocabulary_size != text_lib.BYTES_VOCABULARY:
    raise UserError("only models that read bytes can be used")
  ids, spans = masked(text, masks)
  try:
    padded, mask = text_lib.padded(ids, tokens.max_length)
  except ValueError as error:
    raise UserError(
        f"the text has {len(ids)} bytes, the model reads {tokens.max_length}"
    ) from error
  logits = _apply(weights, {"tokens": padded[None], "mask": mask[None]})
  log_probs = jax.nn.log_softmax(logits["logits"][0].astype(np.float32))
  log_probs = np.asarray(log_probs, np.float64)
  filled = []
  for span in spans:
    inside = log_probs[span]
    ids[span] = inside.argmax(-1)
    by_byte = [k_best(row[None], top) for row in inside]
    filled.append(Span(span.start, by_byte, k_best(inside, top)))
  return Filled(text_lib.decode(ids), filled)


def masked(
    text: str, masks: Iterable[str] = ()
) -> tuple[np.ndarray, list[slice]]:
  """The ids of a text, int32 [M], and where they are masked.

  Raises:
    UserError: if nothing is masked, or one of `masks` is not there.
  """
  for part in masks:
    if not part or part not in text:
      raise UserError(f"{part!r} is to be masked and is not in the text")
  pattern = "|".join([_MASK, *map(re.escape, masks)])
  pieces, spans, end, length = [], [], 0, 0
  for match in re.finditer(pattern, text):
    before = text_lib.encode(text[end : match.start()])
    end = match.end()
    count = len(match[0].encode())
    if re.fullmatch(_MASK, match[0]):
      count = int(match[1] or 1)
    pieces += [before, np.full([count], text_lib.MASK, np.int32)]
    start = length + len(before)
    length = start + count
    if spans and spans[-1].stop == start:  # They are one.
      start = spans.pop().start
    spans.append(slice(start, length))
  if not all(span.stop > span.start for span in spans) or not spans:
    raise UserError("nothing is masked: write [MASK] for a byte, or [MASK:9]")
  return np.concatenate([*pieces, text_lib.encode(text[end:])]), spans


def k_best(log_probs: np.ndarray, k: int) -> list[Bytes]:
  """The k likeliest sequences of independent ids, likeliest first.

  Args:
    log_probs: of ids at each place, [places, vocabulary].
    k: how many.
  """
  best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
  for row in log_probs:
    choices = np.argsort(-row)[:k]
    # What is not among the k best so far cannot begin one of the k best.
    longer = ((x + row[i], (*ids, int(i))) for x, ids in best for i in choices)
    best = heapq.nlargest(k, longer, key=lambda pair: pair[0])
  return [Bytes(ids, float(np.exp(x))) for x, ids in best]


def shown(ids: Iterable[int]) -> str:
  r"""Ids as text that shows each one: `\xff` is half a letter, `[PAD]` none."""
  text = ""
  for is_byte, run in itertools.groupby(
      ids, lambda i: i >= text_lib.NUM_SPECIAL
  ):
    if is_byte:
      values = bytes(i - text_lib.NUM_SPECIAL for i in run)
      letters = values.decode("utf-8", errors="backslashreplace")
    else:
      letters = "".join(f"[{_SPECIAL[i]}]" for i in run)
    for x in letters:
      text += x if x.isprintable() else x.encode("unicode_escape").decode()
  return text


def flow(
    weights: Weights,
    first: np.ndarray,
    second: np.ndarray,
    batch_size: int = 1,
) -> np.ndarray:
  """How far each pixel of the first image moves to where it is in the second.

  Args:
    weights: a model of optical flow.
    first: RGB, uint8 [Y, X, 3], at least as large as what the model sees.
    second: of the same size.
    batch_size: tiles that are computed at once.

  Returns:
    x and y in pixels, float32 [Y, X, 2], blended from overlapping tiles.

  Raises:
    UserError: if the sizes do not fit.
  """
  require(weights, "flow")
  tile_height, tile_width = tile = tuple(weights.config.frame_size)
  height, width, _ = first.shape
  if first.shape != second.shape:
    raise UserError(f"one is {_size(first)} pixels, the other {_size(second)}")
  try:
    corners = tiles.corners(height, width, tile_height, tile_width)
  except ValueError as error:
    raise UserError(str(error)) from error
  flows, pair = {}, (first, second)
  for i in range(0, len(corners), batch_size):
    group = corners[i : i + batch_size]
    # The last group is filled up: another size would be another program.
    full = (group * batch_size)[:batch_size]
    frames = [
        [x[top : top + tile_height, left : left + tile_width] for x in pair]
        for top, left in full
    ]
    frames = (np.asarray(frames) / 255.0 * 2.0 - 1.0).astype(np.float32)
    found = np.asarray(_apply(weights, {"frames": frames})["flow"], np.float32)
    flows |= zip(group, found[: len(group)], strict=True)
  whole = tiles.blended(lambda y, x: flows[y, x], height, width, tile)
  return np.asarray(whole)


def classify(
    weights: Weights, image: np.ndarray, top: int = TOP
) -> list[Label]:
  """The classes that an image, RGB, uint8 [Y, X, 3], most likely belongs to.

  Raises:
    UserError: if the image is too small, or the model's is no square.
  """
  require(weights, "imagenet")
  size, width = weights.config.image_size
  if size != width:
    raise UserError(f"the model's images are {size} x {width}, not square")
  height, width, _ = image.shape
  if image_lib.centre_crop_box(height, width, size)[-1] < 1:
    raise UserError(f"{_size(image)} pixels are too few")
  prepared = image_lib.for_classification(image, size)
  return _labels(_apply(weights, {"image": prepared[None]})["logits"][0], top)


def autoencode(
    weights: Weights, clip: Mapping[str, np.ndarray], top: int = TOP
) -> Clip:
  """A clip from its latents, and its class, which the model is not told.

  Args:
    weights: an autoencoder of video and sound.
    clip: "video", [T, Y, X, 3] in [0, 1], and "audio", [S, 1] in [-1, 1], as
      `experiments.data.clips.video.read_clip` returns them.
    top: how many classes.

  Raises:
    UserError: if the clip is not of the model's size.
  """
  require(weights, "kinetics")
  batch: dict[str, np.ndarray] = {"label": np.zeros([1], np.int32)}
  for name in ("video", "audio"):
    expected = weights.network.example[name].shape
    if clip[name].shape != expected:
      raise UserError(f"{name} is {clip[name].shape}, the model's {expected}")
    batch[name] = clip[name][None].astype(np.float32)
  decoded = _apply(weights, batch)
  return Clip(
      video=np.clip(np.asarray(decoded["video"][0], np.float32), 0.0, 1.0),
      audio=np.clip(np.asarray(decoded["audio"][0], np.float32), -1.0, 1.0),
      labels=_labels(decoded["label"][0], top),
  )


def _apply(weights: Weights, batch: Mapping[str, np.ndarray]) -> Any:
  return _forward(weights.network.net, weights.model, batch)


@functools.partial(jax.jit, static_argnums=0)
def _forward(net: hk.TransformedWithState, model: Model, batch):
  outputs, _ = net.apply(*model, None, batch, False)
  return outputs


def _labels(logits: jax.Array, top: int) -> list[Label]:
  probs = np.asarray(jax.nn.softmax(logits.astype(np.float32)))
  return [Label(int(i), float(probs[i])) for i in np.argsort(-probs)[:top]]


def _size(image: np.ndarray) -> str:
  height, width = image.shape[:2]
  return f"{height} x {width}"
