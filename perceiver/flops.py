"""Parameters and FLOPs of a function, counted from what JAX traces of it."""

from collections.abc import Callable
import math
from typing import Any

import jax
from jax.extend import core


def count_parameters(params: Any) -> int:
  """Numbers in a tree of arrays, or of their shapes."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def count_flops(function: Callable[..., Any], *args: Any) -> int:
  """FLOPs of one call: two for each multiply-accumulate.

  Matrix products, those of attention included, and convolutions count, each
  time they run: the body of a scan once a step. Element-wise operations do not;
  neither does a `while_loop` of unknown length.

  Args:
    function: any function that JAX can trace.
    *args: its arguments, or their shapes (`jax.ShapeDtypeStruct`).

  Returns:
    FLOPs, for all examples in `args`.

  Source: Perceiver IO, appendix D (multiplies and adds are counted separately).
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
  return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation) -> int:
  name, params = equation.primitive.name, equation.params
  out: Any = equation.outvars[0].aval if equation.outvars else None
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * math.prod(out.shape) * math.prod(shape[i] for i in contracted)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    features = kernel[params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(out.shape) * math.prod(kernel) // features
  if name == "cond":
    return max(_count(branch.jaxpr) for branch in params["branches"])
  times = params.get("length", 1) if name == "scan" else 1
  return times * sum(_count(inner) for inner in core.jaxprs_in_params(params))
