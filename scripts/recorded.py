"""Recorded models of the official release and of transformers, as ours.

Sizes and constructor arguments stand in a JSON beside the arrays; from them
comes one of our configs.
"""

from collections.abc import Callable
from collections.abc import Mapping
import json
import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict
import numpy as np

from configs import flow
from configs import glue
from configs import imagenet
from configs import kinetics
from configs import mlm

Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
  """One call of a recorded model."""

  name: str
  batch: Arrays  # What our model is given.
  outputs: Arrays  # What came out there, under our names.
  steps: Arrays  # What was on the way, under their names.
  cotangents: Arrays | None  # Of the outputs, and
  gradients: Arrays | None  # with respect to the parameters.
  # Where the recorded function is not ours, so that steps and gradients, which
  # are of it alone, are not comparable.
  differs: str = ""


class Recorded(NamedTuple):
  """A model with its parameters and what it computed."""

  name: str
  config: ConfigDict
  tensors: Arrays
  cases: list[Case]
  # Hugging Face's steps and gradients: with GELU as it is, not its tanh form.
  exact_gelu: bool = False
  whole: Arrays | None = None  # All of the first case decoded, in chunks.


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
  """Those whose names begin with a prefix, without it."""
  return {
      name.removeprefix(prefix): array
      for name, array in arrays.items()
      if name.startswith(prefix)
  }


def load_arrays(file: pathlib.Path) -> Arrays:
  """All arrays of an `.npz`."""
  with np.load(file) as arrays:
    return dict(arrays)


# --- The official release -----------------------------------------------------


def official(folder: pathlib.Path, name: str) -> Recorded:
  """A model of the official release."""
  description = json.loads((folder / f"{name}.json").read_text())
  make_config, make_batch, renames = _OFFICIAL[description["model"]]
  arrays = load_arrays(folder / f"{name}.npz")
  recorded = load_arrays(folder / f"{name}_grads.npz")
  cases = []
  for case in ("", "2"):
    outputs = part(arrays, f"out{case}:")
    is_first = not case
    cases.append(
        Case(
            name=f"case {case or 1}",
            batch=make_batch(part(arrays, f"in{case}:"), description["config"]),
            outputs=_renamed(outputs, renames),
            steps=part(arrays, "mid:") if is_first else {},
            cotangents=(
                _renamed(part(recorded, "cot:"), renames) if is_first else None
            ),
            gradients=_parameters(recorded) if is_first else None,
        )
    )
  return Recorded(
      name=name,
      config=make_config(description["config"], description["official_kwargs"]),
      tensors=_parameters(arrays),
      cases=cases,
      whole=_renamed(part(arrays, "outfull:"), renames) or None,
  )


def _parameters(arrays: Arrays) -> Arrays:
  return {k: x for k, x in arrays.items() if "|" in k}


def _renamed(arrays: Arrays, renames: Mapping[str, str]) -> Arrays:
  return {renames.get(name, name): array for name, array in arrays.items()}


def _latents(kwargs: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of our Encoder and Processor."""
  qk_channels = kwargs.get("qk_channels")
  in_read = qk_channels
  if (
      qk_channels is None
      and kwargs.get("cross_attention_shape_for_attn") == "q"
  ):
    in_read = kwargs["num_z_channels"]
  return {
      "encoder": {
          "num_latents": kwargs["z_index_dim"],
          "latent_channels": kwargs["num_z_channels"],
          "num_heads": kwargs["num_cross_attend_heads"],
          "qk_channels": in_read,
          "v_channels": kwargs.get("v_channels"),
          "widening_factor": kwargs["cross_attend_widening_factor"],
      },
      "processor": {
          "layers_per_block": kwargs["num_self_attends_per_block"],
          "num_blocks": kwargs["num_blocks"],
          "num_heads": kwargs["num_self_attend_heads"],
          "qk_channels": qk_channels,
          "widening_factor": kwargs["self_attend_widening_factor"],
      },
  }


def _decoder(kwargs: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of our Decoder."""
  return {
      "num_heads": kwargs.get("num_heads", 1),
      "qk_channels": kwargs.get("qk_channels"),
      "v_channels": kwargs.get("v_channels"),
      "use_query_residual": kwargs.get("use_query_residual", False),
  }


def _fourier(kwargs: Mapping[str, Any]) -> dict[str, Any]:
  settings = kwargs["fourier_position_encoding_kwargs"]
  return {
      "num_bands": settings["num_bands"],
      "max_resolution": settings["max_resolution"],
  }


def _official_mlm(sizes, kwargs):
  config = mlm.get_config("mini")
  config.model = ConfigDict(
      {
          "name": "perceiver_io",
          "tokens": {
              "vocabulary_size": sizes["vocab_size"],
              "channels": sizes["d_model"],
              "max_length": sizes["max_seq_len"],
          },
          **_latents(kwargs["encoder"]),
          "query_channels": kwargs["decoder"][
              "trainable_position_encoding_kwargs"
          ]["num_channels"],
          "decoder": _decoder(kwargs["decoder"]),
      }
  )
  return config


def _official_flow(sizes, kwargs):
  config = flow.get_config("mini")
  before = kwargs["input_preprocessor"]
  config.frame_size = tuple(sizes["size"])
  config.model = ConfigDict(
      {
          "input": {
              "name": "patches",
              "size": 3,
              "concat_frames": True,
              "channels": before["num_channels"],
          },
          **_fourier(before),
          **_latents(kwargs["encoder"]),
          "decoder": _decoder(kwargs["decoder"]),
          "upsample": 1,
      }
  )
  return config


def _official_imagenet(sizes, kwargs):
  config = imagenet.get_config("mini")
  before, after = kwargs["input_preprocessor"], kwargs["decoder"]
  config.image_size = tuple(sizes["image_size"])
  config.num_classes = sizes["num_classes"]
  config.model = ConfigDict(
      {
          "input": _official_image(before),
          **_latents(kwargs["encoder"]),
          "reads": {"num_reads": 1},
          "output": {
              "name": "class_query",
              "query_channels": after["trainable_position_encoding_kwargs"][
                  "num_channels"
              ],
              "decoder": _decoder(after),
          },
      }
  )
  return config


def _official_image(before):
  if before["prep_type"] == "conv":
    return {
        "name": "conv",
        "channels": before["num_channels"],
        **_fourier(before),
    }
  if before["position_encoding_type"] == "fourier":
    return {"name": "pixels", **_fourier(before)}
  return {
      "name": "learned_positions",
      "channels": before["num_channels"],
      "position_channels": before["trainable_position_encoding_kwargs"][
          "num_channels"
      ],
      "projected_channels": before["project_pos_dim"],
  }


def _official_kinetics(sizes, kwargs):
  config = kinetics.get_config("mini")
  size, frames = sizes["image_size"], sizes["num_frames"]
  video, audio = kwargs["image_prep"], kwargs["audio_prep"]
  config.video = (frames, size, size)
  config.samples_per_frame = sizes["audio_samples_per_frame"]
  config.num_classes = sizes["num_classes"]
  config.num_points = 0
  spatial = video["spatial_downsample"]
  config.model = ConfigDict(
      {
          "video": {
              "patch": (video["temporal_downsample"], spatial, spatial),
              **_fourier(video),
          },
          "audio": {
              "patch": audio["samples_per_patch"],
              "num_bands": _fourier(audio)["num_bands"],
          },
          "min_padding": kwargs["min_padding_size"],
          **_latents(kwargs["encoder"]),
          "label_channels": kwargs["label_dec"][
              "trainable_position_encoding_kwargs"
          ]["num_channels"],
          "min_query_padding": 2,
          "decoder": _decoder(kwargs["decoder"]),
          "output_channels": kwargs["decoder"]["output_num_channels"],
      }
  )
  return config


def _kinetics_batch(video, audio, video_points, audio_points):
  count = len(video)
  repeat = lambda points: np.tile(np.asarray(points, np.int32), (count, 1))
  return {
      "video": video,
      "audio": audio,
      "label": np.zeros([count], np.int32),  # It is masked.
      "video_points": repeat(video_points),
      "audio_points": repeat(audio_points),
  }


_image_batch = lambda given, sizes: {"image": given["images"]}
# The name there: config, batch, and what differs in the outputs' names.
_OFFICIAL: dict[str, tuple[Callable, Callable, Mapping[str, str]]] = {
    "mlm": (
        _official_mlm,
        lambda given, sizes: {
            "tokens": given["inputs"],
            "mask": given["input_mask"].astype(bool),
        },
        {},
    ),
    "flow": (
        _official_flow,
        lambda given, sizes: {"frames": given["images"]},
        {},
    ),
    "imagenet_fourier": (_official_imagenet, _image_batch, {}),
    "imagenet_learned": (_official_imagenet, _image_batch, {}),
    "imagenet_conv": (_official_imagenet, _image_batch, {}),
    "multimodal": (
        _official_kinetics,
        lambda given, sizes: _kinetics_batch(
            given["images"],
            given["audio"],
            given["image_points"],
            given["audio_points"],
        ),
        {"image": "video"},
    ),
}


# --- Hugging Face's transformers ----------------------------------------------


def transformers(folder: pathlib.Path, name: str) -> Recorded:
  """A model of transformers; outputs are the official code's on its weights."""
  description = json.loads((folder / f"{name}.json").read_text())
  # What it is follows from its class: names of files are free.
  kind = description["stock_class"].removeprefix("PerceiverFor")
  make_config, make_batch, differs = _TRANSFORMERS[kind]
  arrays = load_arrays(folder / f"{name}.npz")
  targets = load_arrays(folder / f"{name}.dm.npz")
  gradients = folder / f"{name}.grads.npz"
  recorded = load_arrays(gradients) if gradients.exists() else {}
  settings = {**description["config_full"], **description["config"]}
  sizes = {**settings, **description["tiny_kwargs"]}
  names = sorted({key.split("/")[1] for key in targets})
  cases = []
  for case in names:
    given = part(arrays, f"input/{case}/")
    cotangents = part(recorded, f"cotangent/{case}/")
    cases.append(
        Case(
            name=case,
            batch=make_batch(given),
            outputs=_ours(part(targets, f"dm_output/{case}/"), kind),
            steps={
                "latents": arrays[f"latents/{case}"],
                "cross_attention": arrays[f"cross_attention/{case}"],
                **{
                    f"transformers' {k}": v
                    for k, v in _ours(
                        part(arrays, f"output/{case}/"), kind
                    ).items()
                },
            },
            cotangents=_ours_cotangents(cotangents, kind) or None,
            gradients=part(recorded, f"grad/{case}/") or None,
            differs=differs.get(case, differs.get("", "")),
        )
    )
  batch = cases[0].batch
  return Recorded(
      name=name,
      config=make_config(sizes, batch),
      tensors=part(arrays, "param/"),
      cases=cases,
      exact_gelu=True,
  )


def _ours(outputs: Arrays, kind: str) -> Arrays:
  names = {"image": "video"}
  if kind == "OpticalFlow":
    # There in units of 20 pixels.
    return {"flow": 20 * outputs["logits"]} if outputs else {}
  if kind == "SequenceClassification":
    names = {"logits": "label"}
  return _renamed(outputs, names)


def _ours_cotangents(cotangents: Arrays, kind: str) -> Arrays:
  if kind == "OpticalFlow":
    return {
        k: x / 20 for k, x in _renamed(cotangents, {"logits": "flow"}).items()
    }
  return _ours(cotangents, kind)


def _hf_latents(sizes: Mapping[str, Any]) -> dict[str, Any]:
  return _latents(
      {
          "z_index_dim": sizes["num_latents"],
          "num_z_channels": sizes["d_latents"],
          "num_cross_attend_heads": sizes["num_cross_attention_heads"],
          "qk_channels": sizes.get("qk_channels"),
          "v_channels": sizes.get("v_channels"),
          "cross_attend_widening_factor": sizes[
              "cross_attention_widening_factor"
          ],
          "cross_attention_shape_for_attn": sizes[
              "cross_attention_shape_for_attention"
          ],
          "num_self_attends_per_block": sizes["num_self_attends_per_block"],
          "num_blocks": sizes["num_blocks"],
          "num_self_attend_heads": sizes["num_self_attention_heads"],
          "self_attend_widening_factor": sizes[
              "self_attention_widening_factor"
          ],
      }
  )


def _hf_text(sizes):
  return {
      "name": "perceiver_io",
      "tokens": {
          "vocabulary_size": sizes["vocab_size"],
          "channels": sizes["d_model"],
          "max_length": sizes["max_position_embeddings"],
      },
      **_hf_latents(sizes),
  }


def _hf_mlm(sizes, batch):
  config = mlm.get_config("mini")
  config.model = ConfigDict(
      {
          **_hf_text(sizes),
          "query_channels": sizes["d_model"],
          "decoder": {
              "num_heads": 8,
              "qk_channels": 256,
              "v_channels": sizes["d_model"],
              "use_query_residual": False,
          },
      }
  )
  return config


def _hf_text_classification(sizes, batch):
  config = glue.get_config("mini")
  config.tasks = ConfigDict({"label": sizes["num_labels"]})
  config.hidden_head = False
  config.max_length = sizes["max_position_embeddings"]
  config.model = ConfigDict(
      {
          **_hf_text(sizes),
          "query_channels": sizes["d_latents"],
          "decoder": {"use_query_residual": True},
      }
  )
  return config


def _hf_imagenet(make_input, use_query_residual):
  def make(sizes, batch):
    config = imagenet.get_config("mini")
    config.image_size = batch["image"].shape[1:3]
    config.num_classes = sizes["num_labels"]
    config.model = ConfigDict(
        {
            "input": make_input(sizes),
            **_hf_latents(sizes),
            "reads": {"num_reads": 1},
            "output": {
                "name": "class_query",
                "query_channels": sizes["d_latents"],
                "decoder": {"use_query_residual": use_query_residual},
            },
        }
    )
    return config

  return make


def _hf_flow(sizes, batch):
  config = flow.get_config("mini")
  config.frame_size = batch["frames"].shape[2:4]
  config.model = ConfigDict(
      {
          "input": {
              "name": "patches",
              "size": 3,
              "concat_frames": True,
              "channels": sizes.get("out_channels", 64),
          },
          "num_bands": sizes.get("num_bands", 64),
          "max_resolution": sizes["train_size"],
          **_hf_latents(sizes),
          "decoder": {"use_query_residual": False},
          "upsample": 1,
      }
  )
  return config


def _hf_kinetics(sizes, batch):
  config = kinetics.get_config("mini")
  config.video = batch["video"].shape[1:4]
  config.samples_per_frame = sizes["audio_samples_per_frame"]
  config.num_classes = sizes["num_labels"]
  config.num_points = 0
  config.model = ConfigDict(
      {
          "video": {
              "patch": (1, 4, 4),
              "num_bands": sizes.get("image_bands", 32),
              "max_resolution": None,
          },
          "audio": {
              "patch": sizes["samples_per_patch"],
              "num_bands": sizes.get("audio_bands", 192),
          },
          "min_padding": 4,
          **_hf_latents(sizes),
          "label_channels": sizes["_label_trainable_num_channels"],
          "min_query_padding": 2,
          "decoder": {"use_query_residual": False},
          "output_channels": sizes["output_num_channels"],
      }
  )
  return config


_channels_last = lambda x: np.moveaxis(x, -3, -1)


def _hf_text_batch(given):
  mask = given["attention_mask"].astype(bool)
  return {
      "tokens": given["inputs"].astype(np.int32),
      "mask": mask,
      "task": np.zeros([len(mask)], np.int32),
  }


def _hf_flow_batch(given):
  # [B, T, 27, Y, X] patches: the middle of each is the pixel.
  return {"frames": _channels_last(given["inputs"][:, :, 12:15])}


def _hf_kinetics_batch(given):
  return _kinetics_batch(
      _channels_last(given["inputs/image"]),
      given["inputs/audio"],
      given["subsampled_output_points/image"],
      given["subsampled_output_points/audio"],
  )


_hf_image_batch = lambda given: {"image": _channels_last(given["inputs"])}
_RESIDUAL = "transformers adds the query in the decoder"
_GRID = "transformers pads the convolution differently"
_PADDING = "transformers lets padded positions read"
# The class there, without its prefix: config, batch, and by case what differs.
_TRANSFORMERS: dict[str, tuple[Callable, Callable, Mapping[str, str]]] = {
    "MaskedLM": (_hf_mlm, _hf_text_batch, {"padded": _PADDING}),
    "SequenceClassification": (_hf_text_classification, _hf_text_batch, {}),
    "ImageClassificationFourier": (
        _hf_imagenet(
            lambda sizes: {
                "name": "pixels",
                "num_bands": sizes.get("num_bands", 64),
                "max_resolution": sizes.get("max_resolution", [224, 224]),
            },
            use_query_residual=True,
        ),
        _hf_image_batch,
        {},
    ),
    "ImageClassificationLearned": (
        _hf_imagenet(
            lambda sizes: {
                "name": "learned_positions",
                "channels": sizes.get("out_channels", 256),
                "projected_channels": sizes.get("project_pos_dim", 256),
            },
            use_query_residual=False,
        ),
        _hf_image_batch,
        {"": _RESIDUAL},
    ),
    "ImageClassificationConvProcessing": (
        _hf_imagenet(
            lambda sizes: {
                "name": "conv",
                "channels": sizes.get("out_channels", 64),
                "num_bands": sizes.get("num_bands", 64),
                "max_resolution": sizes.get("max_resolution", [56, 56]),
            },
            use_query_residual=True,
        ),
        _hf_image_batch,
        {"": _GRID},
    ),
    "OpticalFlow": (_hf_flow, _hf_flow_batch, {}),
    "MultimodalAutoencoding": (_hf_kinetics, _hf_kinetics_batch, {}),
}
