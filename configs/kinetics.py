"""Multimodal autoencoding of Kinetics as in Perceiver IO, Tables 4 and 17."""

import math

from ml_collections import ConfigDict

from configs import base

# Latents: the more, the less the video is compressed (88, 176 and 352 times).
LATENTS = {"latents_784": 784, "latents_392": 392, "latents_196": 196}
# "published" has 32 bands for video where the paper says 64.
# The same in small, for clips of a film: latents that start on a grid of video,
# frames × rows × columns, and along the sound.
MINI = {
    "mini_32": ((2, 3, 4), 8),
    "mini_16": ((2, 2, 3), 4),
    "mini_8": ((1, 2, 3), 2),
    "mini_2": ((1, 1, 1), 1),
}
VARIANTS = ("published", *LATENTS, *MINI, "tiny")
TRAIN_CLIPS = 536_489  # of Kinetics-700-2020


def get_config(variant: str = "published") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  config = base.get_config()
  config.task = "kinetics"
  config.video = (16, 224, 224)  # frames, pixels, pixels
  config.samples_per_frame = 1920  # 48 kHz at 25 frames a second
  config.num_classes = 700
  config.hide_label = 0.5  # of the examples, in training; else always
  config.num_points = 512  # voxels and audio patches decoded; 0: all
  config.num_chunks = 128  # in which all are decoded
  config.modalities = ("audio", "video", "label")  # any but the label alone
  # The paper's other weights are these with label 1: better classes, and worse
  # pictures.
  config.loss_weights = ConfigDict({"video": 0.03, "audio": 1.0, "label": 1e-4})
  # Lists that scripts/prepare_data.py has indexed.
  config.train = ConfigDict({"name": "kinetics", "split": "train"})
  config.sets = ConfigDict(
      {
          "test": {"name": "kinetics", "split": "validate"},
          "training_set": {"name": "kinetics", "split": "train"},
      }
  )
  config.evals = ("test",)  # of these
  config.skip_missing = False  # True: evaluate on the clips that there are
  config.eval_batch_size = 64
  config.best = "test/video_psnr"
  config.batch_size = 1024
  # The papers say neither how long it was trained nor with what optimizer: as
  # for ImageNet.
  config.train_examples = 110 * TRAIN_CLIPS
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.1})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 1e-3, "warmup": 0}  # steps
  )
  config.model = ConfigDict(
      {
          "video": {
              "patch": (1, 4, 4),
              "num_bands": 32 if variant == "published" else 64,
              "max_resolution": None,  # that of the patches
          },
          # None: that of the samples, though a patch has 16 of them.
          "audio": {"patch": 16, "num_bands": 192, "max_resolution": None},
          "min_padding": 4,
          "encoder": {
              "num_latents": LATENTS.get(variant, 784),
              "latent_channels": 512,
          },
          "processor": {"layers_per_block": 8, "num_heads": 8},
          "label_channels": 1024,
          "min_query_padding": 2,
          "decoder": {"use_query_residual": False},
          "output_channels": 512,
      }
  )
  if variant in MINI:
    mini(config, *MINI[variant])
  if variant == "tiny":
    tiny(config)
  return config


def mini(
    config: ConfigDict, of_video: tuple[int, int, int], of_audio: int
) -> None:
  """A small model of a third of a second, which has 25,216 numbers."""
  config.video = (8, 32, 32)
  config.samples_per_frame = 80  # 2 kHz
  config.num_classes = 10
  config.num_points = 256
  config.num_chunks = 8
  config.model.video.num_bands = 8
  # A latent reads one average: of sound it keeps what one patch is.
  config.model.audio = {"patch": 80, "num_bands": 4, "max_resolution": (8,)}
  config.model.encoder = {
      "num_latents": math.prod(of_video) + of_audio,
      "latent_channels": 128,
  }
  config.start.nearby = 3.0
  config.start.grids = {
      "video": {
          "dims": (8, 8, 8),  # Patches.
          "latent_dims": of_video,
          "num_bands": 8,
          "of_inputs": 48,  # After the numbers of a patch.
          "of_queries": 0,
      },
      "audio": {
          "dims": (8,),
          "latent_dims": (of_audio,),
          "num_bands": 4,
          "of_inputs": 80,
          "of_queries": 0,
      },
  }
  config.model.processor = {"layers_per_block": 4, "num_heads": 4}
  config.model.label_channels = 128
  config.model.output_channels = 64
  config.train.name = "film"
  config.sets.test.name = config.sets.training_set.name = "film"
  config.batch_size = config.eval_batch_size = 16
  config.train_examples = 16 * 2000
  config.optimizer = {"name": "adamw", "weight_decay": 0.01}
  config.max_grad_norm = 1.0
  config.schedule.warmup = 100


def tiny(config: ConfigDict) -> None:
  """For tests."""
  config.video = (2, 12, 12)
  config.samples_per_frame = 24
  config.num_classes = 7
  config.num_points = 5
  config.num_chunks = 3
  config.model.video.num_bands = 3
  config.model.audio = {"patch": 4, "num_bands": 5, "max_resolution": None}
  config.model.encoder = {"num_latents": 7, "latent_channels": 16}
  config.model.processor = {"layers_per_block": 2, "num_heads": 4}
  config.model.label_channels = 23
  config.model.output_channels = 12
  config.batch_size, config.eval_batch_size = 4, 3
  config.train_examples = 4 * 4
  config.schedule.warmup = 1
