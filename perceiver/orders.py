"""The order of the matrix products of an attention.

An attention of a query array (N × D) over another array x (M × C) is a chain of
matrix products with a softmax in it. Products may be bracketed in any order:

    scores, "written"     (query W_q) (x W_k)ᵀ
            "on_queries"  ((query W_q) W_kᵀ) xᵀ
            "on_keys"     query ((x W_k) W_qᵀ)ᵀ

    result, "written"     (A (x W_v)) W_o
            "on_result"   ((A x) W_v) W_o
            "on_values"   A ((x W_v) W_o)

A is the softmax of the scores. On queries, or on the result, x is not projected
at all. On keys, or on values, neither the queries nor the result are. Which one
is cheapest depends on the sizes: `cheapest` counts.

Of the biases, that of the keys adds the same to all scores of a query, and the
softmax does not see it; that of the queries adds a constant to the scores of
each key; that of the values comes through, since the weights of a query add up
to 1, unless it may see no key.

Rotary positions turn queries and keys by head, between the maps that the other
orders of the scores would join: with them, scores are taken as written.
"""

import dataclasses
from typing import Literal, NamedTuple

from perceiver import context

Scores = Literal["written", "on_queries", "on_keys"]
Result = Literal["written", "on_result", "on_values"]

# How often a product is taken in a training step: the forward pass, and what
# the backward pass needs. It computes the scores again.
_OF_SCORES, _OF_RESULT, _OF_PROJECTIONS = 4, 3, 3
# The hardware computes features of heads in multiples of this.
_LANES = {"cpu": 1, "gpu": 8, "tpu": 128}
# No fused kernel of a GPU has wider heads; other code reads scores from memory.
# The factor is an assumption.
_FUSED_WIDTH, _UNFUSED = 256, 3


class Order(NamedTuple):
  """The order of the products for scores and for the result."""

  scores: Scores = "written"
  result: Result = "written"


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of an attention."""

  queries: int  # N
  keys: int  # M
  query_channels: int  # D
  key_channels: int  # C
  heads: int  # H
  qk_features: int  # F, of each head's queries and keys.
  v_features: int  # V, of each head's values.
  output_channels: int  # E
  # Queries and keys are turned by their positions.
  rotary: bool = False

  def width(self, order: Scores | Result, is_scores: bool) -> int:
    """Features of a head in the product of N × M."""
    if order == "written":
      return self.qk_features if is_scores else self.v_features
    if order in ("on_queries", "on_result"):
      return self.key_channels
    return self.query_channels if is_scores else self.output_channels


def cost_of_scores(order: Scores, s: Sizes, platform: str = "cpu") -> int:
  """Multiply-accumulates of a training step for the scores of one example.

  In what the hardware computes: heads are padded, and wide ones count more.
  """
  product = _product(s, s.width(order, True), platform)
  return _OF_PROJECTIONS * _projections_of_scores(order, s) + (
      _OF_SCORES * product
  )


def cost_of_result(order: Result, s: Sizes, platform: str = "cpu") -> int:
  """Multiply-accumulates of a training step for the result of one example."""
  product = _product(s, s.width(order, False), platform)
  return _OF_PROJECTIONS * _projections_of_result(order, s) + (
      _OF_RESULT * product
  )


def multiply_accumulates(order: Order, s: Sizes) -> int:
  """Multiply-accumulates of an attention's forward pass for one example."""
  width = s.width(order.scores, True) + s.width(order.result, False)
  projections = _projections_of_scores(order.scores, s)
  projections += _projections_of_result(order.result, s)
  return projections + s.queries * s.keys * s.heads * width


def _projections_of_scores(order: Scores, s: Sizes) -> int:
  heads = s.heads * s.qk_features
  of_queries = s.queries * s.query_channels * heads
  of_keys = s.keys * s.key_channels * heads
  return {
      "written": of_queries + of_keys,
      "on_queries": of_queries + s.queries * heads * s.key_channels,
      "on_keys": of_keys + s.keys * heads * s.query_channels,
  }[order]


def _projections_of_result(order: Result, s: Sizes) -> int:
  heads = s.heads * s.v_features
  of_values = s.keys * s.key_channels * heads
  of_result = s.queries * heads * s.output_channels
  return {
      "written": of_values + of_result,
      "on_result": s.queries * s.key_channels * heads + of_result,
      "on_values": of_values + s.keys * heads * s.output_channels,
  }[order]


def cheapest(sizes: Sizes, platform: str | None = None) -> Order:
  """The order with the fewest operations; as written if equal.

  Args:
    sizes: sizes of the attention.
    platform: "cpu", "gpu" or "tpu"; None: what is compiled for.
  """
  platform = platform or context.current_target().platform
  scores: tuple[Scores, ...] = ("written", "on_queries", "on_keys")
  result: tuple[Result, ...] = ("written", "on_result", "on_values")
  if sizes.rotary:
    scores = ("written",)
  return Order(
      min(scores, key=lambda order: cost_of_scores(order, sizes, platform)),
      min(result, key=lambda order: cost_of_result(order, sizes, platform)),
  )


def _product(s: Sizes, width: int, platform: str) -> int:
  lanes = _LANES.get(platform, 1)
  width = -(-width // lanes) * lanes
  slow = _UNFUSED if platform == "gpu" and width > _FUSED_WIDTH else 1
  return slow * s.queries * s.keys * s.heads * width


def choose(sizes: Sizes) -> Order:
  """The order that `products_in` requests, or the cheapest."""
  order = Order() if context.asked_order() == "written" else cheapest(sizes)
  context.note_order(sizes, order)
  return order
