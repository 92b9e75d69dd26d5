"""Classification of point clouds by the original Perceiver.

Source: Perceiver, §4.3.
"""

from collections.abc import Sequence
import dataclasses
import functools
import io
import os
import pathlib

import jax
import jax.numpy as jnp
from matplotlib import colors
import numpy as np

from experiments.data import errors
from experiments.data import pipeline
from experiments.data.builders import modelnet40
from experiments.data.images import folders
from experiments.data.points import meshes
from experiments.data.points import shapes
from experiments.engine import figures
from experiments.engine import settings
from experiments.engine.errors import UserError
from experiments.inference import commands
from experiments.task import Batch
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Prediction
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
OBJECTS = folders.Kind("objects", (".off", ".npy"))
SETTINGS = {
    "class_names": Sequence[str],
    "model.input": inputs.points,
    "model.encoder": Encoder,
    "model.processor": Processor,
    "model.reads": functools.partial(RepeatedEncoder, {}, {}),
}
JITTER = 0.01  # Paper, §4.3: a point is scaled by 0.99 to 1.01.


def network(config) -> Network:
  """The model: from points in [-1, 1]^3 to logits [B, classes]."""
  model = config.model
  encoder, processor = model.encoder.to_dict(), model.processor.to_dict()
  num_classes = len(classes_of(config))

  def forward(batch):
    x = inputs.points(batch["points"], **model.input)  # [B, M, C]
    z = RepeatedEncoder(encoder, processor, **model.reads)(x)  # [B, N, D]
    return {"logits": outputs.average_and_project(z, num_classes)}

  points = jax.ShapeDtypeStruct((config.num_points, 3), jnp.float32)
  return Network({"points": points}, forward)


def fitted(config, note):
  """With the names of the classes of `folder`.

  Args:
    config: complete.
    note: takes a line for people.

  Raises:
    UserError: if the folder is not there, or has fewer than two classes.
    DataError: if it has no objects.
  """
  if not config.folder:
    return config
  splits, classes = _about(config.folder)
  note(f"{config.folder}: {len(classes)} classes: {', '.join(classes)}")
  training, held_out = (len(_objects(config, i)) for i in range(2))
  note(
      f"{config.folder}: {training:,} objects to train on, {held_out:,} are"
      f" evaluated ({folders.parts(splits)[1]})"
  )
  return settings.changed(config, {"class_names": tuple(classes)})


def _about(folder: str) -> tuple[list[str], list[str]]:
  """The splits and classes of a folder of objects."""
  path = pathlib.Path(folder).expanduser()
  found = folders.about(path, kind=OBJECTS)
  if found is None or len(found[1]) < 2:
    raise UserError(
        f"--config.folder={folder} has {len(found[1]) if found else 0} folders"
        " of classes: two or more are expected, each with .off or .npy files"
    )
  return found


@dataclasses.dataclass(frozen=True)
class Objects:
  """Points of files with their labels, by index, as of `pipeline.source`."""

  files: folders.Files
  num_points: int  # That each must have.

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int):
    content, (label,), name = self.files[index]
    points = _points_in(content, name, self.num_points)
    return {"points": points, "label": np.int32(label)}


def _objects(config, which: int) -> Objects:
  """The objects of `folder` to train on, or with 1 those that are held out."""
  splits, _ = _about(config.folder)
  path = pathlib.Path(config.folder).expanduser()
  files = folders.find(path, folders.parts(splits)[which], kind=OBJECTS)
  assert files is not None  # It is there.
  return Objects(files, config.num_points)


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  classes = classes_of(config)

  def loss(outputs, batch):
    targets = losses.soft_labels(batch["label"], len(classes))
    return losses.cross_entropy(outputs["logits"], targets).mean(), {}

  def measure(outputs, batch):
    logits, label = outputs["logits"], batch["label"]
    targets = losses.soft_labels(label, len(classes))
    return {
        "top1": metrics.top_k(logits, label),
        "loss": losses.cross_entropy(logits, targets),
        "label": label,
        "predicted": logits.argmax(-1),
    }

  def read(split):
    if config.folder:
      return _objects(config, ("train", "test").index(split))
    return pipeline.source(config.dataset, split, data_dir=config.data_dir)

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
              draw_all=functools.partial(figures.confusion, names=classes),
          )
      },
  )


def classes_of(config) -> tuple[str, ...]:
  """The names of the classes, by label."""
  if config.get("class_names"):  # Older files have none.
    return tuple(config.class_names)
  if config.dataset not in CLASSES:
    raise KeyError(f"{config.dataset!r} is not one of {sorted(CLASSES)}")
  return CLASSES[config.dataset]


def some_points(example, rng, num_points: int):
  """The first points of an example, which are unordered, and the label."""
  points = rng.permutation(example["points"])[:num_points]
  return {"points": points, "label": np.int32(example["label"])}


def points_scaled(example, rng):
  """Points, each multiplied by a random factor near 1."""
  points = example["points"]
  factor = rng.uniform(1 - JITTER, 1 + JITTER, [len(points), 1])
  return {**example, "points": points * np.float32(factor)}


def normalized(example):
  """Points whose mean is 0 and whose largest coordinate is 1 or -1."""
  points = example["points"] - example["points"].mean(axis=0)
  return {**example, "points": points / np.abs(points).max()}


def prepare(config, raw) -> Batch:
  """An object prepared as for evaluation: "points" [1, num_points, 3].

  Args:
    config: config of the model.
    raw: an OFF file; or points on its surface, [P, 3] in any unit, in an array
      or in a .npy file.

  Raises:
    UserError: if it is neither, or has fewer points than the model reads.
  """
  name = commands.name_of(raw)
  with commands.using(name):
    if isinstance(raw, str | os.PathLike):
      points = _points_in(errors.content(raw), name, config.num_points)
    else:
      points = _checked(raw, name, config.num_points)
    example = {"points": points, "label": 0}
    some = functools.partial(some_points, num_points=config.num_points)
    (batch,) = pipeline.evaluation(
        [example], [some, normalized], batch_size=1, shard=pipeline.Shard()
    )
  return {"points": batch["points"]}


def _points_in(content: bytes, name: str, num_points: int) -> np.ndarray:
  """Points of a file, float32 [P, 3]; raises as `_checked`."""
  if name.endswith(".npy"):
    with errors.naming(name):
      return _checked(
          np.load(io.BytesIO(content), allow_pickle=False), name, num_points
      )
  return _checked(modelnet40.points_of(content, name), name, num_points)


def _checked(points, name: str, num_points: int) -> np.ndarray:
  """Points, float32 [P, 3].

  Raises:
    DataError: if they are something else, fewer than the model reads, or all
      the same.
  """
  with errors.naming(name):
    points = np.asarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 3:
      raise errors.DataError(
          f"{name}: points are [points, 3], not {list(points.shape)}"
      )
    if len(points) < num_points:
      raise errors.DataError(
          f"{name}: {len(points)} points, the model reads {num_points}"
      )
    is_near = np.abs(points).max() < meshes.FURTHEST  # NaN is not.
    if not (is_near and np.ptp(points, axis=0).any()):
      raise errors.DataError(
          f"{name}: expected points within {meshes.FURTHEST:g} that are not all"
          " the same"
      )
  return points


def predict(weights, raw) -> list[commands.Scored]:
  """The classes of an object, the most likely first; `raw` as in `prepare`."""
  logits = weights.outputs(prepare(weights.config, raw))["logits"][0]
  return commands.one_of(logits, classes_of(weights.config))


def classify(args, load):
  """Prints the most likely classes of OFF files or of points in .npy."""
  model = load()
  for file in args.inputs:
    classes = model.predict(file)
    print(file)
    commands.print_classes(classes)


def add_arguments(parser):
  """Arguments of `classify`."""
  parser.add_argument("inputs", nargs="+", metavar="FILE")


PREDICTION = Prediction(
    "classify-shape",
    "configs/modelnet40.py:perceiver",
    add_arguments,
    classify,
    prepare,
    predict,
)


def draw(outputs, batch, classes):
  """The first 16 point clouds with predictions, coloured by depth."""
  probabilities = np.asarray(jax.nn.softmax(outputs["logits"], axis=-1))
  predicted = probabilities.argmax(-1)
  scale = figures.Scale(
      "depth, away from the viewer (largest coordinate: 1)",
      colors.Normalize(-1.0, 1.0),
      "viridis_r",
  )

  def show(ax, i):
    x, y, z = batch["points"][i].T
    # From the front and a little from above; z is up.
    up, depth = 0.9 * z + 0.4 * y, 0.9 * y - 0.4 * z
    order = np.argsort(-depth)
    color = {"norm": scale.norm, "cmap": scale.colormap}
    ax.scatter(x[order], up[order], 3, depth[order], **color)
    ax.set_aspect("equal")
    label, said = batch["label"][i], predicted[i]
    names = classes[label], classes[said]
    figures.answer(ax, *names, float(probabilities[i, said]), said == label)

  title = "held-out object, label → prediction and its probability"
  count, size = batch["real"].sum(), (10.0, 10.0)
  return {"predictions": figures.sixteen(count, show, title, size, scale)}
