"""Parameters and FLOPs of a function, counted from its JAX trace."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import math
import re
from typing import Any

import jax
from jax.extend import core

from perceiver import context


def count_parameters(params: Any) -> int:
  """Numbers in a tree of arrays, or of their shapes."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def count_flops(
    function: Callable[..., Any], *args: Any, products: str | None = "written"
) -> int:
  """FLOPs of one call: two for each multiply-accumulate.

  Matrix products, those of attention included, and convolutions count, each
  time they run: the body of a scan once a step. Element-wise operations do not;
  neither does a `while_loop` of unknown length.

  Args:
    function: any function that JAX can trace.
    *args: its arguments, or their shapes (`jax.ShapeDtypeStruct`).
    products: of attention: "written", model FLOPs as papers count them; or
      None: those that are really computed (`products_in`).

  Returns:
    FLOPs, for all examples in `args`.

  Source: Perceiver IO, appendix D (multiplies and adds are counted separately).
  """
  return _count(_traced(function, args, products))


def flops_by_part(
    function: Callable[..., Any], *args: Any, products: str | None = "written"
) -> dict[str, int]:
  """The FLOPs of one call of a Haiku model, by module.

  Args:
    function: any function that JAX can trace.
    *args: its arguments, or their shapes (`jax.ShapeDtypeStruct`).
    products: as of `count_flops`.

  Returns:
    FLOPs under "input" (before the first read), "encode", "process", "decode",
    and "head" (whatever else comes later); they sum to `count_flops`.
  """
  names = ("input", "encode", "process", "decode", "head")
  parts: dict[str, int] = {name: 0 for name in names}
  rest = "input"
  for path, count in _by_module(_traced(function, args, products)):
    part = next((p for pattern, p in _PARTS if pattern.search(path)), None)
    if part:
      rest = "head"
    parts[part or rest] += count
  return parts


def _traced(function, args, products) -> core.Jaxpr:
  said = contextlib.nullcontext()
  if products is not None:
    said = context.products_in(products)
  with said:
    return jax.make_jaxpr(function)(*args).jaxpr


# A module's path, and the part it belongs to; the first that fits counts.
_PARTS = (
    (re.compile(r"(^|/)(processor|transformer)"), "process"),
    (re.compile(r"(^|/)(average_)?decoder"), "decode"),
    (re.compile(r"(^|/)(encoder/|read_)"), "encode"),
)


def equations(
    jaxpr: core.Jaxpr, path: str = "", times: int = 1
) -> Iterator[tuple[Any, str, int]]:
  """Every executed equation with the path of its module and its count.

  Of a condition's branches the one with most FLOPs; of a `while_loop`, none:
  nobody knows how often.
  """
  for equation in jaxpr.eqns:
    here = f"{path}/{equation.source_info.name_stack}"
    name, params = equation.primitive.name, equation.params
    bodies = list(core.jaxprs_in_params(params))
    if name == "while":
      continue
    if name == "cond":
      bodies = [max(bodies, key=_count)]
    often = times * (params["length"] if name == "scan" else 1)
    for body in bodies:
      yield from equations(body, here, often)
    if not bodies:
      yield equation, here, times


def _by_module(jaxpr: core.Jaxpr) -> Iterator[tuple[str, int]]:
  """FLOPs of each equation under the path of its module, in order."""
  for equation, here, times in equations(jaxpr):
    yield here, times * _count_equation(equation)


def _count(jaxpr: core.Jaxpr) -> int:
  return sum(count for _, count in _by_module(jaxpr))


def _count_equation(equation) -> int:
  params = equation.params
  out: Any = equation.outvars[0].aval if equation.outvars else None
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * math.prod(out.shape) * math.prod(shape[i] for i in contracted)
  if equation.primitive.name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    features = kernel[params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(out.shape) * math.prod(kernel) // features
  return 0
