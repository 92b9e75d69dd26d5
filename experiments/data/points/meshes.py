"""Meshes in OFF files, and points on their surfaces."""

from collections.abc import Sequence
import functools
import re
from typing import NamedTuple

import numpy as np

from experiments.data import errors
from experiments.data.errors import DataError

# Points, and the squares of their distances, are float32.
FURTHEST = 1e18


class Mesh(NamedTuple):
  """A surface of triangles."""

  vertices: np.ndarray  # [V, 3] in float64
  triangles: np.ndarray  # [F, 3], indices of vertices


# Colours, normals and texture coordinates follow a vertex's position.
_HEADER = re.compile(rb"\s*(?:ST)?C?N?OFF(?![A-Za-z])")
_COMMENT = re.compile(rb"#[^\r\n]*")


def read_off(data: bytes, name: str) -> Mesh:
  """The mesh of an OFF file.

  The counts may be glued to the header, as in some of ModelNet40's files
  ("OFF490 518 0"). Comments, blank lines and whatever follows the numbers of a
  vertex or a face, such as its colour, are ignored; a face of more than three
  corners becomes a fan of triangles, one of fewer nothing.

  Args:
    data: the file's content.
    name: name of the file, for errors.

  Raises:
    DataError: if it is no such file, is cut short, holds numbers that are none
      or not finite, refers to vertices that it does not have, or has no faces.

  Source: Geomview's manual, "OFF files".
  """
  data = _COMMENT.sub(b"", data)
  header = _HEADER.match(data)
  if header is None:
    raise DataError(f"{name}: it does not begin with OFF")
  lines = [line for line in data[header.end() :].splitlines() if line.strip()]
  try:
    num_vertices, num_faces = map(int, lines[0].split()[:2])
  except (IndexError, ValueError) as error:
    raise DataError(f"{name}: no numbers of vertices and faces") from error
  if num_vertices < 0 or num_faces < 0:
    raise DataError(f"{name}: {num_vertices} vertices, {num_faces} faces")
  body = lines[1:]
  if len(body) < num_vertices + num_faces:
    raise DataError(
        f"{name}: cut short, {len(body)} lines for {num_vertices} vertices and"
        f" {num_faces} faces"
    )
  vertices = _vertices(body[:num_vertices], name)
  faces = body[num_vertices : num_vertices + num_faces]
  triangles = _triangles(faces, num_vertices, name)
  if not len(triangles):
    raise DataError(f"{name}: no faces")
  return Mesh(vertices, triangles)


def write_off(vertices: np.ndarray, faces: np.ndarray) -> bytes:
  """An OFF file of faces that have all as many corners."""
  lines = [b"OFF", b"%d %d 0" % (len(vertices), len(faces))]
  lines += [b"%.6g %.6g %.6g" % tuple(vertex) for vertex in vertices.tolist()]
  face = b" ".join([b"%d"] * (faces.shape[1] + 1))
  lines += [face % (len(corners), *corners) for corners in faces.tolist()]
  return b"\n".join(lines) + b"\n"


def sample(
    mesh: Mesh, num_points: int, rng: np.random.Generator, name: str
) -> np.ndarray:
  """Points on a surface, uniform by its area, [num_points, 3] in float64.

  Args:
    mesh: the surface.
    num_points: number of points, in no order.
    rng: where they lie is a function of its state.
    name: name of the mesh, for errors.

  Raises:
    DataError: if the surface has no area.

  Source of the number, about 2,000: Perceiver, §4.3.
  """
  a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
  # In parts of the whole, of which rounding makes about 1e-16 of nothing.
  size = np.ptp(mesh.vertices, axis=0).max() or 1.0
  normals = np.cross((b - a) / size, (c - a) / size)
  areas = np.linalg.norm(normals, axis=-1).cumsum()
  if areas[-1] < 1e-12:
    raise DataError(f"{name}: a surface without area")
  at = rng.uniform(0, areas[-1], num_points)
  chosen = np.searchsorted(areas[:-1], at, side="right")
  # The square root spreads them evenly: triangles are narrow at their tips.
  away, along = rng.uniform(size=[2, num_points, 1])
  away = np.sqrt(away)
  edge = b[chosen] + along * (c[chosen] - b[chosen])
  return a[chosen] + away * (edge - a[chosen])


def _vertices(lines: Sequence[bytes], name: str) -> np.ndarray:
  vertices = np.zeros([len(lines), 3])
  for rows, table in _tables(lines, name):
    if table.shape[1] < 3:
      raise DataError(f"{name}: a vertex with {table.shape[1]} coordinates")
    vertices[rows] = table[:, :3]
  if not (np.abs(vertices) < FURTHEST).all():
    raise DataError(
        f"{name}: a vertex that is not finite, or further than {FURTHEST:g}"
    )
  return vertices


def _triangles(
    lines: Sequence[bytes], num_vertices: int, name: str
) -> np.ndarray:
  fans = [np.zeros([0, 3], np.int64)]
  for _, table in _tables(lines, name):
    for corners in np.unique(table[:, 0]):
      if corners not in range(table.shape[1]):
        raise DataError(f"{name}: a face of {corners:g} corners is cut short")
      face = table[table[:, 0] == corners, 1 : int(corners) + 1]
      is_vertex = (face >= 0) & (face < num_vertices) & (face == np.floor(face))
      if not is_vertex.all():
        raise DataError(
            f"{name}: a face with a corner {face[~is_vertex][0]:g}, which is"
            f" none of {num_vertices} vertices"
        )
      face = face.astype(np.int64)
      fans += [face[:, [0, i, i + 1]] for i in range(1, face.shape[1] - 1)]
  return np.concatenate(fans)


def _tables(
    lines: Sequence[bytes], name: str
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Lines of as many numbers each at once: which they are, and the numbers."""
  read = functools.partial(np.loadtxt, comments=None, ndmin=2)
  if not lines:
    return []
  try:  # Most files have one kind, and to count words takes long.
    return [(np.arange(len(lines)), read(lines))]
  except (ValueError, OverflowError):
    pass
  widths = np.array([len(line.split()) for line in lines])
  alike = [np.flatnonzero(widths == width) for width in np.unique(widths)]
  with errors.naming(name):
    return [(rows, read([lines[i] for i in rows.tolist()])) for rows in alike]
