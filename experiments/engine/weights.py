"""The weights of a model, from wherever they are kept.

Ours are one `.npz`: the arrays under our names, and the config as JSON.
"""

from collections.abc import Callable
import functools
import json
import pathlib
from typing import Any, NamedTuple

import haiku as hk
import jax
from ml_collections import ConfigDict
import numpy as np

from experiments.engine import build
from experiments.engine import declared
from experiments.engine import export
from experiments.engine import positions
from experiments.engine import settings
from experiments.engine import sharding
from experiments.engine import workdir as workdir_lib
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.task import Batch
from experiments.task import Config
from experiments.task import Outputs
from perceiver.weights import deepmind
from perceiver.weights import huggingface
from perceiver.weights import npz
from perceiver.weights import tensors

CONFIG = "config.json"  # The key of the config in our files.


class Release(NamedTuple):
  """How somebody keeps weights."""

  places: Callable[[Config], tensors.Places]
  unused: tuple[str, ...] = ()  # Tensors that no output depends on.
  is_derived: Callable[[str], bool] = lambda key: False
  derived: Callable[[tensors.Arrays], tensors.Arrays] = lambda ours: {}


OURS = Release(lambda config: tensors.Place)
OFFICIAL = Release(
    lambda config: declared.declared(
        config.task, "OFFICIAL", "the official release has no model"
    ),
    deepmind.UNUSED,
)
TRANSFORMERS = Release(
    lambda config: export.transformers(config).places,
    tuple(huggingface.UNUSED),
    huggingface.is_derived,
    huggingface.derived,
)
TRAINED = pathlib.Path(__file__).parents[2] / "docs" / "results" / "weights"
# The published convolutional checkpoint.
SWAPPED = TRANSFORMERS._replace(
    places=lambda config: huggingface.kernel_swapped(
        TRANSFORMERS.places(config)
    )
)


class Weights(NamedTuple):
  """A model with numbers in it."""

  config: Config
  network: build.BuiltNetwork
  model: Model
  notes: list[str]  # What a person should know about these weights.

  def outputs(self, batch: Batch) -> Outputs:
    """What the network says of a batch in evaluation; it is compiled once."""
    return _outputs(self.network.net, self.model, batch)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(net: hk.TransformedWithState, model: Model, batch: Batch):
  return net.apply(*model, jax.random.key(0), batch, False)[0]


def trained() -> dict[str, pathlib.Path]:
  """The small trained models in this repository: name -> file.

  docs/results/weights/README.md has the card of each.
  """
  return {path.stem: path for path in sorted(TRAINED.glob("*.npz"))}


def random(config: Config) -> Weights:
  """A model as it is before training."""
  network = build.build_network(config)
  return Weights(network.config, network, jax.jit(network.init)(), [])


def load(
    path: str | pathlib.Path,
    config: Config | None = None,
    swap_kernel: bool = False,
    checkpoint: str = "latest",
    allow_nonfinite: bool = False,
) -> Weights:
  """Reads weights; what file it is shows from its name and its content.

  Args:
    path: our `.npz`; an official checkpoint, `.pickle`, `.pystate` or `.npy`;
      transformers' `model.safetensors`, `pytorch_model.bin`, or a folder with
      one of them; the folder of a training run; a name in `trained()`.
    config: the model; our own files know theirs.
    swap_kernel: whether the kernel of a convolutional transformers checkpoint
      has height and width swapped, as the published one has.
    checkpoint: checkpoint of a run, as in `Checkpoints.restore_model`.
    allow_nonfinite: whether numbers that are not finite, or that the model's
      dtype cannot hold, are noted and not refused.

  Raises:
    UserError: if there is no such file, it does not fit, or no config is given
      and the file has none.
  """
  path = pathlib.Path(path).expanduser()
  if not path.exists():
    path = trained().get(str(path), path)
  place = workdir_lib.find_checkpoints(path)
  if place is not None:
    read, doubts = _load_run(path, place, config, checkpoint)
  else:
    if path.is_dir():
      path = _file_in(path)
    if not path.is_file():
      raise UserError(f"{path}: there is no such file")
    try:
      read, doubts = _load_file(path, config, swap_kernel)
    except (tensors.WeightsError, UserError) as error:
      text = str(error)
      text = text if text.startswith(str(path)) else f"{path}: {text}"
      raise UserError(text) from error
  if doubts and not allow_nonfinite:
    try:
      tensors.complain("not of numbers that the model can use", doubts)
    except tensors.WeightsError as error:
      raise UserError(
          f"{path}: {error}; --allow_nonfinite of the scripts accepts them"
      ) from error
  return read._replace(notes=[*read.notes, *doubts])


def config_of(path: str | pathlib.Path) -> Config | None:
  """The complete config of weights; None if they have none, or are not there.

  Args:
    path: as of `load`, which says what is wrong.
  """
  path = pathlib.Path(path).expanduser()
  if workdir_lib.find_checkpoints(path) is not None:
    return workdir_lib.read_config(path / "config.json")
  if path.suffix != ".npz" or not path.is_file():
    return None
  try:
    _, text = npz.load(path, CONFIG)
  except tensors.WeightsError as error:
    raise UserError(str(error)) from error
  return _config_in(path, text)


def fill(config: Config, arrays: tensors.Arrays, release: Release) -> Weights:
  """The model of a config with these arrays in it.

  What is doubtful in them, as numbers that are not finite, is in the notes.

  Raises:
    WeightsError: if they do not fit; it names the first ten that do not.
  """
  read, doubts = _filled(build.build_network(config), arrays, release)
  return read._replace(notes=doubts)


def _filled(
    network: build.BuiltNetwork, arrays: tensors.Arrays, release: Release
) -> tuple[Weights, list[str]]:
  """A model with these arrays in it, and what is doubtful in them."""
  like = tensors.flatten(*network.like)
  kept = {key: x for key, x in like.items() if not release.is_derived(key)}
  places = release.places(network.config)
  ours = tensors.to_ours(arrays, places, kept, release.unused)
  ours, doubts = tensors.fitted(ours, like)
  ours |= release.derived(ours)
  ours = {key: np.asarray(ours[key], x.dtype) for key, x in like.items()}
  model = Model(*tensors.unflatten(ours))
  return Weights(network.config, network, model, []), doubts


def _load_file(
    path: pathlib.Path, config: Config | None, swap_kernel: bool
) -> tuple[Weights, list[str]]:
  if path.suffix == ".npz":
    return _load_ours(path, config)
  if config is None:
    raise UserError(_says_no_config(path))
  network = build.build_network(config)
  if path.suffix in (".safetensors", ".bin"):
    release = SWAPPED if swap_kernel else TRANSFORMERS
    read, doubts = _filled(network, huggingface.load(path), release)
    notes = export.differences(config, is_export=False)
    return read._replace(notes=notes), doubts
  return _filled(network, deepmind.load(path), OFFICIAL)


def save(
    file: str | pathlib.Path,
    config: Config,
    model: Model,
    half: bool = False,
) -> None:
  """Writes one of our files, whole or not at all.

  Args:
    file: its path.
    config: config of the model.
    model: its numbers.
    half: whether to write float32 as float16: half the size, and each number
      to 11 bits.

  Raises:
    UserError: if a number is too large for float16.
  """
  file = pathlib.Path(file)
  arrays: dict[str, Any] = jax.device_get(tensors.flatten(*model))
  if half:
    arrays = {name: _half(name, x) for name, x in arrays.items()}
  arrays[CONFIG] = np.asarray(json.dumps(config.to_dict()))
  file.parent.mkdir(parents=True, exist_ok=True)
  partial = file.with_name(file.name + ".partial")
  with partial.open("wb") as stream:
    np.savez(stream, **arrays)
  partial.rename(file)


def _half(name: str, array: np.ndarray) -> np.ndarray:
  if array.dtype != np.float32:
    return array
  if np.abs(array).max(initial=0) > np.finfo(np.float16).max:
    raise UserError(f"{name} has numbers that are too large for float16")
  return array.astype(np.float16)


def _load_run(
    workdir: pathlib.Path, place: str, config: Config | None, checkpoint: str
) -> tuple[Weights, list[str]]:
  written, notes = workdir / "config.json", []
  if config is None:
    config = trained = workdir_lib.read_config(written)
  else:
    config = settings.complete(config)
    trained = workdir_lib.read_config(written) if written.exists() else config
    config, notes = positions.keep_resolutions(config, trained, workdir)
  network = build.build_network(config)
  like = sharding.with_shardings(network.like, sharding.make_mesh(1))
  checkpoints = Checkpoints(
      place,
      best=network.config.best or None,
      best_is_largest=network.config.best_is_largest,
      read_only=True,
  )
  saved, _ = checkpoints.restore_model(
      positions.as_saved(like, trained, config), checkpoint
  )
  model, more = positions.fitted(saved, like, trained, config)
  arrays = tensors.flatten(*model)
  _, doubts = tensors.fitted(arrays, arrays)
  return Weights(config, network, model, [*notes, *more]), doubts


def _file_in(folder: pathlib.Path) -> pathlib.Path:
  for name in ("model.safetensors", "pytorch_model.bin"):
    if (folder / name).is_file():
      return folder / name
  raise UserError(
      f"{folder} has neither model.safetensors nor pytorch_model.bin"
  )


def _load_ours(
    path: pathlib.Path, config: Config | None
) -> tuple[Weights, list[str]]:
  arrays, text = npz.load(path, CONFIG)
  if config is not None:
    trained = _config_in(path, text)
    config, notes = positions.keep_resolutions(
        settings.complete(config), trained, path
    )
    network = build.build_network(config)
    arrays, more = positions.adapted(arrays, trained, config)
    read, doubts = _filled(network, arrays, OURS)
    return read._replace(notes=[*notes, *more]), doubts
  network = build.build_network(_config_in(path, text))
  return _filled(network, arrays, OURS)


def _config_in(path: pathlib.Path, text: str) -> Config:
  """The complete config of one of our files.

  Raises:
    UserError: if it is none.
  """
  try:
    config = _beside(path, json.loads(text))
    return build.build_network(ConfigDict(config)).config
  except Exception as error:  # It may be anything.
    raise UserError(
        f"{path}: its config is not one of this project:"
        f" {tensors.gist(error)}"
    ) from error


def _beside(path: pathlib.Path, value: Any) -> Any:
  """A config that names SentencePiece models beside the weights, if it must.

  Weights are copied to other machines together with the model of their tokens.
  """
  if isinstance(value, dict):
    return {key: _beside(path, x) for key, x in value.items()}
  if isinstance(value, str) and value.endswith(".model"):
    copy = path.parent / pathlib.PurePath(value).name
    if not pathlib.Path(value).expanduser().exists() and copy.is_file():
      return str(copy)
  return value


def _says_no_config(path: pathlib.Path) -> str:
  return (
      f"{path} does not say what model it is of: --config=... says it, or"
      f" `python -m scripts.convert_weights --weights={path} --config=..."
      " --output=FILE.npz` writes a file that does"
  )
