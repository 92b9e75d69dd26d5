"""Attention maps of a model, as selected for a figure."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.engine import weights
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.inference.attention_queries import Chosen
from experiments.inference.attention_queries import evenly
from experiments.inference.attention_queries import flat_of
from experiments.inference.attention_queries import name_of
from experiments.inference.attention_queries import NUM_SHOWN
from experiments.inference.attention_queries import Options
from experiments.inference.attention_queries import parse
from experiments.inference.attention_queries import parse_outputs
from experiments.inference.attention_queries import points_of
from experiments.inference.attention_queries import rows_of
from experiments.inference.attention_queries import some_outputs
from experiments.task import Subject
from perceiver import record_attention


@dataclasses.dataclass(frozen=True)
class Maps:
  """The selected attention of one module to one input."""

  path: str
  kind: str  # encoder, decoder, processor or transformer.
  where: str  # Path, layer and block, for people.
  size: tuple[int, ...]  # Heads, queries, keys of all of it.
  heads: list[str]
  queries: list[str]
  rows: list[int] | None  # The queries as indices of outputs.
  values: np.ndarray  # [H, Q, M], softmax weights or scores.
  composed: np.ndarray | None  # Of outputs, over the input array.


def maps_of(read: weights.Weights, subject: Subject, options: Options) -> Maps:
  """Runs the model and returns the selected attention.

  Raises:
    UserError: if the model does not have it.
  """
  batch, points = subject.batch, None
  if "label" in subject.outputs:
    # Only a few of all voxels are decoded.
    points = points_of(subject, options)
    for name in ("audio", "video"):
      chosen = np.array(points[name] or [0], np.int32)
      batch = {**batch, f"{name}_points": chosen}
  batch = {name: np.asarray(x)[None] for name, x in batch.items()}

  def record(model, batch):
    with record_attention(scores=options.scores) as recorded:
      read.network.net.apply(*model, jax.random.key(0), batch, False)
    return recorded

  with user_errors("the model"):
    shapes = jax.eval_shape(record, read.model, batch)
  path, kind = _find(shapes, options.module)
  *stack, _, num_heads, num_queries, _ = shapes[path].shape
  index, where = _layer(path, stack, options)
  reads_as_text = kind == "decoder" and "text" in subject.outputs
  if subject.ids is not None and (kind == "transformer" or reads_as_text):
    num_queries = len(subject.ids)  # Without padding.
  heads = parse("heads", options.heads, num_heads)
  rows: list[int] | None = None
  if kind == "decoder":
    if points is not None:
      # Rows are in the order of the queries: audio, video, label.
      rows = [i for chosen in flat_of(points, subject.outputs) for i in chosen]
      queries: Chosen = rows_of(points)
    else:
      queries = parse_outputs(subject, options.outputs, some_outputs(subject))
      rows = None if isinstance(queries, str) else queries
  else:
    count = num_queries if kind == "processor" else NUM_SHOWN
    default = evenly(range(num_queries), count)
    queries = parse("latents", options.latents, num_queries, default)

  def select(recorded):
    of_heads = _taken(recorded[path][index][0], heads, 0)
    return _taken(of_heads[:, :num_queries], queries, 1)

  encoder = None
  if kind == "decoder" and not options.scores:
    encoder = _alias(shapes, "encoder")

  @jax.jit
  def run(model, batch):
    recorded = record(model, batch)
    shown = select(recorded)
    if encoder is None:
      return shown, None
    of_inputs = recorded[encoder][0].mean(axis=0)  # Over heads.
    return shown, jnp.einsum("hon,nm->hom", shown, of_inputs)

  shown, composed = jax.device_get(run(read.model, batch))
  noun = {"decoder": "output", "transformer": "token"}.get(kind, "latent")
  if rows is not None:
    labels = [name_of(subject, i) for i in rows]
  else:
    labels = _labels(noun, queries, num_queries)
  return Maps(
      path=path,
      kind=kind,
      where=where,
      size=shapes[path].shape[-3:],
      heads=_labels("head", heads, num_heads),
      queries=labels,
      rows=rows,
      values=shown,
      composed=composed,
  )


def _taken(array, chosen: Chosen, axis: int):
  if isinstance(chosen, str):
    return array.mean(axis=axis, keepdims=True)
  return jnp.take(array, np.array(chosen), axis=axis)


def _labels(noun: str, chosen: Chosen, count: int) -> list[str]:
  if isinstance(chosen, str):
    return [f"mean of {count} {noun}s"]
  return [f"{noun} {i}" for i in chosen]


def _alias(shapes, name: str) -> str | None:
  """The path of a module with a short name."""
  if name == "processor":
    ends = "/self_attention/attention"
  else:
    ends = f"{name}/cross_attention/attention"
  return next((path for path in sorted(shapes) if path.endswith(ends)), None)


def _find(shapes, module: str) -> tuple[str, str]:
  """The path of a module, and its kind."""
  path = _alias(shapes, module) if "/" not in module else None
  if path is None:
    ends = f"/{module}", f"/{module}/attention"
    found = [path for path in shapes if f"/{path}".endswith(ends)]
    path = found[0] if len(found) == 1 else None
  if path is None:
    raise UserError(
        f"--module={module}: the model's attention is in {sorted(shapes)}"
    )
  if path == _alias(shapes, "decoder"):
    return path, "decoder"
  if "self_attention" in path:
    return path, "processor"
  return path, "transformer" if "transformer" in path else "encoder"


def _layer(path: str, stack, options) -> tuple[tuple[int, ...], str]:
  """Which of the stacked layers: an index, and words."""
  index, where = [], path.removesuffix("/attention")
  names = ("block", "layer")[2 - len(stack) :]
  for name, count in zip(names, stack, strict=True):
    i = getattr(options, name)
    if not -count <= i < count:
      raise UserError(f"--{name}={i}: there are {count}, from 0 on")
    index.append(i % count)
    where += f", {name} {i % count}"
  for name in {"block", "layer"} - set(names):
    if getattr(options, name):
      raise UserError(f"--{name}: {path} has no {name}s to choose from")
  return tuple(index), where
