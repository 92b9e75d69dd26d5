"""Classification of handwritten digits: the quickstart's task."""

import functools

import cv2
import haiku as hk
import jax
import jax.numpy as jnp
import matplotlib
from matplotlib import colors
import numpy as np

from experiments.data import pipeline
from experiments.data.images import image as image_lib
from experiments.engine import figures
from experiments.engine.choose import choose
from experiments.inference import commands
from experiments.task import Batch
from experiments.task import Eval
from experiments.task import Prediction
from experiments.task import Task
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import losses
from perceiver import metrics
from perceiver import Processor
from perceiver import record_attention

INPUTS = (inputs.pixels, inputs.learned_positions)
NUM_CLASSES = 10
SETTINGS = {
    "model.input": INPUTS,
    "model.encoder": Encoder,
    "model.processor": Processor,
    "model.decoder": Decoder,
}


def task(config) -> Task:
  """Builds the task from its config."""
  model = config.model
  read_image = choose(INPUTS, model.input)

  def forward(batch):
    x = read_image(batch["image"])  # [B, M, C]
    with record_attention() as read:
      z = Encoder(**model.encoder)(x)  # [B, N, D]
    z = Processor(**model.processor)(z)
    query = LearnedArray(1, model.query_channels, name="query")()
    with record_attention() as written:
      y = Decoder(**model.decoder)(query, z)  # [B, O=1, E]
    logits = hk.Linear(NUM_CLASSES, name="logits")(y[:, 0])
    return {"logits": logits, "attention": _composed(read, written)}

  def loss(outputs, batch):
    targets = losses.soft_labels(batch["label"], NUM_CLASSES)
    return losses.cross_entropy(outputs["logits"], targets).mean(), {}

  def measure(outputs, batch):
    logits, label = outputs["logits"], batch["label"]
    targets = losses.soft_labels(label, NUM_CLASSES)
    return {
        "top1": metrics.top_k(logits, label),
        "loss": losses.cross_entropy(logits, targets),
        "label": label,
        "predicted": logits.argmax(-1),
    }

  shift = functools.partial(shifted, max_shift=config.max_shift)
  read = functools.partial(pipeline.source, "digits", data_dir=config.data_dir)
  return Task(
      example={
          "image": jax.ShapeDtypeStruct((28, 28, 1), jnp.float32),
          "label": jax.ShapeDtypeStruct((), jnp.int32),
      },
      train_data=lambda shard: pipeline.train(
          read("train"),
          [shift, scaled],
          batch_size=config.batch_size,
          seed=config.seed,
          shard=shard,
          num_workers=config.num_workers,
      ),
      forward=forward,
      loss=loss,
      evals={
          "test": Eval(
              lambda shard: pipeline.evaluation(
                  read("test"),
                  [scaled],
                  batch_size=config.batch_size,
                  shard=shard,
              ),
              measure,
              draw=draw,
              draw_all=functools.partial(
                  figures.confusion, names=figures.names_of((), NUM_CLASSES)
              ),
          )
      },
  )


def shifted(example, rng, max_shift: int):
  """The digit, randomly shifted by a number of pixels and padded with black."""
  dy, dx = rng.integers(-max_shift, max_shift + 1, size=2)
  image = np.pad(example["image"], [(max_shift, max_shift)] * 2 + [(0, 0)])
  y, x = max_shift + dy, max_shift + dx
  return {**example, "image": image[y : y + 28, x : x + 28]}


def scaled(example):
  """Pixels from [0, 255] to [-1, 1]."""
  return {
      "image": example["image"].astype(np.float32) / 127.5 - 1.0,
      "label": np.int32(example["label"]),
  }


def _composed(read, written):
  """Attention of each output to each pixel, [B, M], through the latents."""
  (of_inputs,), (of_latents,) = read.values(), written.values()
  of_inputs, of_latents = of_inputs.mean(1), of_latents.mean(1)  # Over heads.
  return jnp.einsum("bon,bnm->bom", of_latents, of_inputs)[:, 0]


def draw(outputs, batch):
  """The first 16 digits with predictions and attention."""
  probabilities = np.asarray(jax.nn.softmax(outputs["logits"], axis=-1))
  predicted = probabilities.argmax(-1)
  scale = figures.Scale(
      "attention (part of the digit's largest weight)",
      # Some pixels are read far more than others; the root shows both.
      colors.PowerNorm(0.5, 0.0, 1.0),
      "hot",
  )

  def show(ax, i):
    digit = (batch["image"][i, :, :, 0] + 1.0) / 2.0
    seen = outputs["attention"][i].reshape(digit.shape)
    gray, hot = (matplotlib.colormaps[name] for name in ("gray", "hot"))
    seen = hot(scale.norm(seen / seen.max()))
    ax.imshow(np.concatenate([gray(digit), seen], axis=1))
    label, said = batch["label"][i], predicted[i]
    chance = float(probabilities[i, said])
    figures.answer(ax, str(label), str(said), chance, said == label)

  title = (
      "held-out digit, label → prediction and its probability; beside it the"
      " decoder's attention"
  )
  count = batch["real"].sum()
  return {
      "predictions": figures.sixteen(count, show, title, (10.0, 6.0), scale)
  }


def prepare(config, raw) -> Batch:
  """A digit as evaluation reads it: white on black, 28 × 28.

  Args:
    config: config of the model.
    raw: a file of any size, or RGB uint8 [Y, X, 3]. If its border is lighter
      than its mean, as of ink on paper, it is inverted.

  Raises:
    UserError: if it is no image.
  """
  del config  # All models read the same.
  name = commands.name_of(raw)
  with commands.using(name):
    pixels = image_lib.decode(commands.encoded(raw), name)
  gray = pixels.astype(np.float32).mean(-1)
  border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
  if border.mean() > gray.mean():
    gray = 255 - gray
  small = cv2.resize(gray, (28, 28), interpolation=cv2.INTER_AREA)
  image = scaled({"image": small[..., None], "label": 0})["image"]
  return {"image": image[None]}


def predict(weights, raw) -> list[commands.Scored]:
  """All ten digits, likeliest first; `raw` is as of `prepare`."""
  logits = weights.outputs(prepare(weights.config, raw))["logits"][0]
  return commands.one_of(logits, figures.names_of((), NUM_CLASSES))


def add_arguments(parser):
  """What the command reads of its command line."""
  parser.add_argument("inputs", nargs="+", metavar="IMAGE")


def read_digits(args, load):
  """Prints the likeliest digits of images."""
  model = load()
  for file in args.inputs:
    print(file)
    commands.print_classes(model.predict(file))


PREDICTION = Prediction(
    "digit",
    "configs/quickstart.py",
    add_arguments,
    read_digits,
    prepare,
    predict,
)
