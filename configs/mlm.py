"""Masked language modelling as in Perceiver IO, Tables 1, 11, 12 and 15.

    python -m scripts.prepare_data mlm --c4=... --wikipedia=...
    python -m experiments.train --config=configs/mlm.py:bytes --workdir=DIR

The full-size models were not trained here. The `mini*` are of a size for two
cores, and for two small corpora:

    python -m scripts.prepare_data mlm --wikipedia=...
        --text=austen='austen/*.txt' --held_out=20
    python -m scripts.prepare_data sentencepiece --corpus=wikipedia,austen
        --vocabulary_size=8000 --model=~/sentencepiece8000.model
    python -m experiments.train --config=configs/mlm.py:mini --workdir=DIR

`mini` takes 13 minutes of two cores, `mini_bytes` 15. Bits per byte of what is
masked, on held-out text:

                  novels  Wikipedia
    mini           1.55     2.02
    mini_16        1.71     2.12
    mini_64        1.56     2.04
    mini_bytes     3.80     4.00
"""

from ml_collections import ConfigDict

from configs import base

# SentencePiece in the place of UTF-8 bytes.
SENTENCEPIECE = {
    "tokenizer": {
        "name": "sentencepiece",
        "model": "~/sentencepiece32000.model",
    },
    "model.tokens": {
        "vocabulary_size": 32_000,
        "channels": 768,
        "max_length": 512,
    },
    "max_masked": 512 // 5,
}
BERT_BASE = {
    "name": "bert",
    "tokens": {
        "vocabulary_size": 32_000,
        "channels": 768,
        "max_length": 512,
        "deviation": 0.02,
    },
    "transformer": {"num_layers": 12, "num_heads": 12},
}
BERT_BYTES = {
    "name": "bert",
    "tokens": {
        "vocabulary_size": 262,
        "channels": 512,
        "max_length": 2048,
        "deviation": 0.02,
    },
    "transformer": {"num_layers": 6, "num_heads": 8},
}
# A small model of 64 SentencePiece tokens.
MINI = {
    "tokenizer": {
        "name": "sentencepiece",
        "model": "~/sentencepiece8000.model",
    },
    "model.tokens": {
        "vocabulary_size": 8000,
        "channels": 128,
        "max_length": 64,
        "deviation": 0.1,  # In minutes, 1 teaches nothing.
    },
    "model.encoder": {
        "num_latents": 32,
        "latent_channels": 128,
        "v_channels": 128,
        "num_heads": 4,
        "qk_channels": 128,
    },
    "model.processor": {
        "layers_per_block": 2,
        "num_heads": 4,
        "qk_channels": 128,
    },
    "model.query_channels": 128,
    "model.decoder": {
        "v_channels": 128,
        "use_query_residual": False,
        "num_heads": 4,
        "qk_channels": 128,
    },
    "corpora": {"wikipedia": 0.6, "austen": 0.4},
    "max_masked": 64 // 5,
    "batch_size": 64,
    "train_examples": 3000 * 64,
    "eval_examples": 512,
    "run.eval_every": 500,
    "init.locality_bias": 4.0,
    "optimizer": {"name": "adamw", "weight_decay": 0.01, "b2": 0.98},
    "max_grad_norm": 1.0,
    "schedule.peak": 2e-3,
    "schedule.warmup": 50,
}
# Bytes in the place of the small model's SentencePiece tokens.
MINI_BYTES = {
    "tokenizer": {"name": "utf8"},
    "model.tokens": {
        "vocabulary_size": 262,
        "channels": 128,
        "max_length": 256,
        "deviation": 0.1,
    },
    "model.encoder.num_latents": 64,
    "max_masked": 256 // 5,
    "batch_size": 32,
    "train_examples": 4500 * 32,
}
TINY = {
    "model.tokens": {"vocabulary_size": 262, "channels": 12, "max_length": 29},
    "model.encoder": {
        "num_latents": 7,
        "latent_channels": 16,
        "v_channels": 16,
        "num_heads": 2,
        "qk_channels": 8,
    },
    "model.processor": {
        "layers_per_block": 2,
        "num_heads": 2,
        "qk_channels": 8,
    },
    "model.query_channels": 12,
    "model.decoder": {
        "v_channels": 12,
        "use_query_residual": False,
        "num_heads": 2,
        "qk_channels": 8,
    },
    "max_masked": 29 // 5,
    "batch_size": 8,
    "train_examples": 4 * 8,
    "eval_examples": 11,
    "schedule.warmup": 1,
}


def _latents(number: int, channels: int) -> dict[str, int]:
  return {
      "model.encoder.num_latents": number,
      "model.encoder.latent_channels": channels,
      "model.encoder.v_channels": channels,
  }


BERTS = {
    "bert_base": ("sentencepiece", {"model": BERT_BASE}),
    "bert_bytes": ("bytes", {"model": BERT_BYTES}),
}
# Those that train in minutes.
MINIS = {
    "mini": ("bytes", MINI),
    "mini_16": ("mini", _latents(16, 200)),  # Table 15 in small.
    "mini_64": ("mini", _latents(64, 72)),
    "mini_bytes": ("mini", MINI_BYTES),
}
VARIANTS = {
    # Perceiver IO on bytes; the published model.
    "bytes": (None, {}),
    # Perceiver IO++: wider and deeper.
    "bytes_plus_plus": (
        "bytes",
        _latents(256, 1536) | {"model.processor.layers_per_block": 40},
    ),
    # Perceiver IO Base, on SentencePiece tokens.
    "sentencepiece": ("bytes", SENTENCEPIECE),
    # Table 15: other numbers of latents, of other widths.
    "bytes_128": ("bytes", _latents(128, 1920)),
    "bytes_512": ("bytes", _latents(512, 896)),
    # BERT Base, and a BERT on bytes with as many FLOPs.
    **BERTS,
    **MINIS,
    "tiny": ("bytes", TINY),  # For tests.
}
DEFAULT = "bytes"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "bytes"."""
  config = base.get_config()
  config.task = "mlm"
  config.model = ConfigDict(
      {
          "name": "perceiver_io",
          "tokens": {
              "vocabulary_size": 262,  # UTF-8 bytes and six special tokens
              "channels": 768,
              "max_length": 2048,
          },
          "encoder": {
              "num_latents": 256,
              "latent_channels": 1280,
              "v_channels": 1280,
              "num_heads": 8,
              "qk_channels": 256,
          },
          "processor": {
              "layers_per_block": 26,
              "num_heads": 8,
              "qk_channels": 256,
          },
          "query_channels": 768,
          "decoder": {
              "v_channels": 768,
              "use_query_residual": False,
              "num_heads": 8,
              "qk_channels": 256,
          },
      }
  )
  config.tokenizer = ConfigDict({"name": "utf8"})
  # Fraction of the training tokens of each prepared corpus.
  config.corpora = ConfigDict({"c4": 0.7, "wikipedia": 0.3})
  # Maximum masked ids of an example; a fifth is seldom reached.
  config.max_masked = 2048 // 5
  config.decode_all = False  # decode all positions, not only masked ones
  config.eval_examples = 4096  # examples of each corpus
  config.best = "wikipedia/bits_per_byte"
  config.best_is_largest = False
  config.batch_size = 2048
  config.train_examples = 500_000 * 2048
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.01})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 1.25e-3, "warmup": 1000}  # steps
  )
  return config
