"""Models of the official release."""

from collections.abc import Callable
from collections.abc import Mapping
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from configs import flow
from configs import imagenet
from configs import kinetics
from configs import mlm
from tools import recordings


def load(folder: pathlib.Path, name: str) -> recordings.Recorded:
  """A model of the official release."""
  description = json.loads((folder / f"{name}.json").read_text())
  make_config, make_batch, renames = _OFFICIAL[description["model"]]
  arrays = recordings.load_arrays(folder / f"{name}.npz")
  recorded = recordings.load_arrays(folder / f"{name}_grads.npz")
  cases = []
  for case in ("", "2"):
    outputs = recordings.part(arrays, f"out{case}:")
    is_first = not case
    cases.append(
        recordings.Case(
            name=f"case {case or 1}",
            batch=make_batch(
                recordings.part(arrays, f"in{case}:"), description["config"]
            ),
            outputs=recordings.renamed(outputs, renames),
            steps=recordings.part(arrays, "mid:") if is_first else {},
            cotangents=(
                recordings.renamed(recordings.part(recorded, "cot:"), renames)
                if is_first
                else None
            ),
            gradients=_parameters(recorded) if is_first else None,
        )
    )
  return recordings.Recorded(
      name=name,
      config=make_config(description["config"], description["official_kwargs"]),
      tensors=_parameters(arrays),
      cases=cases,
      whole=recordings.renamed(recordings.part(arrays, "outfull:"), renames)
      or None,
  )


def _parameters(arrays: recordings.Arrays) -> recordings.Arrays:
  return {k: x for k, x in arrays.items() if "|" in k}


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


def _mlm(sizes, kwargs):
  config = mlm.get_config("mini")
  config.model = ConfigDict(
      {
          "name": "perceiver_io",
          "tokens": {
              "vocabulary_size": sizes["vocab_size"],
              "channels": sizes["d_model"],
              "max_length": sizes["max_seq_len"],
          },
          **recordings.latents(kwargs["encoder"]),
          "query_channels": kwargs["decoder"][
              "trainable_position_encoding_kwargs"
          ]["num_channels"],
          "decoder": _decoder(kwargs["decoder"]),
      }
  )
  return config


def _flow(sizes, kwargs):
  config = flow.get_config("tiny")
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
          **recordings.latents(kwargs["encoder"]),
          "decoder": _decoder(kwargs["decoder"]),
          "upsample": 1,
      }
  )
  return config


def _imagenet(sizes, kwargs):
  config = imagenet.get_config("tiny")
  before, after = kwargs["input_preprocessor"], kwargs["decoder"]
  config.image_size = tuple(sizes["image_size"])
  config.num_classes = sizes["num_classes"]
  config.model = ConfigDict(
      {
          "input": _image(before),
          **recordings.latents(kwargs["encoder"]),
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


def _image(before):
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


def _kinetics(sizes, kwargs):
  config = kinetics.get_config("tiny")
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
              "max_resolution": None,
          },
          "min_padding": kwargs["min_padding_size"],
          **recordings.latents(kwargs["encoder"]),
          "label_channels": kwargs["label_dec"][
              "trainable_position_encoding_kwargs"
          ]["num_channels"],
          "query_channels": kwargs["label_dec"][
              "trainable_position_encoding_kwargs"
          ]["num_channels"]
          + 2,
          "decoder": _decoder(kwargs["decoder"]),
          "output_channels": kwargs["decoder"]["output_num_channels"],
      }
  )
  return config


_image_batch = lambda given, sizes: {"image": given["images"]}
# The name there: config, batch, and what differs in the outputs' names.
_OFFICIAL: dict[str, tuple[Callable, Callable, Mapping[str, str]]] = {
    "mlm": (
        _mlm,
        lambda given, sizes: {
            "tokens": given["inputs"],
            "mask": given["input_mask"].astype(bool),
        },
        {},
    ),
    "flow": (
        _flow,
        lambda given, sizes: {"frames": given["images"]},
        {},
    ),
    "imagenet_fourier": (_imagenet, _image_batch, {}),
    "imagenet_learned": (_imagenet, _image_batch, {}),
    "imagenet_conv": (_imagenet, _image_batch, {}),
    "multimodal": (
        _kinetics,
        lambda given, sizes: recordings.kinetics_batch(
            given["images"],
            given["audio"],
            given["image_points"],
            given["audio_points"],
        ),
        {"image": "video"},
    ),
}
