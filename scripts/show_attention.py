"""Draws the attention of a model over its input: image, video, sound or text.

python -m scripts.show_attention INPUT... --output=FOLDER
    --weights=FILE|random [--config=configs/X.py:variant]
    [--module=encoder|decoder|processor|PATH] [--layer=0] [--block=0]
    [--heads=all|mean|0,3] [--latents=all|mean|0,1,2]
    [--outputs=all|mean|0,1,2|video:3x100x120,audio:5,label]
    [--scores] [--one_scale] [--npz] [--tiff]

An input is an image; for optical flow, two images; for Kinetics and AudioSet, a
video; for language models, a text or a text file, in which [MASK] is a masked
byte. The attention of latents is drawn over the input. The attention of outputs
is drawn over the latents, and over the input as its product with the attention
of the latents, which ignores self-attention between latents.
"""

from collections.abc import Sequence
import math
import pathlib
import sys
from typing import Any

from absl import flags
import numpy as np

from experiments import inference
from experiments.engine import command
from experiments.engine import weights
from experiments.engine.declared import declared
from experiments.engine.errors import UserError
from experiments.inference import attention_grids
from experiments.inference.attention_colors import Look
from experiments.inference.attention_maps import Maps
from experiments.inference.attention_maps import maps_of
from experiments.inference.attention_queries import mark_of
from experiments.inference.attention_queries import Options
from experiments.inference.attention_texts import text_figure
from experiments.inference.attention_texts import text_html
from experiments.task import Subject


class Writer:
  """Writes what is drawn of one input."""

  def __init__(self, folder: pathlib.Path, stem: str, tiff: bool):
    self.folder, self.stem, self.tiff = folder, stem, tiff
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
      raise UserError(f"--output={folder} is a file") from None

  def file(self, name: str) -> pathlib.Path:
    """Where something is written, which is printed."""
    path = self.folder / f"{self.stem}_{name}"
    print(path)
    return path

  def figure(self, name: str, figure) -> None:
    """A PNG, and for print a TIFF."""
    figure.savefig(self.file(f"{name}.png"))
    if self.tiff:
      compress = {"compression": "tiff_lzw"}
      figure.savefig(self.file(f"{name}.tiff"), dpi=300, pil_kwargs=compress)


def draw(
    subject: Subject,
    maps: Maps,
    look: Look,
    writer: Writer,
    source: str,
) -> None:
  """All figures of one input."""
  about = f"{subject.name}: {maps.where}"
  before = " before the softmax" if look.is_scores else ""
  if maps.kind in ("decoder", "processor"):
    reads = "output" if maps.kind == "decoder" else "latent that reads"
    figure = attention_grids.matrix_figure(
        f"{about} ({source})\nwhich latents are read{before}",
        maps.values,
        maps.heads,
        look,
        reads,
        "latent that is read",
        maps.queries,
    )
    writer.figure("latents", figure)
  over_input = maps.values if maps.kind in ("encoder", "transformer") else None
  what = f"what is read of the input{before}"
  if maps.composed is not None:
    over_input = maps.composed
    what = "the input through the latents that are read"
  if over_input is None:
    return
  layout = subject.inputs
  if maps.kind == "transformer":  # It has no element but the text.
    layout = {"text": layout["text"]}
  if over_input.shape[-1] != sum(math.prod(d) for d in layout.values()):
    raise UserError(f"{maps.path} does not read the input array")
  marks: dict[str, list[Any]] = {}
  if maps.rows is not None:
    for part in layout:
      marks[part] = [mark_of(subject, i, part) for i in maps.rows]
  for head, of_head in zip(maps.heads, over_input, strict=True):
    _draw_head(
        subject,
        attention_grids.split(of_head, layout),
        maps.queries,
        marks,
        look,
        f"{about}, {head} ({source})\n{what}",
        lambda part, figure, head=head: writer.figure(
            f"{_slug(head)}_{part}", figure
        ),
    )
  if subject.ids is not None:
    texts = attention_grids.split(over_input, layout)["text"]
    texts = texts[..., : len(subject.ids)]
    page = text_html(
        f"{about} ({source}): {what}{_legend(marks.get('text'))}",
        subject.ids,
        dict(zip(maps.heads, texts, strict=True)),
        maps.queries,
        look,
        marks.get("text"),
    )
    writer.file("text.html").write_text(page, "utf-8")


def _draw_head(subject, parts, labels, marks, look, title, save) -> None:
  """A figure of each part of the input."""
  notes = attention_grids.shares(parts, look)
  labels = [
      f"{label}: {note}" if note else label
      for label, note in zip(labels, notes, strict=True)
  ]
  for part, values in parts.items():
    here = marks.get(part)
    heading = title + _legend(here)
    if part == "text":
      ids = subject.ids
      figure = text_figure(
          heading, ids, values[:, : len(ids)], labels, look, here
      )
    elif part == "audio":
      seconds = subject.seconds
      figure = attention_grids.curve_figure(
          heading, subject.wave, values, labels, look, seconds, here
      )
    elif values.ndim > 2:
      if values.ndim == 3:
        values = values[:, None]  # One frame.
      figure = attention_grids.grid_figure(
          heading, subject.frames, values, labels, look, here
      )
    else:
      continue  # A number; it is in the labels.
    save(part, figure)


def _legend(marks: Sequence[Any] | None) -> str:
  is_any = any(mark is not None for mark in marks or [])
  return "; blue: the output's place" if is_any else ""


def _slug(words: str) -> str:
  return words.replace("mean of ", "mean").replace(" ", "")


def show(
    read: weights.Weights,
    inputs: Sequence[str],
    folder: str,
    options: Options,
    source: str,
) -> None:
  """Draws all inputs.

  Args:
    read: the model.
    inputs: as they are given to the command.
    folder: for the figures.
    options: what to show.
    source: of the weights, for titles.
  """
  without = "there are no figures of attention"
  subjects_of = declared(read.config.task, "attention_subjects", without)
  look = Look(options.scores, options.one_scale)
  subjects = list(subjects_of(read.config, inputs))
  for i, subject in enumerate(subjects):
    maps = maps_of(read, subject, options)
    size, shown = math.prod(maps.size), maps.values.size
    heads, queries, keys = maps.size
    print(
        f"{maps.where}: {heads} heads × {queries} queries × {keys} keys,"
        f" {4 * size / 2**20:,.1f} MiB; shown {4 * shown / 2**20:,.1f} MiB"
    )
    module = maps.where.replace(", ", "_").replace("/", "-").replace(" ", "")
    stem = f"{subject.name}_{module}"
    if len(subjects) > 1:
      stem = f"{i}_{stem}"
    stem += "_scores" * options.scores
    writer = Writer(pathlib.Path(folder), stem, options.tiff)
    if options.npz:
      arrays: dict[str, Any] = {maps.path: maps.values}
      if maps.composed is not None:
        arrays["composed"] = maps.composed
      np.savez(
          writer.file("maps.npz"),
          heads=maps.heads,
          queries=maps.queries,
          **arrays,
      )
    draw(subject, maps, look, writer, source)


if __name__ == "__main__":
  _WEIGHTS = flags.DEFINE_string(
      "weights", None, 'a run, a file, a published name, or "random"'
  )
  _OUTPUT = flags.DEFINE_string("output", None, "a folder for the figures")
  _CHECKPOINT = flags.DEFINE_string(
      "checkpoint",
      "latest",
      'checkpoint of a run: "latest", "best" or a step; ":ema": averaged',
  )
  _SWAP_KERNEL = flags.DEFINE_bool(
      "swap_kernel", False, "fix transformers' published convolution"
  )
  _ALLOW_NONFINITE = flags.DEFINE_bool(
      "allow_nonfinite",
      False,
      "accept weights that are not finite or too large",
  )
  _MODULE = flags.DEFINE_string(
      "module", "encoder", "encoder, decoder, processor, or a module's path"
  )
  _LAYER = flags.DEFINE_integer("layer", 0, "layer of a block of the processor")
  _BLOCK = flags.DEFINE_integer("block", 0, "block of the processor")
  _HEADS = flags.DEFINE_string("heads", "all", "0,3 or all or mean")
  _LATENTS = flags.DEFINE_string(
      "latents", None, "0,1,2 or all or mean; default: eight"
  )
  _OUTPUTS = flags.DEFINE_string(
      "outputs",
      None,
      "output queries: 0,1,2, all, mean, or positions: text:12, flow:90x120,"
      " video:3x100x120,audio:5,label; default: a few",
  )
  _SCORES = flags.DEFINE_bool("scores", False, "show scores before softmax")
  _ONE_SCALE = flags.DEFINE_bool(
      "one_scale", False, "one colour scale for all maps of a figure"
  )
  _NPZ = flags.DEFINE_bool("npz", False, "also write the attention weights")
  _TIFF = flags.DEFINE_bool("tiff", False, "also write TIFF at 300 dpi")

  def _main(inputs) -> None:
    config = command.config()
    if not inputs:
      raise UserError("there is no input: name files, or write a text")
    if not _WEIGHTS.value or not _OUTPUT.value:
      raise UserError("--weights=FILE|random and --output=FOLDER are needed")
    read = inference.load(
        _WEIGHTS.value,
        config,
        checkpoint=_CHECKPOINT.value,
        swap_kernel=_SWAP_KERNEL.value,
        allow_nonfinite=_ALLOW_NONFINITE.value,
    )
    for note in read.notes:
      print(f"note: {note}", file=sys.stderr)
    options = Options(
        module=_MODULE.value,
        heads=_HEADS.value,
        latents=_LATENTS.value,
        outputs=_OUTPUTS.value,
        layer=_LAYER.value,
        block=_BLOCK.value,
        scores=_SCORES.value,
        one_scale=_ONE_SCALE.value,
        npz=_NPZ.value,
        tiff=_TIFF.value,
    )
    name = pathlib.Path(_WEIGHTS.value).name
    source = f"{name} weights" if name == "random" else name
    show(read, inputs, _OUTPUT.value, options, source)

  command.run_with_arguments(_main)
