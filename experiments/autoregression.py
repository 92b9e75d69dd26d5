"""Autoregressive models of sequences: Perceiver AR.

Text, images as their values, music as events, and the copy task. The model is
given a window of a sequence, and predicts what comes after each of the newest
elements.

Source: Hawthorne et al., 2022; their released code.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import json
from typing import Annotated, Any, NamedTuple

import grain
import haiku as hk
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from experiments.data import pipeline
from experiments.data.images import sets
from experiments.data.sequences import copies as copies_lib
from experiments.data.sequences import images as images_lib
from experiments.data.sequences import midi
from experiments.data.sequences import ngrams
from experiments.data.sequences import windows
from experiments.data.text import corpus
from experiments.data.text import masking
from experiments.data.text import tokenizers
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import NUM_SPECIAL
from experiments.data.text.tokenizers import PAD
from experiments.engine import state as state_lib
from experiments.engine import wav
from experiments.engine.choose import choose
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from experiments.inference import commands
from experiments.task import Batch
from experiments.task import Drawn
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Positions
from experiments.task import Prediction
from experiments.task import Sound
from experiments.task import Task
from perceiver import bounds
from perceiver import CausalEncoder
from perceiver import CausalProcessor
from perceiver import LearnedArray
from perceiver import losses
from perceiver import position
from perceiver import remember
from perceiver import sampling
from perceiver.attention import layer_norm

# Of `continued`, as the command line has them.
OPTIONS = ("number", "keep", "seed", "temperature", "top_k", "top_p")
COUNTED = 16_000_000  # Bytes, or ids, that baselines are counted in, at most.
CHOICE = sampling.Choice()  # From all, as likely as the model says.
RATE = 22_050  # Samples per second of music that is played.


class Start(NamedTuple):
  """A prompt of a sample."""

  ids: np.ndarray
  original: np.ndarray  # How the sequence goes on in the data.


class Continued(NamedTuple):
  """A continued sequence."""

  ids: np.ndarray  # int32, what was given and what came after it.
  given: int  # How many of them were given.
  shown: Drawn  # All of it, as a text, an image or sound.


# Starts, and what they have become.
Samples = Sequence[tuple[Start, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Split:
  """A split for evaluation."""

  windows: Any  # By index.
  # So many things, or fewer, that samples go on from.
  starts: Callable[[int], Sequence[Start]]
  # Further numbers to compare with, of the whole split: name -> number.
  compared: Callable[[], Mapping[str, float]] = dict


@dataclasses.dataclass(frozen=True)
class Sequences:
  """A kind of data; files are opened when they are read."""

  vocabulary_size: Callable[[], int]
  # What ids are counted in, and how much of it each one is.
  unit: str
  sizes: Callable[[], np.ndarray]
  order: int  # Ids that the n-gram baseline looks at together.
  source: Callable[[], Any]  # What training begins with, and its steps.
  steps: Callable[[], Sequence[pipeline.Step]]
  counted: Callable[[], np.ndarray]  # Ids to count baselines in.
  splits: Mapping[str, Callable[[], Split]]
  read: Callable[[Any], np.ndarray]  # What a person gives -> its ids.
  shown: Callable[[np.ndarray], Drawn]  # Ids -> what they stand for.
  together: Callable[[Samples], Mapping[str, Drawn]]  # For people to compare.
  endings: Sequence[str]  # Of files that it can be written to.
  kept: int | None = None  # Ids of a start to go on from; None: all.
  size: int | None = None  # Ids of each sequence; None: any number.
  stop: int | None = EOS  # What a sequence ends with.
  choice: sampling.Choice = CHOICE  # How samples are drawn.


def text(
    config,
    /,
    corpora: Mapping[str, float],
    sentencepiece: str = "",
    order: int = 5,
    most_bytes: int = 1_000_000,
) -> Sequences:
  """Documents of prepared corpora.

  Args:
    config: config of the run.
    corpora: parts of the training text, by the corpora's names.
    sentencepiece: the file of a SentencePiece model; empty: bytes.
    order: order of the n-grams to compare with.
    most_bytes: of each corpus to evaluate, about.
  """
  length, latents = lengths(config)
  tokenizer = functools.cache(
      lambda: tokenizers.sentencepiece(sentencepiece)
      if sentencepiece
      else tokenizers.utf8()
  )
  shares = {name: share for name, share in corpora.items() if share}
  opened = functools.partial(corpus.open_documents, data_dir=config.data_dir)

  def source():
    each = [
        masking.in_tens(opened(name, "train"), config.seed, "documents")
        for name in shares
    ]
    return grain.MapDataset.mix(each, list(shares.values()))

  def of_all(name, most):
    documents = opened(name, "train")
    return windows.stream(
        (documents[i] for i in range(len(documents))), tokenizer(), most
    )

  def counted():
    each = [of_all(name, COUNTED // len(shares))[0] for name in shares]
    return np.concatenate(each)

  def split(name):
    documents = opened(name, "validation")
    ids, whole = windows.stream(
        (documents[i] for i in range(len(documents))), tokenizer(), most_bytes
    )

    def compared():
      known = of_all(name, COUNTED)[1]
      return {
          "xz_bits_per_byte": ngrams.xz_bits_per_byte(whole),
          "xz_after_training_bits_per_byte": ngrams.xz_bits_per_byte(
              whole, known
          ),
      }

    def starts(number):
      # From nothing, and from the beginnings of documents.
      begin, most = np.flatnonzero(ids == BOS), max(length // 8, 1)
      ends = [1, *(most for _ in begin)]
      return [
          Start(ids[i : i + n], ids[i : i + length])
          for i, n in zip([0, *begin], ends, strict=True)
      ][:number]

    return Split(
        windows.Consecutive(ids, length, latents),
        starts,
        functools.cache(compared),
    )

  shown = lambda ids: tokenizer().decode(ids)
  return Sequences(
      vocabulary_size=lambda: tokenizer().vocabulary_size,
      unit="byte",
      sizes=lambda: tokenizer().num_bytes,
      order=order,
      source=source,
      steps=lambda: [
          functools.partial(
              windows.of_text,
              tokenizer=tokenizer(),
              length=length,
              latents=latents,
          )
      ],
      counted=counted,
      splits={name: functools.partial(split, name) for name in shares},
      read=lambda raw: np.concatenate(
          [[BOS], tokenizer().encode(str(raw).encode())]
      ).astype(np.int32),
      shown=shown,
      together=functools.partial(texts_of, shown=shown),
      endings=(".txt",),
  )


def copies(
    config,
    /,
    size: int,
    values: int = 256,
    mirrored: bool = True,
    ramp_examples: int = 0,
) -> Sequences:
  """The copy task: generated random values and their copy.

  What is predicted is the second half. In training a window ends anywhere in
  it.

  Args:
    config: config of the run.
    size: even length of a sequence, including BOS and EOS.
    values: different ones.
    mirrored: whether the second half is the first in reverse.
    ramp_examples: of training, in which the halves grow from one value to all;
      0: all have all.
  """
  length, latents = lengths(config)
  made = functools.partial(copies_lib.Copies, size, values, mirrored)
  train = made(seed=config.seed + 1, growing=ramp_examples)

  def split():
    each = -(-(size - size // 2) // latents)
    number = max(config.eval_examples // each, 1)  # Whole sequences.
    every = made(seed=0, number=number)

    def starts(number):
      each = [every[i]["ids"] for i in range(min(number, len(every)))]
      return [Start(ids[: size // 2], ids) for ids in each]

    return Split(windows.OfAll(every, size, length, latents, size // 2), starts)

  return Sequences(
      vocabulary_size=lambda: tokenizers.BYTES_VOCABULARY,
      unit="element",
      sizes=lambda: np.ones(tokenizers.BYTES_VOCABULARY, np.int32),
      order=2,
      # In the order of their numbers, which a curriculum needs.
      source=lambda: grain.MapDataset.source(train).seed(config.seed),
      steps=lambda: [random_windows(length, latents, size // 2)],
      counted=lambda: np.concatenate(
          [made(seed=config.seed + 1)[i]["ids"] for i in range(16)]
      ),
      splits={"validation": split},
      read=lambda raw: made(seed=0)[_number(raw)]["ids"],
      shown=lambda ids: " ".join(map(str, ids)),
      together=copied,
      endings=(".txt",),
      kept=size // 2,
      size=size,
      choice=sampling.Choice(temperature=0.0),
  )


def images(
    config,
    /,
    dataset: str,
    size: int,
    channels: int = 3,
    train: str = "train",
    evaluation: str = "test",
) -> Sequences:
  """Images of a data set as sequences of values, row by row.

  Args:
    config: config of the run.
    dataset: its name, as `images.sets` opens it.
    size: size of the images' sides.
    channels: 3: RGB; 1: gray.
    train: the split that is learned from.
    evaluation: the split that is evaluated.
  """
  length, latents = lengths(config)
  shape = {"size": size, "channels": channels}
  half = 1 + size * (size // 2) * channels
  as_ids = functools.partial(images_lib.as_ids, **shape)
  opened = functools.cache(
      lambda split: sets.open_images(dataset, split, config.data_dir)
  )

  def split():
    every = opened(evaluation)
    values = size * size * channels
    each = -(-values // latents)
    number = min(len(every), max(config.eval_examples // each, 1))
    # Any few of a set in the order of its classes would be of one.
    which = np.linspace(0, len(every) - 1, number).round().astype(int)
    sequences = [as_ids(every[int(i)]) for i in which]
    whole = [
        images_lib.image_of(x["ids"], **shape)[..., :channels]
        for x in sequences
    ]

    def starts(number):
      # Half of an image, for half of them, and nothing for the others.
      at = np.linspace(0, len(sequences) - 1, min(number, len(sequences)))
      each = [sequences[int(i)]["ids"] for i in at]
      ends = [half if 2 * i < number else 1 for i in range(len(each))]
      return [Start(x[:n], x) for x, n in zip(each, ends, strict=True)]

    return Split(
        windows.OfAll(sequences, values + 1, length, latents),
        starts,
        lambda: {"png_bits_per_value": images_lib.png_bits_per_value(whole)},
    )

  def counted():
    every = opened(train)
    number = min(len(every), COUNTED // 8 // (size * size * channels))
    which = np.linspace(0, len(every) - 1, number).round().astype(int)
    return np.concatenate([as_ids(every[int(i)])["ids"] for i in which])

  def read(raw):
    if isinstance(raw, str) and not raw:
      return np.array([BOS], np.int32)
    with user_errors(commands.name_of(raw)):
      image = commands.rgb(raw)
    return as_ids({"image": image, "file": commands.name_of(raw)})["ids"]

  shown = functools.partial(images_lib.image_of, **shape)
  return Sequences(
      vocabulary_size=lambda: tokenizers.BYTES_VOCABULARY,
      unit="value",
      sizes=lambda: np.ones(tokenizers.BYTES_VOCABULARY, np.int32),
      order=1 + channels,
      source=lambda: opened(train),
      steps=lambda: [as_ids, random_windows(length, latents)],
      counted=counted,
      splits={evaluation.partition("[")[0]: split},
      read=read,
      shown=shown,
      together=functools.partial(images_of, shown=shown),
      endings=(".png",),
      kept=half,
      size=1 + size * size * channels,
      stop=None,
  )


def music(
    config,
    /,
    folder: str = "maestro-v3.0.0",
    train: str = "train",
    evaluation: str = "validation",
    order: int = 5,
) -> Sequences:
  """MIDI files as sequences of events: MAESTRO's, or other files.

  Args:
    config: config of the run.
    folder: in the folder with all data sets; without a table, as MAESTRO's, it
      has a folder of MIDI files for each split.
    train: the split that is learned from.
    evaluation: the split that is evaluated.
    order: order of the n-grams to compare with.
  """
  length, latents = lengths(config)
  opened = functools.partial(midi.Pieces.opened, folder)

  def joined(split):
    pieces, ids = opened(split, config.data_dir), []
    for i in range(len(pieces)):
      ids.append(pieces[i]["ids"])
      if sum(map(len, ids)) > COUNTED:
        break
    return np.concatenate(ids)

  def split():
    ids = joined(evaluation)

    def starts(number):
      begin = np.flatnonzero(ids == BOS)[:number]
      most = max(length // 4, 1)
      return [Start(ids[i : i + most], ids[i : i + length]) for i in begin]

    return Split(windows.Consecutive(ids, length, latents), starts)

  return Sequences(
      vocabulary_size=lambda: midi.VOCABULARY,
      unit="event",
      sizes=lambda: np.ones(midi.VOCABULARY, np.int32),
      order=order,
      source=lambda: opened(train, config.data_dir),
      steps=lambda: [random_windows(length, latents)],
      counted=lambda: joined(train),
      splits={evaluation: split},
      read=lambda raw: midi.read(raw) if raw else np.array([BOS], np.int32),
      shown=played,
      together=music_of,
      endings=(".mid", ".wav"),
      kept=max(length // 4, 1),
  )


def texts_of(samples: Samples, shown: Callable[[np.ndarray], str]):
  """Texts with "▸" at the end of the prompt."""
  texts = []
  for start, ids in samples:
    given, whole = shown(start.ids), shown(ids)
    texts.append(f"{given} ▸ {whole[len(given) :]}")
  return {"samples": "\n\n---\n\n".join(texts)}


def copied(samples: Samples):
  """The fraction of correct elements in each copy."""
  lines = []
  for i, (start, ids) in enumerate(samples):
    begin = len(start.ids)
    whole = start.original[begin:]
    right = np.zeros(len(whole), bool)
    drawn = ids[begin : len(start.original)]
    right[: len(drawn)] = drawn == whole[: len(drawn)]
    lines.append(f"* sequence {i}: {right.sum()} of {len(right)} are right")
  return {"samples": "\n".join(lines)}


def images_of(samples: Samples, shown: Callable[[np.ndarray], np.ndarray]):
  """Images of the data above images that were continued from a part of them."""
  columns = [
      np.concatenate([shown(start.original), shown(ids)])
      for start, ids in samples
  ]
  whole = np.concatenate(columns, axis=1)
  times = max(64 * len(columns) // whole.shape[1], 1)  # 64 pixels, at least.
  return {"samples": whole.repeat(times, axis=0).repeat(times, axis=1)}


def music_of(samples: Samples):
  """Piano rolls of the data above continued ones, and their sound."""
  rolls = [
      (ids, len(start.ids))
      for start, drawn in samples
      for ids in (start.original, drawn)
  ]
  seconds = [midi.duration(midi.decode(ids)) for ids, _ in rolls]
  columns = max(int(max(seconds) * midi.COLUMNS), 1)
  rows = [midi.roll(ids, given, columns) for ids, given in rolls]
  line = np.full([4, columns, 3], 90, np.uint8)
  found: dict[str, Drawn] = {
      f"sample_{i + 1}": played(ids) for i, (_, ids) in enumerate(samples)
  }
  lined = [part for row in rows for part in (row, line)]
  return {**found, "samples": np.concatenate(lined[:-1])}


def played(ids: np.ndarray) -> Sound:
  """Events of music as sound, with their MIDI file."""
  return Sound(midi.played(ids, RATE), RATE, midi.content(ids))


def _number(text: str) -> int:
  """An integer from a text.

  Raises:
    UserError: if it is none.
  """
  try:
    return int(text or 0)
  except ValueError as error:
    raise UserError(
        f"{text!r}: the number of a sequence was expected"
    ) from error


def random_windows(length: int, latents: int, least: int = 0) -> pipeline.Step:
  """A step: a window of "ids" that ends anywhere after the `least`."""
  return functools.partial(
      windows.random, length=length, latents=latents, least=least
  )


DATA = (text, copies, images, music)


def lengths(config) -> tuple[int, int]:
  """Numbers of inputs and of predictions of a config's model."""
  return config.model.max_length, config.model.encoder.num_latents


def network(config) -> Network:
  """The model: from the newest ids to logits of the element after each.

  "tokens", [B, M + 1], are a window, padded at its front; the last one is not
  read. Logits are of the newest N of the others, [B, N, vocabulary].
  """
  length, latents = lengths(config)
  model = functools.partial(perceiver_ar, **config.model)

  def forward(batch, is_training):
    ids = batch["tokens"][:, :-1]
    return {"logits": model(ids, *places(ids), latents, is_training)}

  return Network(
      {"tokens": jax.ShapeDtypeStruct((length + 1,), jnp.int32)}, forward
  )


def places(ids):
  """A mask of padding, and positions relative to the first element."""
  seen = ids != PAD
  first = jnp.argmax(seen, axis=1)[:, None]
  return seen, jnp.maximum(jnp.arange(ids.shape[1]) - first, 0)


def rotary(pos, channels: int, /, fraction: float = 0.5, longest: float = 8192):
  """Rotary positions of queries and keys."""
  del channels
  return None, position.Rotary(pos, pos, fraction, longest)


def sinusoidal(
    pos,
    channels: int,
    /,
    longest: float = 10_000.0,
    shortest: float = 1.0,
):
  """Sines and cosines are added to the embeddings."""
  return position.sinusoids(pos, channels, longest, shortest), None


def learned(pos, channels: int, /, number: int):
  """A learned vector for each position is added to the embeddings."""
  return LearnedArray(number, channels, name="positions")()[0][pos], None


def on_grid(pos, channels: int, /, dims: Sequence[int]):
  """A learned vector for each index along each axis of a grid.

  An id stands where what it is stands; the first id, before the grid, at none.
  """
  cells = jnp.unravel_index(jnp.maximum(pos - 1, 0), tuple(dims))
  added = sum(
      LearnedArray(size + 1, channels, name=f"positions_{axis}")()[0][
          jnp.where(pos > 0, cell + 1, 0)
      ]
      for axis, (size, cell) in enumerate(zip(dims, cells, strict=True))
  )
  return added, None


POSITIONS = (rotary, sinusoidal, learned, on_grid)


def positions(config) -> Positions:
  """Positions in sequences, or along each axis of a grid."""
  how = config.model.positions
  if how.name == "learned":
    of_elements = {"positions/array": (how.number,)}
    return Positions(of_elements, of_elements.keys())
  if how.name == "on_grid":
    return Positions(
        {f"positions_{i}/array": (n,) for i, n in enumerate(how.dims)}
    )
  return Positions()


def perceiver_ar(
    ids,
    seen,
    pos,
    latents,
    is_training,
    /,
    vocabulary_size: int,
    channels: int,
    max_length: int,
    positions: Annotated[Mapping[str, Any], POSITIONS],
    encoder: Annotated[Mapping[str, Any], CausalEncoder],
    processor: Annotated[Mapping[str, Any], CausalProcessor],
    deviation: float = 1.0,
):
  """Logits of the elements after the newest ids, [B, N, vocabulary_size].

  Args:
    ids: [B, M].
    seen: False where there is padding, [B, M]; None: there is none.
    pos: of each in its sequence, from 0, [B, M].
    latents: N, number of the newest elements.
    is_training: whether inputs are dropped.
    vocabulary_size: different ids.
    channels: channels of the input array.
    max_length: M, at most.
    positions: position encoding.
    encoder: settings of `CausalEncoder`.
    processor: settings of `CausalProcessor`.
    deviation: of the embeddings at their start, before it is cut at two of
      them.
  """
  del max_length
  w_init = hk.initializers.TruncatedNormal(deviation)
  x = hk.Embed(vocabulary_size, channels, w_init=w_init, name="tokens")(ids)
  added, rotary = choose(POSITIONS, positions)(pos, channels)
  if added is not None:
    x += added.astype(x.dtype)
  z = CausalEncoder(**encoder, name="encoder")(
      x, seen, rotary, latents, is_training
  )
  if rotary is not None:
    rotary = rotary.of_newest(latents, latents)
  newest = None if seen is None else seen[:, -latents:]
  z = CausalProcessor(**processor, name="processor")(z, newest, rotary)
  z = layer_norm(z, "norm")
  return hk.Linear(vocabulary_size, w_init=jnp.zeros, name="logits")(z)


SETTINGS = {
    "model": perceiver_ar,
    "data": DATA,
    "z_loss": float,
    "eval_examples": int,
    "samples": int,
}


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  data = choose(DATA, config.data)(config)
  bounds.check("samples", config.samples, 0)

  def train_data(shard):
    check_vocabulary(config, data)
    return pipeline.train(
        data.source(),
        data.steps(),
        batch_size=config.batch_size,
        seed=config.seed,
        shard=shard,
        num_workers=config.num_workers,
    )

  @functools.cache
  def guesses():
    size = config.model.vocabulary_size
    return ngrams.Ngrams.counted(data.counted(), size, data.order)

  opened = {name: functools.cache(split) for name, split in data.splits.items()}

  def eval_data(shard, name):
    check_vocabulary(config, data)
    every = opened[name]().windows
    number = min(len(every), config.eval_examples)
    return pipeline.evaluation(
        [every[i] for i in range(number)],
        [guesses()],
        batch_size=config.batch_size,
        shard=shard,
    )

  def sample(model, name):
    starts = opened[name]().starts(config.samples)
    given = [start.ids for start in starts]
    number = left_of(data, given, config.model.max_length // 2)
    drawn = drawn_by(config, model, given, number, data.choice, seed=0)
    pairs = zip(given, drawn, strict=True)
    whole = [np.concatenate(pair)[: data.size] for pair in pairs]
    return data.together([*zip(starts, whole, strict=True)])

  evals = {
      name: Eval(
          functools.partial(eval_data, name=name),
          lambda outputs, batch: measure(outputs, batch, data.sizes()),
          functools.partial(
              summarize,
              unit=data.unit,
              compared=lambda name=name: opened[name]().compared(),
          ),
          sample=functools.partial(sample, name=name)
          if config.samples
          else None,
      )
      for name in data.splits
  }
  return Task(
      {**model.example, "counted": jax.ShapeDtypeStruct((), jnp.int32)},
      model.forward,
      train_data,
      functools.partial(loss, z_loss=config.z_loss),
      evals,
  )


def check_vocabulary(config, data: Sequences) -> None:
  """Checks that the model's vocabulary has the size of the data's.

  Raises:
    ValueError: if not.
  """
  size, has = config.model.vocabulary_size, data.vocabulary_size()
  if size != has:
    raise ValueError(
        f"the data has {has} ids, and model.vocabulary_size is {size}"
    )


def predicted(batch, latents: int):
  """The targets, [B, N], and a mask of those that count."""
  tokens = batch["tokens"]
  targets, given = tokens[:, -latents:], tokens[:, -latents - 1 : -1]
  newest = jnp.arange(latents) >= latents - batch["counted"][:, None]
  return targets, (targets != PAD) & (given != PAD) & newest


def loss(outputs, batch, z_loss: float = 0.0):
  """Nats per element: the mean over an example, then over examples.

  Args:
    outputs: outputs of the network.
    batch: windows.
    z_loss: weight of the squared log of the softmax's sum, which is added.
  """
  logits = outputs["logits"].astype(jnp.float32)
  targets, counts = predicted(batch, logits.shape[1])
  nats = losses.token_cross_entropy(logits, targets)
  mean = lambda x: (
      (x * counts).sum(-1) / jnp.maximum(counts.sum(-1), 1)
  ).mean()
  value = mean(nats)
  right = mean(logits.argmax(-1) == targets)
  if not z_loss:
    return value, {"accuracy": right}
  sums = jnp.square(jax.nn.logsumexp(logits, axis=-1))
  return value + z_loss * mean(sums), {"accuracy": right, "nats": value}


def measure(outputs, batch, sizes):
  """Sums over the predictions of a window, of the model and of baselines."""
  logits = outputs["logits"].astype(jnp.float32)
  targets, counts = predicted(batch, logits.shape[1])
  right = logits.argmax(-1) == targets
  sums = {
      "elements": jnp.ones(targets.shape),
      "units": jnp.asarray(sizes)[targets],
      "nats": losses.token_cross_entropy(logits, targets),
      "right": right,
  }
  return {
      **{name: (x * counts).sum(-1) for name, x in sums.items()},
      "all_right": (right | ~counts).all(-1),
      **{name: batch[name] for name in ("sequence",) if name in batch},
      "unigram_nats": batch["unigram_nats"],
      "ngram_nats": batch["ngram_nats"],
  }


def summarize(measured, unit: str, compared: Callable[[], Mapping[str, float]]):
  """Bits per unit and perplexity, of the model and of baselines."""
  total = {name: x.sum(dtype=np.float64) for name, x in measured.items()}
  elements, units = max(total["elements"], 1), max(total["units"], 1)
  bits = lambda nats: float(nats / np.log(2) / units)
  nats = total["nats"] / elements
  exact = {}
  if "sequence" in measured:  # Several windows are of the same sequence.
    _, number = np.unique(measured["sequence"], return_inverse=True)
    wrong = np.bincount(number, np.logical_not(measured["all_right"]))
    exact["exact_sequences"] = float(np.mean(wrong == 0))
  return {
      f"bits_per_{unit}": bits(total["nats"]),
      f"unigram_bits_per_{unit}": bits(total["unigram_nats"]),
      f"ngram_bits_per_{unit}": bits(total["ngram_nats"]),
      "nats": float(nats),
      "perplexity": float(np.exp(min(nats, 700.0))),
      "accuracy": float(total["right"] / elements),
      "exact_match": float(np.mean(measured["all_right"])),
      **exact,
      **compared(),
  }


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Samples continuations of sequences; compiled once for each shape.

  In between two readings of the newest elements, what was computed of all those
  before is kept. A reading has half of the latents, and each further element
  one more, up to all; then the newest elements are read again. So a model
  predicts each element with no fewer than half of its latents, and just as if
  it were given the whole window again.
  """

  config: Any
  number: int  # Elements to draw.
  stop: int | None  # What a sequence ends with.
  never: tuple[int, ...] = ()  # Ids that are not drawn.
  keeps: bool = True  # False: all is computed again for each element.
  # Whether the model reads whole sequences: positions count from their first
  # element, and there are no more of them than it can read.
  reads_all: bool = False

  @property
  def latents(self) -> int:
    """Latents at the start of a cache."""
    most = lengths(self.config)[1]
    return most - most // 2

  @property
  def steps_per_fill(self) -> int:
    """Elements that are sampled from one cache."""
    if not self.keeps:
      return 1
    return lengths(self.config)[1] // 2 + 1

  @property
  def window(self) -> int:
    """Elements that a cache starts with."""
    length = lengths(self.config)[0]
    if self.reads_all:
      return length
    # With what is added until the next one, no more than in training.
    return length - self.steps_per_fill + 1

  def fill(self, batch):
    """Haiku code: "tokens", [B, window] -> logits, [B, V], and a state."""
    ids = batch["tokens"]
    seen, pos = places(ids)
    with remember() as kept:
      logits = self._model(ids, seen, pos, self.latents)
    more = self.steps_per_fill - 1
    kept = {name: memory.grown(more) for name, memory in kept.items()}
    return logits[:, -1], {"kept": kept, "next": pos[:, -1] + 1}

  def step(self, batch):
    """Haiku code: "ids", [B], and a "state" -> the same."""
    ids, state = batch["ids"][:, None], batch["state"]
    with remember(state["kept"]) as kept:
      logits = self._model(ids, None, state["next"][:, None], 1)
    return logits[:, -1], {"kept": kept, "next": state["next"] + 1}

  def _model(self, ids, seen, pos, latents):
    return perceiver_ar(ids, seen, pos, latents, False, **self.config.model)

  @functools.cached_property
  def nets(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`fill` and `step` of (model, batch)."""
    made = [
        state_lib.make_net(
            function,
            self.config.compute_dtype,
            self.config.attention,
            self.config.products,
        )
        for function in (self.fill, self.step)
    ]
    fill, step = (
        lambda model, batch, net=net: net.apply(*model, None, batch, False)[0]
        for net in made
    )
    return fill, step

  def __call__(
      self,
      model: state_lib.Model,
      prompts: Sequence[np.ndarray],
      choice: sampling.Choice,
      seed: int,
  ) -> np.ndarray:
    """Continuations of prompts, int32 [prompts, number].

    Args:
      model: the numbers in it.
      prompts: ids of each, of any lengths; the newest that fit are read.
      choice: sampling settings.
      seed: random seed.
    """
    window = np.stack(
        [windows.ending(x, len(x), self.window - 1) for x in prompts]
    )
    return np.asarray(
        self._compiled(model, window, jax.random.key(seed), choice)
    )

  @functools.cached_property
  def _compiled(self) -> Callable[..., Any]:
    fill, step = self.nets

    @jax.jit
    def draw(model, window, key, choice):
      return sampling.continued(
          lambda tokens: fill(model, {"tokens": tokens}),
          lambda ids, state: step(model, {"ids": ids, "state": state}),
          window,
          key,
          number=self.number,
          steps_per_fill=self.steps_per_fill,
          choice=choice,
          padding=PAD,
          stop=self.stop,
          never=self.never,
      )

    return draw


def generate(
    weights: Weights,
    prompts: Sequence[np.ndarray],
    number: int,
    choice: sampling.Choice = CHOICE,
    seed: int = 0,
) -> list[np.ndarray]:
  """Continuations of prompts as ids, up to the ends of sequences.

  Args:
    weights: weights of a model of this task.
    prompts: ids of each, at least one, of any lengths.
    number: maximum number of ids.
    choice: sampling settings.
    seed: random seed.

  Raises:
    UserError: if a setting is out of its bounds.
  """
  with user_errors("what is drawn"):
    bounds.check("number", number, 1)
    bounds.check("temperature", choice.temperature, 0)
    bounds.check("top_k", choice.top_k, 0)
    bounds.check("top_p", choice.top_p, 0, 1)
  return drawn_by(weights.config, weights.model, prompts, number, choice, seed)


def drawn_by(config, model, prompts, number, choice, seed) -> list[np.ndarray]:
  """`generate` for a config and the weights of its model."""
  # JSON can be a key of what is kept, and a config cannot.
  sampler = _sampler(config.to_json(), number)
  drawn = sampler(model, prompts, choice, seed)
  return [ids[: int((ids != PAD).sum())] for ids in drawn]


@functools.lru_cache(maxsize=8)
def _sampler(config: str, number: int) -> Sampler:
  """The sampler of a config, in JSON; it is compiled once."""
  made: Any = ConfigDict(json.loads(config))
  data = choose(DATA, made.data)(made)
  never = tuple(i for i in range(NUM_SPECIAL) if i not in (data.stop, PAD))
  # The last element of a sequence is never read.
  reads_all = data.size is not None and data.size <= lengths(made)[0] + 1
  return Sampler(made, number, data.stop, never, reads_all=reads_all)


def left_of(
    data: Sequences, given: Sequence[np.ndarray], otherwise: int
) -> int:
  """Number of elements after the shortest prompt in a whole sequence.

  Args:
    data: what the sequences are of.
    given: the starts.
    otherwise: the number, where sequences may have any.
  """
  if data.size is None:
    return otherwise
  return max(data.size - len(ids) for ids in given)


def prepare(config, raw, keep: int | None = None) -> Batch:
  """A sequence as a model's input: a window of its newest elements.

  Args:
    config: config of a model of this task.
    raw: a text; an image's file, or RGB uint8 [Y, X, 3]; a MIDI file; of the
      copy task, the number of a sequence. "": nothing.
    keep: its first so many ids alone; None: all.

  Returns:
    "tokens", [1, M + 1], and "counted", [1]: as in evaluation the model is
    given all but the last, and predicts the newest N.

  Raises:
    UserError, DataError, FileNotFoundError: if it is no such thing.
  """
  length, latents = lengths(config)
  ids = choose(DATA, config.data)(config).read(raw)[:keep]
  return {
      "tokens": windows.ending(ids, len(ids), length)[None],
      "counted": np.full([1], latents, np.int32),
  }


def predict(
    weights: Weights, raw, samples: int = 1, **options
) -> list[Continued]:
  """Continuations of an input, one for each sample.

  Args:
    weights: weights of a model of this task.
    raw: as of `prepare`; of an image its upper half is kept.
    samples: number of samples.
    **options: options of `continued`.
  """
  return continued(weights, [raw] * samples, **options)


def continued(
    weights: Weights,
    raws: Sequence[Any],
    number: int = 256,
    keep: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> list[Continued]:
  """Continuations of several inputs.

  Args:
    weights: weights of a model of this task.
    raws: as of `prepare`.
    number: maximum number of ids; images are always completed.
    keep: ids of each that are kept; None: all of a text, the upper half of an
      image, of music a quarter of what the model reads, half of a copy.
    seed: random seed.
    temperature: 0: the likeliest.
    top_k: the likeliest so many; 0: all.
    top_p: the fewest of the likeliest with so much probability together.

  Raises:
    UserError: if a setting is out of its bounds.
    UserError, DataError, FileNotFoundError: if a raw input is no such thing.
  """
  data = choose(DATA, weights.config.data)(weights.config)
  given = [data.read(raw)[: keep or data.kept] for raw in raws]
  number = left_of(data, given, number)
  choice = sampling.Choice(temperature, top_k, top_p)
  drawn = generate(weights, given, number, choice, seed)
  found = []
  for ids, more in zip(given, drawn, strict=True):
    whole = np.concatenate([ids, more])[: data.size].astype(np.int32)
    found.append(Continued(whole, len(ids), data.shown(whole)))
  return found


def generated(args, load):
  """Continues texts, upper halves of images, or pieces of music."""
  weights = load()
  endings = choose(DATA, weights.config.data)(weights.config).endings
  if args.output or ".txt" not in endings:
    commands.check_outputs(args.output, endings, args.inputs)
  options = {name: getattr(args, name) for name in OPTIONS}
  starts = [start for start in args.inputs or [""] for _ in range(args.samples)]
  shown: list[Any] = [x.shown for x in continued(weights, starts, **options)]
  for file in args.output:
    if file.suffix == ".png":
      commands.write_png(file, np.concatenate(shown, axis=1))
    elif file.suffix == ".txt":
      file.write_text("\n\n---\n\n".join(shown), encoding="utf-8")
    else:
      for i, sound in enumerate(shown):
        one = file if not i else file.with_stem(f"{file.stem}-{i + 1}")
        if file.suffix == ".mid":
          one.write_bytes(sound.midi)
        else:
          one.write_bytes(wav.encoded(sound.audio, sound.rate))
  for each in shown:
    if isinstance(each, str):
      print(each)


def add_arguments(parser):
  """Arguments of `generated`."""
  parser.add_argument(
      "inputs",
      nargs="*",
      metavar="START",
      help="a text; an image, of which the upper half is kept; a MIDI file;"
      " for the copy task, the index of a sequence; default: empty",
  )
  parser.add_argument(
      "--number", type=int, default=256, help="maximum number of generated ids"
  )
  parser.add_argument(
      "--keep", type=int, help="number of ids of each input to keep"
  )
  parser.add_argument(
      "--samples", type=int, default=1, help="samples per prompt"
  )
  parser.add_argument("--seed", type=int, default=0, help="random seed")
  parser.add_argument(
      "--temperature", type=float, default=1.0, help="0: the most likely id"
  )
  parser.add_argument(
      "--top_k", type=int, default=0, help="number of most likely ids; 0: all"
  )
  parser.add_argument(
      "--top_p",
      type=float,
      default=1.0,
      help="total probability of the most likely ids",
  )
  commands.add_output(parser)


PREDICTION = Prediction(
    "generate",
    "configs/autoregression.py:wikitext103",
    add_arguments,
    generated,
    prepare,
    predict,
)
