"""Perceiver AR: sizes of its paper, and small ones for two cores.

    python -m experiments.train --config=configs/autoregression.py:mini
        --workdir=DIR

docs/generation.md says what each variant needs, and what was measured.
"""

import math

from ml_collections import ConfigDict

from configs import base

BYTES = 262  # UTF-8 bytes and six special ids.


CONSTANT = {"name": "warmup_constant", "peak": 3e-4, "warmup": 10_000}  # steps


def _sizes(ids: int, length: int, latents: int, layers: int):
  """Of a model with rotary positions."""
  return {
      "model.vocabulary_size": ids,
      "model.max_length": length,
      "model.encoder.num_latents": latents,
      "model.processor.num_layers": layers,
      "model.positions": {"name": "rotary", "longest": float(length)},
      "schedule": CONSTANT,
  }


def _text(corpus: str, number: int):
  """A corpus in SentencePiece tokens."""
  return {
      "data": {
          "name": "text",
          "corpora": {corpus: 1.0},
          "sentencepiece": f"~/sentencepiece{number}.model",
      },
      "best": f"{corpus}/bits_per_byte",
      "eval_examples": 100_000,
      "samples": 4,
  }


WIKITEXT = {
    **_sizes(32_000, 2048, 1024, 18),
    **_text("wikitext103", 32_000),
    "batch_size": 256,
    "train_examples": 100_000 * 256,
}
PG19 = {
    **_sizes(32_768, 4096, 2048, 60),
    **_text("pg19", 32_768),
    "model.processor.remat": True,
    "batch_size": 512,
    "train_examples": 500_000 * 512,
}
IMAGENET64 = {
    **_sizes(BYTES, 64 * 64 * 3, 1024, 60),
    "model.positions": {"name": "on_grid", "dims": (64, 64, 3)},
    "model.processor.remat": True,
    "data": {
        "name": "images",
        "dataset": "downsampled_imagenet/64x64",
        "size": 64,
        "evaluation": "validation",
    },
    "best": "validation/bits_per_value",
    "eval_examples": 50_000 * 12,
    "samples": 8,
    "batch_size": 2048,
    "train_examples": 750_000 * 2048,
}
MAESTRO = {
    **_sizes(394, 4096, 2048, 12),
    "model.encoder.input_dropout": 0.7,
    "data": {"name": "music"},
    "best": "validation/nats",
    "eval_examples": 100_000,
    "samples": 4,
    "batch_size": 128,
    "train_examples": 100_000 * 128,
}
# A model that two cores train in a quarter of an hour.
MINI = {
    "model.vocabulary_size": 8000,
    "model.channels": 192,
    "model.max_length": 512,
    "model.deviation": 0.1,
    "model.positions": {"name": "rotary", "longest": 512.0},
    "model.encoder": {
        "num_latents": 128,
        "latent_channels": 192,
        "num_heads": 4,
        "widening_factor": 4,
    },
    "model.processor": {
        "num_layers": 3,
        "num_heads": 4,
        "widening_factor": 4,
    },
    "data": {
        "name": "text",
        "corpora": {"wikipedia": 0.4, "austen": 0.6},
        "sentencepiece": "~/sentencepiece8000.model",
        "order": 4,
    },
    "best": "austen/bits_per_byte",
    "eval_examples": 512,
    "samples": 4,
    "batch_size": 8,
    "train_examples": 2000 * 8,
    "run.eval_every": 500,
    "optimizer": {"name": "adamw", "weight_decay": 0.1, "b2": 0.98},
    "schedule": {"name": "warmup_cosine", "peak": 2e-3, "warmup": 100},
    "z_loss": 0.0,
}
MINI_BYTES = {
    "model.vocabulary_size": BYTES,
    "model.max_length": 1024,
    "model.encoder.num_latents": 256,
    "model.positions": {"name": "rotary", "longest": 1024.0},
    "data.sentencepiece": "",
    "data.order": 6,
    "batch_size": 8,
    "train_examples": 3000 * 8,
}
# CIFAR-10, gray, 16 × 16.
MINI_IMAGES = {
    "model.vocabulary_size": BYTES,
    "model.channels": 64,
    "model.max_length": 256,
    "model.deviation": 0.1,
    "model.positions": {"name": "on_grid", "dims": (16, 16, 1)},
    "model.encoder": {
        "num_latents": 64,
        "latent_channels": 64,
        "num_heads": 4,
        "widening_factor": 4,
    },
    "model.processor": {
        "num_layers": 2,
        "num_heads": 4,
        "widening_factor": 4,
    },
    "data": {
        "name": "images",
        "dataset": "cifar10",
        "size": 16,
        "channels": 1,
    },
    "best": "test/bits_per_value",
    "samples": 16,
    "batch_size": 32,
    "train_examples": 1500 * 32,
    "run.eval_every": 500,
    "schedule": {"name": "warmup_cosine", "peak": 3e-3, "warmup": 50},
}
# One's own MIDI files.
MINI_MUSIC = {
    "model.vocabulary_size": 394,
    "model.channels": 128,
    "model.max_length": 512,
    "model.deviation": 0.1,
    "model.positions": {"name": "rotary", "longest": 512.0},
    "model.encoder": {
        "num_latents": 128,
        "latent_channels": 128,
        "num_heads": 4,
        "widening_factor": 4,
        "input_dropout": 0.1,
    },
    "model.processor": {
        "num_layers": 3,
        "num_heads": 4,
        "widening_factor": 4,
    },
    "data": {"name": "music", "folder": "chorales"},
    "best": "validation/bits_per_event",
    "eval_examples": 1000,
    "samples": 4,
    "batch_size": 16,
    "train_examples": 600 * 16,
    "run.eval_every": 200,
}
# What lies in a mirror is at no distance, so positions are added. The shortest
# wave tells neighbours apart, with all waves in one head. Contents of queries
# and keys are noise in the scores; weight decay makes embeddings small.
MINI_COPY = {
    "model.vocabulary_size": BYTES,
    "model.channels": 128,
    "model.max_length": 255,
    "model.deviation": 1.0,
    "model.positions": {
        "name": "sinusoidal",
        "longest": 20.0,
        "shortest": 1 / math.pi,
    },
    "model.encoder": {
        "num_latents": 32,
        "latent_channels": 128,
        "num_heads": 1,
    },
    "model.processor": {"num_layers": 1, "num_heads": 4},
    "data": {"name": "copies", "size": 256, "ramp_examples": 750 * 8},
    "best": "validation/bits_per_element",
    "eval_examples": 512,
    "batch_size": 8,
    "train_examples": 1500 * 8,
    "run.eval_every": 250,
    "optimizer": {"name": "adamw", "weight_decay": 0.5, "b2": 0.99},
    "schedule": {"name": "warmup_cosine", "peak": 2e-3, "warmup": 50},
    "z_loss": 0.0,
}
MINI_COPY_1024 = {
    "model.max_length": 1023,
    "model.encoder.num_latents": 64,
    "data": {"name": "copies", "size": 1024, "ramp_examples": 1500 * 8},
    "train_examples": 3000 * 8,
    "eval_examples": 256 * 8,
    "run.eval_every": 1500,
    "optimizer.weight_decay": 0.3,
}
# From weights of `mini_copy_1024` (`init.pretrained`), which has learned what
# the values are: where they stand is another function of the positions here.
MINI_COPY_8192 = {
    "init.reinitialize": "^encoder/cross_attention/attention/[qk]/",
    "model.max_length": 8191,
    "model.encoder.num_latents": 512,
    "data": {"name": "copies", "size": 8192, "ramp_examples": 1500 * 2},
    "batch_size": 2,
    "train_examples": 2400 * 2,
    "eval_examples": 64 * 8,
    "run.eval_every": 2400,
}
TINY = {
    "model.vocabulary_size": BYTES,
    "model.channels": 12,
    "model.max_length": 29,
    "model.positions": {"name": "rotary", "longest": 29.0},
    "model.encoder": {
        "num_latents": 7,
        "latent_channels": 16,
        "num_heads": 2,
        "input_dropout": 0.1,
    },
    "model.processor": {"num_layers": 2, "num_heads": 2},
    "data": {"name": "copies", "size": 30},
    "best": "validation/bits_per_element",
    "batch_size": 8,
    "train_examples": 4 * 8,
    "eval_examples": 11,
    "schedule": {"name": "warmup_cosine", "peak": 1e-3, "warmup": 1},
}
VARIANTS = {
    # The copy task of 131,072 elements.
    "copy": (None, {}),
    "wikitext103": ("copy", WIKITEXT),
    "pg19": ("copy", PG19),
    "imagenet64": ("copy", IMAGENET64),
    "maestro": ("copy", MAESTRO),
    "mini": ("copy", MINI),
    "mini_bytes": ("mini", MINI_BYTES),
    "mini_images": ("mini", MINI_IMAGES),
    "mini_music": ("mini", MINI_MUSIC),
    "mini_copy": ("copy", MINI_COPY),
    "mini_copy_1024": ("mini_copy", MINI_COPY_1024),
    "mini_copy_8192": ("mini_copy", MINI_COPY_8192),
    "tiny": ("copy", TINY),  # For tests.
}
DEFAULT = "copy"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "copy"."""
  config = base.get_config()
  config.task = "autoregression"
  config.model = ConfigDict(
      {
          "vocabulary_size": BYTES,
          "channels": 1024,
          "max_length": 131_072,
          "deviation": 1.0,
          "positions": {"name": "sinusoidal"},
          "encoder": {
              "num_latents": 1024,
              "latent_channels": 1024,
              "num_heads": 16,
              "widening_factor": 4,
              "activation": "squared_relu",
              "input_dropout": 0.0,
          },
          "processor": {
              "num_layers": 6,
              "num_heads": 16,
              "widening_factor": 4,
              "activation": "squared_relu",
              "remat": False,
          },
      }
  )
  config.data = ConfigDict({"name": "copies", "size": 131_072})
  config.z_loss = 1e-4
  config.eval_examples = 1024  # windows
  config.samples = 0  # generated at each evaluation, for people to look at
  config.best = "validation/bits_per_element"
  config.best_is_largest = False
  config.batch_size = 4096
  config.train_examples = 25_000 * 4096
  config.max_grad_norm = 1.0
  config.optimizer = ConfigDict({"name": "adam"})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 3e-4, "warmup": 1000}  # steps
  )
  return config
