"""Selections of units in StarCraft II as in Perceiver IO, appendix B, Table 9.

    python -m scripts.prepare_data starcraft2 --manual_dir=FOLDER_OF_REPLAYS
    python -m experiments.train --config=configs/starcraft.py --workdir=DIR

The paper prints a rate of won games, of the whole agent; that is not measured
here. The three full-size encoders were not trained here. `mini_*` were, on 35
games, for 500 steps each. On held-out games they came to:

                         log-likelihood of a unit  exact selections  steps/s
    mini_perceiver_io              -2.63                24.7 %         5.5
    mini_perceiver_io_64           -2.64                24.2 %         4.1
    mini_transformer               -2.76                25.6 %         2.4

Steps a second are those of one core.
"""

from ml_collections import ConfigDict

from configs import base

# AlphaStar's: 3 layers, 2 heads of 128 features, an MLP 1024 wide.
TRANSFORMER = {
    "name": "transformer",
    "num_layers": 3,
    "num_heads": 2,
    "widening_factor": 4,
}
# A quarter of the width, half of the slots; all with as many examples.
MINI = {
    "num_units": 256,
    "max_picks": 32,
    "batch_size": 32,
    "train_examples": 500 * 32,
    "schedule.peak": 2e-3,
    "schedule.warmup": 50,  # steps
    "model.channels": 64,
    "model.output_channels": 64,
    "model.pointer.query_channels": 64,
    "run.eval_every": 250,
    "run.checkpoint_every": 250,
}
MINI_PERCEIVER_IO = {
    "model.encode.encoder.latent_channels": 64,
    "model.encode.encoder.qk_channels": 32,
    "model.encode.decoder.qk_channels": 32,
}
TINY = {
    "num_units": 29,
    "max_picks": 5,
    "batch_size": 3,
    "train_examples": 4 * 3,
    "schedule.warmup": 1,
    "model.channels": 12,
    "model.output_channels": 14,
    "model.pointer": {"key_channels": 6, "query_channels": 10},
    "model.encode.encoder.num_latents": 7,
    "model.encode.encoder.latent_channels": 16,
    "model.encode.encoder.qk_channels": 8,
    "model.encode.decoder.qk_channels": 8,
    "run.log_every": 1,
}
MORE_LATENTS = {"model.encode.encoder.num_latents": 64}
VARIANTS = {
    # The paper's encoders.
    "perceiver_io": (None, {}),
    "perceiver_io_64": ("perceiver_io", MORE_LATENTS),
    "transformer": ("perceiver_io", {"model.encode": TRANSFORMER}),
    # The same in small, of a size for one core.
    "mini_perceiver_io": ("perceiver_io", MINI | MINI_PERCEIVER_IO),
    "mini_perceiver_io_64": ("mini_perceiver_io", MORE_LATENTS),
    "mini_transformer": ("transformer", MINI),
    "tiny": ("mini_perceiver_io", TINY),  # For tests.
}
DEFAULT = "perceiver_io"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "perceiver_io"."""
  config = base.get_config()
  config.task = "starcraft"
  config.dataset = "starcraft2"  # or "starcraft2_raw", with the game's own data
  config.num_units = 512  # maximum number of units
  config.max_picks = 64  # maximum size of a selection, as in AlphaStar
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
  config.model = ConfigDict(
      {
          "channels": 256,
          # 3 layers and 32 latents; the widths are those of the Transformer.
          # Table 6 of the paper has 128 channels where arrays are read.
          "encode": {
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
          },
          "output_channels": 256,
          "pointer": {"key_channels": 32, "query_channels": 256},
      }
  )
  return config
