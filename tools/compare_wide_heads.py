"""Compares forms of attention for heads that are too wide for cuDNN.

    python -m tools.compare_wide_heads [--device=h100]

compiles forward pass and gradient of the attention that the encoders of
ImageNet, optical flow and Kinetics take, by the GPU's own compiler, and prints
what each form needs: temporary memory, FLOPs of matrix products, and bytes that
instructions read and write. It needs the extra cuda-compiler, and no GPU.

"triton" and "mosaic" are JAX's own kernels (`jax.experimental.pallas.ops.gpu`),
with features padded as they need them. A head cannot be split into parts for
cuDNN, since the softmax is of the sum of their products.
"""

from collections.abc import Callable
import functools
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from experiments.engine import command
from experiments.engine.errors import UserError
from perceiver import compiled_for
from perceiver import target as targets
from perceiver.kernels import blocked
from perceiver.kernels import softmax
from scripts.benchmarks import compilers
from scripts.benchmarks import hlo

# Examples of one of 64 devices, queries, keys, features; the keys are the
# values (`perceiver.orders`).
SHAPES = {
    "imagenet:fourier": (16, 512, 50_176, 261),
    "flow:patches": (8, 2048, 182_528, 322),
    "kinetics:latents_784": (16, 784, 52_097, 704),
}


def _padded(x: jax.Array, rows: int, width: int) -> jax.Array:
  more = [(0, 0), (0, -x.shape[1] % rows), (0, 0), (0, -x.shape[-1] % width)]
  return jnp.pad(x, more)


def triton(q: jax.Array, k: jax.Array, v: None) -> jax.Array:
  """JAX's kernel in Triton; keys that are padding are not hidden from it."""
  from jax.experimental.pallas.ops.gpu import attention

  del v
  k = _padded(k, 64, 1)
  sizes = attention.BlockSizes(*[64] * 6)
  return attention.mha(
      _padded(q, 64, 1), k, k, None, sm_scale=1.0, block_sizes=sizes
  )


def mosaic(q: jax.Array, k: jax.Array, v: None) -> jax.Array:
  """JAX's kernel for Hopper; keys that are padding are not hidden from it."""
  from jax.experimental.pallas.ops.gpu import attention_mgpu

  del v
  k = _padded(k, 128, 64)
  config = attention_mgpu.TuningConfig(
      block_q=64,
      block_kv=64,
      max_concurrent_steps=2,
      block_q_dkv=64,
      block_kv_dkv=64,
      block_q_dq=64,
      block_kv_dq=64,
  )
  return attention_mgpu.attention(_padded(q, 128, 64), k, k, config)


FORMS: dict[str, Callable[..., Any]] = {
    "plain": softmax.plain,
    "blocked": functools.partial(blocked.attend, queries=2048, keys=2048),
    "triton": triton,
    "mosaic": mosaic,
}


def row(device: Any, form: str, shape: tuple[int, ...]) -> str:
  """Cells of the table."""
  batch, queries, keys, features = shape
  of = lambda length: jax.ShapeDtypeStruct(
      (batch, length, 1, features),
      jnp.bfloat16,
      sharding=SingleDeviceSharding(device),
  )

  def loss(q, k):
    return FORMS[form](q, k, None).astype(jnp.float32).sum()

  try:
    with compiled_for(targets.of([device])):
      lowered = jax.jit(jax.grad(loss, (0, 1))).lower(of(queries), of(keys))
    compiled = lowered.compile()
  except Exception as e:  # Whatever a kernel refuses.
    return f"refused: {str(e).splitlines()[0][:150]} | – | –"
  program = hlo.Program(compiled.as_text() or "")
  flops = sum(hlo.products(program).values())
  memory = compiled.memory_analysis()
  assert memory is not None  # These compilers have one.
  temporary = memory.temp_size_in_bytes
  return " | ".join(
      [
          f"{temporary / 2**30:.2f} GiB",
          f"{flops / 1e12:.2f} TFLOP",
          f"{hlo.traffic(program) / 1e9:.1f} GB",
      ]
  )


def main() -> None:
  """Prints a row for each model and form."""
  if missing := compilers.why_not(_DEVICE.value):
    raise UserError(missing)
  (device,) = compilers.devices(_DEVICE.value, 1)
  print("| encoder of | form | temporary | products | read and written |")
  print("|---|---|---|---|---|")
  for name, shape in SHAPES.items():
    for form in FORMS:
      print(f"| `{name}` | {form} | {row(device, form, shape)} |", flush=True)


if __name__ == "__main__":
  _DEVICE = flags.DEFINE_string("device", "h100", "a kind of GPU")
  command.run(main, needs_config=False)
