"""Masked language modelling as in Perceiver IO, Tables 1, 11, 12 and 15."""

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
    "bert_base": (PIECES, 12, 12),
    "bert_bytes": ({**BYTES, "channels": 512}, 6, 8),
}
VARIANTS = (*PERCEIVER_IO, *BERT, "mini")


def get_config(variant: str = "bytes") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  config = base.get_config()
  config.task = "mlm"
  config.model = ConfigDict(model(variant))
  return config


def model(variant: str):
  """The model of a variant; other language tasks start from it."""
  if variant == "mini":
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
