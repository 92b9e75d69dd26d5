"""Optical flow as in Perceiver IO, Tables 3 and 16."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import base

# How a pixel is seen, and whether the two frames are one image.
INPUTS = {
    "patches": {"name": "patches", "size": 3, "concat_frames": True},
    "patches_separate": {"name": "patches", "size": 3, "concat_frames": False},
    "pixels": {"name": "patches", "size": 1, "concat_frames": True},
    "pixels_separate": {"name": "patches", "size": 1, "concat_frames": False},
    "conv": {"name": "conv", "concat_frames": True},
    "conv_separate": {"name": "conv", "concat_frames": False},
}
# Those that train in minutes on generated scenes, small ones of Table 16.
MINI = {"mini": "conv"} | {
    f"mini_{name}": name for name in INPUTS if name != "conv"
}
# "patches" is the published model, "conv_small" the last row of Table 16.
VARIANTS = (*INPUTS, "conv_small", *MINI, "tiny")


def get_config(variant: str = "patches") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  others = {"conv_small": "conv", "tiny": "patches", **MINI}
  chosen = others.get(variant, variant)
  config = base.get_config()
  config.task = "flow"
  config.frame_size = (368, 496)  # pixels, y and x; larger frames: in tiles
  # The release's are not even.
  config.tiling = ConfigDict({"min_overlap": 20, "even": True})
  config.model = ConfigDict(
      {
          "input": {**INPUTS[chosen], "channels": 64},
          "num_bands": 64,
          "max_resolution": None,  # that of the features
          "encoder": {"num_latents": 2048, "latent_channels": 512},
          "processor": {"layers_per_block": 24, "num_heads": 16},
          # In eight chunks, 22816, training takes 2.6 GiB less an example.
          "decoder": {"use_query_residual": False, "chunk": placeholder(int)},
          "upsample": 4 if chosen.startswith("conv") else 1,
      }
  )
  if variant == "conv_small":
    config.model.encoder.num_latents = 1024
    config.model.processor.layers_per_block = 16
  # A data set of experiments/data/flow/sets.py, or scenes that are generated.
  config.train = "autoflow"
  config.sparse = False  # Whether flow is known at few pixels, as KITTI's is.
  config.augmentation = ConfigDict()  # Ranges, where they are not the usual.
  # In examples; the paper says neither how long the first phase is, without
  # augmentation, nor how fast severity grows then.
  config.curriculum = ConfigDict(
      {"plain_examples": 20 * 400_000, "growing_examples": 100 * 400_000}
  )
  config.evals = ("sintel_clean", "sintel_final", "kitti_2015")
  # How robust flow is: pairs of one of them with the noise of `Disturbed`.
  config.disturbed = "sintel_final"
  config.noises = ConfigDict(
      {
          "patch": {"side": 0.25, "deviation": 64.0},
          "noise": {"side": 0.0, "deviation": 32.0},
      }
  )
  config.eval_batch_size = 2  # Pairs of which a tile is computed at once.
  config.eval_pairs = 64  # Of those that are generated.
  config.scenes = ConfigDict({"size": (448, 576)})
  config.homographies = ConfigDict()
  config.motorcycle = ConfigDict({"shrink": 1})
  config.best = "sintel_final/epe"
  config.best_is_largest = False
  config.batch_size = 512
  config.train_examples = 480 * 400_000
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.0})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 4e-4, "warmup": 0}  # steps
  )
  if variant in MINI:
    mini(config)
  if variant == "tiny":
    tiny(config)
  return config


def mini(config: ConfigDict) -> None:
  """A small model of small scenes."""
  config.frame_size = (48, 64)
  config.tiling.min_overlap = 16
  config.model.num_bands = 16
  config.model.encoder = {"num_latents": 96, "latent_channels": 128}
  config.model.processor = {"layers_per_block": 4, "num_heads": 4}
  config.train = "scenes"
  dims = (12, 16) if config.model.upsample == 4 else config.frame_size
  config.start.nearby = 3.0
  grid = {"dims": dims, "latent_dims": (8, 12), "num_bands": 16}
  if not config.model.input.concat_frames:  # Half of the latents for each.
    grid |= {"dims": (2, *dims), "latent_dims": (2, 6, 8)}
  config.start.grids = {"frames": grid}
  config.scenes = {
      "size": (64, 80),
      "objects": (1, 4),
      "zoom": (0.1, 0.4),
      "translation": 8.0,
      "rotation": 15.0,
      "scale": 1.15,
      "warp": 0.5,
      "motion_blur": 0.2,
      "fog": 0.3,
      "noise": 3.0,
  }
  config.homographies = {"motion": 4.0}
  config.motorcycle.shrink = 8  # A tenth of its frame, as in the large scenes.
  config.augmentation = {"erased_size": (6, 12)}
  config.evals = ("scenes", "homographies", "motorcycle")
  config.disturbed = "scenes"
  config.eval_batch_size = 16
  config.best = "scenes/epe"
  config.batch_size = 16
  config.train_examples = 3000 * 16
  config.curriculum = {"plain_examples": 40_000, "growing_examples": 16_000}
  config.optimizer = ConfigDict({"name": "adamw", "weight_decay": 0.01})
  config.max_grad_norm = 1.0
  config.schedule.peak = 1e-3
  config.schedule.warmup = 50


def tiny(config: ConfigDict) -> None:
  """For tests."""
  mini(config)
  config.frame_size = (14, 22)
  config.tiling.min_overlap = 3
  config.model.input.channels = 8
  config.model.num_bands = 3
  config.model.encoder = {"num_latents": 7, "latent_channels": 16}
  config.model.processor = {"layers_per_block": 2, "num_heads": 4}
  config.scenes = {"size": (19, 29), "translation": 4.0, "warp": 0.5}
  config.start.nearby, config.start.grids = 0.0, {}
  config.homographies = {"motion": 2.0}
  config.augmentation = {"erased_size": (2, 4)}
  config.evals = ("scenes", "homographies")
  config.eval_batch_size, config.eval_pairs = 2, 3
  config.batch_size, config.train_examples = 4, 4 * 4
  config.curriculum = {"plain_examples": 4, "growing_examples": 8}
  config.schedule.warmup = 1
