"""A model as Hugging Face's transformers loads it."""

from collections.abc import Mapping
import pathlib
from typing import Any

import jax
import numpy as np

from experiments.engine.declared import declared
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.task import Config
from experiments.task import Transformers
from perceiver.weights import huggingface
from perceiver.weights import tensors

# Where our configs leave out a default that is not None.
_DEFAULTS = {
    "model.decoder.num_heads": 1,
    "model.decoder.use_query_residual": True,
    "model.output.decoder.num_heads": 1,
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
  """What transformers needs to build the model.

  Raises:
    UserError: if a setting differs from what its class has built in.
  """
  theirs = transformers(config)
  settings = config.to_dict()
  for key, value in theirs.built_in.items():
    ours = _get(settings, key)
    ours = tuple(ours) if isinstance(ours, list) else ours
    if ours != value:
      raise UserError(
          f"transformers' {theirs.name} cannot be built with {key} = {ours!r};"
          f" it has {value!r} built in"
      )
  encoder, processor = (settings["model"][k] for k in ("encoder", "processor"))
  shapes = {key: x.shape for key, x in tensors.flatten(*model).items()}
  return {
      "model_type": "perceiver",
      "architectures": [theirs.name],
      "d_model": shapes["encoder/cross_attention/norm_x/scale"][0],
      "num_latents": encoder["num_latents"],
      "d_latents": encoder["latent_channels"],
      "num_blocks": processor.get("num_blocks", 1),
      "num_self_attends_per_block": processor["layers_per_block"],
      "num_self_attention_heads": processor.get("num_heads", 8),
      "num_cross_attention_heads": encoder.get("num_heads", 1),
      "qk_channels": encoder.get("qk_channels"),
      "v_channels": encoder.get("v_channels"),
      "self_attention_widening_factor": processor.get("widening_factor", 1),
      "cross_attention_widening_factor": encoder.get("widening_factor", 1),
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
    return of_task(config)


def _get(settings: Mapping[str, Any], key: str) -> Any:
  """A setting by its dotted path; what is left out has its default."""
  value: Any = settings
  for part in key.split("."):
    if not isinstance(value, Mapping) or part not in value:
      return _DEFAULTS.get(key)
    value = value[part]
  return value
