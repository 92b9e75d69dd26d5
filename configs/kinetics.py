"""Multimodal autoencoding of Kinetics as in Perceiver IO, Tables 4 and 17."""

from ml_collections import ConfigDict

from configs import base

# Latents: the more, the less the video is compressed (88, 176 and 352 times).
LATENTS = {"latents_784": 784, "latents_392": 392, "latents_196": 196}
# "published" has 32 bands for video where the paper says 64.
VARIANTS = ("published", *LATENTS, "mini")


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
  config.model = ConfigDict(
      {
          "video": {
              "patch": (1, 4, 4),
              "num_bands": 32 if variant == "published" else 64,
              "max_resolution": None,  # that of the patches
          },
          "audio": {"patch": 16, "num_bands": 192},
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
  if variant == "mini":
    config.video = (2, 12, 20)
    config.samples_per_frame = 24
    config.num_classes = 7
    config.num_points = 5
    config.num_chunks = 3
    config.model.video.num_bands = 3
    config.model.audio = {"patch": 4, "num_bands": 5}
    config.model.encoder = {"num_latents": 7, "latent_channels": 16}
    config.model.processor = {"layers_per_block": 2, "num_heads": 4}
    config.model.label_channels = 23
    config.model.output_channels = 12
  return config
