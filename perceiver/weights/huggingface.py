"""Reads and writes Hugging Face's Perceiver checkpoints.

https://huggingface.co/docs/transformers/model_doc/perceiver
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import numpy as np
import safetensors.numpy

from perceiver.weights.tensors import Conversion
from perceiver.weights.tensors import gist
from perceiver.weights.tensors import Place
from perceiver.weights.tensors import Places
from perceiver.weights.tensors import SAME
from perceiver.weights.tensors import STATE
from perceiver.weights.tensors import WeightsError

_BLOCK = {
    "attention/q": "attention.self.query",
    "attention/k": "attention.self.key",
    "attention/v": "attention.self.value",
    "attention/output": "attention.output.dense",
    "mlp/hidden": "mlp.dense1",
    "mlp/output": "mlp.dense2",
    "norm_mlp": "layernorm",
}
_CROSS = {
    **_BLOCK,
    "norm_query": "attention.self.layernorm1",
    "norm_x": "attention.self.layernorm2",
}
_SELF = {**_BLOCK, "norm_z": "attention.self.layernorm1"}


def _modules(decoder: str = "perceiver.decoder.decoder") -> dict[str, str]:
  """The modules that all models have."""
  encoder = "perceiver.encoder"
  blocks = (
      ("encoder/cross_attention", f"{encoder}.cross_attention", _CROSS),
      (
          "processor/layers/self_attention",
          f"{encoder}.self_attends.{{}}",
          _SELF,
      ),
      (
          "decoder/cross_attention",
          f"{decoder}.decoding_cross_attention",
          _CROSS,
      ),
  )
  return {
      "encoder/latents": "perceiver.embeddings.latents",
      **{
          f"{ours}/{inner}": f"{theirs}.{name}"
          for ours, theirs, block in blocks
          for inner, name in block.items()
      },
  }


_INPUT = "perceiver.input_preprocessor"
_TEXT = {
    "tokens": f"{_INPUT}.embeddings",
    "positions": f"{_INPUT}.position_embeddings",
}
_DECODER = "perceiver.decoder.decoder"
_QUERIES = "output_position_encodings.position_embeddings"
_HEADS = "perceiver.output_postprocessor.modalities"
_MODULES = {
    "mlm": {
        **_modules("perceiver.decoder"),
        **_TEXT,
        "queries": f"perceiver.decoder.{_QUERIES}",
        "logits": "embedding_decoder",
    },
    "glue": {
        **_modules(),
        **_TEXT,
        "query": f"{_DECODER}.{_QUERIES}",
        "logits": f"{_DECODER}.final_layer",
    },
    "flow": {
        **_modules(),
        "patches": f"{_INPUT}.conv_after_patches",
        "flow": f"{_DECODER}.final_layer",
    },
    "imagenet": {
        **_modules(),
        "pixels": f"{_INPUT}.convnet_1x1",
        "positions": f"{_INPUT}.position_embeddings.position_embeddings",
        "project_positions": f"{_INPUT}.positions_projection",
        "conv_stem/conv": f"{_INPUT}.convnet.conv",
        "conv_stem/norm": f"{_INPUT}.convnet.batchnorm",
        "query": f"{_DECODER}.{_QUERIES}",
        "logits": f"{_DECODER}.final_layer",
    },
    "kinetics": {
        **_modules(),
        "inputs/audio_padding": f"{_INPUT}.padding.audio",
        "inputs/video_padding": f"{_INPUT}.padding.image",
        "inputs/label_padding": f"{_INPUT}.padding.label",
        "inputs/label_mask": f"{_INPUT}.mask.label",
        "queries/audio_padding": "perceiver.decoder.padding.audio",
        "queries/video_padding": "perceiver.decoder.padding.image",
        "queries/label_padding": "perceiver.decoder.padding.label",
        "label_query": f"perceiver.decoder.modalities.label.decoder.{_QUERIES}",
        "output": f"{_DECODER}.final_layer",
        "audio": f"{_HEADS}.audio.classifier",
        "video": f"{_HEADS}.image.classifier",
        "label": f"{_HEADS}.label.classifier",
    },
}
# Allocated and never used, and what has the same shape: neither sound nor image
# is masked.
UNUSED = {
    f"{_INPUT}.mask.{name}": f"{_INPUT}.mask.label"
    for name in ("audio", "image")
}

_LINEAR = Conversion(lambda x: x.T, lambda x: x.T)
_PIXEL = Conversion(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
# Height and width of a kernel stay in order: the same function, there and here.
_KERNEL = Conversion(
    lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)
)
# The published convolutional checkpoint was made by reversing all axes, so that
# transformers reads its kernel with height and width swapped.
_REVERSED = Conversion(lambda x: x.T, lambda x: x.T)
_CHANNELS = Conversion(lambda x: x[None, None, None], lambda x: x[0, 0, 0])
_NAMES = {"w": "weight", "b": "bias", "scale": "weight", "offset": "bias"}
_DECAY = 0.9  # Of batch norm's averages.


def places(model: str) -> Places:
  """The names of a model's arrays in transformers.

  Args:
    model: "mlm", "glue", "flow", "imagenet" or "kinetics".
  """
  modules = _MODULES[model]

  def place(key):
    module, name = key.removeprefix(STATE).rsplit("/", 1)
    if key.startswith(STATE):
      return _place_of_average(module, name)
    if model == "glue" and module.endswith("_logits"):
      module = "logits"
    if module not in modules:
      return None
    if name in ("array", "embeddings"):
      is_text = model in ("mlm", "glue") and module in _TEXT
      suffix = ".weight" if is_text else ""
      return Place(modules[module] + suffix)
    conversion = _LINEAR if name == "w" else SAME
    if module == "pixels" and name == "w":
      conversion = _PIXEL
    elif module == "conv_stem/conv":
      conversion = _KERNEL
    elif module == "conv_stem/norm":
      conversion = _CHANNELS
    return Place(f"{modules[module]}.{_NAMES[name]}", conversion)

  return place


def kernel_swapped(places_of: Places) -> Places:
  """Places in the published convolutional checkpoint.

  Its kernel has height and width swapped: they come back as they were trained.
  """

  def place(key):
    found = places_of(key)
    if found is None or found.conversion is not _KERNEL:
      return found
    return Place(found.name, _REVERSED)

  return place


def _place_of_average(module: str, name: str) -> Place | None:
  names = {
      ("conv_stem/norm/~/mean_ema", "average"): "running_mean",
      ("conv_stem/norm/~/var_ema", "average"): "running_var",
      ("conv_stem/norm/~/mean_ema", "counter"): "num_batches_tracked",
  }
  if (module, name) not in names:
    return None
  conversion = SAME if name == "counter" else _CHANNELS
  return Place(f"{_INPUT}.convnet.batchnorm.{names[module, name]}", conversion)


def is_derived(key: str) -> bool:
  """Whether an array is missing in transformers and derived from others."""
  return key.startswith(STATE) and (
      key.endswith("/hidden") or key.endswith("var_ema/counter")
  )


def derived(ours: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Arrays that transformers lacks: batch norm's sums and second counter.

  Averages without a count are taken for those of many batches, so that training
  continues from them.

  Raises:
    WeightsError: if a count is negative.
  """
  arrays = {}
  for key, average in ours.items():
    if key.startswith(STATE) and key.endswith("/average"):
      prefix = key.removesuffix("average")
      counter = ours[prefix.replace("var_ema", "mean_ema") + "counter"]
      if counter < 0:
        raise WeightsError(
            f"{prefix}counter is {counter}, not a number of batches"
        )
      seen = 1.0 - _DECAY ** int(counter) if int(counter) else 1.0
      arrays[prefix + "hidden"] = (average * seen).astype(average.dtype)
      if "var_ema" in prefix:
        arrays[prefix + "counter"] = counter
  return arrays


def load(file: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of `model.safetensors` or `pytorch_model.bin`.

  The latter needs PyTorch, which builds tensors only and refuses all else.

  Raises:
    WeightsError: if the file is neither, or PyTorch is not there.
  """
  if file.suffix == ".safetensors":
    try:
      return safetensors.numpy.load_file(file)
    except Exception as error:
      message = f"{file} is no safetensors file: {gist(error)}"
      raise WeightsError(message) from error
  try:
    import torch  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise WeightsError(
        f"{file}: reading it needs PyTorch: pip install '.[huggingface]'"
    ) from error
  try:
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in tensors.items()}
  except Exception as error:
    message = f"{file} is no file of PyTorch tensors: {gist(error)}"
    raise WeightsError(message) from error


def save(
    folder: pathlib.Path,
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
) -> None:
  """Writes `model.safetensors` and `config.json`, each whole or not at all."""
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(config, indent=2) + "\n"
  files = {
      "config.json": text.encode(),
      "model.safetensors": safetensors.numpy.save(
          dict(tensors), metadata={"format": "pt"}
      ),
  }
  for name, data in files.items():
    partial = folder / f"{name}.partial"
    partial.write_bytes(data)
    partial.rename(folder / name)
