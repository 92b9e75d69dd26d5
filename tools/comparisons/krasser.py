"""Logits of Perceiver AR in perceiver-io (Martin Krasser), by given numbers.

    PYTHON tools/comparisons/krasser.py IN.npz OUT.npz

IN has its settings, JSON, as "settings"; "ids", [B, M], and how many of them
are "latents"; the numbers under its own names, each after "model.". OUT has
"logits", [B, N, V]. PYTHON has PyTorch and perceiver-io, whose package is named
`perceiver` as this one is: so this file is run by its path.
"""

import json
import sys

import numpy as np


def main(given: str, written: str) -> None:
  """Reads, computes, writes."""
  from perceiver.model.core import config as theirs  # pyright: ignore
  from perceiver.model.core import modules  # pyright: ignore
  import torch  # pyright: ignore[reportMissingImports]

  arrays = dict(np.load(given))
  settings = theirs.CausalSequenceModelConfig(
      **json.loads(str(arrays["settings"]))
  )
  model = modules.CausalSequenceModel(settings)
  state = model.state_dict()
  for name, old in state.items():
    if "inv_freq" not in name:  # It has its own frequencies.
      new = torch.from_numpy(arrays.pop(f"model.{name}"))
      assert new.shape == old.shape, (name, new.shape, old.shape)
      state[name] = new
  left = [name for name in arrays if name.startswith("model.")]
  assert not left, left
  model.load_state_dict(state)
  ids = torch.from_numpy(arrays["ids"]).long()
  with torch.no_grad():
    said = model.eval()(ids, prefix_len=ids.shape[1] - int(arrays["latents"]))
  np.savez(written, logits=said.logits.numpy())


if __name__ == "__main__":
  main(*sys.argv[1:])
