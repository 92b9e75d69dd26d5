"""Optical flow as in Perceiver IO, Tables 3 and 16."""

from ml_collections import ConfigDict

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
# "patches" is the published model, "conv_small" the last row of Table 16.
VARIANTS = (*INPUTS, "conv_small", "mini")


def get_config(variant: str = "patches") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  chosen = {"conv_small": "conv", "mini": "patches"}.get(variant, variant)
  config = base.get_config()
  config.task = "flow"
  config.frame_size = (368, 496)  # pixels, y and x
  config.model = ConfigDict(
      {
          "input": {**INPUTS[chosen], "channels": 64},
          "num_bands": 64,
          "max_resolution": None,  # that of the features
          "encoder": {"num_latents": 2048, "latent_channels": 512},
          "processor": {"layers_per_block": 24, "num_heads": 16},
          # All pixels at once: 2.6 GiB more for each example of a batch.
          "decoder": {"use_query_residual": False, "chunk": 368 * 496 // 8},
          "upsample": 4 if chosen.startswith("conv") else 1,
      }
  )
  if variant == "conv_small":
    config.model.encoder.num_latents = 1024
    config.model.processor.layers_per_block = 16
  if variant == "mini":
    config.frame_size = (14, 22)
    config.model.input.channels = 8
    config.model.num_bands = 3
    config.model.encoder = {"num_latents": 7, "latent_channels": 16}
    config.model.processor = {"layers_per_block": 2, "num_heads": 4}
  return config
