"""Training steps of the full-size models, by the accelerators' compilers."""

import pytest

from scripts.benchmarks import compilers
from tools import scaling_tables

CHIPS = 4
STEPS = (
    "imagenet:fourier",
    "mlm:bytes",
    "glue:mnli",
    "flow:patches",
    "kinetics:latents_784",
    "audioset:mel_audio",
    "starcraft",
    "modelnet40",
)
# Attention that is plain, or in blocks, has its softmax in float32, and no
# product: those in float32 are of embeddings and heads.
MOST_IN_FLOAT32 = 0.01


@pytest.mark.slow
@pytest.mark.accelerators
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("device", ["tpu_v5e", "h100"])
def test_a_full_size_step_compiles_fits_and_computes_as_the_tables_say(
    device, step, monkeypatch
):
  if missing := compilers.why_not(device):
    pytest.skip(missing)
  monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
  batch = CHIPS * scaling_tables.EXAMPLES[step]
  row = scaling_tables.describe(f"{step} batch_size={batch}", device, CHIPS)
  assert row["estimated_because"] == ""  # By the device's own compiler.
  assert row["fits"], row["needed_bytes"]
  assert row["products"].get("f32", 0) < MOST_IN_FLOAT32
  gathered = row["collectives"]["all-gather"]
  assert row["synchronous"].get("all-gather", 0) < 0.05 * gathered
  known = scaling_tables.known(scaling_tables.ATTENTION)[device][step]
  assert row["attention"] == known
