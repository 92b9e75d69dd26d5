"""ImageNet's input pipeline in tf.data, to be timed beside ours.

It does the same work: a part of each JPEG, RandAugment's sixteen operations at
magnitude 5, bicubic resize, normalisation, MixUp and CutMix. TensorFlow is only
needed here.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import importlib
import math
from typing import Any

# Type checkers need not find it, for it is not installed by default.
tf: Any = importlib.import_module("tensorflow")

FILL = 128
MEAN = [255 * mean for mean in (0.485, 0.456, 0.406)]
STD = [255 * std for std in (0.229, 0.224, 0.225)]


def batches(
    files: Sequence[bytes], batch_size: int, size: int, threads: int
) -> Iterator[Any]:
  """Endless batches of mixed training examples.

  Args:
    files: contents of JPEG files.
    batch_size: examples, each made of two images; divided by four.
    size: size of the images, pixels a side.
    threads: that may run at a time.
  """
  options = tf.data.Options()
  options.threading.private_threadpool_size = threads
  options.threading.max_intra_op_parallelism = 1
  images = tf.data.Dataset.from_tensor_slices(list(files)).repeat()
  images = images.map(
      lambda file: _image(file, size), num_parallel_calls=threads
  )
  pairs = images.batch(2 * batch_size, drop_remainder=True)
  mixed = pairs.map(_mixed).prefetch(1)
  return iter(mixed.with_options(options))


def _image(file: Any, size: int) -> Any:
  shape = tf.io.extract_jpeg_shape(file)
  begin, extent, _ = tf.image.sample_distorted_bounding_box(
      shape,
      tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
      min_object_covered=0.1,
      aspect_ratio_range=(3 / 4, 4 / 3),
      area_range=(0.08, 1.0),
      max_attempts=10,
  )
  window = tf.concat([begin[:2], extent[:2]], 0)
  image = tf.io.decode_and_crop_jpeg(file, window, channels=3)
  image = tf.image.random_flip_left_right(image)
  for _ in range(4):
    image = _changed(image)
  image = tf.image.resize(image, [size, size], "bicubic")
  image.set_shape([size, size, 3])
  return (image - tf.constant(MEAN)) / tf.constant(STD)


def _changed(image: Any) -> Any:
  shape = tf.shape(image)
  same = lambda: image
  sign = lambda: tf.where(tf.random.uniform([]) < 0.5, -1.0, 1.0)
  operations = [
      lambda: _per_channel(image, _stretched),
      lambda: _per_channel(image, _equalized),
      lambda: 255 - image,
      lambda: _rotated(image, sign() * math.radians(15)),
      lambda: tf.bitwise.bitwise_and(image, tf.constant(0xC0, tf.uint8)),
      lambda: tf.where(image < 128, image, 255 - image),
      lambda: tf.where(image < 128, image + 55, image),
      *[same] * 4,  # Color, contrast, brightness, sharpness: by a factor of 1.
      lambda: _moved(image, [1.0, sign() * 0.15, 0.0, 0.0, 1.0, 0.0]),
      lambda: _moved(image, [1.0, 0.0, 0.0, sign() * 0.15, 1.0, 0.0]),
      lambda: _moved(image, [1.0, 0.0, sign() * 50, 0.0, 1.0, 0.0]),
      lambda: _moved(image, [1.0, 0.0, 0.0, 0.0, 1.0, sign() * 50]),
      lambda: _cut_out(image, shape),
  ]
  chosen = tf.random.uniform([], maxval=len(operations), dtype=tf.int32)
  return tf.switch_case(chosen, operations)


def _per_channel(image: Any, change: Any) -> Any:
  return tf.stack([change(image[..., i]) for i in range(3)], axis=-1)


def _stretched(channel: Any) -> Any:
  low = tf.cast(tf.reduce_min(channel), tf.float32)
  high = tf.cast(tf.reduce_max(channel), tf.float32)

  def stretch():
    scale = 255 / (high - low)
    level = tf.cast(channel, tf.float32) * scale - low * scale
    return tf.cast(tf.clip_by_value(level, 0, 255), tf.uint8)

  return tf.cond(high > low, stretch, lambda: channel)


def _equalized(channel: Any) -> Any:
  level = tf.cast(channel, tf.int32)
  counts = tf.histogram_fixed_width(level, [0, 255], 256)
  present = tf.boolean_mask(counts, counts > 0)
  step = (tf.reduce_sum(present) - present[-1]) // 255

  def equalize():
    table = (tf.cumsum(counts) + step // 2) // step
    table = tf.clip_by_value(tf.concat([[0], table[:-1]], 0), 0, 255)
    return tf.cast(tf.gather(table, level), tf.uint8)

  return tf.cond(step > 0, equalize, lambda: channel)


def _moved(image: Any, matrix: list[Any]) -> Any:
  moved = tf.raw_ops.ImageProjectiveTransformV3(
      images=image[None],
      transforms=tf.stack([*matrix, 0.0, 0.0])[None],
      output_shape=tf.shape(image)[:2],
      fill_value=float(FILL),
      interpolation="NEAREST",
      fill_mode="CONSTANT",
  )
  return moved[0]


def _rotated(image: Any, angle: Any) -> Any:
  sine, cosine = tf.sin(angle), tf.cos(angle)
  size = tf.cast(tf.shape(image), tf.float32) - 1
  x = (size[1] - cosine * size[1] + sine * size[0]) / 2
  y = (size[0] - sine * size[1] - cosine * size[0]) / 2
  return _moved(image, [cosine, -sine, x, sine, cosine, y])


def _cut_out(image: Any, shape: Any) -> Any:
  y = tf.random.uniform([], maxval=shape[0], dtype=tf.int32)
  x = tf.random.uniform([], maxval=shape[1], dtype=tf.int32)
  rows, columns = tf.range(shape[0]), tf.range(shape[1])
  inside_y = (y - 20 <= rows) & (rows < y + 20)
  inside_x = (x - 20 <= columns) & (columns < x + 20)
  inside = (inside_y[:, None] & inside_x)[..., None]
  return tf.where(inside, tf.constant(FILL, tf.uint8), image)


def _mixed(images: Any) -> Any:
  """Two quarters blended, and one pasted into the other for two more."""
  one, two, three, four = tf.split(images, 4)
  count, size = tf.shape(one)[0], tf.shape(one)[1]
  gammas = tf.random.gamma([2, count, 1, 1, 1], 0.2) + 1e-30
  ratio = gammas[0] / tf.reduce_sum(gammas, 0)
  side = tf.sqrt(tf.random.uniform([count])) * tf.cast(size, tf.float32)
  half = tf.cast(side, tf.int32) // 2
  inside = []
  for _ in range(2):
    middle = tf.random.uniform([count], maxval=size, dtype=tf.int32)[:, None]
    places = tf.range(size)
    inside.append(
        (middle - half[:, None] <= places) & (places < middle + half[:, None])
    )
  mask = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
  blends = ratio * one + (1 - ratio) * two
  return tf.concat([blends, tf.where(mask, three, four)], 0)
