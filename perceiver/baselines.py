"""The Transformer that the paper compares with."""

import dataclasses

import haiku as hk
import jax
from jax import Array
from jaxtyping import Bool
from jaxtyping import Float

from perceiver.attention import Attention
from perceiver.attention import layer_norm
from perceiver.attention import MLP
from perceiver.perceiver_io import scan_layers


@dataclasses.dataclass
class Transformer(hk.Module):
  """BERT's encoder, with layer norm after each residual (post-norm).

  Attributes:
    num_layers: number of layers, each with its own weights.
    num_heads: number of heads of each layer, a divisor of C.
    widening_factor: hidden channels of each MLP over its input channels.
    remat: recompute layers in the backward pass: less memory, more time.
    name: name of the module in parameter paths; None: that of its class.

  Source: Devlin et al., 2019; sizes in Perceiver IO, Table 11.
  """

  num_layers: int
  num_heads: int
  widening_factor: int = 4
  remat: bool = False
  name: str | None = None

  def __call__(
      self,
      x: Float[Array, "B M C"],
      mask: Bool[Array, "B M"] | None = None,
  ) -> Float[Array, "B M C"]:
    """x after all layers.

    Args:
      x: the input array.
      mask: True where an element of x may be read.
    """
    keys = None if mask is None else mask[:, None, :]

    def layer(x):
      y = Attention(self.num_heads, name="attention")(x, x, keys)
      x = layer_norm(x + y, "norm_attention")
      y = MLP(self.widening_factor, name="mlp")(x)
      return layer_norm(x + y, "norm_mlp")

    policy = "nothing_saveable" if self.remat else None
    return scan_layers(layer, x, self.num_layers, remat_policy=policy)


def embedded(x: Float[Array, "B M C"]) -> Float[Array, "B M C"]:
  """The input of BERT's layers: embeddings after layer norm."""
  return layer_norm(x, "norm_embeddings")


def masked_token_features(
    x: Float[Array, "B M C"],
) -> Float[Array, "B M C"]:
  """The features that BERT multiplies with token embeddings, a linear map of x.

  Source: Devlin et al., 2019; their released code.
  """
  x = hk.Linear(x.shape[-1], name="features")(x)
  return layer_norm(jax.nn.gelu(x, approximate=True), "norm_features")
