"""The official release's checkpoints: pickled Haiku trees.

https://github.com/google-deepmind/deepmind-research/tree/master/perceiver
"""

from collections.abc import Mapping
import io
import pathlib
from typing import Any

import numpy as np

from perceiver.weights import pickles
from perceiver.weights.tensors import Conversion
from perceiver.weights.tensors import gist
from perceiver.weights.tensors import npy_header
from perceiver.weights.tensors import Place
from perceiver.weights.tensors import Places
from perceiver.weights.tensors import printable
from perceiver.weights.tensors import SAME
from perceiver.weights.tensors import STATE
from perceiver.weights.tensors import WeightsError

# Ours, and what the release calls it: modules of an attention block.
_BLOCK = {
    "attention/q": "attention/linear",
    "attention/k": "attention/linear_1",
    "attention/v": "attention/linear_2",
    "attention/output": "attention/linear_3",
    "mlp/hidden": "mlp/linear",
    "mlp/output": "mlp/linear_1",
}
_CROSS = {
    **_BLOCK,
    "norm_query": "layer_norm",
    "norm_x": "layer_norm_1",
    "norm_mlp": "layer_norm_2",
}
_SELF = {**_BLOCK, "norm_z": "layer_norm", "norm_mlp": "layer_norm_1"}


def _modules(encoder: str, decoder: str) -> dict[str, str]:
  """The modules that all models have."""
  blocks = (
      ("encoder/cross_attention", f"{encoder}/~/cross_attention", _CROSS),
      (
          "processor/layers/self_attention",
          f"{encoder}/~/self_attention{{}}",
          _SELF,
      ),
      ("decoder/cross_attention", f"{decoder}/cross_attention", _CROSS),
  )
  return {
      "encoder/latents": f"{encoder}/~/trainable_position_encoding",
      **{
          f"{ours}/{inner}": f"{theirs}/{name}"
          for ours, theirs, block in blocks
          for inner, name in block.items()
      },
  }


_CLASSES = "classification_decoder/~/basic_decoder"
_STEM = "image_preprocessor/~/conv2_d_downsample/~"
# Model: our modules and the release's.
_MODULES = {
    "mlm": {
        **_modules("perceiver_encoder", "basic_decoder"),
        "tokens": "embed",
        "positions": "trainable_position_encoding",
        "queries": "basic_decoder/~/trainable_position_encoding",
        "logits": "embedding_decoder",
    },
    "flow": {
        **_modules("perceiver_encoder", "flow_decoder/~/basic_decoder"),
        "patches": "image_preprocessor/patches_linear",
        "flow": "flow_decoder/~/basic_decoder/output",
    },
    "imagenet": {
        **_modules("perceiver_encoder", _CLASSES),
        "pixels": "image_preprocessor/~/conv2_d",
        "positions": (
            "image_preprocessor/~_build_network_inputs"
            "/trainable_position_encoding"
        ),
        "project_positions": (
            "image_preprocessor/~_build_network_inputs"
            "/position_encoding_projector/linear"
        ),
        "conv_stem/conv": f"{_STEM}/conv",
        "conv_stem/norm": f"{_STEM}/batchnorm",
        "conv_stem/norm/~/mean_ema": f"{_STEM}/batchnorm/~/mean_ema",
        "conv_stem/norm/~/var_ema": f"{_STEM}/batchnorm/~/var_ema",
        "query": f"{_CLASSES}/~/trainable_position_encoding",
        "logits": f"{_CLASSES}/output",
    },
    "kinetics": {
        **_modules("encoder", "multimodal_decoder/~/basic_decoder"),
        "inputs/audio_padding": "multimodal_preprocessor/audio_padding",
        "inputs/video_padding": "multimodal_preprocessor/image_padding",
        "inputs/label_padding": "multimodal_preprocessor/label_padding",
        "inputs/label_mask": "multimodal_preprocessor/label_mask_token",
        "queries/audio_padding": (
            "multimodal_decoder/~decoder_query/audio_padding"
        ),
        "queries/video_padding": (
            "multimodal_decoder/~decoder_query/image_padding"
        ),
        "queries/label_padding": (
            "multimodal_decoder/~decoder_query/label_padding"
        ),
        "label_query": f"{_CLASSES}/~/trainable_position_encoding",
        "output": "multimodal_decoder/~/basic_decoder/output",
        "audio": "audio_postprocessor/linear",
        "video": "projection_postprocessor/linear",
        "label": "classification_postprocessor/linear",
    },
}
# Allocated by the release and never used: neither sound nor image is masked.
UNUSED = (
    "multimodal_preprocessor/audio_mask_token|pos_embs",
    "multimodal_preprocessor/image_mask_token|pos_embs",
)
# A convolution by one pixel is a linear map.
_PIXEL = Conversion(lambda x: x[0, 0], lambda x: x[None, None])


def places(model: str) -> Places:
  """The names of a model's arrays in the release, `PATH|NAME`.

  State begins `state:`.

  Args:
    model: "mlm", "flow", "imagenet" or "kinetics".
  """
  modules = _MODULES[model]

  def place(key):
    module, name = key.removeprefix(STATE).rsplit("/", 1)
    if module not in modules:
      return None
    conversion = _PIXEL if (module, name) == ("pixels", "w") else SAME
    if name == "array":
      name = "pos_embs"
    elif (model, module) == ("mlm", "logits"):
      name = "bias"
    prefix = "state:" if key.startswith(STATE) else ""
    number = lambda i: f"_{i}" if i else ""
    return Place(f"{prefix}{modules[module]}|{name}", conversion, number)

  return place


def load(file: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a checkpoint, `PATH|NAME` -> array.

  Reads what the official notebooks read: a pickled tree of parameters, or
  {"params": ..., "state": ...}, alone or inside of a `.npy`. Nothing in the
  file is run (`pickles`).

  Raises:
    WeightsError: if the file is something else; it names what.
  """
  try:
    tree = _unpickled(file.read_bytes())
  except WeightsError as error:
    raise WeightsError(f"{file}: {error}") from error
  except Exception as error:  # Damaged pickles raise errors of many kinds.
    message = f"{file} is no pickle that can be read: {gist(error)}"
    raise WeightsError(message) from error
  if not isinstance(tree, Mapping):
    raise WeightsError(f"{file} holds a {type(tree).__name__}, not a tree")
  if "params" in tree:
    state = tree.get("state") or {}
    return {
        **_flat(tree["params"], file),
        **{f"state:{k}": v for k, v in _flat(state, file).items()},
    }
  return _flat(tree, file)


def _flat(tree: Any, file: pathlib.Path) -> dict[str, np.ndarray]:
  if not isinstance(tree, Mapping):
    raise WeightsError(f"{file} holds a {type(tree).__name__}, not a tree")
  flat = {}
  for module, arrays in tree.items():
    if not isinstance(arrays, Mapping):
      raise WeightsError(
          f"{file}: {printable(module)!r} is a {type(arrays).__name__}, not a"
          " module"
      )
    for name, array in arrays.items():
      shown = f"{file}: {printable(f'{module}|{name}')}"
      value = array.value if isinstance(array, pickles.Array) else array
      if isinstance(value, WeightsError):
        raise WeightsError(f"{shown}: {value}")
      if not isinstance(value, np.ndarray | int | float):
        kind = "list of objects" if value is not array else type(value).__name__
        raise WeightsError(f"{shown} is a {kind}, not an array")
      if isinstance(value, int) and abs(value) >= 2**63:
        raise WeightsError(f"{shown} is more than 64 bits")
      flat[f"{module}|{name}"] = np.asarray(value)
  return flat


def _unpickled(data: bytes) -> Any:
  """The content of a pickle, or of a `.npy` that is a pickle."""
  if not data.startswith(np.lib.format.MAGIC_PREFIX):
    return pickles.load(data)
  file = io.BytesIO(data)
  _, _, dtype = npy_header(file)
  if not dtype.hasobject:
    raise WeightsError(f"an array of {printable(dtype)}, not a tree of them")
  array = pickles.load(file.read())
  objects = array.value if isinstance(array, pickles.Array) else None
  if not isinstance(objects, list) or len(objects) != 1:
    raise WeightsError("an array of objects, not of one tree")
  return objects[0]
