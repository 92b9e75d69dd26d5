"""Selections of units in StarCraft II as in Perceiver IO, appendix B, Table 9.

python -m scripts.prepare_data starcraft2 --manual_dir=FOLDER_OF_REPLAYS
python -m experiments.train --config=configs/starcraft.py --workdir=DIR

The paper prints a rate of won games, of the whole agent; that is not measured
here. `mini_*` train in five minutes of one core, and all with as many examples.
"""

from ml_collections import ConfigDict

from configs import base

VARIANTS = (
    "perceiver_io",
    "perceiver_io_64",
    "transformer",
    "mini_perceiver_io",
    "mini_perceiver_io_64",
    "mini_transformer",
    "tiny",
)


def get_config(variant: str = "perceiver_io") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  config = base.get_config()
  config.task = "starcraft"
  config.dataset = "starcraft2"  # or "starcraft2_raw", with the game's own data
  config.num_units = 512  # slots
  config.max_picks = 64  # of a selection, as AlphaStar's
  config.batch_size = 128
  config.train_examples = 50 * 15_000  # 50 epochs of 35 games
  config.best = "validation/log_likelihood"
  config.optimizer = ConfigDict({"name": "adamw", "weight_decay": 0.01})
  config.schedule = ConfigDict(
      {
          "name": "warmup_cosine",
          "peak": 5e-4,
          "warmup": 500,  # steps
      }
  )
  config.max_grad_norm = 1.0
  encode = transformer() if "transformer" in variant else perceiver_io()
  if variant.endswith("_64"):
    encode["encoder"]["num_latents"] = 64
  config.model = ConfigDict(
      {
          "channels": 256,
          "encode": encode,
          "output_channels": 256,
          "pointer": {"key_channels": 32, "query_channels": 256},
      }
  )
  if variant.startswith("mini") or variant == "tiny":
    mini(config)
  if variant == "tiny":
    tiny(config)
  return config


def transformer() -> dict:
  """AlphaStar's: 3 layers, 2 heads of 128 features, an MLP 1024 wide."""
  return {
      "name": "transformer",
      "num_layers": 3,
      "num_heads": 2,
      "widening_factor": 4,
  }


def perceiver_io() -> dict:
  """3 layers and 32 latents; the widths are those of the Transformer.

  Table 6 of the paper has 128 channels where arrays are read.
  """
  return {
      "name": "perceiver_io",
      "encoder": {
          "num_latents": 32,
          "latent_channels": 256,
          "qk_channels": 128,
          "widening_factor": 4,
      },
      "processor": {
          "layers_per_block": 3,
          "num_heads": 2,
          "widening_factor": 4,
      },
      "decoder": {"qk_channels": 128, "widening_factor": 4},
  }


def mini(config: ConfigDict) -> None:
  """A quarter of the width, half of the slots."""
  config.num_units = 256
  config.max_picks = 32
  config.batch_size = 32
  config.train_examples = 500 * 32
  config.schedule.peak = 2e-3
  config.schedule.warmup = 50  # steps
  config.model.channels = 64
  config.model.output_channels = 64
  config.model.pointer.query_channels = 64
  encode = config.model.encode
  if encode.name == "perceiver_io":
    encode.encoder.latent_channels = 64
    encode.encoder.qk_channels = 32
    encode.decoder.qk_channels = 32
  config.run.eval_every = 250
  config.run.checkpoint_every = 250


def tiny(config: ConfigDict) -> None:
  """For tests."""
  config.num_units = 29
  config.max_picks = 5
  config.batch_size = 3
  config.train_examples = 4 * 3
  config.schedule.warmup = 1
  config.model.channels = 12
  config.model.output_channels = 14
  config.model.pointer = {"key_channels": 6, "query_channels": 10}
  encode = config.model.encode
  encode.encoder.num_latents = 7
  encode.encoder.latent_channels = 16
  encode.encoder.qk_channels = 8
  encode.decoder.qk_channels = 8
  config.run.log_every = 1
