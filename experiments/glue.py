"""GLUE, by single-task or multitask models; and classification of any texts.

Source: Perceiver IO, §4.1 and appendix F.4; Table 2 for several tasks at once.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Annotated, Any, Literal

import grain
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from sklearn import metrics

from experiments.data import pipeline
from experiments.data.text import custom as custom_texts
from experiments.data.text import glue
from experiments.data.text import glue_files
from experiments.data.text import tokenizers
from experiments.data.text.custom import Custom
from experiments.engine import figures
from experiments.engine import settings
from experiments.engine.choose import choose
from experiments.engine.errors import UserError
from experiments.engine.settings import Optional
from experiments.engine.weights import Weights
from experiments.inference import commands
from experiments.inference import subjects
from experiments.mlm import is_framed
from experiments.mlm import open_tokenizer
from experiments.task import Batch
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Positions
from experiments.task import Prediction
from experiments.task import Subject
from experiments.task import Task
from experiments.task import Transformers
from perceiver import baselines
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import losses
from perceiver import Processor
from perceiver.weights import huggingface

# What the paper's tables call an evaluated split of a task.
SPLITS = {
    "validation": "",
    "validation_matched": "_m",
    "validation_mismatched": "_mm",
}
EPOCHS = 10  # Over a folder of texts, by default.


def network(config) -> Network:
  """The model: from text to logits of every task, {task: [B, classes]}."""
  read_text = choose((perceiver_io, bert), config.model)
  tasks, custom = config.tasks.to_dict(), custom_of(config)

  def forward(batch):
    y = read_text(batch, len(tasks))  # [B, 1 or a task each, E]
    said = {
        task: head(y[:, i % y.shape[1]], classes, config.hidden_head, task)
        for i, (task, classes) in enumerate(tasks.items())
    }
    if custom and custom.kind == "score":  # In the units of its labels.
      scaled = {k: x.astype(jnp.float32) for k, x in said.items()}
      said = {k: custom.mean + custom.deviation * x for k, x in scaled.items()}
    return said

  length = config.max_length
  example = {
      "tokens": jax.ShapeDtypeStruct((length,), jnp.int32),
      "mask": jax.ShapeDtypeStruct((length,), jnp.bool_),  # False: padding.
      "task": jax.ShapeDtypeStruct((), jnp.int32),  # Which of `tasks`.
  }
  return Network(example, forward)


def custom_of(config) -> Custom | None:
  """The settings of a folder of texts; None: the tasks are GLUE's."""
  custom = config.get("custom")  # Older files have no such key.
  return Custom(**custom) if custom else None


def class_names(config, name) -> Sequence[str] | None:
  """The names of a task's classes; None: it has scores."""
  custom = custom_of(config)
  if custom is None:
    return glue.TASKS[name].labels
  return custom.class_names if custom.kind == "class" else None


def fitted(config, note):
  """Completes the settings of a folder of texts: columns, classes, splits.

  Where `train_examples` is 0, training is `EPOCHS` times over all of them.

  Args:
    config: complete.
    note: takes a line for people.

  Raises:
    FileNotFoundError, DataError: as `custom.fitted`.
  """
  custom = custom_of(config)
  if custom is None:
    return config
  custom, count = custom_texts.fitted(custom, note)
  changes: dict[str, Any] = {
      "custom": dataclasses.asdict(custom),
      "tasks": {"custom": len(custom.class_names) or 1},
  }
  if not config.train_examples:
    changes["train_examples"] = EPOCHS * count
    note(f"{EPOCHS} epochs of {count:,} examples: train_examples")
  return settings.changed(config, changes)


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  names, custom = list(config.tasks), custom_of(config)
  notes: list[str] = []
  tokenizer = functools.cache(lambda: open_tokenizer(config))
  read = functools.partial(
      prepared,
      data_dir=config.data_dir,
      length=config.max_length,
      notes=notes,
      frame=is_framed(config),
      custom=custom,
  )

  @functools.cache
  def examples(name, split):
    return read(name, split, names.index(name), tokenizer=tokenizer())

  def train_data(shard):
    parts = [examples(name, "train") for name in names]
    weights = [len(part) ** float(config.size_power) for part in parts]
    shuffled = [
        grain.MapDataset.source(part).seed(config.seed + i).shuffle().repeat()
        for i, part in enumerate(parts)
    ]
    return pipeline.train(
        grain.MapDataset.mix(shuffled, weights),
        [],
        batch_size=config.batch_size,
        seed=config.seed,
        shard=shard,
        num_workers=config.num_workers,
    )

  if custom:
    splits = [("custom", "validation")]
  else:
    splits = [(n, s) for n in names for s in glue.TASKS[n].evaluated]
  scores = [name for name in names if class_names(config, name) is None]
  constants = functools.cache(
      lambda name: glue.constant_baseline(
          [e["label"] for e in examples(name, "train")], name in scores
      )
  )

  def dev_data(shard):
    every = [
        {
            **example,
            "split": np.int32(i),
            "constant": np.float32(constants(name)),
        }
        for i, (name, split) in enumerate(splits)
        for example in examples(name, split)
    ]
    return pipeline.evaluation(
        every,
        [],
        batch_size=config.batch_size,
        shard=shard,
        scattered=True,  # Files may be in the order of their classes.
    )

  deviation = custom.deviation if custom else 1.0
  dev = Eval(
      dev_data,
      functools.partial(measure, names=names, deviation=deviation),
      functools.partial(summarize, splits=splits, scores=scores),
      lambda outputs, batch: draw(
          outputs,
          batch,
          {name: class_names(config, name) for name in names},
          tokenizer().decode,
      ),
      draw_all=lambda measured: confusions(
          measured, splits, {name: class_names(config, name) for name in names}
      ),
  )
  example = {**model.example, "label": jax.ShapeDtypeStruct((), jnp.float32)}
  loss_of = functools.partial(loss, names=names, deviation=deviation)
  return Task(
      example, model.forward, train_data, loss_of, {"dev": dev}, lambda: notes
  )


def prepared(
    name,
    split,
    index,
    data_dir,
    tokenizer,
    length,
    notes,
    frame,
    custom=None,
    given=None,
):
  """The examples of a split, or given ones, prepared for the model.

  Two texts are joined by a separator; what is too long is cut as
  `data.glue.joined` says, and how much that was goes into `notes`. With a
  `frame`, which BERT's texts have, all stands between [CLS] and [SEP].
  """
  found, cut = [], []
  room = length - tokenizers.FRAME * frame
  if custom:
    rows, is_pair = (
        given or custom_texts.read(custom, split),
        custom.has_two_texts,
    )
  else:
    rows = given or glue.read(name, split, data_dir, notes.append)
    is_pair = glue.TASKS[name].has_two_sentences
  for example in rows:
    first, second = (
        tokenizer.encode(example[key].encode()) for key in ("first", "second")
    )
    if not is_pair:
      second = None
    ids, lost = glue.joined(first, second, room, tokenizers.SEP)
    if frame:
      ids = tokenizers.framed(ids)
    tokens, mask = tokenizers.padded(ids, length)
    cut.append(lost)
    found.append(
        {
            "tokens": tokens,
            "mask": mask,
            "task": np.int32(index),
            "label": np.float32(example["label"]),
            **{k: np.int32(x) for k, x in example.items() if k == "index"},
        }
    )
  if any(cut):
    notes.append(
        f"{name}, {split}: {np.count_nonzero(cut)} of {len(cut)} examples are"
        f" longer than {room} ids and lose {sum(cut)} of them"
    )
  return found


def test_answers(
    read: Weights, data_dir: str, note: Callable[[str], None]
) -> Iterator[tuple[str, list[tuple[int, str]]]]:
  """The predictions of a model for the test sets of its tasks.

  Args:
    read: the model.
    data_dir: the folder with all data sets.
    note: called with a line when a person should know something.

  Yields:
    the server's name of a file; the index of each example, and the answer.

  Raises:
    FileNotFoundError: if a test set is not there; says how to get it.
    DataError: for a file with anything but what it should have.
  """
  config, notes = read.config, []
  names, tokenizer = list(config.tasks), open_tokenizer(config)
  say = jax.jit(functools.partial(answers, names=names))
  for i, name in enumerate(names):
    task = glue.TASKS[name]
    for split, (file, count) in task.tests.items():
      examples = prepared(
          name,
          split,
          i,
          data_dir,
          tokenizer,
          config.max_length,
          notes,
          is_framed(config),
      )
      if len(examples) != count:
        notes.append(
            f"{file} has {len(examples):,} examples; GLUE's server has"
            f" {count:,}"
        )
      found = []
      for batch in pipeline.evaluation(
          examples, [], batch_size=config.batch_size, shard=pipeline.Shard()
      ):
        real = batch.pop("real")
        _, said = say(read.outputs(batch), batch)
        for index, x in zip(
            batch["index"][real], np.asarray(said)[real], strict=True
        ):
          found.append((int(index), glue_files.spelled(float(x), task)))
      for line in notes:
        note(line)
      notes.clear()
      yield file, found


def answers(outputs, batch, names, deviation=1.0):
  """The loss and the prediction of each example's own task, [B] each.

  The loss of scores is counted in so large units.
  """
  label, own = batch["label"], batch["task"]
  nats, said = jnp.zeros(label.shape), jnp.zeros(label.shape)
  for i, name in enumerate(names):
    logits = outputs[name].astype(jnp.float32)
    if logits.shape[-1] == 1:  # A score.
      prediction = logits[:, 0]
      cost = jnp.square((prediction - label) / deviation)
    else:
      prediction = logits.argmax(-1).astype(jnp.float32)
      # Another task's class may be none here; its cost is not taken.
      classes = jnp.minimum(label.astype(jnp.int32), logits.shape[-1] - 1)
      targets = losses.soft_labels(classes, logits.shape[-1])
      cost = losses.cross_entropy(logits, targets)
    nats = jnp.where(own == i, cost, nats)
    said = jnp.where(own == i, prediction, said)
  return nats, said


def loss(outputs, batch, names, deviation=1.0):
  """Cross-entropy of classes, squared error of scores."""
  return answers(outputs, batch, names, deviation)[0].mean(), {}


def measure(outputs, batch, names, deviation=1.0):
  """Predictions and targets."""
  nats, said = answers(outputs, batch, names, deviation)
  given = {key: batch[key] for key in ("label", "split", "constant")}
  return {"loss": nats, "said": said, **given}


def draw(outputs, batch, names, decode):
  """A few texts as Markdown, with **right** and ~~wrong~~ [label] classes.

  The probability of a predicted class stands behind it.

  Args:
    outputs: outputs of `network`.
    batch: "tokens", "mask", "task", "label", "real".
    names: task -> names of its classes; None: it has scores.
    decode: ids to a text.
  """
  lines = []
  for i in np.flatnonzero(batch["real"]):
    task = list(names)[batch["task"][i]]
    ids, logits = batch["tokens"][i][batch["mask"][i]], outputs[task][i]
    pair = np.split(ids, np.flatnonzero(ids == tokenizers.SEP)[:1])
    text = " | ".join(" ".join(decode(part).split()) for part in pair)
    label, classes = batch["label"][i], names[task]
    if classes is None:
      said = f"{logits[0]:.3g} [{label:.3g}]"
    else:
      best = int(logits.argmax())
      chance = f"{np.asarray(jax.nn.softmax(logits))[best]:.0%}"
      said = f"**{classes[best]}** {chance}"
      if best != label:
        said = f"~~{classes[best]}~~ {chance} [{classes[int(label)]}]"
    lines.append(f"{said}: {text}")
  return {"predictions": "\n\n".join(lines)}


def confusions(measured, splits, names) -> dict[str, np.ndarray]:
  """A confusion matrix of each split of a task with classes.

  Args:
    measured: measurements of all examples, as of `measure`.
    splits: (task, split) by number.
    names: task -> names of its classes; None: it has scores.
  """
  drawn = {}
  for i, (name, split) in enumerate(splits):
    classes, of_split = names[name], measured["split"] == i
    if classes is not None:
      label, said = (
          measured[key][of_split].astype(int) for key in ("label", "said")
      )
      title = f"{name}{SPLITS[split]}"
      drawn[f"confusion-{title}"] = figures.matrix(label, said, classes, title)
  return drawn


def summarize(measured, splits, scores=("stsb",)):
  """The paper's metric of each task, from -100 or 0 to 100; and their average.

  Of a folder of texts it is accuracy, or of scores Pearson's correlation.

  "constant" is that of the best answer which does not depend on the text. The
  average counts MNLI, with its two validation sets, once.
  """
  found, averages = {"loss": float(measured["loss"].mean())}, {}
  for who in ("said", "constant"):
    by_task: dict[str, list[float]] = {}
    for i, (name, split) in enumerate(splits):
      of_split = measured["split"] == i
      said, label = measured[who][of_split], measured["label"][of_split]
      value = 100.0 * score(name, said, label, name in scores)
      by_task.setdefault(name, []).append(value)
      ending = "" if who == "said" else "_constant"
      found[f"{name}{SPLITS[split]}{ending}"] = value
    averages[who] = float(np.mean([np.mean(x) for x in by_task.values()]))
  found["average"] = averages["said"]
  return found | {"average_constant": averages["constant"]}


def score(name, said, label, is_score):
  """Pearson's correlation of scores, Matthews' for CoLA, otherwise accuracy."""
  if is_score:
    return pearson(said, label)
  if name == "cola":
    return matthews(said.astype(int), label.astype(int))
  return float((said == label).mean())


def matthews(said, label) -> float:
  """Matthews' correlation of classes, from -1 to 1, for any number of them.

  0 where it is undefined: if all predictions are the same, all labels are, or
  there are none.

  Raises:
    ValueError: if there are not as many predictions as labels.
  """
  # scikit-learn refuses none, and warns of a single class.
  if len(said) == len(label) and len(np.union1d(said, label)) < 2:
    return 0.0
  return float(metrics.matthews_corrcoef(label, said))


def pearson(said, label) -> float:
  """Pearson's correlation, from -1 to 1.

  0 where it is undefined: if either is constant, or has fewer than two numbers.

  Raises:
    ValueError: if they are not as long as each other.
  """
  both = np.stack([said, label]).astype(np.float64)
  # Rounding gives a constant another mean, and numpy a correlation.
  if both.shape[1] < 2 or not np.ptp(both, axis=1).all():
    return 0.0
  return float(np.corrcoef(*both)[0, 1])


def perceiver_io(
    batch,
    num_tasks,
    /,
    tokens: Annotated[Mapping[str, Any], inputs.tokens],
    encoder: Annotated[Mapping[str, Any], Encoder],
    processor: Annotated[Mapping[str, Any], Processor],
    query_channels: int,
    decoder: Annotated[Mapping[str, Any], Decoder],
    task_token: Literal["shared", "per_task"] | None = None,
):
  """The output array of a text.

  Args:
    batch: "tokens", "mask", "task".
    num_tasks: tasks of this model.
    tokens: settings of `inputs.tokens`.
    encoder: settings of `Encoder`.
    processor: settings of `Processor`.
    query_channels: E.
    decoder: settings of `Decoder`.
    task_token: None: a query per task, and nothing is added to the text.
      "shared": a learned element comes before the text, and the one query is
      that of its position. "per_task": a different one for each task.
  """
  x, _ = inputs.tokens(batch["tokens"], **tokens)
  mask = batch["mask"]
  if task_token is None:
    query = LearnedArray(num_tasks, query_channels, name="query")()
  else:
    query = LearnedArray(1, query_channels, name="query")()
    num_tokens = {"shared": 1, "per_task": num_tasks}[task_token]
    first = LearnedArray(num_tokens, x.shape[-1], name="task_tokens")(1)[0]
    first = first[batch["task"] % num_tokens][:, None]
    x = jnp.concatenate([first, x], axis=1)
    mask = jnp.pad(mask, [(0, 0), (1, 0)], constant_values=True)
  z = Encoder(**encoder)(x, mask)
  z = Processor(**processor)(z)
  return Decoder(**decoder)(query, z)


def bert(
    batch,
    num_tasks,
    /,
    tokens: Annotated[Mapping[str, Any], inputs.tokens],
    transformer: Annotated[Mapping[str, Any], baselines.Transformer],
):
  """The output of BERT at [CLS]."""
  del num_tasks
  x, _ = inputs.tokens(batch["tokens"], **tokens)
  x = baselines.embedded(x)
  return baselines.Transformer(**transformer)(x, batch["mask"])[:, :1]


def head(y, num_classes, has_hidden, name):
  """Two linear layers with a tanh between them, or the last one alone."""
  if has_hidden:
    y = jnp.tanh(hk.Linear(y.shape[-1], name=f"{name}_hidden")(y))
  return hk.Linear(num_classes, name=f"{name}_logits")(y)


def positions(config) -> Positions:
  """Positions of the text."""
  learned = {"positions/array": (config.model.tokens.max_length,)}
  return Positions(learned, learned.keys())


SETTINGS = {
    "model": (perceiver_io, bert),
    "tokenizer": tokenizers.TOKENIZERS,
    "tasks.*": int,
    "custom": Optional(Custom),
}


def has_two_texts(config, name) -> bool:
  """Whether the examples of a task are pairs."""
  custom = custom_of(config)
  return custom.has_two_texts if custom else glue.TASKS[name].has_two_sentences


def prepare(config, raw, task=None) -> Batch:
  """A text, or a pair (first, second), prepared as for evaluation.

  Args:
    config: config of the model.
    raw: the text or texts.
    task: one of the model's tasks; optional for a single-task model.

  Raises:
    UserError: if there is no such task, or it has other texts.
  """
  name = _task_of(config, task)
  texts = (raw,) if isinstance(raw, str) else tuple(raw)
  count = 2 if has_two_texts(config, name) else 1
  if len(texts) != count:
    raise UserError(f"task {name!r} takes {count} texts, not {len(texts)}")
  first, second = (*texts, "")[:2]
  (example,) = prepared(
      name,
      "given",
      list(config.tasks).index(name),
      data_dir=config.data_dir,
      tokenizer=open_tokenizer(config),
      length=config.max_length,
      notes=[],
      frame=is_framed(config),
      custom=custom_of(config),
      given=[{"first": first, "second": second, "label": 0}],
  )
  return {key: np.asarray(example[key])[None] for key in _READ}


_READ = ("tokens", "mask", "task")  # What a model reads of an example.


def _task_of(config, task) -> str:
  names = list(config.tasks)
  if task is None and len(names) > 1:
    raise UserError(f"--task is missing; tasks: {', '.join(names)}")
  if task is not None and task not in names:
    hint = settings.hint(task, names)
    raise UserError(
        f"--task={task}{hint}: the model's tasks are {', '.join(names)}"
    )
  return task or names[0]


def predict(weights, raw, task=None) -> list[commands.Scored] | float:
  """The classes of a text or a pair, the most likely first; or its score.

  Args:
    weights: the model.
    raw: a text, or a pair (first, second).
    task: one of the model's tasks; optional for a single-task model.
  """
  name = _task_of(weights.config, task)
  logits = weights.outputs(prepare(weights.config, raw, name))[name][0]
  names = class_names(weights.config, name)
  if names is None:
    return float(logits[0])
  return commands.one_of(logits, names)


def texts_of(config, words, task=None) -> list[Any]:
  """The words of a command line as texts, or as pairs if the task has pairs.

  Raises:
    UserError: if one of a pair is missing.
  """
  if not has_two_texts(config, _task_of(config, task)):
    return list(words)
  if len(words) % 2:
    raise UserError(
        f"the task takes pairs of texts, and {len(words)} are given"
    )
  return [tuple(words[i : i + 2]) for i in range(0, len(words), 2)]


def tell(args, load):
  """Prints the class of texts, or of pairs of texts, or their score."""
  model = load()
  for raw in texts_of(model.config, args.inputs, args.task):
    said = model.predict(raw, task=args.task)
    print(raw if isinstance(raw, str) else " | ".join(raw))
    if isinstance(said, float):
      print(f"    {said:.3f}")
    else:
      commands.print_classes(said)


def add_arguments(parser):
  """Arguments of `tell`."""
  parser.add_argument(
      "inputs",
      nargs="+",
      metavar="TEXT",
      help="texts; the two texts of a pair follow each other",
  )
  parser.add_argument("--task", help="task of a multitask model")


PREDICTION = Prediction(
    "classify-text",
    "configs/glue.py:cola",
    add_arguments,
    tell,
    prepare,
    predict,
    texts_of,
)


def attention_subjects(config, inputs) -> Iterator[Subject]:
  """Texts, or files with one, for the first of the tasks."""
  length = config.max_length
  layout, outputs = {"text": (length,)}, {"task": (len(config.tasks),)}
  if config.model.get("task_token"):
    layout, outputs = {"task": (), **layout}, {"query": ()}
  for name, ids, batch in subjects.text_subjects(
      config, inputs, length, is_framed(config)
  ):
    batch["task"] = np.zeros((), np.int32)
    yield Subject(name, batch, layout, outputs, ids=ids)


def transformers(config) -> Transformers:
  """The class for one task of classifying texts."""
  tokens, classes = config.model.tokens, [*config.tasks.values()]
  if len(classes) != 1:
    raise ValueError("its classifier of texts has one task")
  custom = custom_of(config)
  if custom and custom.kind == "score":
    raise ValueError("its classifier of texts has no scale of scores")
  names = custom.class_names if custom else ()
  return Transformers(
      "PerceiverForSequenceClassification",
      huggingface.places("glue"),
      {
          "model.name": "perceiver_io",
          "model.task_token": None,
          "hidden_head": False,
          "model.decoder.num_heads": 1,
          "model.decoder.qk_channels": None,
          "model.decoder.v_channels": None,
          "model.decoder.use_query_residual": True,
      },
      {
          "vocab_size": tokens.vocabulary_size,
          "max_position_embeddings": tokens.max_length,
          "num_labels": classes[0],
          **({"id2label": dict(enumerate(names))} if names else {}),
      },
  )
