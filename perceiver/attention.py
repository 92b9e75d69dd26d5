"""Multi-head attention, MLPs, and the two modules composed of them.

Axes: B examples, N or O queries, M keys.
"""

import dataclasses
import functools
from typing import Any

from einops import rearrange
import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver import bounds
from perceiver import context
from perceiver import layout
from perceiver import orders
from perceiver.context import Memory
from perceiver.kernels import causal as rules
from perceiver.kernels.softmax import attend
from perceiver.kernels.softmax import attention_scores
from perceiver.kernels.softmax import attention_weights
from perceiver.learned import for_examples
from perceiver.learned import kept
from perceiver.learned import plus
from perceiver.learned import product
from perceiver.position import Rotary


@dataclasses.dataclass
class Linear(hk.Module):
  """A linear layer, initialised with a deviation of 1 / √(fan-in).

  Plain `hk.Linear` cuts the same distribution at two deviations without
  correcting for it and starts at 0.88 / √(fan-in).

  Attributes:
    channels: D, channels of the result.
    name: name of the module in parameter paths; None: that of its class.

  Source: official behaviour, all projections of attention and of its MLP.
  """

  channels: int
  name: str | None = None

  def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B D"]:
    """Applies the layer to each element."""
    w, b = self.map_from(x.shape[-1], x.dtype)
    return layout.place(plus(product(x, w), b))

  def map_from(self, channels: int, dtype: Any) -> tuple[Any, Any]:
    """Weights [channels, D] and bias [D], in their stored dtype."""
    init = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")
    shape = [channels, self.channels]
    with context.parameters_as_kept():
      w = hk.get_parameter("w", shape, dtype, init=init)
      b = hk.get_parameter("b", shape[1:], dtype, init=jnp.zeros)
    return w, b


def layer_norm(x: Float[Array, "*B C"], name: str) -> Float[Array, "*B C"]:
  """x with mean 0 and deviation 1 over its channels, then scaled and shifted.

  Computed in float32 for any dtype of x, with epsilon 1e-5 under the root.
  """
  with hk.name_scope(name), context.parameters_as_kept():
    scale = hk.get_parameter("scale", x.shape[-1:], x.dtype, init=jnp.ones)
    offset = hk.get_parameter("offset", x.shape[-1:], x.dtype, init=jnp.zeros)
  return _layer_norm(x, scale, offset)


def _statistics(x):
  """The mean and the inverse deviation of each element, in float32."""
  rounded = x.dtype != jnp.float32
  x = x.astype(jnp.float32)
  mean = x.mean(-1, keepdims=True)
  if rounded and context.current_target().platform == "tpu":
    # Both sums in one pass, which XLA adds to the product before it. What they
    # lose where the mean is large is less than what x was rounded by.
    variance = jnp.square(x).mean(-1, keepdims=True) - jnp.square(mean)
    variance = jnp.maximum(variance, 0)
  else:
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
  return mean, jax.lax.rsqrt(variance + 1e-5)


# Its own derivative: what JAX derives keeps several arrays of the size of x for
# the backward pass, and a step of training takes up to a tenth longer.
@jax.custom_vjp
def _layer_norm(x, scale, offset):
  return _layer_norm_forward(x, scale, offset)[0]


def _layer_norm_forward(x, scale, offset):
  mean, inverse = map(kept, _statistics(x))
  y = (x.astype(jnp.float32) - mean) * inverse * scale + offset
  return y.astype(x.dtype), (x, scale, mean, inverse)


def _layer_norm_backward(residuals, dy):
  x, scale, mean, inverse = residuals
  normalised = (x.astype(jnp.float32) - mean) * inverse
  dy = dy.astype(jnp.float32)
  rows = tuple(range(x.ndim - 1))
  dscale, doffset = (dy * normalised).sum(rows), dy.sum(rows)
  dy = dy * scale
  along = (dy * normalised).mean(-1, keepdims=True)
  dx = inverse * (dy - dy.mean(-1, keepdims=True) - normalised * along)
  return tuple(
      d.astype(like.dtype)
      for d, like in ((dx, x), (dscale, scale), (doffset, scale))
  )


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


# Its backward pass starts from x again: one array to keep instead of several.
_gelu = jax.checkpoint(
    functools.partial(jax.nn.gelu, approximate=True), prevent_cse=False
)


@dataclasses.dataclass
class Attention(hk.Module):
  """Multi-head attention; heads are contiguous slices of the channels.

  Attributes:
    num_heads: number of heads, a divisor of qk_channels and v_channels.
    qk_channels: channels of queries and keys, all heads together; None: those
      of the query array.
    v_channels: channels of values, all heads together; None: qk_channels.
    output_channels: channels of the result; None: v_channels.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_heads: int
  qk_channels: int | None = None
  v_channels: int | None = None
  output_channels: int | None = None
  name: str | None = None

  def __call__(
      self,
      query: Float[Array, "#B N D"],
      x: Float[Array, "B M C"],
      mask: Bool[Array, "#B #N #M"] | None = None,
      causal: int | None = None,
      rotary: Rotary | None = None,
  ) -> Float[Array, "B N E"]:
    """The result of attention for each element of `query`.

    The products are computed in the order that `orders.choose` gives.
    Parameters are the same in any order, and values up to rounding.

    Args:
      query: the query array; one example stands for all.
      x: the array to attend to.
      mask: True where an element of `query` may attend to one of x.
      causal: element i of `query` may attend to j of x only if j ≤ i + causal;
        None: to any.
      rotary: positions of the elements of both; None: no rotary positions.
    """
    heads = self.num_heads
    bounds.check(f"{self.module_name}: num_heads", heads, 1)
    qk_channels = self.qk_channels or query.shape[-1]
    v_channels = self.v_channels or qk_channels
    for name, channels in (("qk", qk_channels), ("v", v_channels)):
      bounds.check(f"{self.module_name}: {name}_channels", channels, 1)
      if channels % heads:
        raise ValueError(
            f"{self.module_name}: the {channels} {name} channels do not split"
            f" into {heads} heads."
        )
    output_channels = self.output_channels or v_channels
    _, queries, query_channels = query.shape
    _, keys, key_channels = x.shape
    of = lambda width, channels, name: Linear(width, name).map_from(
        channels, x.dtype
    )
    w_q, b_q = of(qk_channels, query_channels, "q")
    w_k, b_k = of(qk_channels, key_channels, "k")
    w_v, b_v = of(v_channels, key_channels, "v")
    w_o, b_o = of(output_channels, v_channels, "output")
    sizes = orders.Sizes(
        queries=queries,
        keys=keys,
        query_channels=query_channels,
        key_channels=key_channels,
        heads=heads,
        qk_features=qk_channels // heads,
        v_features=v_channels // heads,
        output_channels=output_channels,
        rotary=rotary is not None,
    )
    order = orders.choose(sizes)
    split = functools.partial(_split_heads, heads=heads)
    project = lambda array, w, b: layout.place(plus(product(array, w), b))
    same = lambda array: jnp.broadcast_to(
        array[:, :, None], (*array.shape[:2], heads, array.shape[-1])
    )

    # Scores.
    scale, constants = sizes.qk_features**-0.5, None
    recording, remembering = context.recording(), context.remembering()
    if recording:
      order = order._replace(scores="written")
    if remembering:
      order = orders.Order()
    if order.scores == "on_keys":
      k = split(project(x, w_k, b_k))
      b_q = b_q.astype(k.dtype).reshape(heads, -1)
      constants = scale * jnp.einsum("bmhf,hf->bmh", k, b_q)
      q, k = same(query), _mapped_back(k, w_q)
    elif order.scores == "on_queries":
      q = _mapped_back(split(project(query, w_q, b_q)), w_k)
      k = same(x)
    else:
      q, k = split(project(query, w_q, b_q)), split(project(x, w_k, b_k))
    if rotary:
      q, k = rotary.queries(q), rotary.keys(k)
    v = None
    if remembering:
      v = split(project(x, w_v, b_v))
      k, v, mask, causal = self._remembered(remembering, k, v, mask, causal)
    q = for_examples(q, x.shape[0])
    if recording:
      seen = attention_scores if recording.of_scores else attention_weights
      whole = rules.with_mask(mask, queries, k.shape[1], causal)
      context.record(self.module_name, seen(q, k, whole))

    # What is read.
    read = functools.partial(
        attend, scale=scale, constants=constants, causal=causal
    )
    sees_any = rules.sees_any(mask, queries, causal)
    if order.result == "on_values":
      v = _mapped_on(split(product(x, w_v)), w_o)
      y = read(q, k, v, mask).sum(axis=2)
      of_bias = product(b_v.astype(y.dtype), w_o)
      return layout.place(plus(y + _seen(of_bias, sees_any), b_o))
    if order.result == "on_result":
      v = None if order.scores == "on_queries" else same(x)
      y = _mapped_by_head(read(q, k, v, mask), w_v)
      y = y + _seen(b_v.astype(y.dtype), sees_any)
    else:
      v = split(project(x, w_v, b_v)) if v is None else v
      y = rearrange(read(q, k, v, mask), "b n h v -> b n (h v)")
    return project(y, w_o, b_o)

  def _remembered(self, remembering, k, v, mask, causal):
    """Keys, values, mask and rule including earlier elements; stores the cache.

    Raises:
      ValueError: if the mask is not of keys, or there is more than the next.
    """
    if remembering.given is None:
      if mask is not None and mask.shape[1] > 1:
        raise ValueError(f"{self.module_name}: a cache needs a mask of keys")
      seen = jnp.ones(k.shape[:2], bool)
      memory = Memory(
          k,
          v,
          seen if mask is None else seen & mask[:, 0],
          jnp.asarray(k.shape[1]),
      )
    else:
      if k.shape[1] > 1:
        raise ValueError(f"{self.module_name}: a cache grows by one element")
      memory = remembering.given[self.module_name].with_next(k, v)
      k, v, mask, causal = memory.k, memory.v, memory.seen[:, None], None
    remembering.kept[self.module_name] = memory
    return k, v, mask, causal


def _split_heads(array, heads):
  return rearrange(array, "b m (h f) -> b m h f", h=heads)


def _by_head(array, w, heads_of_w):
  """array [B, N, H, F] times the part of w for each head, [B, N, H, G].

  Args:
    array: features by head.
    w: a map.
    heads_of_w: w as [H, F, G], in einops' words.
  """
  heads = array.shape[2]
  w = rearrange(w, heads_of_w, h=heads)
  if heads == 1:
    return layout.place(product(array[:, :, 0], w[0]))[:, :, None]
  by_head = jax.vmap(product, in_axes=(2, 0), out_axes=2)
  return by_head(array, w)


def _mapped_back(array, w):
  """Multiplies the features of each head by the transpose of their map."""
  return _by_head(array, w, "c (h f) -> h f c")


def _mapped_on(array, w):
  """Multiplies the features of each head by its rows of a map."""
  return _by_head(array, w, "(h f) e -> h f e")


def _mapped_by_head(array, w):
  """Multiplies each head's array by its columns of a map, and joins heads."""
  array = _by_head(array, w, "c (h f) -> h c f")
  return rearrange(array, "b n h f -> b n (h f)")


def _seen(bias, sees_any):
  """The contribution of a bias of the values to the result."""
  if sees_any is None:
    return bias
  # A query that may see nothing reads 0.
  return jnp.where(sees_any[..., None], bias, 0)


def squared_relu(x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
  """max(x, 0)². Source: So et al., 2021; Perceiver AR."""
  return jnp.square(jax.nn.relu(x))


_ACTIVATIONS = {"gelu": _gelu, "squared_relu": squared_relu}


@dataclasses.dataclass
class MLP(hk.Module):
  """Two linear layers with a nonlinearity, by default the tanh form of GELU.

  Attributes:
    widening_factor: hidden channels over input channels.
    activation: the nonlinearity, "gelu" or "squared_relu".
    name: name of the module in parameter paths; None: that of its class.
  """

  widening_factor: int = 1
  activation: str = "gelu"
  name: str | None = None

  def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """Applies the MLP to each element."""
    channels = x.shape[-1]
    name = f"{self.module_name}: widening_factor"
    bounds.check(name, self.widening_factor, 1)
    if self.activation not in _ACTIVATIONS:
      raise ValueError(
          f"{self.module_name}: activation {self.activation!r} is not one of"
          f" {list(_ACTIVATIONS)}"
      )
    hidden = kept(Linear(self.widening_factor * channels, "hidden")(x))
    return Linear(channels, "output")(_ACTIVATIONS[self.activation](hidden))


@dataclasses.dataclass
class CrossAttention(hk.Module):
  """Cross-attention of a query array to another array, then an MLP.

  Attributes:
    num_heads: number of heads.
    qk_channels: channels of queries and keys; None: C, those of x.
    v_channels: channels of values; None: qk_channels.
    widening_factor: hidden channels of the MLP over its input channels.
    use_query_residual: whether the result of attention is added to the query.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_heads: int = 1
  qk_channels: int | None = None
  v_channels: int | None = None
  widening_factor: int = 1
  use_query_residual: bool = True
  name: str | None = None

  def __call__(
      self,
      query: Float[Array, "#B N D"],
      x: Float[Array, "B M C"],
      mask: Bool[Array, "#B #N #M"] | None = None,
      causal: int | None = None,
      rotary: Rotary | None = None,
      activation: str = "gelu",
  ) -> Float[Array, "B N D"]:
    """The query array after attention and MLP; see `Attention` and `MLP`.

    Source: Perceiver IO, §3 and appendix E; official behaviour.
    """
    read = Attention(
        self.num_heads,
        qk_channels=self.qk_channels or x.shape[-1],
        v_channels=self.v_channels,
        output_channels=query.shape[-1],
        name="attention",
    )
    query_and_x = layer_norm(query, "norm_query"), layer_norm(x, "norm_x")
    y = read(*query_and_x, mask, causal, rotary)
    if self.use_query_residual:
      y = for_examples(query, y.shape[0]) + y
    mlp = MLP(self.widening_factor, activation, name="mlp")
    return y + mlp(layer_norm(y, "norm_mlp"))


@dataclasses.dataclass
class SelfAttention(hk.Module):
  """Self-attention, then an MLP: a Transformer layer.

  Attributes:
    num_heads: number of heads, a divisor of D.
    qk_channels: channels of queries and keys; None: D.
    widening_factor: hidden channels of the MLP over its input channels.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_heads: int = 8
  qk_channels: int | None = None
  widening_factor: int = 1
  name: str | None = None

  def __call__(
      self,
      z: Float[Array, "B N D"],
      mask: Bool[Array, "#B #N #N"] | None = None,
      causal: int | None = None,
      rotary: Rotary | None = None,
      activation: str = "gelu",
  ) -> Float[Array, "B N D"]:
    """The array after the layer; see `Attention` and `MLP`.

    Source: Perceiver IO, §3 and appendix E; official behaviour.
    """
    channels = z.shape[-1]
    read = Attention(
        self.num_heads,
        qk_channels=self.qk_channels,
        v_channels=channels,
        output_channels=channels,
        name="attention",
    )
    y = layer_norm(z, "norm_z")
    z = kept(z + read(y, y, mask, causal, rotary))
    mlp = MLP(self.widening_factor, activation, name="mlp")
    return z + mlp(layer_norm(z, "norm_mlp"))
