"""Perceiver AR: the newest elements of a sequence read all that came before.

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
  """Reads a sequence into latents: each what has come so far.

  The newest elements, projected, are the latents' queries.

  Attributes:
    num_latents: N, how many of the newest elements are queries.
    latent_channels: D, of each latent.
    num_heads: of the cross-attention.
    qk_channels: of queries and keys; None: C, as the input array.
    v_channels: of values; None: qk_channels.
    widening_factor: of the MLP after the read.
    activation: of that MLP, "gelu" or "squared_relu".
    input_dropout: the part of the input array's elements that is masked in
      training, from 0 to 1.
    name: of the module, in the paths of its parameters; None: its class's.
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
    """z, the latent array: that of element i knows nothing after it.

    Args:
      x: the input array, in order.
      mask: True where an element of x may be read. The latent of an element
        that may not be means nothing.
      rotary: where the elements of x are, for queries and keys alike.
      num_latents: another number of latents; None: that of the settings.
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
  """Lets latents read those up to their own, layer after layer.

  Attributes:
    num_layers: each with its own weights.
    num_heads: of each layer; they divide D.
    qk_channels: of queries and keys; None: D, as the latent array.
    widening_factor: of each layer's MLP.
    activation: of each layer's MLP, "gelu" or "squared_relu".
    remat: recompute layers in the backward pass: less memory, more time.
    unroll: layers of a loop's body; None: by the target.
    name: of the module, in the paths of its parameters; None: its class's.
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
      mask: False at latents of padding, which are not read.
      rotary: where the latents are.
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
