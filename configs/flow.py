"""Optical flow as in Perceiver IO, Tables 3 and 16.

    python -m experiments.train --config=configs/flow.py:patches --workdir=DIR

reads AutoFlow, unpacked in DATA_DIR/autoflow, and evaluates on Sintel and
KITTI. The full-size models were not trained here. `mini*` are small ones on
generated scenes, for which there is nothing to prepare:

    python -m experiments.train --config=configs/flow.py:mini --workdir=DIR

In 17 minutes of two busy cores `mini` came to an error of 0.870 pixels on
held-out scenes, 57 % of that of zero flow. After 600 steps `mini_patches` was
at 1.419 where zero flow has 1.535. Those of single pixels and of separate
frames predicted zero flow after 200 to 2,000 steps. They learn easier pairs
(`python -m tools.learn_shifts`).
"""

from ml_collections import ConfigDict

from configs import base

PIXELS = {"model.input.size": 1}
CONV = {
    "model.input": {"name": "conv", "concat_frames": True, "channels": 64},
    "model.upsample": 4,
}
SEPARATE = {"model.input.concat_frames": False}  # The frames are two images.
# A small model of small scenes.
MINI = {
    "frame_size": (48, 64),
    "tiling.min_overlap": 16,
    "model.num_bands": 16,
    "model.encoder": {"num_latents": 96, "latent_channels": 128},
    "model.processor": {"layers_per_block": 4, "num_heads": 4},
    "train": "scenes",
    # Latents start on a grid.
    "init.locality_bias": 3.0,
    "init.grids": {
        "frames": {
            "dims": (48, 64),
            "max_resolution": None,  # As `dims`.
            "latent_dims": (8, 12),
            "num_bands": 16,
        }
    },
    "scenes": {
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
    },
    "homographies": {"motion": 4.0},
    "motorcycle.shrink": 8,  # A tenth of its frame, as in the large scenes.
    "augmentation": {"erased_size": (6, 12)},
    "evals": ("scenes", "homographies", "motorcycle"),
    "disturbed": "scenes",
    "eval_batch_size": 16,
    "best": "scenes/epe",
    "batch_size": 16,
    "train_examples": 3000 * 16,
    "curriculum": {"unaugmented_examples": 40_000, "ramp_examples": 16_000},
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "max_grad_norm": 1.0,
    "schedule.peak": 1e-3,
    "schedule.warmup": 50,
}
MINI_CONV = {"init.grids.frames.dims": (12, 16)}
# Half of the latents for each frame.
MINI_SEPARATE = SEPARATE | {
    "init.grids.frames.dims": (2, 48, 64),
    "init.grids.frames.max_resolution": (1, 48, 64),
    "init.grids.frames.latent_dims": (2, 6, 8),
}
MINI_CONV_SEPARATE = MINI_SEPARATE | {
    "init.grids.frames.dims": (2, 12, 16),
    "init.grids.frames.max_resolution": (1, 12, 16),
}
TINY = {
    "frame_size": (14, 22),
    "tiling.min_overlap": 3,
    "model.input.channels": 8,
    "model.num_bands": 3,
    "model.encoder": {"num_latents": 7, "latent_channels": 16},
    "model.processor": {"layers_per_block": 2, "num_heads": 4},
    "scenes": {"size": (19, 29), "translation": 4.0, "warp": 0.5},
    "init.locality_bias": 0.0,
    "init.grids": {},
    "homographies": {"motion": 2.0},
    "augmentation": {"erased_size": (2, 4)},
    "evals": ("scenes", "homographies"),
    "eval_batch_size": 2,
    "eval_pairs": 3,
    "batch_size": 4,
    "train_examples": 4 * 4,
    "curriculum": {"unaugmented_examples": 4, "ramp_examples": 8},
    "schedule.warmup": 1,
}
VARIANTS = {
    # The rows of Table 16: how a pixel is seen, and whether the two frames are
    # one image. "patches" is the published model.
    "patches": (None, {}),
    "patches_separate": ("patches", SEPARATE),
    "pixels": ("patches", PIXELS),
    "pixels_separate": ("pixels", SEPARATE),
    "conv": ("patches", CONV),
    "conv_separate": ("conv", SEPARATE),
    # The last row, whose size is that of appendix H.
    "conv_small": (
        "conv",
        {
            "model.encoder.num_latents": 1024,
            "model.processor.layers_per_block": 16,
        },
    ),
    # The same in small; "mini" is the convolution, which learns in minutes.
    "mini": ("conv", MINI | MINI_CONV),
    "mini_patches": ("patches", MINI),
    "mini_patches_separate": ("mini_patches", MINI_SEPARATE),
    "mini_pixels": ("mini_patches", PIXELS),
    "mini_pixels_separate": ("mini_pixels", MINI_SEPARATE),
    "mini_conv_separate": ("mini", MINI_CONV_SEPARATE),
    "tiny": ("mini_patches", TINY),  # For tests.
}
DEFAULT = "patches"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "patches"."""
  config = base.get_config()
  config.task = "flow"
  config.frame_size = (368, 496)  # pixels, y and x; larger frames use tiles
  # Tiles of large frames. The release's are not evenly spaced.
  config.tiling = ConfigDict({"min_overlap": 20, "even": True})
  config.model = ConfigDict(
      {
          "input": {
              "name": "patches",
              "size": 3,  # pixels, y and x
              "concat_frames": True,
              "channels": 64,
          },
          "num_bands": 64,
          "max_resolution": None,  # None: that of the features
          # Resolution of time with separate frames, which lie at -1 and 1. The
          # Nyquist frequency of two such samples belongs to resolution 1; with
          # 2, all bands are equal at both. The paper does not give it.
          "time_resolution": 1,
          "encoder": {"num_latents": 2048, "latent_channels": 512},
          "processor": {"layers_per_block": 24, "num_heads": 16},
          # chunk=22816, eight chunks, saves 2.6 GiB per training example.
          "decoder": {"use_query_residual": False},
          "upsample": 1,
      }
  )
  # A data set in AutoFlow's format, or "scenes", which are generated.
  config.train = "autoflow"
  config.sparse = False  # whether flow is known at few pixels, as in KITTI
  config.augmentation = ConfigDict()  # ranges, other than the defaults
  # Examples without augmentation, and with growing severity. The paper gives
  # neither.
  config.curriculum = ConfigDict(
      {"unaugmented_examples": 20 * 400_000, "ramp_examples": 100 * 400_000}
  )
  config.evals = ("sintel_clean", "sintel_final", "kitti_2015")
  # One of the evals, which is also evaluated with the noise of `Disturbed`.
  config.disturbed = "sintel_final"
  config.noises = ConfigDict(
      {
          "patch": {"side": 0.25, "deviation": 64.0},
          "noise": {"side": 0.0, "deviation": 32.0},
      }
  )
  config.eval_batch_size = 2  # pairs of which a tile is computed at once
  config.eval_pairs = 64  # number of generated pairs
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
  return config
