"""Compilers for devices that are not there, and what they say."""

import subprocess
import sys

import pytest

from scripts.benchmarks import compilers
from scripts.benchmarks import hlo
from tests.conftest import ENVIRONMENT

PROGRAM = """HloModule jit_step

%products (x: f32[8]) -> f32[8] {
  ROOT %dot = f32[8]{0} dot(%x, %x), lhs_contracting_dims={0}
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %q = bf16[2,3,8,32]{3,2,1,0} parameter(0)
  %k = bf16[2,3,16,32]{3,2,1,0} parameter(1)
  %bounds = s32[1,2,2]{2,1,0} parameter(2)
  %fused = f32[8]{0:T(128)S(1)} fusion(%x), calls=%products,
    "estimated_cycles":"100"
  %kernel = (f32[8]{0:T(8)}, f32[8]{0:T(8)}) custom-call(%bounds, %q, %k, %k),
    custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"blocks":"{\\"block_q\\": 512}"
}}
  %backward = (bf16[2,1,3,8,32], bf16[2,3,16,32], bf16[2,3,16,32])
    custom-call(%bounds, %q, %k, %k, %q, %q),
    custom_call_target="tpu_custom_call"
  %of_keys = (bf16[2,3,16,32], bf16[2,3,16,32])
    custom-call(%bounds, %q, %k, %k, %q, %q),
    custom_call_target="tpu_custom_call"
  %of_queries = bf16[2,3,8,32]
    custom-call(%bounds, %q, %k, %k, %q, %q),
    custom_call_target="tpu_custom_call"
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
  found = compilers.seconds(hlo.Program(PROGRAM), "TPU v5 lite")
  clock = compilers.CLOCK["TPU v5 lite"]
  # Both passes of kernels, whose 32 features are computed as 128. A backward
  # pass is one kernel, or one for keys and values and one for queries.
  scores = 2 * 2 * 3 * 8 * 16
  products = (2 + 5 + 4 + 3) * 128 * scores
  assert found == {
      "products": (3 + 2) * 100 / clock,
      "kernels": pytest.approx((3 + 2) * products / (0.55 * 197e12)),
      "copies": 7 / clock,
      "rest": 1 / clock,
  }


@pytest.mark.parametrize(
    ("kind", "count", "name"),
    [
        ("tpu_v5e", 1, "v5e:2x2"),
        ("tpu_v5e", 8, "v5e:2x4"),
        ("tpu_v6e", 64, "v6e:8x8"),
        ("tpu_v5e", 200, "v5e:16x16"),
        ("tpu_v4", 4, "v4:2x2x1"),
        ("tpu_v4", 8, "v4:2x2x2"),
        ("tpu_v5p", 64, "v5p:4x4x4"),
        ("tpu_v4", 256, "v4:4x8x8"),
    ],
)
def test_the_smallest_topology_with_so_many_chips_is_taken(kind, count, name):
  assert compilers.topology(kind, count) == name


# Forward and gradient as they are in a step, whose masks, widths and batches
# are those of published models.
COMPILED = """
from scripts.benchmarks import compilers
chip, = compilers.devices("tpu_v5e", 1)
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
@pytest.mark.accelerators
@pytest.mark.skipif(
    bool(compilers.why_not("tpu_v5e")), reason=compilers.why_not("tpu_v5e")
)
def test_a_tpu_compiles_attention_at_published_widths():
  subprocess.run(
      [sys.executable, "-c", COMPILED],
      env={**ENVIRONMENT},
      check=True,
      timeout=1800,
  )
