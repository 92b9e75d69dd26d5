"""ImageNet classification as in the papers.

Perceiver IO, Tables 7 and 8; Perceiver, Tables 5 to 7.
"""

from ml_collections import ConfigDict

from configs import base

INPUTS = {
    "fourier": {"name": "pixels", "num_bands": 64},
    "learned": {"name": "learned_positions", "channels": 256},
    "conv": {"name": "conv", "channels": 64, "num_bands": 64},
}
VARIANTS = (
    *INPUTS,  # Perceiver IO, config A; the published models
    "perceiver_fourier",  # average and project
    "perceiver_learned",
    "perceiver_conv",
    "large_fourier",  # Perceiver IO, config B
    "large_conv",
    "repeated",  # the original Perceiver: 8 reads of the pixels
    "mini",
)


def get_config(variant: str = "fourier") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  kind, _, name = variant.rpartition("_")
  config = base.get_config()
  config.task = "imagenet"
  config.image_size = (224, 224)  # pixels
  config.num_classes = 1000
  config.model = ConfigDict(
      {
          "input": INPUTS.get(name, INPUTS["fourier"]),
          "encoder": {"num_latents": 512, "latent_channels": 1024},
          "processor": {
              "layers_per_block": 6,
              "num_blocks": 8,
              "share_blocks": True,
              "num_heads": 8,
          },
          "reads": {"num_reads": 1},
          "output": {
              "name": "class_query",
              "query_channels": 1024,
              # The published models differ in it.
              "decoder": {"use_query_residual": name != "learned"},
          },
      }
  )
  if kind == "perceiver" or variant == "repeated":
    config.model.output = {"name": "average_and_project"}
  if kind == "large":
    config.model.processor = {
        "layers_per_block": 16,
        "num_heads": 8,
        "widening_factor": 4,
    }
    if name == "fourier":
      config.model.input.channels = 256
  if variant == "repeated":
    config.model.reads = {
        "num_reads": 8,
        "interleave": True,
        "share_reads": True,
    }
  if variant == "mini":
    config.image_size = (14, 22)
    config.num_classes = 11
    config.model.input.num_bands = 3
    config.model.encoder = {"num_latents": 7, "latent_channels": 16}
    config.model.processor = {
        "layers_per_block": 2,
        "num_blocks": 3,
        "num_heads": 4,
    }
    config.model.output.query_channels = 16
  return config
