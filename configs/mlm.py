"""Masked language modelling as in Perceiver IO, Tables 1, 11, 12 and 15.

python -m scripts.prepare_data mlm --c4=... --wikipedia=...
python -m experiments.train --config=configs/mlm.py:bytes --workdir=DIR

"mini" is of a size for two cores, and for two small corpora. Its pieces are

python -m scripts.prepare_data sentencepiece --corpus=wikipedia,austen
    --vocabulary_size=8000 --model=~/pieces8000.model
"""

from ml_collections import ConfigDict

from configs import base

# UTF-8 bytes and six special tokens; or SentencePiece.
BYTES = {"vocabulary_size": 262, "channels": 768, "max_length": 2048}
PIECES = {"vocabulary_size": 32_000, "channels": 768, "max_length": 512}
# Name: tokens, latents, their channels, layers.
PERCEIVER_IO = {
    "bytes": (BYTES, 256, 1280, 26),  # the published model
    "bytes_plus_plus": (BYTES, 256, 1536, 40),
    "sentencepiece": (PIECES, 256, 1280, 26),
    "bytes_128": (BYTES, 128, 1920, 26),  # Table 15
    "bytes_512": (BYTES, 512, 896, 26),
}
# Name: tokens, layers, heads.
BERT = {
    "bert_base": ({**PIECES, "deviation": 0.02}, 12, 12),
    "bert_bytes": ({**BYTES, "channels": 512, "deviation": 0.02}, 6, 8),
}
# Those that train in minutes: tokens, latents, their channels.
_PIECES = {"vocabulary_size": 8000, "channels": 128, "max_length": 64}
_BYTES = {"vocabulary_size": 262, "channels": 128, "max_length": 256}
MINI = {
    "mini": (_PIECES, 32, 128),
    "mini_16": (_PIECES, 16, 200),
    "mini_64": (_PIECES, 64, 72),
    "mini_bytes": (_BYTES, 64, 128),
}
VARIANTS = (*PERCEIVER_IO, *BERT, *MINI, "tiny")


def get_config(variant: str = "bytes") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  config = base.get_config()
  config.task = "mlm"
  config.model = ConfigDict(model(variant))
  config.tokenizer = ConfigDict({"name": "utf8"})
  size = config.model.tokens.vocabulary_size
  if size != BYTES["vocabulary_size"]:
    config.tokenizer = ConfigDict(
        {"name": "sentencepiece", "model": f"~/pieces{size}.model"}
    )
  # Parts of the training tokens, by the name of the prepared corpus.
  config.corpora = ConfigDict({"c4": 0.7, "wikipedia": 0.3})
  # Ids that are hidden in an example, at most; a fifth is seldom reached.
  config.max_hidden = config.model.tokens.max_length // 5
  config.decode_all = False  # All positions, though the hidden ones suffice.
  config.eval_examples = 4096  # of each corpus
  config.best = "wikipedia/bits_per_byte"
  config.best_is_largest = False
  config.batch_size = 2048
  config.train_examples = 500_000 * 2048
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.01})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 1.25e-3, "warmup": 1000}  # steps
  )
  if variant in MINI:
    mini(config)
  if variant == "tiny":
    config.batch_size, config.train_examples = 8, 4 * 8
    config.eval_examples = 11
    config.schedule.warmup = 1
  return config


def mini(config: ConfigDict) -> None:
  """Changes to the training of a small model."""
  config.corpora = ConfigDict({"wikipedia": 0.6, "austen": 0.4})
  is_bytes = config.tokenizer.name == "utf8"
  config.batch_size = 32 if is_bytes else 64
  config.train_examples = 4500 * 32 if is_bytes else 3000 * 64
  config.eval_examples = 512
  config.run.eval_every = 500
  config.start.nearby = 4.0
  config.optimizer = ConfigDict(
      {"name": "adamw", "weight_decay": 0.01, "b2": 0.98}
  )
  config.max_grad_norm = 1.0
  config.schedule.peak = 2e-3
  config.schedule.warmup = 50


def model(variant: str):
  """The model of a variant; other language tasks start from it."""
  if variant in MINI:
    tokens, *latents = MINI[variant]
    tokens = {**tokens, "deviation": 0.1}  # In minutes, 1 teaches nothing.
    return perceiver_io(tokens, *latents, 2, num_heads=4, qk_channels=128)
  if variant == "tiny":
    tokens = {"vocabulary_size": 262, "channels": 12, "max_length": 29}
    return perceiver_io(tokens, 7, 16, 2, num_heads=2, qk_channels=8)
  if variant in PERCEIVER_IO:
    return perceiver_io(*PERCEIVER_IO[variant])
  tokens, num_layers, num_heads = BERT[variant]
  return {
      "name": "bert",
      "tokens": tokens,
      "transformer": {"num_layers": num_layers, "num_heads": num_heads},
  }


def perceiver_io(
    tokens,
    num_latents,
    latent_channels,
    num_layers,
    num_heads=8,
    qk_channels=256,
):
  """Perceiver IO; all that the variants have in common."""
  channels = tokens["channels"]
  heads = {"num_heads": num_heads, "qk_channels": qk_channels}
  return {
      "name": "perceiver_io",
      "tokens": tokens,
      "encoder": {
          "num_latents": num_latents,
          "latent_channels": latent_channels,
          "v_channels": latent_channels,
          **heads,
      },
      "processor": {"layers_per_block": num_layers, **heads},
      "query_channels": channels,
      "decoder": {
          "v_channels": channels,
          "use_query_residual": False,
          **heads,
      },
  }
