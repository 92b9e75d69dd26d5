"""Perceiver AR: the newest elements attend to all elements before them.

Axes: B examples; input array M × C; latent array N × D, one latent for each of
the newest N elements.

Source: Hawthorne et al., 2022; their released code.
"""

import dataclasses

import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver import bounds
from perceiver import context
from perceiver import layout
from perceiver.attention import CrossAttention
from perceiver.attention import Linear
from perceiver.attention import SelfAttention
from perceiver.perceiver_io import scan_layers
from perceiver.position import Rotary


@dataclasses.dataclass
class CausalEncoder(hk.Module):
  """Encodes a sequence: each latent attends to its element and all before.

  The queries of the latents are the newest elements, projected.

  Attributes:
    num_latents: N, number of the newest elements, which are queries.
    latent_channels: D, channels of each latent.
    num_heads: number of heads of the cross-attention.
    qk_channels: channels of queries and keys; None: C, of the input array.
    v_channels: channels of values; None: qk_channels.
    widening_factor: hidden channels of the MLP over its input channels.
    activation: nonlinearity of the MLP, "gelu" or "squared_relu".
    input_dropout: fraction of the input array's elements that are masked in
      training.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_latents: int
  latent_channels: int
  num_heads: int = 1
  qk_channels: int | None = None
  v_channels: int | None = None
  widening_factor: int = 1
  activation: str = "gelu"
  input_dropout: float = 0.0
  name: str | None = None

  def __call__(
      self,
      x: Float[Array, "B M C"],
      mask: Bool[Array, "B M"] | None = None,
      rotary: Rotary | None = None,
      num_latents: int | None = None,
      is_training: bool = False,
  ) -> Float[Array, "B N {self.latent_channels}"]:
    """z, the latent array; a latent depends on no later element.

    Args:
      x: the input array, in order.
      mask: True at visible elements of x. Latents of masked elements are
        meaningless.
      rotary: positions of the elements of x, for queries and keys.
      num_latents: overrides the number of latents.
      is_training: whether inputs are dropped.

    Raises:
      ValueError: if there are more latents than elements.
    """
    latents = num_latents or self.num_latents
    length = x.shape[1]
    bounds.check(f"{self.module_name}: num_latents", latents, 1, length)
    dropout = self.input_dropout
    bounds.check(f"{self.module_name}: input_dropout", dropout, 0, 1)
    x = context.cast(x)
    z = Linear(self.latent_channels, "latents")(x[:, -latents:])
    if is_training and dropout:
      kept = jax.random.bernoulli(hk.next_rng_key(), 1 - dropout, x.shape[:2])
      mask = kept if mask is None else mask & kept
    if rotary is not None:
      rotary = rotary.of_newest(latents)
    x, mask = layout.place_evenly(x, mask)
    if rotary is not None:  # Rows that were added are read by nobody.
      more = [(0, 0), (0, x.shape[1] - length)]
      rotary = dataclasses.replace(
          rotary, of_keys=jnp.pad(rotary.of_keys, more)
      )
    read = CrossAttention(
        num_heads=self.num_heads,
        qk_channels=self.qk_channels,
        v_channels=self.v_channels,
        widening_factor=self.widening_factor,
        name="cross_attention",
    )
    return read(
        z,
        x,
        None if mask is None else mask[:, None],
        causal=length - latents,
        rotary=rotary,
        activation=self.activation,
    )


@dataclasses.dataclass
class CausalProcessor(hk.Module):
  """Layers of causal self-attention over the latents.

  Attributes:
    num_layers: number of layers, each with its own weights.
    num_heads: number of heads of each layer, a divisor of D.
    qk_channels: channels of queries and keys; None: D, of the latent array.
    widening_factor: hidden channels of each MLP over its input channels.
    activation: nonlinearity of each MLP, "gelu" or "squared_relu".
    remat: recompute layers in the backward pass: less memory, more time.
    unroll: layers in the body of a loop; None: depends on the target.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_layers: int
  num_heads: int = 8
  qk_channels: int | None = None
  widening_factor: int = 1
  activation: str = "gelu"
  remat: bool = False
  unroll: int | None = None
  name: str | None = None

  def __call__(
      self,
      z: Float[Array, "B N D"],
      mask: Bool[Array, "B N"] | None = None,
      rotary: Rotary | None = None,
  ) -> Float[Array, "B N D"]:
    """The latent array after all layers.

    Args:
      z: the latent array, in order.
      mask: False at latents of padding, which are not attended to.
      rotary: positions of the latents.
    """
    bounds.check(f"{self.module_name}: num_layers", self.num_layers, 1)
    keys = None if mask is None else mask[:, None]

    def layer(z):
      module = SelfAttention(
          num_heads=self.num_heads,
          qk_channels=self.qk_channels,
          widening_factor=self.widening_factor,
          name="self_attention",
      )
      return module(z, keys, 0, rotary, self.activation)

    policy = "nothing_saveable" if self.remat else None
    return scan_layers(
        layer, z, self.num_layers, remat_policy=policy, unroll=self.unroll
    )
