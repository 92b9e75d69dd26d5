import importlib.util
import subprocess
import sys
import types

import pytest

from scripts.benchmarks import compilers
from tests.conftest import ENVIRONMENT

PROGRAM = """HloModule jit_step

%products (x: f32[8]) -> f32[8] {
  ROOT %dot = f32[8]{0} dot(%x, %x), lhs_contracting_dims={0}
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %fused = f32[8]{0:T(128)S(1)} fusion(%x), calls=%products,
    "estimated_cycles":"100"
  %kernel = (f32[8]{0:T(8)}, f32[8]{0:T(8)}) custom-call(%x),
    custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"blocks":"{\\"block_q\\": 512}"
}}, backend_config={"estimated_cycles":"20"}
  %unknown = f32[8] custom-call(%x), custom_call_target="tpu_custom_call"
}

%condition (p: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %loop = (s32[], f32[8]) while(%a), condition=%condition, body=%body
  %again = (s32[], f32[8]) while(%a), condition=%other, body=%body,
    backend_config={"known_trip_count":{"n":"2"}}
  %copied = f32[8]{0} copy(%a), "estimated_cycles":"7"
  %rest = f32[8]{0} fusion(%a), calls=%nothing, "estimated_cycles":"1"
}
"""


def test_times_are_summed_as_often_as_they_are_spent():
  compiled = types.SimpleNamespace(as_text=lambda: PROGRAM)
  found = compilers.seconds(compiled, "TPU v5 lite")
  clock = compilers.CLOCK["TPU v5 lite"]
  assert found == {
      "products": (3 + 2) * 100 / clock,
      "kernels": (3 + 2) * 20 / clock,
      "kernels_not_estimated": 3 + 2,
      "copies": 7 / clock,
      "rest": 1 / clock,
  }


# Forward and gradient as they are in a step, whose masks, widths and batches
# are those of published models.
COMPILED = """
from scripts.benchmarks import compilers
chip = compilers.tpu("v5e:2x2")[0]
import jax
from jax.sharding import SingleDeviceSharding
from perceiver import attend, compiled_for
from perceiver import target as targets
sharding = SingleDeviceSharding(chip)
of = lambda *shape, dtype="bfloat16": jax.ShapeDtypeStruct(
    shape, dtype, sharding=sharding
)
for b, n, m, h, f, v, is_masked in [
    (8, 256, 2048, 8, 32, 160, True),
    (2, 784, 784, 8, 64, 64, False),
    (8, 512, 512, 8, 128, 128, False),
    (16, 512, 2048, 1, 261, None, False),
    (2, 4096, 2048, 1, 323, 512, False),
    (2, 784, 2049, 1, 704, None, False),
]:
  args = [of(b, n, h, f), of(b, m, h, f)] + [of(b, m, h, v or 0)] * bool(v)
  mask = [of(b, 1, m, dtype="bool")] * is_masked
  def loss(args, mask):
    q, k, v = [*args, None][:3]
    return attend(q, k, v, *mask).astype("float32").sum()
  with compiled_for(targets.of([chip])):
    lowered = jax.jit(jax.grad(loss)).lower(args, mask)
  text = lowered.compile().as_text()
  assert text.count("tpu_custom_call") == 2, (f, v)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu, a TPU's compiler, is not installed",
)
def test_a_tpu_compiles_attention_at_published_widths():
  subprocess.run(
      [sys.executable, "-c", COMPILED],
      env={**ENVIRONMENT},
      check=True,
      timeout=1800,
  )
