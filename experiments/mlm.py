"""Masked language modelling: Perceiver IO, and BERT to compare it with.

Source: Perceiver IO, §4.1 and appendix F.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
from typing import Annotated, Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import pipeline
from experiments.data.text import corpus
from experiments.data.text import masking
from experiments.data.text import tokenizers
from experiments.engine import settings
from experiments.engine.choose import choose
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from experiments.inference import commands
from experiments.inference import masks
from experiments.inference import subjects
from experiments.task import Batch
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Positions
from experiments.task import Prediction
from experiments.task import Subject
from experiments.task import Task
from experiments.task import Transformers
from perceiver import baselines
from perceiver import context
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import losses
from perceiver import outputs
from perceiver import Processor
from perceiver.weights import deepmind
from perceiver.weights import download
from perceiver.weights import huggingface

BASELINES = ("unigram", "left_bigram")  # See `masking.CountBaselines`.
COUNTED = 2000  # Training examples that the baselines are counted in.
_TILE = 32  # Output queries, to which an accelerator's are padded.
SHOWN = 4  # Texts that are filled in for people to look at.


def network(config) -> Network:
  """The model: from masked tokens to logits [B, M, vocabulary].

  Where a batch has "positions", [B, P], logits are of those alone.
  """
  predict = choose((perceiver_io, bert), config.model)

  def forward(batch):
    positions = batch.get("positions")
    return {"logits": predict(batch["tokens"], batch["mask"], positions)}

  length = config.model.tokens.max_length
  example = {
      "tokens": jax.ShapeDtypeStruct((length,), jnp.int32),
      "mask": jax.ShapeDtypeStruct((length,), jnp.bool_),  # False: padding.
  }
  return Network(example, forward)


def fitted(config, note):
  """The config with only one corpus, if its fraction is 1.

  `best` is a metric of a corpus that has a part.
  """
  parts, changes = config.corpora.to_dict(), {}
  whole = [name for name, part in parts.items() if part == 1]
  others = [name for name, part in parts.items() if part and name not in whole]
  if len(whole) == 1 and others:
    changes |= {f"corpora.{name}": 0.0 for name in others}
    note(f"reads only {whole[0]}: its fraction is 1")
  read = whole if len(whole) == 1 else [n for n, part in parts.items() if part]
  best, _, metric = config.best.partition("/")
  if metric and best not in read and read:
    changes["best"] = f"{read[0]}/{metric}"
    note(f"selects the best checkpoint by {changes['best']}")
  return settings.changed(config, changes)


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  tokens, most = config.model.tokens, config.max_masked
  # Building a model needs no files: they are opened with the data.
  tokenizer = functools.cache(lambda: open_tokenizer(config))

  def forward(batch):
    if not config.decode_all:
      return model.forward(batch)
    batch, positions = dict(batch), batch["positions"]
    del batch["positions"]
    logits = model.forward(batch)["logits"]
    return {"logits": jnp.take_along_axis(logits, positions[..., None], 1)}

  def prepare():
    length = tokens.max_length
    return [
        functools.partial(
            masking.cropped,
            tokenizer=tokenizer(),
            length=length,
            is_framed=is_framed(config),
        ),
        functools.partial(masking.masked, tokenizer=tokenizer(), most=most),
    ]

  notes: list[str] = []
  read = functools.partial(
      corpus.open_documents, data_dir=config.data_dir, note=notes.append
  )
  shares = {n: share for n, share in config.corpora.items() if share}

  def train_data(shard, num_workers=config.num_workers):
    texts = [masking.in_tens(read(n, "train"), config.seed) for n in shares]
    return pipeline.train(
        grain.MapDataset.mix(texts, list(shares.values())),
        prepare(),
        batch_size=config.batch_size,
        seed=config.seed,
        shard=shard,
        num_workers=num_workers,
    )

  @functools.cache
  def count_baselines():
    batches = train_data(pipeline.Shard(), num_workers=0)
    batches = itertools.islice(batches, -(-COUNTED // config.batch_size))
    return masking.CountBaselines.counted(batches, tokens.vocabulary_size)

  def eval_data(shard, name):
    texts = masking.in_tens(read(name, "validation"), seed=0)
    return pipeline.evaluation(
        texts[: config.eval_examples],
        [*prepare(), count_baselines()],
        batch_size=config.batch_size,
        shard=shard,
    )

  evals = {
      name: Eval(
          functools.partial(eval_data, name=name),
          lambda outputs, batch: measure(outputs, batch, tokenizer().num_bytes),
          summarize,
          lambda outputs, batch: filled_in(outputs, batch, tokenizer()),
          draw_rows=slice(SHOWN),
      )
      for name in shares
  }
  example = {
      **model.example,
      "positions": jax.ShapeDtypeStruct((most,), jnp.int32),
      "targets": jax.ShapeDtypeStruct((most,), jnp.int32),
      "loss_mask": jax.ShapeDtypeStruct((most,), jnp.float32),
  }
  return Task(
      example, forward, train_data, loss, evals, lambda: dict.fromkeys(notes)
  )


def positions(config) -> Positions:
  """Positions of the text and of the queries."""
  length = (config.model.tokens.max_length,)
  learned = {"positions/array": length, "queries/array": length}
  return Positions(learned, learned.keys())


def is_framed(config) -> bool:
  """Whether a language model reads texts between [CLS] and [SEP]: BERT does.

  Perceiver IO reads the text alone; its source: appendix F.4.
  """
  return config.model.name == "bert"


def open_tokenizer(config) -> tokenizers.Tokenizer:
  """The tokenizer of a language model's config.

  Raises:
    ValueError: if it does not have as many ids as the model has embeddings.
  """
  tokenizer = choose(tokenizers.TOKENIZERS, config.tokenizer)()
  size = config.model.tokens.vocabulary_size
  if tokenizer.vocabulary_size != size:
    raise ValueError(
        f"the tokenizer {config.tokenizer.to_dict()} has"
        f" {tokenizer.vocabulary_size} ids, and model.tokens.vocabulary_size is"
        f" {size}"
    )
  return tokenizer


def perceiver_io(
    ids,
    mask,
    positions,
    /,
    tokens: Annotated[Mapping[str, Any], inputs.tokens],
    encoder: Annotated[Mapping[str, Any], Encoder],
    processor: Annotated[Mapping[str, Any], Processor],
    query_channels: int,
    decoder: Annotated[Mapping[str, Any], Decoder],
):
  """One learned query per position; logits are tied to the embeddings."""
  x, table = inputs.tokens(ids, **tokens)  # [B, M, C]
  z = Encoder(**encoder)(x, mask)  # [B, N, D]
  z = Processor(**processor)(z)
  query = LearnedArray(tokens["max_length"], query_channels, name="queries")
  if positions is None:
    query = query()[:, : x.shape[1]]
  else:
    padded = _in_whole_tiles(positions)
    query = query()[0][padded]  # [B, P, E]
    mask = jnp.take_along_axis(mask, padded, axis=1)
    mask &= jnp.arange(padded.shape[1]) < positions.shape[1]
  y = Decoder(**decoder)(query, z, mask)  # [B, O=M or P, E]
  logits = outputs.tied_tokens(y, table)
  return logits if positions is None else logits[:, : positions.shape[1]]


def _in_whole_tiles(positions):
  """Positions to decode, on an accelerator a multiple of what its tiles have.

  The published model decodes 409, an odd number, with which a GPU's products
  are not aligned. What is decoded at those that are added is thrown away.
  """
  if context.current_target().platform == "cpu":
    return positions
  return jnp.pad(positions, [(0, 0), (0, -positions.shape[1] % _TILE)])


def bert(
    ids,
    mask,
    positions,
    /,
    tokens: Annotated[Mapping[str, Any], inputs.tokens],
    transformer: Annotated[Mapping[str, Any], baselines.Transformer],
):
  """BERT (Devlin et al.) without segment embeddings.

  Texts stand between [CLS] and [SEP].
  """
  x, table = inputs.tokens(ids, **tokens)
  x = baselines.embedded(x)
  x = baselines.Transformer(**transformer)(x, mask)
  if positions is not None:
    x = jnp.take_along_axis(x, positions[..., None], axis=1)
  return outputs.tied_tokens(baselines.masked_token_features(x), table)


def loss(outputs, batch):
  """Nats per masked id: the mean over an example, then over examples.

  Examples of which nothing is masked count for nothing.
  """
  mask = batch["loss_mask"]
  nats = losses.token_cross_entropy(outputs["logits"], batch["targets"])
  masked = mask.sum(-1)
  each = (nats * mask).sum(-1) / jnp.maximum(masked, 1)
  right = outputs["logits"].argmax(-1) == batch["targets"]
  return each.sum() / jnp.maximum((masked > 0).sum(), 1), {
      "accuracy": (right * mask).sum() / jnp.maximum(masked.sum(), 1),
      "masked_fraction": masked.sum() / jnp.maximum(batch["mask"].sum(), 1),
  }


def measure(outputs, batch, num_bytes):
  """Sums over the masked ids of each example, for model and baselines."""
  logits, targets = outputs["logits"], batch["targets"]
  sums = {
      "masked": jnp.ones(targets.shape),
      "bytes": jnp.asarray(num_bytes)[targets],
      "nats": losses.token_cross_entropy(logits, targets),
      "right": logits.argmax(-1) == targets,
  }
  baseline_sums = [
      f"{name}_{what}" for name in BASELINES for what in ("nats", "right")
  ]
  return {
      **{name: (x * batch["loss_mask"]).sum(-1) for name, x in sums.items()},
      "ids": batch["mask"].sum(-1),
      **{name: batch[name] for name in baseline_sums},
  }


def summarize(measured):
  """Means over masked ids, bits per masked byte, and the masked fraction.

  Where nothing is masked, the share, 0, is all that can be said.
  """
  total = {name: x.sum(dtype=np.float64) for name, x in measured.items()}
  found = {"masked_fraction": float(total["masked"] / max(total["ids"], 1))}
  if not total["masked"]:
    return found
  found["nats"] = float(total["nats"] / total["masked"])
  for who in ("", *(f"{name}_" for name in BASELINES)):
    bits = total[f"{who}nats"] / np.log(2)
    found[f"{who}accuracy"] = float(total[f"{who}right"] / total["masked"])
    found[f"{who}bits_per_byte"] = float(bits / total["bytes"])
  return found


def filled_in(outputs, batch, tokenizer):
  """Texts as Markdown with **correct** and ~~wrong~~ predictions.

  What stood there follows a wrong one in brackets.
  """
  texts = []
  for i in np.flatnonzero(batch["real"]):
    masked = batch["loss_mask"][i] > 0
    positions = batch["positions"][i][masked]
    given = batch["tokens"][i][batch["mask"][i]]
    guess = outputs["logits"][i].argmax(-1)[masked]
    texts.append(
        marked(tokenizer, given, positions, batch["targets"][i][masked], guess)
    )
  return {"filled_in": "\n\n---\n\n".join(texts)}


def marked(tokenizer, given, positions, targets, guess):
  """One text as Markdown with predictions of masked words."""
  whole = np.array(given)
  whole[positions] = targets

  def shown(start, ids):
    # A token is written with its space only after what stands before it.
    before = tokenizer.decode(whole[:start])
    both = tokenizer.decode(np.concatenate([whole[:start], ids]))
    return both[len(before) :]

  # Neighbouring masked ids are one word, or several without space between.
  starts = np.flatnonzero(np.diff(positions, prepend=-2) > 1)
  parts, end = [], 0
  for run in np.split(np.arange(len(positions)), starts[1:]):
    if not len(run):  # Nothing is masked.
      continue
    first = positions[run[0]]
    parts.append(shown(end, whole[end:first]))
    word, said = (shown(first, x[run]) for x in (targets, guess))
    space = word[: len(word) - len(word.lstrip())]
    word, said = word.strip(), said.strip()
    is_right = np.array_equal(targets[run], guess[run])
    parts.append(space)
    parts.append(f"**{word}**" if is_right else f"~~{said}~~ [{word}]")
    end = positions[run[-1]] + 1
  return "".join([*parts, shown(end, whole[end:])])


SETTINGS = {
    "model": (perceiver_io, bert),
    "tokenizer": tokenizers.TOKENIZERS,
    "corpora.*": float,
}


def prepare(config, text, parts=()) -> Batch:
  """A text as the model's input: "tokens" and "mask", [1, length].

  Args:
    config: config of a masked language model.
    text: as of `fill_mask`, though nothing need be masked.
    parts: as of `fill_mask`.

  Raises:
    UserError: if the text is too long.
  """
  tokenizer = open_tokenizer(config)
  return _padded(config, masks.masked(text, parts, tokenizer, False)[0])


def _padded(config, ids) -> Batch:
  length, frame = config.model.tokens.max_length, is_framed(config)
  try:
    padded, mask = tokenizers.padded(
        tokenizers.framed(ids) if frame else ids, length
    )
  except ValueError as error:
    room = length - tokenizers.FRAME * frame
    raise UserError(
        f"the text has {len(ids)} {_unit(config)}s, the model reads {room}"
    ) from error
  return {"tokens": padded[None], "mask": mask[None]}


def _unit(config) -> str:
  """What a token of the model is, for people."""
  reads_bytes = config.tokenizer.name == tokenizers.utf8.__name__
  return "byte" if reads_bytes else "token"


def fill_mask(
    weights: Weights, text: str, parts: Sequence[str] = ()
) -> masks.Filled:
  """A text with its masked tokens filled in.

  A model of bytes guesses better if what is masked begins with the space before
  a word.

  Args:
    weights: a masked language model.
    text: `[MASK]` is a masked token (of a model of bytes: a byte) in it,
      `[MASK:9]` are nine of them.
    parts: parts of the text that are masked as well, wherever they are.

  Raises:
    UserError: if nothing is masked, or the text is too long.
  """
  tokenizer = open_tokenizer(weights.config)
  ids, spans = masks.masked(text, parts, tokenizer)
  frame = is_framed(weights.config)
  batch = _padded(weights.config, ids)
  logits = weights.outputs(batch)["logits"][0].astype(jnp.float32)
  logits = logits[int(frame) :]  # That of [CLS] stands for no token.
  log_probs = np.asarray(jax.nn.log_softmax(logits), np.float64)
  best = functools.partial(masks.k_best, k=commands.TOP, tokenizer=tokenizer)
  filled = []
  for span in spans:
    inside = log_probs[span]
    ids[span] = inside.argmax(-1)
    by_token = [best(row[None]) for row in inside]
    filled.append(masks.Span(span.start, by_token, best(inside)))
  return masks.Filled(tokenizer.decode(ids), filled)


def fill_masks(args, load):
  """Prints texts with filled masks, and other candidates."""
  model = load()
  unit = _unit(model.config)
  for text in args.inputs:
    filled = model.predict(text, parts=args.mask)
    print(filled.text)
    for span in filled.spans:
      end = span.start + len(span.by_token) - 1
      several = end > span.start
      where = f"s {span.start} to {end}" if several else f" {end}"
      print(f"  {unit}{where}:")
      for guess in span.strings:
        print(f"    {commands.percent(guess.probability):>10}  '{guess}'")
      if not several:
        continue  # The candidates of the span are those of its element.
      for i, guesses in enumerate(span.by_token, span.start):
        each = (f"'{x}' {commands.percent(x.probability)}" for x in guesses)
        print(f"    {unit} {i}: {', '.join(each)}")


def add_arguments(parser):
  """Arguments of `fill_masks`."""
  parser.add_argument(
      "inputs",
      nargs="+",
      metavar="TEXT",
      help="[MASK] masks one token or byte, [MASK:9] nine",
  )
  parser.add_argument(
      "--mask",
      action="append",
      default=[],
      help="mask all occurrences; for bytes, include the space before a word",
  )


PREDICTION = Prediction(
    "fill-mask",
    "configs/mlm.py:bytes",
    add_arguments,
    fill_masks,
    prepare,
    fill_mask,
)


def attention_subjects(config, inputs) -> Iterator[Subject]:
  """Texts, or files with one."""
  length = config.model.tokens.max_length
  for name, ids, batch in subjects.text_subjects(
      config, inputs, length, is_framed(config)
  ):
    layouts = {"text": (length,)}, {"text": (len(ids),)}
    yield Subject(name, batch, *layouts, ids=ids)


PUBLISHED = {
    "language": download.official(
        "language_perceiver_io_bytes.pickle", "mlm:bytes"
    ),
    "huggingface_language": download.of_huggingface(
        "language-perceiver", "mlm:bytes"
    ),
}
OFFICIAL = deepmind.places("mlm")


def transformers(config) -> Transformers:
  """The class for masked language models."""
  tokens = config.model.tokens
  return Transformers(
      "PerceiverForMaskedLM",
      huggingface.places("mlm"),
      {
          "model.name": "perceiver_io",
          "model.decoder.num_heads": 8,
          "model.decoder.qk_channels": 256,
          "model.decoder.use_query_residual": False,
      },
      {
          "vocab_size": tokens.vocabulary_size,
          "max_position_embeddings": tokens.max_length,
      },
      (
          "transformers lets padded positions read the latents; their logits"
          " differ, no others do",
      ),
  )
