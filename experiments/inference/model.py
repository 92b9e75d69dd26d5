"""Trained models in Python.

    from experiments.inference import load
    model = load("runs/mine")
    model.predict("photo.jpg")

docs/python.md has an example of each task.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import os
import pathlib
import sys
from typing import Any

import haiku as hk
import jax
from jax import Array
import numpy as np

from experiments.engine import settings
from experiments.engine import weights as weights_lib
from experiments.engine.declared import declared
from experiments.engine.declared import of_every_task
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from experiments.inference.attention_maps import Maps
from experiments.inference.attention_maps import maps_of
from experiments.inference.attention_queries import Options
from experiments.task import Batch
from experiments.task import Config
from experiments.task import Prediction
from experiments.task import Subject
from perceiver import AverageDecoder
from perceiver import CausalProcessor
from perceiver import Decoder
from perceiver import Processor
from perceiver import RepeatedEncoder
from perceiver.baselines import Transformer
from perceiver.weights import download
from perceiver.weights.tensors import WeightsError

CACHE = "~/.cache/perceiver"  # Where published files are kept.
# What returns the latent array after all layers.
_LATENTS = (Processor, CausalProcessor, RepeatedEncoder, Transformer)


class LoadedModel(Weights):
  """A model with weights, and its predictions.

  What a raw input is depends on the task: a file or an array of pixels, a text
  or two, a file of video or of a mesh. docs/python.md lists them. Batches are
  what `prepare` returns: name -> array [B, ...].
  """

  __slots__ = ()

  @property
  def task(self) -> str:
    """The name of its task: experiments/TASK.py."""
    return self.config.task

  def prepare(self, raw: Any, **options: Any) -> Batch:
    """The model's input for a raw input, prepared as for evaluation.

    Args:
      raw: an input of the task.
      **options: options of the task's `prepare`.

    Returns:
      a batch, mostly of one: name -> array [B, ...].

    Raises:
      UserError, DataError, FileNotFoundError: if it is no such input.
    """
    return self._ask("prepare")(self.config, raw, **options)

  def predict(self, raw: Any, **options: Any) -> Any:
    """The prediction for a raw input.

    Args:
      raw: an input of the task.
      **options: options of the task's `predict`.

    Returns:
      what the task's `predict` returns, as classes with their probabilities.

    Raises:
      UserError, DataError, FileNotFoundError: if it is no such input.
    """
    return self._ask("predict")(self, raw, **options)

  def encode(self, given: Any, **options: Any) -> np.ndarray:
    """The latent array after all layers, float32 [B, N, D].

    Of a Transformer without latents, its elements, [B, M, D].

    Args:
      given: a batch, as `prepare` returns it, or a raw input.
      **options: options of `prepare`.
    """
    return self.features(given, **options)["latents"]

  def features(
      self, given: Any, names: Iterable[str] = ("latents",), **options: Any
  ) -> dict[str, np.ndarray]:
    """Arrays inside of the model, float32.

    Args:
      given: a batch, as `prepare` returns it, or a raw input.
      names: "latents", [B, N, D], as of `encode`; "outputs", the array before
        the head: what output queries read, [B, O, E], or, where latents are
        averaged, their mean, [B, D].
      **options: options of `prepare`.

    Raises:
      UserError: if the model has no such array.
    """
    is_batch = isinstance(given, Mapping)
    batch = given if is_batch else self.prepare(given, **options)
    try:
      found = _tapped(self.network.net, tuple(names), self.model, batch)
    except KeyError as error:
      raise UserError(
          f"the model of task {self.task!r} has no array {error.args[0]!r}"
      ) from error
    except jax.errors.UnexpectedTracerError as error:
      raise UserError(
          "the outputs are decoded in chunks and are not one array"
      ) from error
    return {k: np.asarray(x, np.float32) for k, x in found.items()}

  def attention(self, raw: Any, **options: Any) -> Maps:
    """The selected attention of the model to a raw input.

    Args:
      raw: an input of the task that is a file or a text; for optical flow, two
        files.
      **options: of `Options`: module="encoder", heads="all", latents="0,1", ...

    Returns:
      `values` [heads, queries, keys] with the names of heads and queries.

    Raises:
      UserError: if the model has no such module, or its task draws none.
    """
    return maps_of(self, self.subject(raw), Options(**options))

  def subject(self, raw: Any) -> Subject:
    """A raw input with the grids of its elements."""
    without = "there are no figures of attention"
    subjects_of = declared(self.task, "attention_subjects", without)
    (subject,) = subjects_of(self.config, _listed(raw))
    return subject

  def raws(self, words: Sequence[str], **options: Any) -> Iterable[Any]:
    """The words of a command line as raw inputs."""
    with user_errors("the input"):
      return self._prediction().raws(self.config, words, **options)

  def _ask(self, name: str) -> Callable[..., Any]:
    found = getattr(self._prediction(), name)
    if found is None:
      raise UserError(
          f"task {self.task!r} has no {name} in Python:"
          f" experiments/{self.task}.py does not define it"
      )
    return found

  def _prediction(self) -> Prediction:
    return declared(self.task, "PREDICTION", "there is nothing to predict")


def load(
    source: str | os.PathLike[str],
    config: str | Config | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    checkpoint: str = "latest",
    swap_kernel: bool = False,
    allow_nonfinite: bool = False,
) -> LoadedModel:
  """A model, on the device.

  Args:
    source: the folder of a training run; a file of weights, as of
      `scripts.convert_weights`; the name of a published model, as "language",
      which is downloaded once; the name of a small model that comes with this
      repository, as "digits" (`weights.trained`); or "random", a model before
      training.
    config: "configs/FILE.py:variant" or a config; runs, this project's files
      and published names have their own.
    changes: to that config: dotted path -> value.
    checkpoint: of a run: "latest", "best" or a step; with ":ema", averaged.
    swap_kernel: undo a swap in transformers' published convolutional weights.
    allow_nonfinite: take numbers that are not finite or too large.

  Raises:
    UserError: if there is no such thing, it does not fit, or the config is
      missing.
  """
  name = os.fspath(source)
  if isinstance(config, str):
    config = settings.named(config)
  if config is not None:
    config = settings.changed(config, changes or {})
  elif changes:
    raise UserError(
        f"{name}: {', '.join(changes)} cannot be changed unless a config is"
        " named"
    )
  if name == "random":
    if config is None:
      raise UserError("random weights need a config: configs/FILE.py:variant")
    read = weights_lib.random(config)
    read.notes.append("random weights: what comes out means nothing")
  else:
    path = pathlib.Path(name).expanduser()
    known = published()
    if name in known and not path.exists():
      path = fetch(known[name], pathlib.Path(CACHE).expanduser())
      config = settings.load(known[name].config) if config is None else config
      swap_kernel = swap_kernel or known[name].swap_kernel
    elif not path.exists() and len(path.parts) == 1:
      names = {**known, **weights_lib.trained()}
      if name not in names:
        raise UserError(
            f"{name}{settings.hint(name, names)}: there is no such file or"
            f" folder, and the models with names are {', '.join(names)}"
        )
    read = weights_lib.load(
        path, config, swap_kernel, checkpoint, allow_nonfinite
    )
  return LoadedModel(*read._replace(model=jax.device_put(read.model)))


def published() -> dict[str, download.Published]:
  """The names of published models."""
  every = of_every_task("PUBLISHED").values()
  return {name: file for files in every for name, file in files.items()}


def fetch(file: download.Published, cache: pathlib.Path) -> pathlib.Path:
  """Downloads a published file, with progress on standard error.

  Raises:
    UserError: if it does not come, or is another file.
  """
  parts = file.url.split("/")
  # All of Hugging Face's files have the same name.
  folder = parts[-4] if "huggingface.co" in file.url else "deepmind"
  path = cache / folder / parts[-1]

  def progress(done, size):
    percent = f"{100 * done / size:.0f} %" if size else f"{done >> 20} MiB"
    print(f"\r{path.name}: {percent}", end="", file=sys.stderr)

  try:
    download.fetch(file.url, path, progress, file.read)
  except WeightsError as error:
    raise UserError(str(error)) from error
  print(file=sys.stderr)
  return path


def _listed(raw: Any) -> list[Any]:
  return list(raw) if isinstance(raw, tuple | list) else [raw]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tapped(
    net: hk.TransformedWithState, names: tuple[str, ...], model, batch: Batch
) -> dict[str, Array]:
  """Records the outputs of modules while the forward function is traced."""
  found: dict[str, Array] = {}

  def note(call, args, kwargs, context):
    returned = call(*args, **kwargs)
    if context.method_name == "__call__":
      # The last one is the whole: repeated reads contain processors.
      if isinstance(context.module, _LATENTS):
        found["latents"] = returned
      if isinstance(context.module, Decoder):
        found["outputs"] = returned
      if isinstance(context.module, AverageDecoder):
        found["outputs"] = args[0].mean(axis=1)
    return returned

  with user_errors("the model"), hk.intercept_methods(note):
    net.apply(*model, jax.random.key(0), batch, False)
  missing = set(names) - set(found)
  if missing:
    raise KeyError(sorted(missing)[0])
  return {name: found[name] for name in names}
