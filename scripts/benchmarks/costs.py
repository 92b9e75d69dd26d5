"""Time of a Perceiver IO against M, O, N and the number of layers.

And of compiling it: with stacked layers, as everywhere here, and unrolled.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import pathlib
import time
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from experiments.engine import figures
from perceiver import Decoder
from perceiver import Encoder
from perceiver import Processor
from perceiver import SelfAttention
from scripts.benchmarks import timing

CHANNELS = 256  # of the input array and of the output queries
LATENT_CHANNELS = 512
CALLS = 5


class Sizes(NamedTuple):
  """The sizes of a model."""

  M: int = 8192
  O: int = 8192  # noqa: E741  The paper's letter.
  N: int = 256
  L: int = 6


# One of them grows at a time.
SWEEPS = {
    "M": tuple(8192 * i for i in (1, 2, 4, 6, 8)),
    "O": tuple(8192 * i for i in (1, 2, 4, 6, 8)),
    "N": tuple(128 * i for i in (1, 2, 4, 8, 16)),
    "L": tuple(6 * i for i in (1, 2, 4, 6, 8)),
}
NAMES = {
    "M": "elements of the input array, M",
    "O": "output queries, O",
    "N": "latents, N",
    "L": "self-attention layers, L",
}


_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2))


class Curve(NamedTuple):
  """Seconds of a gradient where one size grows, and a polynomial through it."""

  sizes: list[int]
  seconds: list[float]
  coefficients: list[float]  # highest power first
  r_squared: float


def measure() -> dict[str, Curve]:
  """A curve for each size: lines, but a parabola for N, by N × N products."""
  curves = {}
  for name, sizes in SWEEPS.items():
    seconds = [gradient_seconds(Sizes()._replace(**{name: n})) for n in sizes]
    curves[name] = fitted(sizes, seconds, 2 if name == "N" else 1)
  return curves


def compile_seconds() -> dict[str, list[float]]:
  """Of the gradient for each number of layers, stacked and unrolled."""
  jax.config.update("jax_enable_compilation_cache", False)
  sizes = [Sizes(L=n) for n in SWEEPS["L"]]
  try:
    return {
        "stacked": [compiled(each)[1] for each in sizes],
        "unrolled": [compiled(each, unrolled=True)[1] for each in sizes],
    }
  finally:
    jax.config.update("jax_enable_compilation_cache", True)


def gradient_seconds(sizes: Sizes) -> float:
  """Median seconds of a gradient of one example."""
  run, _ = compiled(sizes)
  wait = lambda: jax.block_until_ready(run())
  return float(np.median(timing.timed(wait, CALLS)))


def compiled(
    sizes: Sizes, unrolled: bool = False
) -> tuple[Callable[[], Any], float]:
  """The gradient of one example, compiled, and in how many seconds."""

  def forward(x, query):
    z = Encoder(sizes.N, LATENT_CHANNELS)(x)
    if unrolled:
      for _ in range(sizes.L):
        z = SelfAttention()(z)
    else:
      z = Processor(sizes.L)(z)
    return jnp.square(Decoder()(query, z)).mean()

  net = hk.without_apply_rng(hk.transform(forward))
  x = jnp.ones([1, sizes.M, CHANNELS])
  query = jnp.ones([1, sizes.O, CHANNELS])
  params = jax.jit(net.init)(jax.random.key(0), x, query)
  lowered = jax.jit(jax.grad(net.apply)).lower(params, x, query)
  start = time.perf_counter()
  run = lowered.compile()
  seconds = time.perf_counter() - start
  return functools.partial(run, params, x, query), seconds


def fitted(sizes: Sequence[int], seconds: list[float], power: int) -> Curve:
  """A curve with the least-squares polynomial of that power."""
  coefficients = np.polyfit(sizes, seconds, power)
  rest = np.asarray(seconds) - np.polyval(coefficients, sizes)
  r_squared = 1 - rest.var() / np.var(seconds)
  return Curve(
      list(sizes),
      seconds,
      [float(c) for c in coefficients],
      float(r_squared),
  )


@figures.styled()
def draw(
    curves: Mapping[str, Curve],
    compiling: Mapping[str, list[float]],
    file: pathlib.Path,
) -> None:
  """A panel for each curve, and one for compiling."""
  figure = matplotlib.figure.Figure(figsize=(12, 6.5), layout="constrained")
  panels: Any = figure.subplots(2, 3)
  *panels, last, empty = (panels[i, j] for i, j in _PLACES)
  empty.remove()
  for kind, seconds in compiling.items():
    last.plot(SWEEPS["L"][: len(seconds)], seconds, "o-", label=kind)
  last.set(xlabel=NAMES["L"], ylabel="seconds", xlim=(0, None), ylim=(0, None))
  last.set_title("compiling the gradient", fontsize=10)
  last.legend()
  for panel, (name, curve) in zip(panels, curves.items(), strict=True):
    dense = np.linspace(0, max(curve.sizes), 100)
    panel.plot(dense, np.polyval(curve.coefficients, dense), color="0.6")
    panel.plot(curve.sizes, curve.seconds, "o", color="tab:blue")
    panel.set(xlabel=NAMES[name], ylabel="seconds", xlim=(0, None))
    panel.set_ylim(0, 1.1 * max(curve.seconds))
    kind = "line" if len(curve.coefficients) == 2 else "parabola"
    panel.set_title(f"{kind}, R² = {curve.r_squared:.3f}", fontsize=10)
  base = ", ".join(f"{k} = {v:,}" for k, v in Sizes()._asdict().items())
  figure.suptitle(f"A gradient of one example; where not varied, {base}")
  figure.savefig(file, dpi=110)
