"""Perceiver IO on real handwritten digits, every pixel an input.

bash scripts/quickstart.sh
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "full") -> ConfigDict:
  """The numbers of a variant: "full", or "mini" for a trial of seconds."""
  if variant not in ("full", "mini"):
    raise ValueError(f"variant {variant!r} is not one of ['full', 'mini']")
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
  if variant == "mini":
    config.batch_size = 16
    config.train_examples = 12 * 16
    config.schedule.warmup = 2
    config.model.encoder.num_latents = 7
    config.model.encoder.latent_channels = 16
    config.model.query_channels = 16
    config.run.log_every = 1
    config.run.eval_every = 6
    config.run.checkpoint_every = 3
  return config
