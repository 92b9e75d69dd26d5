"""AudioSet classification as in Perceiver IO, Table 10."""

from ml_collections import ConfigDict

from configs import base

VARIANTS = ("raw", "mel", "perceiver_raw", "perceiver_mel", "mini")


def get_config(variant: str = "raw") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  is_mel = variant.endswith("mel")
  # The one row of the table with wider latents is Perceiver IO on spectrograms.
  channels = 1024 if variant == "mel" else 512
  config = base.get_config()
  config.task = "audioset"
  config.video = (32, 224, 224)  # frames, pixels, pixels
  config.num_audio = 4800 if is_mel else 61_440
  config.num_classes = 527
  config.model = ConfigDict(
      {
          "video": {"patch": (2, 8, 8), "num_bands": 16},
          # The papers do not say how many bands sound has; its elements are
          # widened to those of the video in any case.
          "audio": {"patch": 1 if is_mel else 128, "num_bands": 64},
          "min_padding": 4,
          "encoder": {
              "num_latents": 512,
              "latent_channels": channels,
              "qk_channels": None,  # as many as the input array has
          },
          "processor": {"layers_per_block": 12, "num_heads": 8},
          "output": {
              "name": "class_query",
              "query_channels": 1024,
              "decoder": {"num_heads": 1},
          },
      }
  )
  if variant.startswith("perceiver"):
    config.model.output = {"name": "average_and_project"}
  if variant == "mini":
    config.video = (4, 24, 40)
    config.num_audio = 7 * 128
    config.num_classes = 11
    config.model.video.num_bands = 3
    config.model.audio.num_bands = 5
    config.model.encoder = {"num_latents": 7, "latent_channels": 16}
    config.model.processor = {"layers_per_block": 2, "num_heads": 4}
    config.model.output.query_channels = 12
  return config
