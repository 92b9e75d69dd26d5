"""Optical flow: for each pixel of a frame, where it is in the next one."""

from einops import rearrange
import haiku as hk
import jax
import jax.numpy as jnp

from experiments.task import choose
from experiments.task import Network
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import outputs
from perceiver import Processor


def network(config) -> Network:
  """Two frames in [-1, 1] to flow in pixels, [B, Y, X, 2], x first."""
  model = config.model
  features_of = choose((patches, conv), model.input)

  def forward(batch, is_training):
    frames = batch["frames"]  # [B, T=2, Y, X, 3]
    features = features_of(frames, is_training=is_training)
    # Two index dimensions, or three if the frames stayed apart.
    x = inputs.pixels(features, model.num_bands, model.max_resolution)
    z = Encoder(**model.encoder)(x)  # [B, N, D]
    z = Processor(**model.processor)(z)
    dims = features.shape[-3:-1]
    query = x[:, : dims[0] * dims[1]]  # Those of the first frame.
    y = Decoder(**model.decoder)(query, z)
    y = y.reshape(len(y), *dims, -1)
    if model.upsample == 1:
      return {"flow": flow_of(y)}
    return {"flow": upsampled(y, model.upsample)}

  dims = tuple(config.frame_size)
  example = {"frames": jax.ShapeDtypeStruct((2, *dims, 3), jnp.float32)}
  return Network(example, forward)


def patches(frames, is_training, size, channels, concat_frames):
  """Each pixel with its neighbours, projected."""
  del is_training
  x = inputs.frame_patches(frames, size)
  if concat_frames:
    x = rearrange(x, "b t y x c -> b y x (t c)")
  return hk.Linear(channels, name="patches")(x)


def conv(frames, is_training, channels, concat_frames):
  """Convolutional features at a quarter of the resolution."""
  stem = inputs.ConvStem(channels, name="conv_stem")
  if concat_frames:
    return stem(rearrange(frames, "b t y x c -> b y x (t c)"), is_training)
  x = stem(rearrange(frames, "b t y x c -> (b t) y x c"), is_training)
  return rearrange(x, "(b t) y x c -> b t y x c", t=frames.shape[1])


def flow_of(y):
  """A flow that starts at zero, in units that suit the loss."""
  return hk.Linear(2, w_init=jnp.zeros, name="flow")(y) / 100 * 20


def upsampled(y, factor):
  """A coarse flow, and how RAFT would have it interpolated."""
  y = hk.Linear(64, name="coarse")(y)
  weights = hk.Linear(9 * factor**2, name="upsample")(y)
  return outputs.raft_upsample(flow_of(y), weights, factor)
