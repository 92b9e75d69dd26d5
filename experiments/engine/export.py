"""Exports models for Hugging Face's transformers."""

from collections.abc import Mapping
import pathlib
from typing import Any

import jax
import numpy as np

from experiments.engine import settings
from experiments.engine.declared import declared
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.task import Config
from experiments.task import Transformers
from perceiver.weights import huggingface
from perceiver.weights import tensors


def to_huggingface(
    folder: str | pathlib.Path, config: Config, model: Model
) -> list[str]:
  """Writes `model.safetensors` and `config.json`; returns the differences.

  Raises:
    UserError: if transformers has no such model; nothing is written then.
  """
  written = config_json(config, model)
  try:
    ours = jax.device_get(tensors.flatten(*model))
    theirs = tensors.to_theirs(
        {k: x for k, x in ours.items() if not huggingface.is_derived(k)},
        transformers(config).places,
    )
  except tensors.WeightsError as error:
    raise UserError(str(error)) from error
  for name, like in huggingface.UNUSED.items():
    if like in theirs:
      theirs[name] = np.zeros_like(theirs[like])
  huggingface.save(pathlib.Path(folder), theirs, written)
  return differences(config, is_export=True)


def config_json(config: Config, model: Model) -> dict[str, Any]:
  """The config of the model for transformers.

  Raises:
    UserError: if a setting differs from what its class has built in.
  """
  theirs = transformers(config)
  ours = settings.complete(config).to_dict()
  for key, value in theirs.built_in.items():
    found = _get(ours, key)
    found = tuple(found) if isinstance(found, list) else found
    if found != value:
      raise UserError(
          f"transformers' {theirs.name} cannot be built with {key} = {found!r};"
          f" it has {value!r} built in"
      )
  encoder, processor = (ours["model"][k] for k in ("encoder", "processor"))
  shapes = {key: x.shape for key, x in tensors.flatten(*model).items()}
  return {
      "model_type": "perceiver",
      "architectures": [theirs.name],
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
      "use_query_residual": encoder["use_query_residual"],  # Of the encoder.
      # GELU in its tanh form.
      "hidden_act": "gelu_pytorch_tanh",
      "attention_probs_dropout_prob": 0.0,
      **theirs.settings,
  }


def differences(config: Config, is_export: bool) -> list[str]:
  """How transformers' model with the same weights differs from this one.

  Raises:
    UserError: if transformers has no such model.
  """
  theirs = transformers(config)
  if is_export:
    return [*theirs.differences]
  return [
      "transformers computes GELU exactly where this model, like the official"
      " one, takes its tanh form",
      *theirs.differences,
      *theirs.differences_of_theirs,
  ]


def transformers(config: Config) -> Transformers:
  """The class of transformers that is a config's model.

  Raises:
    UserError: if there is none.
  """
  without = "transformers has no Perceiver"
  of_task = declared(config.task, "transformers", without)
  with user_errors("transformers"):
    return of_task(settings.complete(config))


def _get(config: Mapping[str, Any], key: str) -> Any:
  """A setting by its dotted path; None: this model has no such setting."""
  value: Any = config
  for part in key.split("."):
    if not isinstance(value, Mapping) or part not in value:
      return None
    value = value[part]
  return value
