"""Attention, and the two modules that everything else is made of.

Axes: B examples, N or O queries, M keys.
"""

import dataclasses
import functools

from einops import rearrange
import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver import context
from perceiver import layout
from perceiver.kernels.softmax import attend
from perceiver.kernels.softmax import attention_scores
from perceiver.kernels.softmax import attention_weights


@dataclasses.dataclass
class Linear(hk.Module):
  """A linear map whose weights start with a deviation of 1 / √(fan-in).

  Plain `hk.Linear` cuts the same distribution at two deviations without
  correcting for it and starts at 0.88 / √(fan-in).

  Source: official behaviour, all projections of attention and of its MLP.
  """

  channels: int
  name: str | None = None

  def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B D"]:
    """The map of each element."""
    init = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")
    shape = [x.shape[-1], self.channels]
    w = hk.get_parameter("w", shape, x.dtype, init=init)
    b = hk.get_parameter("b", shape[1:], x.dtype, init=jnp.zeros)
    # Only so does a CPU use its instructions for products of bfloat16: a
    # forward pass takes a third of the time.
    is_slow = x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"
    y = (_summed_in_float32 if is_slow else jnp.matmul)(x, w) + b
    return layout.place(y)


_matmul = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _summed_in_float32(x, w):
  return _matmul(x, w).astype(x.dtype)


# What JAX derives multiplies by a gradient in float32.
def _summed_backward(residuals, dy):
  x, w = residuals
  rows = (tuple(range(x.ndim - 1)),) * 2
  # Not as two matrices: axes that are split over devices shall stay apart.
  dw = jnp.tensordot(x, dy, rows, preferred_element_type=jnp.float32)
  dx = _matmul(dy, w.T)
  return dx.astype(x.dtype), dw.astype(w.dtype)


_summed_in_float32.defvjp(
    lambda x, w: (_summed_in_float32(x, w), (x, w)), _summed_backward
)


def layer_norm(x: Float[Array, "*B C"], name: str) -> Float[Array, "*B C"]:
  """x with mean 0 and deviation 1 over its channels, then scaled and shifted.

  Computed in float32 whatever the dtype of x, with epsilon 1e-5 under the root.
  """
  with hk.name_scope(name):
    scale = hk.get_parameter("scale", x.shape[-1:], x.dtype, init=jnp.ones)
    offset = hk.get_parameter("offset", x.shape[-1:], x.dtype, init=jnp.zeros)
  return _layer_norm(x, scale, offset)


def _normalised(x):
  """x with mean 0 and deviation 1, and 1 / its own deviation."""
  x = x.astype(jnp.float32)
  x = x - x.mean(-1, keepdims=True)
  inverse = jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
  return x * inverse, inverse


# Its own derivative: what JAX derives keeps several arrays of the size of x for
# the backward pass, and a step of training takes up to a tenth longer.
@jax.custom_vjp
def _layer_norm(x, scale, offset):
  normalised, _ = _normalised(x)
  return (normalised * scale + offset).astype(x.dtype)


def _layer_norm_forward(x, scale, offset):
  return _layer_norm(x, scale, offset), (x, scale)


def _layer_norm_backward(residuals, dy):
  x, scale = residuals
  normalised, inverse = _normalised(x)
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
  """Multi-head attention; heads are contiguous slices of the channels."""

  num_heads: int
  qk_channels: int | None = None  # None: as the query array.
  v_channels: int | None = None  # None: qk_channels.
  output_channels: int | None = None  # None: v_channels.
  name: str | None = None

  def __call__(
      self,
      query: Float[Array, "B N D"],
      x: Float[Array, "B M C"],
      mask: Bool[Array, "#B #N #M"] | None = None,
  ) -> Float[Array, "B N E"]:
    """What each element of `query` reads from x."""
    qk_channels = self.qk_channels or query.shape[-1]
    v_channels = self.v_channels or qk_channels

    def project(array, channels, name):
      if channels % self.num_heads:
        raise ValueError(
            f"{self.module_name}: the {channels} channels of {name!r} do not"
            f" split into {self.num_heads} heads."
        )
      array = Linear(channels, name)(array)
      return rearrange(array, "b m (h f) -> b m h f", h=self.num_heads)

    q = project(query, qk_channels, "q")
    k = project(x, qk_channels, "k")
    v = project(x, v_channels, "v")
    if recording := context.recording():
      seen = attention_scores if recording.of_scores else attention_weights
      context.record(self.module_name, seen(q, k, mask))
    y = rearrange(attend(q, k, v, mask), "b n h v -> b n (h v)")
    return Linear(self.output_channels or v_channels, "output")(y)


@dataclasses.dataclass
class MLP(hk.Module):
  """Two linear maps with a GELU, in its tanh form, between them."""

  widening_factor: int = 1
  name: str | None = None

  def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """Each element on its own."""
    channels = x.shape[-1]
    hidden = Linear(self.widening_factor * channels, "hidden")(x)
    return Linear(channels, "output")(_gelu(hidden))


@dataclasses.dataclass
class CrossAttention(hk.Module):
  """Lets a query array read another array, then transforms it."""

  num_heads: int = 1
  qk_channels: int | None = None  # None: C, as the array that is read.
  v_channels: int | None = None  # None: qk_channels.
  widening_factor: int = 1
  use_query_residual: bool = True  # Off: the result forgets the query.
  name: str | None = None

  def __call__(
      self,
      query: Float[Array, "B N D"],
      x: Float[Array, "B M C"],
      mask: Bool[Array, "#B #N #M"] | None = None,
  ) -> Float[Array, "B N D"]:
    """The query array after the read.

    Source: Perceiver IO, §3 and appendix E; official behaviour.
    """
    read = Attention(
        self.num_heads,
        qk_channels=self.qk_channels or x.shape[-1],
        v_channels=self.v_channels,
        output_channels=query.shape[-1],
        name="attention",
    )
    y = read(layer_norm(query, "norm_query"), layer_norm(x, "norm_x"), mask)
    if self.use_query_residual:
      y = query + y
    mlp = MLP(self.widening_factor, name="mlp")
    return y + mlp(layer_norm(y, "norm_mlp"))


@dataclasses.dataclass
class SelfAttention(hk.Module):
  """Lets an array read itself, then transforms it: a Transformer layer."""

  num_heads: int = 8
  qk_channels: int | None = None  # None: D.
  widening_factor: int = 1
  name: str | None = None

  def __call__(
      self,
      z: Float[Array, "B N D"],
      mask: Bool[Array, "#B #N #N"] | None = None,
  ) -> Float[Array, "B N D"]:
    """The array after the layer.

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
    z = z + read(y, y, mask)
    mlp = MLP(self.widening_factor, name="mlp")
    return z + mlp(layer_norm(z, "norm_mlp"))
