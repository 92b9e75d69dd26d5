"""A model as Hugging Face's transformers loads it."""

from collections.abc import Mapping
import pathlib
from typing import Any

import jax
import numpy as np

from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.task import Config
from perceiver.weights import huggingface
from perceiver.weights import tensors

# What transformers' classes have built in: class, and our settings that must
# agree with it.
_BUILT_IN = {
    "mlm": (
        "PerceiverForMaskedLM",
        {
            "model.name": "perceiver_io",
            "model.decoder.num_heads": 8,
            "model.decoder.qk_channels": 256,
            "model.decoder.use_query_residual": False,
        },
    ),
    "glue": (
        "PerceiverForSequenceClassification",
        {
            "model.name": "perceiver_io",
            "model.task_token": None,
            "hidden_head": False,
            "model.decoder.num_heads": 1,
            "model.decoder.qk_channels": None,
            "model.decoder.v_channels": None,
            "model.decoder.use_query_residual": True,
        },
    ),
    "flow": (
        "PerceiverForOpticalFlow",
        {
            "model.input.name": "patches",
            "model.input.size": 3,
            "model.input.concat_frames": True,
            "model.input.channels": 64,
            "model.num_bands": 64,
            "model.upsample": 1,
            "model.decoder.use_query_residual": False,
        },
    ),
    "pixels": (
        "PerceiverForImageClassificationFourier",
        {
            "model.input.num_bands": 64,
            "model.input.channels": None,
            "image_size": (224, 224),
        },
    ),
    "learned_positions": (
        "PerceiverForImageClassificationLearned",
        {
            "model.input.channels": 256,
            "model.input.position_channels": None,
            "model.input.projected_channels": None,
        },
    ),
    "conv": (
        "PerceiverForImageClassificationConvProcessing",
        {
            "model.input.channels": 64,
            "model.input.num_bands": 64,
            "image_size": (224, 224),
        },
    ),
    "kinetics": (
        "PerceiverForMultimodalAutoencoding",
        {
            "model.video.patch": (1, 4, 4),
            "model.video.num_bands": 32,
            "model.audio.num_bands": 192,
            "model.min_padding": 4,
            "model.min_query_padding": 2,
            "model.decoder.use_query_residual": False,
        },
    ),
}
_IMAGENET_OUTPUT = {
    "model.reads.num_reads": 1,
    "model.output.name": "class_query",
    "model.output.decoder.num_heads": 1,
    "model.output.decoder.qk_channels": None,
    "model.output.decoder.v_channels": None,
}


def to_huggingface(
    folder: str | pathlib.Path, config: Config, model: Model
) -> list[str]:
  """Writes `model.safetensors` and `config.json`; returns what will differ.

  Raises:
    UserError: if transformers has no such model; nothing is written then.
  """
  written = config_json(config, model)
  try:
    places = huggingface.places(config.task)
    ours = jax.device_get(tensors.flatten(*model))
    theirs = tensors.to_theirs(
        {k: x for k, x in ours.items() if not huggingface.is_derived(k)}, places
    )
  except tensors.WeightsError as error:
    raise UserError(str(error)) from error
  if config.task == "kinetics":
    width = theirs["perceiver.input_preprocessor.mask.label"]
    theirs |= {name: np.zeros_like(width) for name in huggingface.UNUSED}
  huggingface.save(pathlib.Path(folder), theirs, written)
  return differences(config, is_export=True)


def config_json(config: Config, model: Model) -> dict[str, Any]:
  """What transformers needs to build the model.

  Raises:
    UserError: if a setting differs from what its class has built in.
  """
  kind = config.task
  if kind == "imagenet":
    kind = config.model.input.name
  if kind not in _BUILT_IN:
    raise UserError(f"transformers has no Perceiver for {config.task!r}")
  name, required = _BUILT_IN[kind]
  if config.task == "imagenet":
    required = {**required, **_IMAGENET_OUTPUT}
  settings = config.to_dict()
  for key, value in required.items():
    ours = _get(settings, key)
    ours = tuple(ours) if isinstance(ours, list) else ours
    if ours != value:
      raise UserError(
          f"transformers' {name} cannot be built with {key} = {ours!r}; it has"
          f" {value!r} built in"
      )
  encoder, processor = (settings["model"][k] for k in ("encoder", "processor"))
  shapes = {key: x.shape for key, x in tensors.flatten(*model).items()}
  return {
      "model_type": "perceiver",
      "architectures": [name],
      "d_model": shapes["encoder/cross_attention/norm_x/scale"][0],
      "num_latents": encoder["num_latents"],
      "d_latents": encoder["latent_channels"],
      "num_blocks": processor["num_blocks"],
      "num_self_attends_per_block": processor["layers_per_block"],
      "num_self_attention_heads": processor["num_heads"],
      "num_cross_attention_heads": encoder["num_heads"],
      "qk_channels": encoder["qk_channels"],
      "v_channels": encoder["v_channels"],
      "self_attention_widening_factor": processor["widening_factor"],
      "cross_attention_widening_factor": encoder["widening_factor"],
      # GELU in its tanh form.
      "hidden_act": "gelu_pytorch_tanh",
      "attention_probs_dropout_prob": 0.0,
      **_of_task(kind, settings, shapes),
  }


def _of_task(
    kind: str, settings: Mapping[str, Any], shapes: Mapping[str, Any]
) -> dict[str, Any]:
  """The settings that one class alone reads."""
  if kind in ("mlm", "glue"):
    tokens = settings["model"]["tokens"]
    if kind == "glue" and len(settings["tasks"]) != 1:
      raise UserError("transformers' text classifier has one task")
    classes = list(settings.get("tasks", {}).values())
    return {
        "vocab_size": tokens["vocabulary_size"],
        "max_position_embeddings": tokens["max_length"],
        **({"num_labels": classes[0]} if classes else {}),
    }
  if kind == "flow":
    resolution = settings["model"]["max_resolution"]
    return {"train_size": list(resolution or settings["frame_size"])}
  if kind == "kinetics":
    frames, height, width = settings["video"]
    resolution = settings["model"]["video"]["max_resolution"]
    resolution = list(resolution or (frames, height // 4, width // 4))
    if resolution[0] != frames or resolution[1] != resolution[2]:
      raise UserError("transformers' autoencoder has square frames")
    return {
        "num_labels": settings["num_classes"],
        "num_frames": frames,
        "image_size": resolution[1],
        "audio_samples_per_frame": settings["samples_per_frame"],
        "samples_per_patch": settings["model"]["audio"]["patch"],
        "output_shape": [1, frames, height, width],
        "output_num_channels": settings["model"]["output_channels"],
        "_label_trainable_num_channels": settings["model"]["label_channels"],
    }
  size = settings["image_size"]
  if kind == "learned_positions" and size[0] != size[1]:
    raise UserError("transformers' learned positions are for square images")
  if shapes["query/array"][1] != shapes["encoder/latents/array"][1]:
    raise UserError("transformers' class query is as wide as the latents")
  return {"num_labels": settings["num_classes"], "image_size": size[0]}


def differences(config: Config, is_export: bool) -> list[str]:
  """How transformers' model with the same weights differs from this one."""
  settings = config.to_dict()
  notes = []
  if not is_export:
    notes.append(
        "transformers computes GELU exactly where this model, like the official"
        " one, takes its tanh form"
    )
  if config.task == "mlm":
    notes.append(
        "transformers lets padded positions read the latents; their logits"
        " differ, no others do"
    )
  kind = _get(settings, "model.input.name")
  residual = _get(settings, "model.output.decoder.use_query_residual")
  if config.task == "imagenet" and residual is False:
    notes.append(
        "transformers adds the decoder's query to what it reads; this model,"
        " like the official one, does not: the logits differ"
    )
  if config.task == "imagenet" and kind == "conv":
    notes.append(
        "of 224 x 224 pixels transformers makes 55 x 55 features where this"
        " model, like the official one, makes 56 x 56: the logits differ"
    )
    if not is_export:
      notes.append(
          "in the published checkpoint (not in others) the convolution's kernel"
          " has height and width swapped: --swap_kernel puts them back"
      )
  return notes


def _get(settings: Mapping[str, Any], key: str) -> Any:
  """A setting by its dotted path; None: this model has no such setting."""
  value: Any = settings
  for part in key.split("."):
    if not isinstance(value, Mapping) or part not in value:
      return None
    value = value[part]
  return value
