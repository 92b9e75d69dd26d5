"""Models of Hugging Face's transformers."""

from collections.abc import Callable
from collections.abc import Mapping
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict
import numpy as np

from configs import flow
from configs import glue
from configs import imagenet
from configs import kinetics
from configs import mlm
from tools import recordings


def load(folder: pathlib.Path, name: str) -> recordings.Recorded:
  """A model of transformers; outputs are the official code's on its weights."""
  description = json.loads((folder / f"{name}.json").read_text())
  # What it is follows from its class: names of files are free.
  kind = description["stock_class"].removeprefix("PerceiverFor")
  make_config, make_batch, differs = _TRANSFORMERS[kind]
  arrays = recordings.load_arrays(folder / f"{name}.npz")
  targets = recordings.load_arrays(folder / f"{name}.dm.npz")
  gradients = folder / f"{name}.grads.npz"
  recorded = recordings.load_arrays(gradients) if gradients.exists() else {}
  settings = {**description["config_full"], **description["config"]}
  sizes = {**settings, **description["tiny_kwargs"]}
  names = sorted({key.split("/")[1] for key in targets})
  cases = []
  for case in names:
    given = recordings.part(arrays, f"input/{case}/")
    cotangents = recordings.part(recorded, f"cotangent/{case}/")
    cases.append(
        recordings.Case(
            name=case,
            batch=make_batch(given),
            outputs=_ours(recordings.part(targets, f"dm_output/{case}/"), kind),
            steps={
                "latents": arrays[f"latents/{case}"],
                "cross_attention": arrays[f"cross_attention/{case}"],
                **{
                    f"transformers' {k}": v
                    for k, v in _ours(
                        recordings.part(arrays, f"output/{case}/"), kind
                    ).items()
                },
            },
            cotangents=_ours_cotangents(cotangents, kind) or None,
            gradients=recordings.part(recorded, f"grad/{case}/") or None,
            differs=differs.get(case, differs.get("", "")),
        )
    )
  batch = cases[0].batch
  return recordings.Recorded(
      name=name,
      config=make_config(sizes, batch),
      tensors=recordings.part(arrays, "param/"),
      cases=cases,
      exact_gelu=True,
  )


def _ours(outputs: recordings.Arrays, kind: str) -> recordings.Arrays:
  names = {"image": "video"}
  if kind == "OpticalFlow":
    # There in units of 20 pixels.
    return {"flow": 20 * outputs["logits"]} if outputs else {}
  if kind == "SequenceClassification":
    names = {"logits": "label"}
  return recordings.renamed(outputs, names)


def _ours_cotangents(
    cotangents: recordings.Arrays, kind: str
) -> recordings.Arrays:
  if kind == "OpticalFlow":
    return {
        k: x / 20
        for k, x in recordings.renamed(cotangents, {"logits": "flow"}).items()
    }
  return _ours(cotangents, kind)


def _latents(sizes: Mapping[str, Any]) -> dict[str, Any]:
  return recordings.latents(
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


def _text(sizes):
  return {
      "name": "perceiver_io",
      "tokens": {
          "vocabulary_size": sizes["vocab_size"],
          "channels": sizes["d_model"],
          "max_length": sizes["max_position_embeddings"],
      },
      **_latents(sizes),
  }


def _mlm(sizes, batch):
  config = mlm.get_config("mini")
  config.model = ConfigDict(
      {
          **_text(sizes),
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


def _text_classification(sizes, batch):
  config = glue.get_config("mini_cola")
  config.tasks = ConfigDict({"label": sizes["num_labels"]})
  config.hidden_head = False
  config.max_length = sizes["max_position_embeddings"]
  config.model = ConfigDict(
      {
          **_text(sizes),
          "query_channels": sizes["d_latents"],
          "decoder": {"use_query_residual": True},
      }
  )
  return config


def _imagenet(make_input, use_query_residual):
  def make(sizes, batch):
    config = imagenet.get_config("tiny")
    config.image_size = batch["image"].shape[1:3]
    config.num_classes = sizes["num_labels"]
    config.model = ConfigDict(
        {
            "input": make_input(sizes),
            **_latents(sizes),
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


def _flow(sizes, batch):
  config = flow.get_config("tiny")
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
          **_latents(sizes),
          "decoder": {"use_query_residual": False},
          "upsample": 1,
      }
  )
  return config


def _kinetics(sizes, batch):
  config = kinetics.get_config("tiny")
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
              "max_resolution": None,
          },
          "min_padding": 4,
          **_latents(sizes),
          "label_channels": sizes["_label_trainable_num_channels"],
          "query_channels": sizes["_label_trainable_num_channels"] + 2,
          "decoder": {"use_query_residual": False},
          "output_channels": sizes["output_num_channels"],
      }
  )
  return config


_channels_last = lambda x: np.moveaxis(x, -3, -1)


def _text_batch(given):
  mask = given["attention_mask"].astype(bool)
  return {
      "tokens": given["inputs"].astype(np.int32),
      "mask": mask,
      "task": np.zeros([len(mask)], np.int32),
  }


def _flow_batch(given):
  # [B, T, 27, Y, X] patches: the middle of each is the pixel.
  return {"frames": _channels_last(given["inputs"][:, :, 12:15])}


def _kinetics_batch(given):
  return recordings.kinetics_batch(
      _channels_last(given["inputs/image"]),
      given["inputs/audio"],
      given["subsampled_output_points/image"],
      given["subsampled_output_points/audio"],
  )


_image_batch = lambda given: {"image": _channels_last(given["inputs"])}
_RESIDUAL = "transformers adds the query in the decoder"
_GRID = "transformers pads the convolution differently"
_PADDING = "transformers lets padded positions read"
# The class there, without its prefix: config, batch, and by case what differs.
_TRANSFORMERS: dict[str, tuple[Callable, Callable, Mapping[str, str]]] = {
    "MaskedLM": (_mlm, _text_batch, {"padded": _PADDING}),
    "SequenceClassification": (_text_classification, _text_batch, {}),
    "ImageClassificationFourier": (
        _imagenet(
            lambda sizes: {
                "name": "pixels",
                "num_bands": sizes.get("num_bands", 64),
                "max_resolution": sizes.get("max_resolution", [224, 224]),
            },
            use_query_residual=True,
        ),
        _image_batch,
        {},
    ),
    "ImageClassificationLearned": (
        _imagenet(
            lambda sizes: {
                "name": "learned_positions",
                "channels": sizes.get("out_channels", 256),
                "projected_channels": sizes.get("project_pos_dim", 256),
            },
            use_query_residual=False,
        ),
        _image_batch,
        {"": _RESIDUAL},
    ),
    "ImageClassificationConvProcessing": (
        _imagenet(
            lambda sizes: {
                "name": "conv",
                "channels": sizes.get("out_channels", 64),
                "num_bands": sizes.get("num_bands", 64),
                "max_resolution": sizes.get("max_resolution", [56, 56]),
            },
            use_query_residual=True,
        ),
        _image_batch,
        {"": _GRID},
    ),
    "OpticalFlow": (_flow, _flow_batch, {}),
    "MultimodalAutoencoding": (_kinetics, _kinetics_batch, {}),
}
