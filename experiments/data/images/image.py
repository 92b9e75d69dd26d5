"""Images from files, and the crop of evaluation.

No image is decoded that has more than $PERCEIVER_MAX_PIXELS pixels, by default
100 million: a file of a few bytes can say that it is as large as memory.
"""

import io
import os
import pathlib
from typing import Any

import cv2
import numpy as np
from PIL import Image
import simplejpeg

from experiments.data import errors
from experiments.data.errors import DataError

# Of ImageNet's pixels, in [0, 255].
MEAN = 255.0 * np.array([0.485, 0.456, 0.406])
STD = 255.0 * np.array([0.229, 0.224, 0.225])

# What the names of image files end with, in small letters.
ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

_JPEG = b"\xff\xd8"  # How such a file starts.
# At least a bit for each 8 x 8 pixels, with Huffman's codes.
_JPEG_PIXELS_A_BYTE = 8 * 8 * 8
MAX_PIXELS = int(os.environ.get("PERCEIVER_MAX_PIXELS", 100_000_000))
Image.MAX_IMAGE_PIXELS = None  # Only headers are read by it, and then checked.


class ImageError(DataError):
  """An unusable image or label; the message names it."""


def read(path: str | os.PathLike[str]) -> np.ndarray:
  """An image file as RGB, uint8 [Y, X, 3], with its EXIF rotation applied.

  Gray and CMYK become RGB, 16 bits become 8, and transparency is dropped.

  Raises:
    FileNotFoundError: if there is no such file.
    ImageError: if it holds no image, or too large a one.
  """
  content = errors.content(path)
  return _rgb(by_opencv(content, path, cv2.IMREAD_COLOR))


def decode(content: bytes, name: str) -> np.ndarray:
  """An image decoded as for the published classifiers, as in `read`.

  It is not turned upright. The pixels of JPEG are TensorFlow's to the bit,
  whose inverse cosine transform is the less exact of two.

  Args:
    content: content of a file.
    name: name of the file.

  Raises:
    ImageError: if it holds no image, not all of it, or too large a one.
  """
  if content[:2] == _JPEG:
    size_of(content, name)
    try:
      return simplejpeg.decode_jpeg(content, fastdct=True)
    except ValueError:
      pass  # It may still be CMYK, or complete but for what does not matter.
  how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
  return _rgb(by_opencv(content, name, how))


_ORIENTATION = 0x0112  # EXIF's tag.
_TURNED = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image[:, ::-1].swapaxes(0, 1),
}


def turned_upright(image: np.ndarray, content: bytes) -> np.ndarray:
  """An image [Y, X, C] of `decode` with its EXIF rotation applied.

  Args:
    image: it.
    content: of its file; one that says nothing leaves the image as it is.
  """
  try:
    with Image.open(io.BytesIO(content)) as file:
      orientation = file.getexif().get(_ORIENTATION, 1)
  except Exception:  # PIL raises what it likes at files that OpenCV can read.
    return image
  turn = _TURNED.get(orientation)
  return image if turn is None else np.ascontiguousarray(turn(image))


def by_opencv(
    content: bytes, name: str | os.PathLike[str], how: int
) -> np.ndarray:
  """An image decoded by OpenCV: [Y, X] or [Y, X, C], blue first.

  Args:
    content: content of a file.
    name: name of the file.
    how: one of `cv2.IMREAD_`.

  Raises:
    ImageError: if it holds no image, or too large a one.
  """
  size_of(content, name)
  with errors.naming(name, ImageError):
    image = cv2.imdecode(np.frombuffer(content, np.uint8), how)
  if image is None:
    raise ImageError(f"{name} holds no image that OpenCV can read")
  return image


def size_of(content: bytes, name: str | os.PathLike[str]) -> tuple[int, int]:
  """Height and width of an image, from its header.

  Args:
    content: content of a file.
    name: name of the file.

  Raises:
    ImageError: if there is no such header, or it says more than may be decoded
      or than the file can hold.
  """
  try:
    if content[:2] == _JPEG:
      said: Any = simplejpeg.decode_jpeg_header(content)
      height, width, *_ = said
    else:
      with Image.open(io.BytesIO(content)) as header:
        width, height = header.size
  except Exception as error:  # It is the header of anything.
    raise ImageError(f"{name} holds no image that OpenCV can read") from error
  _check(height, width, name)
  if content[:2] == _JPEG:
    if height * width > _JPEG_PIXELS_A_BYTE * len(content):
      raise ImageError(
          f"{name} cannot hold {height} × {width} pixels in {len(content)}"
          " bytes"
      )
  return height, width


def size_in(path: pathlib.Path) -> tuple[int, int]:
  """`size_of` an image file; reads only the header.

  Raises:
    FileNotFoundError: if there is no such file.
    ImageError: if there is no such header, or it says more than may be decoded.
  """
  with errors.naming(path, ImageError), errors.opened(path) as file:
    with Image.open(file) as header:
      width, height = header.size
  _check(height, width, path)
  return height, width


def _check(height: int, width: int, name: str | os.PathLike[str]) -> None:
  if height * width > MAX_PIXELS:
    raise ImageError(
        f"{name} is {height} × {width} pixels, more than {MAX_PIXELS:,}"
        " ($PERCEIVER_MAX_PIXELS)"
    )


def _rgb(image: np.ndarray) -> np.ndarray:
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def centre_crop_box(
    height: int, width: int, size: int = 224
) -> tuple[int, int, int]:
  """The central crop of evaluation.

  Args:
    height: height of the image.
    width: width of the image.
    size: of the square after it is resized. Were the image resized until its
      shorter side is 32 pixels longer than this, this much would be cropped.

  Returns:
    (top, left, side).
  """
  side = min(height, width) * size // (size + 32)
  return (height - side + 1) // 2, (width - side + 1) // 2, side
