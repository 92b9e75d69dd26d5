"""Images from files, and as the published classifiers see them."""

import os
import pathlib

import cv2
import numpy as np

# Of ImageNet's pixels, in [0, 255].
MEAN = 255.0 * np.array([0.485, 0.456, 0.406])
STD = 255.0 * np.array([0.229, 0.224, 0.225])


def read(path: str | os.PathLike[str]) -> np.ndarray:
  """An image file as RGB, uint8 [Y, X, 3].

  Gray becomes colour, 16 bits become 8, transparency is dropped, and the image
  is turned upright if the file says how.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it holds no image.
  """
  content = np.frombuffer(pathlib.Path(path).read_bytes(), np.uint8)
  # OpenCV itself fails on nothing at all.
  image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
  if image is None:
    raise ValueError(f"{path} holds no image that OpenCV can read")
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def centre_crop_box(
    height: int, width: int, size: int = 224
) -> tuple[int, int, int]:
  """The square of an image that is evaluated.

  Args:
    height: of the image.
    width: of the image.
    size: of the square after it is resized. Were the image resized until its
      shorter side is 32 pixels longer than this, this much would be cropped.

  Returns:
    (top, left, side).
  """
  side = min(height, width) * size // (size + 32)
  return (height - side + 1) // 2, (width - side + 1) // 2, side


def for_classification(image: np.ndarray, size: int = 224) -> np.ndarray:
  """The input of the ImageNet models.

  Args:
    image: RGB, uint8 [Y, X, 3].
    size: of the result.

  Returns:
    the central square, normalised, float32 [size, size, 3].
  """
  height, width, _ = image.shape
  top, left, side = centre_crop_box(height, width, size)
  square = image[top : top + side, left : left + side]
  # On integers, so rounded and clipped, as the release's example does it.
  square = cv2.resize(square, (size, size), interpolation=cv2.INTER_CUBIC)
  return ((square - MEAN) / STD).astype(np.float32)
