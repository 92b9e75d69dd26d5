"""Perceiver AR here and in perceiver-io of Martin Krasser, by the same numbers.

    python -m tools.compare_perceiver_ar --python=PYTHON

PYTHON is that of an environment with `pip install torch perceiver-io`. Random
numbers of a small model are given to both, by their names. A row says how far
the logits are apart, the largest difference over their standard deviation:
first of what both can compute, then with one thing after another as one of them
has it and the other has not.
"""

from collections.abc import Mapping
import functools
import json
import os
import pathlib
import subprocess
import tempfile
from typing import Any
from unittest import mock

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from experiments.engine import command
from experiments.engine import settings
from experiments.engine import weights as weights_lib
from experiments.engine.errors import UserError
from perceiver import attention

_PYTHON = flags.DEFINE_string(
    "python", "python", "with PyTorch and perceiver-io"
)
_THEIRS = pathlib.Path(__file__).parent / "comparisons" / "krasser.py"

LENGTH, LATENTS, CHANNELS, HEADS, LAYERS, IDS = 37, 11, 24, 3, 2, 53
FEATURES = CHANNELS // HEADS


def turning(fraction: float) -> dict[str, Any]:
  """Our rotary positions with their frequencies.

  The slowest of n pairs turns 10,000^(-(n - 1) / n) an element there; here the
  setting is the distance at which it turns 1.
  """
  pairs = int(FEATURES * fraction) // 2
  longest = 10_000.0 ** ((pairs - 1) / pairs)
  return {"name": "rotary", "longest": longest, "fraction": fraction}


OURS = {
    "model.vocabulary_size": IDS,
    "model.channels": CHANNELS,
    "model.max_length": LENGTH,
    "model.positions": turning(1.0),
    "model.encoder": {
        "num_latents": LATENTS,
        "latent_channels": CHANNELS,
        "num_heads": HEADS,
        "widening_factor": 4,
    },
    "model.processor": {
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "widening_factor": 4,
    },
}
THEIRS = {
    "vocab_size": IDS,
    "max_seq_len": LENGTH,
    "max_latents": LATENTS,
    "num_channels": CHANNELS,
    "num_heads": HEADS,
    "num_self_attention_layers": LAYERS,
    "num_self_attention_rotary_layers": -1,
    "output_norm": True,
    "abs_pos_emb": False,
}


def random_arrays() -> dict[str, np.ndarray]:
  """Numbers of the small model by their paths, as both sides can have them.

  Latents are the newest elements as they are, queries and inputs have one norm,
  logits are products with the embeddings, and maps have biases where theirs do.
  """
  rng = np.random.default_rng(0)
  like = weights_lib.random(config_of({})).model.params
  arrays = {
      f"{module}/{name}": rng.normal(
          scale=x.shape[-2] ** -0.5 if name == "w" else 0.3, size=x.shape
      ).astype(np.float32)
      for module, of_module in like.items()
      for name, x in of_module.items()
  }
  for name in arrays:
    if name.endswith("/scale"):
      arrays[name] += 1
    elif name.endswith("/b") and not has_bias(name):
      arrays[name][:] = 0
  arrays["encoder/latents/w"] = np.eye(CHANNELS, dtype=np.float32)
  arrays["encoder/latents/b"] *= 0
  cross = "encoder/cross_attention"
  for name in ("scale", "offset"):
    arrays[f"{cross}/norm_x/{name}"] = arrays[f"{cross}/norm_query/{name}"]
  arrays["logits/w"] = arrays["tokens/embeddings"].T.copy()
  return arrays


def has_bias(name: str) -> bool:
  """Whether theirs has the bias with our path."""
  return name in ("logits/b", "encoder/cross_attention/attention/output/b")


def config_of(changes: Mapping[str, Any]) -> ConfigDict:
  """Our config of the small model."""
  return settings.load("autoregression:tiny", {**OURS, **changes})


def ours(
    arrays: Mapping[str, np.ndarray],
    ids: np.ndarray,
    changes: Mapping[str, Any],
    gelu: str,
) -> np.ndarray:
  """Logits here, [B, N, V]; `gelu` is "exact" or "tanh"."""
  made = weights_lib.random(config_of(changes))
  params = {
      module: {name: arrays[f"{module}/{name}"] for name in of_module}
      for module, of_module in made.model.params.items()
  }
  model = made.model._replace(params=params)
  # The model is given all but the last id.
  batch = {"tokens": jnp.pad(ids, [(0, 0), (0, 1)])}
  exact = functools.partial(jax.nn.gelu, approximate=False)
  how = {"gelu": exact} if gelu == "exact" else {}
  with mock.patch.dict(attention._ACTIVATIONS, how):
    outputs, _ = made.network.net.apply(*model, None, batch, False)
  return np.asarray(outputs["logits"])


def theirs(
    arrays: Mapping[str, np.ndarray],
    ids: np.ndarray,
    changes: Mapping[str, Any],
    python: str,
) -> np.ndarray:
  """Logits there, [B, N, V].

  Raises:
    UserError: if its process fails.
  """
  with tempfile.TemporaryDirectory() as folder:
    given, written = (f"{folder}/{name}.npz" for name in ("in", "out"))
    named: dict[str, Any] = {
        f"model.{name}": x for name, x in their_names(arrays).items()
    }
    text = json.dumps({**THEIRS, **changes})
    np.savez(given, settings=text, ids=ids, latents=LATENTS, **named)
    # This project's package has the same name as theirs.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [python, str(_THEIRS), given, written],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if run.returncode:
      last = (run.stderr.strip() or "no message").splitlines()[-1]
      raise UserError(f"{python} {_THEIRS.name}: {last}")
    return np.load(written)["logits"]


def their_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Our numbers under their names, in PyTorch's layout."""
  named = {
      "input_adapter.txt_embedding.weight": arrays["tokens/embeddings"],
      "output_adapter.bias": arrays["logits/b"],
      "out_norm.weight": arrays["norm/scale"],
      "out_norm.bias": arrays["norm/offset"],
  }

  def add(place, found, norms):
    for norm, name in norms.items():
      named[f"{place}.0.module.{norm}.weight"] = found(f"{name}/scale")
      named[f"{place}.0.module.{norm}.bias"] = found(f"{name}/offset")
    for letter, name in zip("qkvo", ("q", "k", "v", "output"), strict=True):
      weight = f"{place}.0.module.attention.{letter}_proj.weight"
      named[weight] = found(f"attention/{name}/w").T
    mlp = f"{place}.1.module"
    named[f"{mlp}.0.weight"] = found("norm_mlp/scale")
    named[f"{mlp}.0.bias"] = found("norm_mlp/offset")
    named[f"{mlp}.1.weight"] = found("mlp/hidden/w").T
    named[f"{mlp}.3.weight"] = found("mlp/output/w").T

  cross = "encoder/cross_attention"
  add(
      "cross_attention",
      lambda name: arrays[f"{cross}/{name}"],
      {"q_norm": "norm_query", "kv_norm": "norm_x"},
  )
  bias = "cross_attention.0.module.attention.o_proj.bias"
  named[bias] = arrays[f"{cross}/attention/output/b"]
  stack = "processor/layers/self_attention"
  for i in range(LAYERS):
    add(
        f"self_attention.{i}",
        lambda name, i=i: arrays[f"{stack}/{name}"][i],
        {"norm": "norm_z"},
    )
  if "positions" in arrays:
    named["input_adapter.pos_embedding.weight"] = arrays["positions"]
  return {name: np.ascontiguousarray(x) for name, x in named.items()}


def compared(python: str) -> dict[str, float]:
  """The differences between logits: settings -> difference."""
  arrays = random_arrays()
  rng = np.random.default_rng(1)
  ids = rng.integers(7, IDS, size=[5, LENGTH]).astype(np.int32)
  cross = "encoder/cross_attention/norm_x"
  other = {
      f"{cross}/{name}": rng.normal(
          size=CHANNELS, loc=float(name == "scale"), scale=0.3
      ).astype(np.float32)
      for name in ("scale", "offset")
  }
  table = rng.normal(size=[LENGTH, CHANNELS]).astype(np.float32)
  length = {"model.positions.longest": float(LENGTH)}
  # What differs: arrays of both, changes of ours, changes of theirs, our GELU.
  cases = {
      "what both can compute": ({}, {}, {}, "exact"),
      "GELU: its tanh form here": ({}, {}, {}, "tanh"),
      "norms of their own for queries and inputs": (other, {}, {}, "exact"),
      "frequencies of `longest` = M here": ({}, length, {}, "exact"),
      "turned in the first layer alone there": (
          {},
          {},
          {"num_self_attention_rotary_layers": 1},
          "exact",
      ),
      "learned positions added there as well": (
          {"positions": table},
          {"model.positions": turning(0.5)},
          {"abs_pos_emb": True},
          "exact",
      ),
  }
  found = {}
  for name, (changed, here, there, gelu) in cases.items():
    both = {**arrays, **changed}
    expected = theirs(both, ids, there, python)
    apart = np.abs(ours(both, ids, here, gelu) - expected).max()
    found[name] = float(apart / expected.std())
  return found


def main() -> None:
  """Prints a row for each."""
  for name, apart in compared(_PYTHON.value).items():
    print(f"{apart:10.1e}  {name}")


if __name__ == "__main__":
  command.run(main, needs_config=False)
