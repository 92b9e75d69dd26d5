"""Kinetics: a video, its sound and its class through one bottleneck."""

import math

from einops import rearrange
import haiku as hk
import jax
import jax.numpy as jnp

from experiments.task import Network
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import multimodal
from perceiver import position
from perceiver import Processor
from perceiver.attention import no_recording


def network(config) -> Network:
  """Video in [0, 1], audio in [-1, 1] and label to the same, reconstructed.

  With "video_points" and "audio_points" in the batch, indices of voxels and of
  audio patches, only those are decoded: [B, points, 3] and [B, points, patch].
  Without, all are, `num_chunks` after each other: [B, T, Y, X, 3], [B, S, 1].
  The label is always logits.
  """
  model = config.model

  def forward(batch, is_training):
    hide = jnp.ones([len(batch["label"]), 1], bool)
    if is_training:
      hide = jax.random.bernoulli(
          hk.next_rng_key(), config.hide_label, hide.shape
      )
    x = encoded(batch, hide, config.num_classes, model)  # [B, M, C]
    z = Encoder(**model.encoder)(x)  # [B, N, D]
    z = Processor(**model.processor)(z)
    dims = batch["video"].shape[1:4], batch["audio"].shape[1:2]
    decode = make_decode(z, *dims, config.num_classes, model)
    if "video_points" in batch:
      return decode(batch["video_points"], batch["audio_points"])
    return decode_all(
        decode, len(z), *dims, model.audio.patch, config.num_chunks
    )

  shape = jax.ShapeDtypeStruct
  num_samples = config.video[0] * config.samples_per_frame
  example = {
      "video": shape((*config.video, 3), jnp.float32),
      "audio": shape((num_samples, 1), jnp.float32),
      "label": shape((), jnp.int32),
  }
  if config.num_points:
    points = shape((config.num_points,), jnp.int32)
    example |= {"video_points": points, "audio_points": points}
  return Network(example, forward)


def encoded(batch, hide_label, num_classes, model):
  """The input array: audio, video, label."""
  video = inputs.video_patches(batch["video"], model.video.patch)
  audio = inputs.audio_patches(batch["audio"], model.audio.patch)
  samples = batch["audio"].shape[1:2]
  arrays = {
      "audio": inputs.pixels(audio, model.audio.num_bands, samples),
      "video": inputs.pixels(
          video, model.video.num_bands, model.video.max_resolution
      ),
      "label": jax.nn.one_hot(batch["label"], num_classes)[:, None],
  }
  pack = multimodal.Pack(model.min_padding, name="inputs")
  return pack(arrays, {"label": hide_label})


def make_decode(z, video_dims, audio_dims, num_classes, model):
  """A function (voxels [B, P], audio patches [B, A]) -> what they were."""
  patch = model.audio.patch
  resolution = model.video.max_resolution or [
      n // size for n, size in zip(video_dims, model.video.patch, strict=True)
  ]
  label_query = LearnedArray(1, model.label_channels, name="label_query")
  pack = multimodal.Pack(model.min_query_padding, name="queries")
  read = Decoder(**model.decoder)
  project = hk.Linear(model.output_channels, name="output")
  heads = {
      "audio": hk.Linear(patch, name="audio"),
      "video": hk.Linear(3, name="video"),
      "label": hk.Linear(num_classes, name="label"),
  }

  def positions(points, dims, num_bands, max_resolution):
    pos = position.of_indices(points.reshape(-1), dims)
    features = position.fourier_features(pos, num_bands, max_resolution)
    return features.reshape(*points.shape, -1)

  def decode(video_points, audio_points):
    queries = {
        "audio": positions(
            audio_points,
            [audio_dims[0] // patch],
            model.audio.num_bands,
            audio_dims,
        ),
        "video": positions(
            video_points, video_dims, model.video.num_bands, resolution
        ),
        "label": label_query(len(z)),
    }
    y = project(read(pack(queries), z))  # [B, O, E]
    parts = multimodal.unpack(
        y, {name: query.shape[1] for name, query in queries.items()}
    )
    decoded = {name: heads[name](part) for name, part in parts.items()}
    return {**decoded, "label": decoded["label"][:, 0]}

  return decode


def decode_all(decode, batch_size, video_dims, audio_dims, patch, num_chunks):
  """Every voxel and every sample, a chunk of both at a time."""

  def chunks(count):
    size = -(-count // num_chunks)
    points = jnp.arange(num_chunks * size) % count  # The last one is filled up.
    points = points.reshape(num_chunks, 1, size)
    return jnp.broadcast_to(points, (num_chunks, batch_size, size))

  num_voxels, num_patches = math.prod(video_dims), audio_dims[0] // patch
  points = chunks(num_voxels), chunks(num_patches)
  if hk.running_init():  # A loop's body may not make parameters.
    decode(*(x[0] for x in points))

  def decode_chunk(points):
    with no_recording():  # A loop's body cannot hand any weights out.
      return decode(*points)

  decoded = hk.map(decode_chunk, points)
  video = rearrange(decoded["video"], "n b p c -> b (n p) c")[:, :num_voxels]
  audio = rearrange(decoded["audio"], "n b p c -> b (n p) c")[:, :num_patches]
  return {
      "video": video.reshape(batch_size, *video_dims, -1),
      "audio": audio.reshape(batch_size, *audio_dims, 1),
      "label": decoded["label"][0],
  }
