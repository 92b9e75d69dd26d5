"""Input arrays [B, M, C], from the data of a task."""

from collections.abc import Sequence
import dataclasses
import math

from einops import rearrange
import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from jaxtyping import Int

from perceiver import context
from perceiver import position
from perceiver.learned import for_examples
from perceiver.learned import LearnedArray


def flatten(x: Float[Array, "B *dims C"]) -> Float[Array, "B M C"]:
  """Any number of index dimensions as one, row-major."""
  return x.reshape(x.shape[0], -1, x.shape[-1])


def with_positions(
    x: Float[Array, "B M C"], pos: Float[Array, "#B M P"]
) -> Float[Array, "B M C+P"]:
  """Concatenates the channels of x and of its positions."""
  channels, of_pos = x.shape[-1], pos.shape[-1]
  pos = pos.astype(x.dtype)
  if context.current_target().platform != "tpu":
    return jnp.concatenate([x, for_examples(pos, x.shape[0])], axis=-1)
  # A TPU would write, before it concatenates, the positions of each example.
  after = lambda width: [(0, 0), (0, 0), (0, width)]
  before = lambda width: [(0, 0), (0, 0), (width, 0)]
  pos = for_examples(jnp.pad(pos, before(channels)), x.shape[0])
  return jnp.pad(x, after(of_pos)) + pos


def pixels(
    image: Float[Array, "B *dims C"],
    num_bands: int,
    max_resolution: Sequence[int] | None = None,
    channels: int | None = None,
) -> Float[Array, "B M _"]:
  """Every pixel, or voxel, with Fourier features of its position.

  Args:
    image: an array with any number of index dimensions.
    num_bands: frequencies per index dimension.
    max_resolution: samples per index dimension; None: those of `image`.
    channels: channels that pixels are projected to; None: no projection.

  Returns:
    the input array, row-major: the channels, then the position's.

  Source: Perceiver IO, appendix A; official ImageNet model, "fourier".
  """
  if channels is not None:
    image = hk.Linear(channels, name="pixels")(image)
  dims = image.shape[1:-1]
  pos = position.fourier_features(
      position.grid(dims), num_bands, max_resolution or dims
  )
  return with_positions(flatten(image), pos[None])


def learned_positions(
    image: Float[Array, "B *dims C"],
    channels: int,
    position_channels: int | None = None,
    projected_channels: int | None = None,
) -> Float[Array, "B M _"]:
  """Every pixel, projected, with a learned position.

  Args:
    image: an array with any number of index dimensions.
    channels: channels that pixels are projected to.
    position_channels: channels of the learned positions; None: `channels`.
    projected_channels: channels that positions are projected to; None:
      `channels`.

  Source: Perceiver IO, appendix A; official ImageNet model, "learned". Like the
  published weights, and unlike the paper, it projects the positions too.
  """
  x = hk.Linear(channels, name="pixels")(flatten(image))
  num_pixels = math.prod(image.shape[1:-1])
  pos = LearnedArray(
      num_pixels, position_channels or channels, name="positions"
  )(1)
  project = hk.Linear(projected_channels or channels, name="project_positions")
  return with_positions(x, project(pos))


@dataclasses.dataclass
class ConvStem(hk.Module):
  """A convolution and a max-pool: features at a quarter of the resolution.

  Sizes that 4 does not divide are rounded up. Statistics of the batch norm are
  over all devices.

  Source: Perceiver IO, appendix A; official ImageNet model, "conv".
  """

  channels: int
  name: str | None = None

  def __call__(
      self, image: Float[Array, "B Y X C"], is_training: bool
  ) -> Float[Array, "B _ _ {self.channels}"]:
    """Features after a ReLU."""
    image = context.cast(image)
    x = hk.Conv2D(self.channels, 7, stride=2, with_bias=False, name="conv")(
        image
    )
    norm = hk.BatchNorm(True, True, 0.9, eps=1e-5, name="norm")
    # Without this, a model that is initialised to be evaluated has no averages.
    x = norm(x.astype(jnp.float32), is_training or hk.running_init())
    x = jax.nn.relu(x.astype(image.dtype))
    return hk.max_pool(x, (3, 3, 1), (2, 2, 1), "SAME")


def conv(
    image: Float[Array, "B Y X C"],
    channels: int,
    num_bands: int,
    max_resolution: Sequence[int] | None = None,
    is_training: bool = False,
) -> Float[Array, "B M {channels+2*(2*num_bands+1)}"]:
  """Convolutional features, with Fourier features of their positions.

  Args:
    image: pixels.
    channels: channels of the features.
    num_bands: frequencies per axis.
    max_resolution: samples per axis; None: those of the features.
    is_training: whether batch norm uses and averages statistics of the batch.

  Source: Perceiver IO, appendix A; official ImageNet model, "conv".
  """
  x = ConvStem(channels, name="conv_stem")(image, is_training)
  return pixels(x, num_bands, max_resolution)


def frame_patches(
    frames: Float[Array, "B T Y X C"], size: int = 3
) -> Float[Array, "B T Y X _"]:
  """The patch around each pixel, with zeros outside the frame.

  Channels are ordered row, column, color; `size` is odd.

  Source: Perceiver IO, appendix H; official flow model.
  """
  y, x, reach = *frames.shape[2:4], size // 2
  border = [(0, 0), (0, 0), (reach, reach), (reach, reach), (0, 0)]
  padded = jnp.pad(frames, border)
  shifted = [
      padded[:, :, i : i + y, j : j + x]
      for i in range(size)
      for j in range(size)
  ]
  return jnp.concatenate(shifted, axis=-1)


def video_patches(
    video: Float[Array, "B T Y X C"], size: Sequence[int]
) -> Float[Array, "B _ _ _ _"]:
  """Patches without overlap; channels in order time, row, column, color.

  Args:
    video: voxels.
    size: size of a patch in time, y and x, a divisor of the video's.

  Source: Perceiver IO, appendices C and I; official multimodal model.
  """
  t, y, x = size
  return rearrange(
      video, "b (T t) (Y y) (X x) c -> b T Y X (t y x c)", t=t, y=y, x=x
  )


def audio_patches(
    audio: Float[Array, "B S C"], size: int
) -> Float[Array, "B M {size*audio.shape[-1]}"]:
  """Patches of samples without overlap.

  Source: Perceiver IO, appendices C and I; official multimodal model.
  """
  return rearrange(audio, "b (m s) c -> b m (s c)", s=size)


def points(
    pos: Float[Array, "B M d"], num_bands: int, max_frequency: int
) -> Float[Array, "B M {pos.shape[-1]*(2*num_bands+1)}"]:
  """Fourier features of the positions of points.

  Args:
    pos: points in [-1, 1]^d; their order does not matter.
    num_bands: frequencies per axis.
    max_frequency: highest frequency, in half cycles per unit of `pos`; the
      lowest is 1.

  Source: Perceiver, §4.3.
  """
  resolution = [2 * max_frequency] * pos.shape[-1]  # Nyquist is half.
  return jax.vmap(
      lambda each: position.fourier_features(each, num_bands, resolution)
  )(pos)


def tokens(
    ids: Int[Array, "B M"],
    vocabulary_size: int,
    channels: int,
    max_length: int,
    deviation: float = 1.0,
) -> tuple[
    Float[Array, "B M {channels}"], Float[Array, "{vocabulary_size} {channels}"]
]:
  """Embeddings of tokens plus positions, and the table of embeddings.

  Args:
    ids: tokens, from 0 to vocabulary_size.
    vocabulary_size: rows of the table.
    channels: channels of both embeddings.
    max_length: number of learned positions; texts may be shorter.
    deviation: initial standard deviation of the table, a normal distribution
      truncated at two deviations. Positions have 0.02, so the release's default
      initially hides them.

  Returns:
    the input array, and the table, for outputs that share it.

  Raises:
    ValueError: if the texts are longer than `max_length`.

  Source: Perceiver IO, appendix F; official MLM model.
  """
  length = ids.shape[1]
  if length > max_length:
    raise ValueError(f"texts of {length} tokens, but {max_length} positions")
  w_init = hk.initializers.TruncatedNormal(deviation)
  embed = hk.Embed(vocabulary_size, channels, w_init=w_init, name="tokens")
  pos = LearnedArray(max_length, channels, name="positions")(1)
  with context.parameters_as_kept():
    x, table = embed(ids), embed.embeddings
  pos = for_examples(pos[:, :length], x.shape[0])
  return context.cast(x) + pos, table
