"""Classification of images: Perceiver IO and the original Perceiver.

Images have one label, or several (`config.max_labels`), as those that large
models are pretrained with.

Source: Perceiver IO, appendix A; Perceiver, §4.1; official ImageNet training.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import errors
from experiments.data import pipeline
from experiments.data.images import augment
from experiments.data.images import sets
from experiments.data.images.image import ImageError
from experiments.data.images.image import MEAN
from experiments.data.images.image import STD
from experiments.data.images.mixing import Mix
from experiments.engine import figures
from experiments.engine import settings
from experiments.engine import weights as weights_lib
from experiments.engine.choose import choose
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.settings import Optional
from experiments.inference import commands
from experiments.inference import subjects
from experiments.task import Batch
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Positions
from experiments.task import Prediction
from experiments.task import Subject
from experiments.task import Task
from experiments.task import Transformers
from perceiver import Encoder
from perceiver import inputs
from perceiver import losses
from perceiver import metrics
from perceiver import outputs
from perceiver import Processor
from perceiver import RepeatedEncoder
from perceiver.weights import deepmind
from perceiver.weights import download
from perceiver.weights import huggingface

INPUTS = (inputs.pixels, inputs.learned_positions, inputs.conv)
OUTPUTS = (outputs.class_query, outputs.average_and_project)


def network(config) -> Network:
  """The model: from normalised images to logits [B, classes]."""
  model = config.model
  encoder, processor = model.encoder.to_dict(), model.processor.to_dict()
  read_image = choose(INPUTS, model.input)
  classify = choose(OUTPUTS, model.output)

  def forward(batch, is_training):
    image = batch["image"]
    if config.permuted and model.input.name == "conv":
      image = permuted(image.reshape(image.shape[0], -1, 3)).reshape(
          image.shape
      )
    x = read_image(image, is_training=is_training)  # [B, M, C]
    if config.permuted and model.input.name != "conv":
      x = permuted(x)
    if model.reads.num_reads == 1:
      z = Encoder(**encoder)(x)  # [B, N, D]
      z = Processor(**processor)(z)
    else:
      z = RepeatedEncoder(encoder, processor, **model.reads)(x)
    return {"logits": classify(z, config.num_classes)}

  dims = tuple(config.image_size)
  return Network(
      {"image": jax.ShapeDtypeStruct((*dims, 3), jnp.float32)}, forward
  )


def positions(config) -> Positions:
  """Positions of pixels, or of a convolution's features."""
  dims, name = tuple(config.image_size), config.model.input.name
  if name == "learned_positions":
    return Positions({"positions/array": dims})
  if name == "conv":
    dims = subjects.conv_features(dims)
  return Positions(resolutions={"model.input.max_resolution": dims})


def permuted(x):
  """Elements [B, M, C] in a fixed random order.

  As in the paper, those with positions keep them; a convolution has no other
  way to know where a pixel was.

  Source: Perceiver, §4.1, permuted ImageNet.
  """
  return x[:, np.random.default_rng(0).permutation(x.shape[1])]


def _named(config):
  """The config with the names of classes, if the data set has them."""
  count = config.num_classes
  for name in dict.fromkeys([config.train.name, *_evaluated(config)]):
    with contextlib.suppress(FileNotFoundError, errors.DataError):
      every = sets.about(name, config.data_dir).classes
      chosen: Sequence[int] = config.classes or range(len(every))
      if len(chosen) == count and max(chosen) < len(every):
        names = tuple(every[number] for number in chosen)
        if not config.class_names:
          return settings.changed(config, {"class_names": names})
  return config


def _evaluated(config) -> list[str]:
  return [config.sets[row].name for row in config.evals]


def fitted(config, note):
  """The config with the classes that were found in the data.

  With `model_of_weights`, the model is that of `init.pretrained`. With
  `folder`, that folder is trained on and evaluated. With it or `count_classes`,
  the classes and held-out images of the training set are found. A set of `sets`
  without a name is that of training, and without a split its validation or test
  set; where there is none, a tenth is held out.

  Args:
    config: complete.
    note: takes a line for people.

  Raises:
    FileNotFoundError, DataError: if the data set is not there.
    UserError: if nothing can be held out, or the weights do not say of what
      model they are.
  """
  if not (config.folder or config.train.name):
    raise UserError(
        "--config.folder=FOLDER is missing: a folder with a folder of images"
        " for each class"
    )
  if config.model_of_weights:
    config = _with_model_of_weights(config, note)
  if config.folder:
    config = _of_folder(config)
  if not config.count_classes:
    return _named(config)
  name = config.train.name
  try:
    about = sets.about(name, config.data_dir)
  except FileNotFoundError as error:
    if not config.folder:
      raise
    place = pathlib.Path(os.path.expanduser(config.folder))
    found = "it is a file" if place.exists() else "it is not there"
    found = "no folders are in it" if place.is_dir() else found
    raise UserError(
        f"--config.folder={config.folder}: expected a folder, or a zip file,"
        f" with a folder of images for each class: {found}"
    ) from error
  chosen: Sequence[int] = config.classes or range(len(about.classes))
  classes = [about.classes[number] for number in chosen]
  if len(classes) == 1:
    raise UserError(
        f"{name} has one class, {', '.join(classes)}: folders of images"
        " for two or more classes are needed"
    )
  note(f"{name}: {len(classes)} classes: {', '.join(classes)}")
  changes: dict[str, Any] = {
      "num_classes": len(classes),
      "class_names": tuple(classes),
  }
  for row in config.evals:
    own, path = config.sets[row], f"sets.{row}"
    if not own.name:
      changes[f"{path}.name"] = name
    if own.split:
      continue
    splits = [s for s in ("validation", "test") if s in about.splits]
    if not splits:
      if config.train.split != "train":
        raise UserError(
            f"{name} has only {', '.join(about.splits)}: --config.{path}.split="
            "... selects the part to evaluate"
        )
      changes["train.split"], splits = "train[:90%]", ["train[90%:]"]
      note(
          f"{name} has no validation or test set of these classes: {splits[0]},"
          " a tenth of its training set, is held out and evaluated"
      )
    changes[f"{path}.split"] = splits[0]
  return settings.changed(config, changes)


def _with_model_of_weights(config, note):
  path = config.init.pretrained
  if not path:
    raise UserError(
        "fine-tuning starts from weights: --config.init.pretrained=FILE, or the"
        " folder of a run"
    )
  # What has none ends with the error that says so.
  there = weights_lib.config_of(path) or weights_lib.load(path).config
  if there.task != config.task:
    raise UserError(
        f"{path} has a model of task {there.task!r}, not {config.task!r}"
    )
  size = tuple(there.image_size)
  note(
      f"the model is that of {path}: input {there.model.input.name!r}, images"
      f" of {size[0]} x {size[1]} pixels"
  )
  changes = {
      "model": there.model.to_dict(),
      "image_size": size,
      "permuted": there.permuted,
      "model_of_weights": False,  # From here on the config has it.
  }
  return settings.changed(config, changes)


def _of_folder(config):
  """The config with the data set of `folder`."""
  # An absolute path; but a link keeps its name.
  path = pathlib.Path(os.path.abspath(os.path.expanduser(config.folder)))
  name = path.name.removesuffix(".zip")
  changes = {
      "data_dir": str(path.parent),
      "train.name": name,
      "count_classes": True,
  }
  for row in config.evals:
    if config.sets[row].name not in ("", name):  # Of another data set.
      changes |= {f"sets.{row}.name": "", f"sets.{row}.split": ""}
  return settings.changed(config, changes)


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  names = tuple(config.class_names)
  notes: list[str] = []

  def opened(which):
    found = images(config, **which)
    if found.note():
      notes.append(f"{which.name}, {which.split}: {found.note()}")
    return found

  size = size_of(config)
  kind = "labels" if config.max_labels else "label"
  shape = (config.max_labels,) if config.max_labels else ()
  example = {**model.example, kind: jax.ShapeDtypeStruct(shape, jnp.int32)}
  example["skipped"] = jax.ShapeDtypeStruct((), jnp.int32)
  mix = None
  if config.mix:
    mix = Mix(**config.mix)
    example |= {
        "mix_label": jax.ShapeDtypeStruct((), jnp.int32),
        "ratio": jax.ShapeDtypeStruct((), jnp.float32),
    }

  def train_data(shard):
    return pipeline.train(
        opened(config.train),
        augment.train_steps(
            size, **config.augmentation, upright=config.upright
        ),
        batch_size=config.batch_size,
        seed=config.seed,
        shard=shard,
        num_workers=config.num_workers,
        mix=mix,
        skip=ImageError,
    )

  def eval_data(shard, name):
    return pipeline.evaluation(
        opened(config.sets[name]),
        augment.eval_steps(size, config.upright),
        batch_size=config.eval_batch_size,
        shard=shard,
        scattered=True,  # Sets are in the order of their classes.
    )

  confusion = functools.partial(
      figures.confusion, names=figures.names_of(names, config.num_classes)
  )
  return Task(
      example=example,
      forward=model.forward,
      train_data=train_data,
      loss=functools.partial(loss, smoothing=config.label_smoothing),
      evals={
          name: Eval(
              functools.partial(eval_data, name=name),
              measure,
              summarize,
              functools.partial(draw, names=names),
              draw_all=None if config.max_labels else confusion,
          )
          for name in config.evals
      },
      notes=lambda: dict.fromkeys(notes),
      draw=functools.partial(draw_input, names=names),
  )


def size_of(config) -> int:
  """Pixels of an image's side.

  Raises:
    ValueError: if images are not square.
  """
  size, width = config.image_size
  if size != width:
    raise ValueError(f"image_size {size} x {width}: images must be square")
  return size


def images(config, /, name: str, split: str, max_labels: int | None = None):
  """A split of a data set, or some of its classes."""
  return sets.open_images(
      name,
      split,
      config.data_dir,
      num_classes=config.num_classes,
      max_labels=max_labels or config.max_labels,
      classes=tuple(config.classes) or None,
  )


def loss(outputs, batch, smoothing):
  """The cross-entropy with mixed, then smoothed labels.

  Of several labels, each class is a question of its own.
  """
  logits = outputs["logits"]
  told = {"skipped_images": batch["skipped"].sum()}
  if "labels" in batch:
    targets = losses.multi_hot(batch["labels"], logits.shape[-1])
    return losses.binary_cross_entropy(logits, targets).mean(), told
  targets = losses.soft_labels(
      batch["label"],
      logits.shape[-1],
      smoothing,
      batch.get("mix_label"),
      batch.get("ratio"),
  )
  told["top1"] = metrics.top_k(logits, batch["label"]).mean()
  return losses.cross_entropy(logits, targets).mean(), told


def measure(outputs, batch):
  """Top-1 and top-5: whether a label of the image is among the best classes."""
  logits, labels = outputs["logits"], labels_of(batch)
  measured = {
      "top1": metrics.top_k(logits, labels),
      "has_label": (labels >= 0).any(axis=-1),
  }
  if logits.shape[-1] > 5:  # Of fewer classes, all are among the best five.
    measured["top5"] = metrics.top_k(logits, labels, 5)
  if "label" in batch:
    measured |= {"label": batch["label"], "predicted": logits.argmax(-1)}
  return measured


def summarize(measured):
  """The means over images with a label, in percent."""
  has_label = measured["has_label"].astype(bool)
  return {
      name: float(np.mean(measured[name][has_label], dtype=np.float64))
      if has_label.any()
      else float("nan")
      for name in ("top1", "top5")
      if name in measured
  }


def draw(outputs, batch, names=()):
  """Some images with their labels and predictions."""
  # Of several labels, each has a probability of its own.
  of_logits = jax.nn.sigmoid if "labels" in batch else jax.nn.softmax
  probabilities = np.asarray(of_logits(outputs["logits"]))
  predicted = probabilities.argmax(-1)

  def show(ax, i):
    _show(ax, batch["image"][i])
    its, said = labels_of(batch)[i], predicted[i]
    words = _listed(its, names), _listed([said], names)
    probability = float(probabilities[i, said])
    figures.answer(ax, *words, probability, said in its)

  title = "held-out image, label → prediction and its probability"
  return {"predictions": figures.sixteen(batch["real"].sum(), show, title)}


def draw_input(batch, names=()):
  """The first training images with their labels."""

  def show(ax, i):
    _show(ax, batch["image"][i])
    title = _listed(labels_of(batch)[i], names)
    if "ratio" in batch:
      other = _listed(batch["mix_label"][i : i + 1], names)
      title = f"{batch['ratio'][i]:.0%} {title}, {other}"
    ax.set_title(title)

  title = "images of training and their labels"
  return {"input": figures.sixteen(len(batch["image"]), show, title)}


def labels_of(batch):
  """The labels of each image, one or several, [B, L]."""
  return batch["labels"] if "labels" in batch else batch["label"][:, None]


def _listed(labels, names):
  return ", ".join(
      names[label] if names else str(label) for label in labels if label >= 0
  )


def _show(ax, image):
  pixels = np.clip(image * STD + MEAN, 0, 255)
  ax.imshow(pixels.astype(np.uint8))


SETTINGS = {
    "classes": Sequence[int],
    "class_names": Sequence[str],
    "max_labels": int | None,
    "model.input": INPUTS,
    "model.encoder": Encoder,
    "model.processor": Processor,
    "model.reads": functools.partial(RepeatedEncoder, {}, {}),
    "model.output": OUTPUTS,
    "train": images,
    "sets.*": images,
    "augmentation": functools.partial(augment.train_steps, upright=False),
    "mix": Optional(Mix),
}


def read_images(config, files) -> Iterator[Batch]:
  """Files or pixel arrays as batches of one, prepared as for evaluation.

  Raises:
    UserError: if the model's images are not square, or a file holds no image.
  """
  with user_errors("the model"):
    upright = config.get("upright", False)  # Older files have no such key.
    steps = augment.eval_steps(size_of(config), upright)
  for file in files:
    name = commands.name_of(file)
    with commands.using(name):
      example = {"image": commands.encoded(file), "file": name}
      (batch,) = pipeline.evaluation(
          [example], steps, batch_size=1, shard=pipeline.Shard()
      )
    yield batch


def prepare(config, raw) -> Batch:
  """An image, a file or RGB uint8 [Y, X, 3], prepared as for evaluation."""
  (batch,) = read_images(config, [raw])
  return batch


def predict(weights, raw, labels=None) -> list[commands.Scored]:
  """The classes of an image, the most likely first.

  Args:
    weights: the model.
    raw: a file, or RGB uint8 [Y, X, 3].
    labels: a file with the names of the classes; None: the model's own.
  """
  config = weights.config
  known = config.get("class_names", ())  # Older files have none.
  names = commands.read_names(labels, config.num_classes, known)
  logits = weights.outputs(prepare(config, raw))["logits"][0]
  if config.max_labels:  # Of several labels, each is a question of its own.
    return commands.ranked(jax.nn.sigmoid(logits.astype(np.float32)), names)
  return commands.one_of(logits, names)


def classify(args, load):
  """Prints the most likely classes of images."""
  model = load()
  for file in args.inputs:
    classes = model.predict(file, labels=args.labels)
    print(file)
    commands.print_classes(classes)


def add_arguments(parser):
  """Arguments of `classify`."""
  parser.add_argument("inputs", nargs="+", metavar="IMAGE")
  commands.add_labels(parser)


PREDICTION = Prediction(
    "classify",
    "configs/imagenet.py:fourier",
    add_arguments,
    classify,
    prepare,
    predict,
)


def attention_subjects(config, files) -> Iterator[Subject]:
  """Images, prepared as for evaluation."""
  dims = tuple(config.image_size)
  is_conv = config.model.input.name == "conv"
  grid = subjects.conv_features(dims) if is_conv else dims
  for file, batch in zip(files, read_images(config, files), strict=True):
    image = batch["image"][0]
    yield Subject(
        commands.stem_of(file),
        {"image": image},
        {"image": grid},
        {"class": ()},
        frames=np.clip((image * STD + MEAN) / 255.0, 0, 1)[None],
    )


PUBLISHED = {
    "imagenet_fourier": download.official(
        "imagenet_fourier_position_encoding.pystate", "imagenet:fourier"
    ),
    "imagenet_learned": download.official(
        "imagenet_learned_position_encoding.pystate", "imagenet:learned"
    ),
    "imagenet_conv": download.official(
        "imagenet_conv_preprocessing.pystate", "imagenet:conv"
    ),
    "huggingface_imagenet_fourier": download.of_huggingface(
        "vision-perceiver-fourier", "imagenet:fourier"
    ),
    "huggingface_imagenet_learned": download.of_huggingface(
        "vision-perceiver-learned", "imagenet:learned"
    ),
    "huggingface_imagenet_conv": download.of_huggingface(
        "vision-perceiver-conv", "imagenet:conv", swap_kernel=True
    ),
}
OFFICIAL = deepmind.places("imagenet")


def transformers(config) -> Transformers:
  """One class for each kind of input."""
  model, kind = config.model, config.model.input.name
  name, built_in = {
      "pixels": (
          "Fourier",
          {
              "model.input.num_bands": 64,
              "model.input.channels": None,
              "image_size": (224, 224),
          },
      ),
      "learned_positions": (
          "Learned",
          {
              "model.input.channels": 256,
              "model.input.position_channels": None,
              "model.input.projected_channels": None,
              "image_size": (config.image_size[0],) * 2,
          },
      ),
      "conv": (
          "ConvProcessing",
          {
              "model.input.channels": 64,
              "model.input.num_bands": 64,
              "image_size": (224, 224),
          },
      ),
  }[kind]
  built_in |= {
      "model.reads.num_reads": 1,
      "model.output.name": "class_query",
      "model.output.query_channels": model.encoder.latent_channels,
      "model.output.decoder.num_heads": 1,
      "model.output.decoder.qk_channels": None,
      "model.output.decoder.v_channels": None,
  }
  differences, of_theirs = [], []
  if model.output.get("decoder", {}).get("use_query_residual") is False:
    differences.append(
        "transformers adds the decoder's query to what it reads; this model,"
        " like the official one, does not: the logits differ"
    )
  if kind == "conv":
    differences.append(
        "of 224 x 224 pixels transformers makes 55 x 55 features where this"
        " model, like the official one, makes 56 x 56: the logits differ"
    )
    of_theirs.append(
        "in the published checkpoint (not in others) the convolution's kernel"
        " has height and width swapped: --swap_kernel puts them back"
    )
  return Transformers(
      f"PerceiverForImageClassification{name}",
      huggingface.places("imagenet"),
      built_in,
      {"num_labels": config.num_classes, "image_size": config.image_size[0]},
      differences,
      of_theirs,
  )
