"""Classification of point clouds by the original Perceiver.

Source: Perceiver, §4.3.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import pipeline
from experiments.data.builders import modelnet40
from experiments.data.points import shapes
from experiments.engine import figures
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Task
from perceiver import Encoder
from perceiver import inputs
from perceiver import losses
from perceiver import metrics
from perceiver import outputs
from perceiver import Processor
from perceiver import RepeatedEncoder

CLASSES = {
    "modelnet40": modelnet40.CLASSES,
    "shapes": tuple(shapes.SHAPES),
}
SETTINGS = {
    "model.input": inputs.points,
    "model.encoder": Encoder,
    "model.processor": Processor,
    "model.reads": functools.partial(RepeatedEncoder, {}, {}),
}
JITTER = 0.01  # Paper, §4.3: a point is scaled by 0.99 to 1.01.


def network(config) -> Network:
  """Points in [-1, 1]^3 to logits [B, classes]."""
  model = config.model
  encoder, processor = model.encoder.to_dict(), model.processor.to_dict()
  num_classes = len(classes_of(config.dataset))

  def forward(batch):
    x = inputs.points(batch["points"], **model.input)  # [B, M, C]
    z = RepeatedEncoder(encoder, processor, **model.reads)(x)  # [B, N, D]
    return {"logits": outputs.average_and_project(z, num_classes)}

  points = jax.ShapeDtypeStruct((config.num_points, 3), jnp.float32)
  return Network({"points": points}, forward)


def task(config) -> Task:
  """Builds the task; the config goes no further than this function."""
  model = network(config)
  classes = classes_of(config.dataset)

  def loss(outputs, batch):
    targets = losses.soft_labels(batch["label"], len(classes))
    return losses.cross_entropy(outputs["logits"], targets).mean(), {}

  def measure(outputs, batch):
    logits, label = outputs["logits"], batch["label"]
    targets = losses.soft_labels(label, len(classes))
    return {
        "top1": metrics.top_k(logits, label),
        "loss": losses.cross_entropy(logits, targets),
    }

  read = functools.partial(
      pipeline.source, config.dataset, data_dir=config.data_dir
  )
  some = functools.partial(some_points, num_points=config.num_points)
  label = jax.ShapeDtypeStruct((), jnp.int32)
  return Task(
      example={**model.example, "label": label},
      train_data=lambda shard: pipeline.train(
          read("train"),
          [some, points_scaled, normalized],
          batch_size=config.batch_size,
          seed=config.seed,
          shard=shard,
          num_workers=config.num_workers,
      ),
      forward=model.forward,
      loss=loss,
      evals={
          "test": Eval(
              lambda shard: pipeline.evaluation(
                  read("test"),
                  [some, normalized],
                  batch_size=config.batch_size,
                  shard=shard,
              ),
              measure,
              draw=functools.partial(draw, classes=classes),
          )
      },
  )


def classes_of(dataset: str) -> tuple[str, ...]:
  """The names of a data set's classes, by label."""
  if dataset not in CLASSES:
    raise KeyError(f"{dataset!r} is not one of {sorted(CLASSES)}")
  return CLASSES[dataset]


def some_points(example, rng, num_points: int):
  """So many of the points, which are in no order; and the label."""
  points = rng.permutation(example["points"])[:num_points]
  return {"points": points, "label": np.int32(example["label"])}


def points_scaled(example, rng):
  """Each point a little nearer to the origin, or farther from it."""
  points = example["points"]
  factor = rng.uniform(1 - JITTER, 1 + JITTER, [len(points), 1])
  return {**example, "points": points * np.float32(factor)}


def normalized(example):
  """Points whose mean is 0 and whose largest coordinate is 1 or -1."""
  points = example["points"] - example["points"].mean(axis=0)
  return {**example, "points": points / np.abs(points).max()}


def draw(outputs, batch, classes):
  """The first 16 clouds with their predictions; what is near is bright."""
  predicted = outputs["logits"].argmax(-1)

  def show(ax, i):
    x, y, z = batch["points"][i].T
    # From the front and a little from above; z is up.
    up, depth = 0.9 * z + 0.4 * y, 0.9 * y - 0.4 * z
    order = np.argsort(-depth)
    ax.scatter(x[order], up[order], 3, depth[order], cmap="viridis_r")
    ax.set_aspect("equal")
    label = batch["label"][i]
    ax.set_title(
        f"{classes[label]} → {classes[predicted[i]]}",
        color="black" if predicted[i] == label else "red",
    )

  title = "held-out object → prediction"
  return {"predictions": figures.sixteen(batch["real"].sum(), show, title)}
