"""Textures of scenes: images of a folder, or of scikit-image."""

from collections.abc import Sequence
import functools
import importlib.util
import os
import pathlib

import cv2
import numpy as np

from experiments.data.images import image

Path = str | os.PathLike[str]
# Those of scikit-image's images that show something, and in its wheel.
_PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "retina.jpg",
    "rocket.jpg",
)
_HELD_OUT = 4  # One in so many textures is for tests.
_LONGEST_SIDE = 1024  # Of a texture; a larger one is made smaller.


def skimage_folder() -> pathlib.Path:
  """The folder of scikit-image's images."""
  spec = importlib.util.find_spec("skimage")
  if spec is None or not spec.submodule_search_locations:
    raise FileNotFoundError(
        "the photographs are those of scikit-image: pip install -e '.[image]',"
        " or name other textures"
    )
  return pathlib.Path(spec.submodule_search_locations[0]) / "data"


def images(textures: Path | Sequence[Path] | None) -> list[str]:
  """The files of a folder, at any depth, in order; None: scikit-image's.

  Raises:
    FileNotFoundError: if there are none.
  """
  if textures is None:
    folder = skimage_folder()
    return [str(folder / name) for name in _PHOTOGRAPHS]
  if not isinstance(textures, str | os.PathLike):
    if not textures:
      raise FileNotFoundError("there is no texture: the list is empty")
    return [str(path) for path in textures]
  found = sorted(
      str(path)
      for path in pathlib.Path(textures).expanduser().rglob("*")
      if path.suffix.lower() in image.ENDINGS
  )
  if not found:
    raise FileNotFoundError(
        f"{textures} holds no images ({', '.join(image.ENDINGS)})"
    )
  return found


def chosen(paths: Sequence[str], part: str) -> tuple[str, ...]:
  """The images for "train", for "test" (one in four), or "all".

  Raises:
    ValueError: if it is another part.
  """
  if part not in ("train", "test", "all"):
    raise ValueError(f'part {part!r} is not "train", "test" or "all"')
  if part == "test" and len(paths) < _HELD_OUT:
    raise FileNotFoundError(
        f"of {len(paths)} textures none is for tests: {_HELD_OUT} are needed,"
        f" {paths[0]} is there"
    )
  is_test = lambda i: i % _HELD_OUT == _HELD_OUT - 1
  return tuple(
      path
      for i, path in enumerate(paths)
      if part == "all" or is_test(i) == (part == "test")
  )


# A process reads each file once, as long as there are not too many.
@functools.lru_cache(maxsize=256)
def levels(path: str) -> tuple[np.ndarray, ...]:
  """An image pyramid, each level with half of the previous size."""
  picture = image.read(path)
  shrink = _LONGEST_SIDE / max(picture.shape)
  if shrink < 1:
    picture = cv2.resize(
        picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA
    )
  sizes = [picture]
  while min(sizes[-1].shape[:2]) > 64:
    height, width, _ = sizes[-1].shape
    half = (width // 2, height // 2)
    sizes.append(cv2.resize(sizes[-1], half, interpolation=cv2.INTER_AREA))
  return tuple(sizes)
