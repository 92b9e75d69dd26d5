"""Generated meshes of a few kinds, in the layout of ModelNet40.

A shape is a polygon, drawn along a curve: at each point of the curve the
polygon has a size and a height. Each has its own proportions; it is narrowed,
twisted, bent, roughened, turned, and has a hole.
"""

from collections.abc import Iterator
from collections.abc import Mapping

import numpy as np

from experiments.data.points import meshes

_ROUND = 24  # Corners of a polygon that stands for a circle.
_SUBDIVISIONS = 6  # Of each edge that is straight, so that it can be bent.


def _circle(start: float = 0.0, end: float = 2 * np.pi) -> np.ndarray:
  angles = np.linspace(start, end, _ROUND + 1)
  return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _path(*corners: tuple[float, float]) -> np.ndarray:
  """Straight from corner to corner."""
  pairs = zip(corners[:-1], corners[1:], strict=True)
  parts = [np.linspace(a, b, _SUBDIVISIONS, endpoint=False) for a, b in pairs]
  return np.concatenate([*parts, [corners[-1]]])


def _polygon(*corners: tuple[float, float]) -> np.ndarray:
  return _path(*corners, corners[0])


_SQUARE = _polygon((-1, -1), (1, -1), (1, 1), (-1, 1))
_TRIANGLE = _polygon((-0.9, -0.6), (0.9, -0.6), (0, 1))
# The origin sees all of the boundary, since the ends are closed towards it.
_L = _polygon(
    (-0.3, -0.3), (1.3, -0.3), (1.3, 0.3), (0.3, 0.3), (0.3, 1.3), (-0.3, 1.3)
)
_ARM = 0.35
_CROSS = _polygon(
    *((_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
    *((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM)),
    *((-1, -_ARM), (-_ARM, -_ARM), (-_ARM, -1), (_ARM, -1)),
)
# Curves: size, height.
_STRAIGHT = _path((0, -1), (1, -1), (1, 1), (0, 1))
_POINTED = _path((0, -1), (1, -1), (0, 1))
_WAIST = _path((0, -1), (1, -1), (0.2, 0), (1, 1), (0, 1))
_BALL = _circle(-np.pi / 2, np.pi / 2)
_RING = np.array([0.7, 0]) + np.array([0.3, 0.6]) * _circle()
_PIPE = _path((0.65, -1), (1, -1), (1, 1), (0.65, 1), (0.65, -1))

# Each kind of shape: a polygon and a curve.
SHAPES: Mapping[str, tuple[np.ndarray, np.ndarray]] = {
    "box": (_SQUARE, _STRAIGHT),
    "cone": (_circle(), _POINTED),
    "cross": (_CROSS, _STRAIGHT),
    "cylinder": (_circle(), _STRAIGHT),
    "frame": (_SQUARE, _PIPE),
    "hourglass": (_circle(), _WAIST),
    "l_shape": (_L, _STRAIGHT),
    "prism": (_TRIANGLE, _STRAIGHT),
    "pyramid": (_SQUARE, _POINTED),
    "sphere": (_circle(), _BALL),
    "torus": (_circle(), _RING),
    "tube": (_circle(), _PIPE),
}


def draw(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """A shape of a kind: vertices [V, 3] within about 4, and quadrangles [F, 4].

  Args:
    kind: one of `SHAPES`.
    rng: what it looks like is a function of its state.
  """
  polygon, curve = SHAPES[kind]
  size, height = curve[:, :1], curve[:, 1:]
  x, y = (size * polygon[:, i] for i in range(2))
  vertices = np.stack([x, y, np.broadcast_to(height, x.shape)], axis=-1)
  index = np.arange(x.size).reshape(x.shape)
  corners = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
  faces = np.stack([each.ravel() for each in corners], axis=-1)
  vertices = _deformed(vertices.reshape(-1, 3), rng)
  return vertices, _with_hole(vertices, faces, rng)


def _deformed(vertices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  x, y, z = (vertices * rng.uniform(0.6, 1.4, 3)).T
  narrow = 1 + rng.uniform(-0.2, 0.2) * z
  x, y = _turned(narrow * x, narrow * y, rng.uniform(-0.3, 0.3) * z)
  # Bent around an axis beside it, towards any side.
  side, curvature = rng.uniform(0, 2 * np.pi), rng.uniform(0.01, 0.5)
  x, y = _turned(x, y, side)
  radius = 1 / curvature - x
  angle = z * curvature
  x, z = 1 / curvature - radius * np.cos(angle), radius * np.sin(angle)
  x, y = _turned(x, y, rng.uniform(0, 2 * np.pi))
  y, z = _turned(y, z, rng.uniform(-0.3, 0.3))
  vertices = np.stack([x, y, z], axis=-1)
  return vertices + rng.normal(0, 0.01, vertices.shape)


def _turned(
    x: np.ndarray, y: np.ndarray, angle: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
  cos, sin = np.cos(angle), np.sin(angle)
  return cos * x - sin * y, sin * x + cos * y


def _with_hole(
    vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Without the faces that are near to one of them."""
  centres = vertices[faces].mean(axis=1)
  away = np.linalg.norm(centres - rng.choice(centres), axis=-1)
  return faces[away > rng.uniform(0, 0.6)]


def files(split: str, each: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
  """OFF files under ModelNet40's names, KIND/SPLIT/KIND_0001.off and so on.

  Args:
    split: its shapes are none of another's.
    each: shapes of each kind; more of them leave the first as they are.
    seed: random seed.

  Yields:
    name and content.
  """
  for kind in SHAPES:
    for number in range(1, each + 1):
      name = f"{kind}/{split}/{kind}_{number:04}.off"
      rng = np.random.default_rng([seed, *name.encode()])
      yield name, meshes.write_off(*draw(kind, rng))
