"""Compares this project's models with recorded outputs of other releases.

python -m tools.check_parity FOLDER

The folder has models of the official release (`NAME.json`, `NAME.npz`,
`NAME_grads.npz`) or of Hugging Face's transformers (`NAME.json`, `NAME.npz`,
`NAME.grads.npz`, `NAME.dm.npz`), with random parameters and sizes that are in
the JSON. The deviation of an array is its largest difference over its standard
deviation; for gradients and attention weights, over their largest value. The
exit code is 1 if a deviation is above the tolerance.

Outputs are compared with those of the official release's code. Other recordings
of transformers are compared where it computes the same function, with its form
of GELU.

Recordings of components (`comp_*`) are compared by the tests of this project,
except for batch norm in training. The command prints the omitted ones.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import functools
import math
import pathlib
import sys
from typing import Any, NamedTuple
from unittest import mock

from absl import app
from absl import flags
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.engine import command
from experiments.engine import weights
from experiments.engine.build import BuiltNetwork
from experiments.engine.command import fail
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from perceiver import attention
from perceiver import inputs
from perceiver import record_attention
from perceiver import SelfAttention
from perceiver.weights import deepmind
from perceiver.weights import tensors
from tools import recordings
from tools.recordings import official
from tools.recordings import Recorded
from tools.recordings import transformers

TOLERANCE = flags.DEFINE_float("tolerance", 2e-5, "largest accepted deviation")
# Modules whose results are compared.
DECODED = "decoder/cross_attention"
SEEN = (
    *("encoder", "processor", "decoder", DECODED),
    *("output", "flow", "logits"),
)
BATCH_NORM = "comp_conv_preproc_training.npz"

# What runs once or twice takes longer to compile well than that saves.
jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


class Deviation(NamedTuple):
  """The deviation of an array from the recorded one."""

  model: str
  what: str
  value: float  # Over the recorded array's deviation, or the largest gradient.


def main(argv: list[str]) -> None:
  """Checks a folder."""
  if len(argv) != 2:
    fail("which folder? python -m tools.check_parity FOLDER")
  try:
    deviations = list(check(pathlib.Path(argv[1])))
  except UserError as error:
    fail(str(error))
  table = Table("model", "what", "largest deviation")
  for model, what, value in deviations:
    is_wrong = not value <= TOLERANCE.value  # NaN is wrong.
    table.add_row(
        escape(model),
        escape(what),
        f"{value:.1e}",
        style="bold red" if is_wrong else None,
    )
  Console(width=None if sys.stdout.isatty() else 120).print(table)
  wrong = [d for d in deviations if not d.value <= TOLERANCE.value]
  models = {d.model for d in deviations}
  print(
      f"{len(deviations)} arrays of {len(models)} models:"
      f" {len(wrong)} deviate by more than {TOLERANCE.value:g}"
  )
  if names := left_out(pathlib.Path(argv[1])):
    print(f"left out are {len(names)} of components: {', '.join(names)}")
  sys.exit(bool(wrong))


def left_out(folder: pathlib.Path) -> list[str]:
  """The recordings of a folder that are not compared."""
  files = [*folder.glob("comp_*.npz"), *folder.glob("comp_*.json")]
  return sorted(file.stem for file in files if file.name != BATCH_NORM)


def check(folder: pathlib.Path) -> Iterator[Deviation]:
  """Compares every recorded model in a folder.

  Raises:
    UserError: if there is none.
  """
  found = False
  for file in sorted(folder.glob("*.json")):
    name = file.stem
    if (folder / f"{name}_grads.npz").exists():
      found = True
      yield from compare(official.load(folder, name))
    elif (folder / f"{name}.dm.npz").exists():
      found = True
      yield from compare(transformers.load(folder, name))
  if (folder / BATCH_NORM).exists():
    yield from compare_batch_norm(folder / BATCH_NORM)
  if not found:
    raise UserError(
        f"{folder} has no recorded models: NAME.json with NAME.npz and"
        " NAME_grads.npz, or with NAME.npz, NAME.grads.npz and NAME.dm.npz"
    )


def compare(recording: Recorded) -> Iterator[Deviation]:
  """Outputs, steps and gradients of one model."""
  name = recording.name
  release = weights.TRANSFORMERS if recording.exact_gelu else weights.OFFICIAL
  config, network, model, _ = weights.fill(
      recording.config, recording.tensors, release
  )
  run, run_exact = make_run(network), make_run(network)
  for case in recording.cases:
    outputs, seen = run(model, case.batch)
    for key, expected in case.outputs.items():
      value = deviation(outputs[key], expected)
      yield Deviation(name, f"{case.name}: {key}", value)
    if case.differs:
      continue
    with exact_gelu(recording.exact_gelu):
      if recording.exact_gelu:
        outputs, seen = run_exact(model, case.batch)
      if case.gradients and case.cotangents:
        like = tensors.flatten(network.like.params, {})
        expected = tensors.to_ours(
            case.gradients, release.places(config), like, release.unused
        )
        value = compare_gradients(
            network, model, case.batch, case.cotangents, expected
        )
        yield Deviation(name, f"{case.name}: gradients", value)
    if recording.exact_gelu:
      seen |= {f"transformers' {key}": y for key, y in outputs.items()}
    else:
      seen |= layers(config, model, seen)
    for key, expected in case.steps.items():
      if "[label]" in key:  # It is masked: nothing of ours has it.
        continue
      ours = step(seen, key, expected.shape)
      if key == "cross_attention":  # Of few values; most are next to 0.
        value = float(np.abs(ours - expected).max() / expected.max())
      else:
        value = deviation(ours, expected)
      yield Deviation(name, f"{case.name}: {key}", value)
  if recording.whole:
    batch = {
        key: array
        for key, array in recording.cases[0].batch.items()
        if not key.endswith("_points")
    }
    outputs, _ = jit(network.net.apply, static_argnums=4)(
        *model, None, batch, False
    )
    for key, expected in recording.whole.items():
      value = deviation(outputs[key], expected)
      yield Deviation(name, f"decoded in chunks: {key}", value)


def deviation(ours: Any, expected: np.ndarray) -> float:
  """The largest difference over the expected array's standard deviation."""
  expected = np.asarray(expected, np.float64)
  error = np.abs(
      np.asarray(ours, np.float64).reshape(expected.shape) - expected
  )
  if not expected.std():  # An array of one value, such as a label's zeros.
    return float(error.max())
  return float(error.max() / expected.std())


def make_run(network: BuiltNetwork):
  """(model, batch) -> outputs, and inputs and outputs of modules."""

  def forward(model, batch):
    seen = {}

    def see(call, args, kwargs, context):
      result = call(*args, **kwargs)
      name = context.module.module_name
      if name in SEEN and context.method_name == "__call__":
        seen[name], seen[f"{name} given"] = result, args[0]
      return result

    with hk.intercept_methods(see), record_attention() as attention:
      outputs, _ = network.net.apply(*model, None, batch, False)
    seen["cross_attention"] = attention["encoder/cross_attention/attention"]
    return outputs, seen

  return jit(forward)


@contextlib.contextmanager
def exact_gelu(wanted: bool) -> Iterator[None]:
  """Makes models use the exact GELU, as transformers does."""
  if not wanted:
    yield
    return
  exact = functools.partial(jax.nn.gelu, approximate=False)
  with mock.patch.dict(attention._ACTIVATIONS, gelu=exact):
    yield


def compare_gradients(
    network: BuiltNetwork,
    model: Model,
    batch: recordings.Arrays,
    cotangents: recordings.Arrays,
    expected: recordings.Arrays,
) -> float:
  """The largest difference over the largest gradient."""

  def objective(params, batch):
    outputs, _ = network.net.apply(params, model.net_state, None, batch, False)
    return sum(
        jnp.sum(cotangent * outputs[name].reshape(cotangent.shape))
        for name, cotangent in cotangents.items()
    )

  gradients = jit(jax.grad(objective))(model.params, batch)
  # Of one tensor they may vanish: no output depends on the bias of keys.
  largest = max(np.abs(x).max() for x in expected.values())
  ours = tensors.flatten(gradients, {})
  return max(
      float(np.abs(ours[key] - x).max() / largest)
      for key, x in expected.items()
  )


def layers(config, model: Model, seen: Mapping[str, Any]) -> dict[str, Any]:
  """The latent array after each layer of each block, under official names."""
  settings = config.model.processor.to_dict()
  num_layers, num_blocks = settings["layers_per_block"], settings["num_blocks"]
  layer = hk.transform(
      lambda z: SelfAttention(
          num_heads=settings["num_heads"],
          qk_channels=settings["qk_channels"],
          widening_factor=settings["widening_factor"],
          name="self_attention",
      )(z)
  )
  prefix = "processor/layers/"
  stacked = {
      module.removeprefix(prefix): arrays
      for module, arrays in model.params.items()
      if module.startswith(prefix)
  }
  apply = jit(layer.apply)
  z, after = seen["encoder"], {}
  for block in range(num_blocks):
    for i in range(num_layers):
      params = jax.tree.map(lambda x, i=i: x[i], stacked)
      z = apply(params, None, z)
      name = "self_attention" + (f"_{i}" if i else "")
      after[f"{name}#{block}"] = z
  return after


def step(seen: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Any:
  """The array that a recording calls `name`, in our model.

  What they keep per modality, and before it is widened, are parts of our packed
  arrays: elements in the order audio, video, label; channels from the first.
  """
  if name in seen:
    return seen[name]
  module = name.split("/")[-1]
  if module in seen:  # A layer of the processor.
    return seen[module]
  if name == "latents":
    return seen["processor"]
  if name.endswith("encoder/~/cross_attention#0"):
    return seen["encoder"]
  if name.endswith("encoder#0"):
    return seen["processor"]
  if name.endswith("decoder/cross_attention#0"):
    return seen[DECODED]
  if name.endswith("basic_decoder#0"):
    # Projected, where the model projects what it decodes.
    found = (seen.get(n) for n in ("output", "logits", "flow", DECODED))
    return next(
        x for x in found if x is not None and x.size == math.prod(shape)
    )
  given = (
      "decoder given" if name.startswith("decoder_query") else "encoder given"
  )
  return _part(seen[given], name, shape)


def _part(packed: Any, name: str, shape: tuple[int, ...]) -> Any:
  """The elements of a modality."""
  length, channels = shape[-2:]
  first = 0
  is_label = "[label]" in name or "[classification_decoder" in name
  if packed.shape[1] != length and is_label:
    first = packed.shape[1] - 1
  elif packed.shape[1] != length and ("image" in name or "video" in name):
    first = packed.shape[1] - 1 - length
  part = packed[:, first : first + length, :channels]
  # One for all examples, where it does not depend on them.
  return np.broadcast_to(part, (shape[0], *part.shape[1:]))


def compare_batch_norm(file: pathlib.Path) -> Iterator[Deviation]:
  """The convolutional stem in training: its features, and its new averages."""
  arrays = recordings.load_arrays(file)
  images, features = arrays["in:images"], arrays["out:out"]
  place = deepmind.places("imagenet")
  channels = arrays["image_preprocessor/~/conv2_d_downsample/~/conv|w"].shape[
      -1
  ]

  def forward(images):
    stem = inputs.ConvStem(channels, name="conv_stem")
    return inputs.flatten(stem(images, is_training=True))

  net = hk.transform_with_state(forward)
  like = tensors.flatten(*jax.eval_shape(net.init, jax.random.key(0), images))
  before = {k: x for k, x in arrays.items() if "|" in k and "_out:" not in k}
  model = tensors.unflatten(tensors.to_ours(before, place, like))
  out, state = jit(net.apply)(*model, None, images)
  value = deviation(out, features[:, :, :channels])
  yield Deviation(file.stem, "features", value)
  after = tensors.to_theirs(tensors.flatten({}, state), place)
  for key, array in after.items():
    expected = arrays[key.replace("state:", "state_out:")]
    name = key.rpartition("/")[2]
    yield Deviation(file.stem, name, deviation(array, expected))


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse)
