"""The command `features` of `scripts.predict`: arrays inside of any model."""

import pathlib
from typing import Any

import numpy as np

from experiments.data import atomic
from experiments.inference import commands

NAMES = ("latents", "outputs")


def write(args, load) -> None:
  """Writes features of inputs as .npz.

  Arrays have a row an example: `latents` [n, N, D], after all layers; with
  --outputs also `outputs`, what output queries read, [n, O, E], or the mean
  latent, [n, D]. `inputs` are the inputs' names.
  """
  commands.check_outputs(args.output, (".npz",), args.inputs)
  model = load()
  names = NAMES if args.outputs else NAMES[:1]
  options = {"task": args.task} if args.task else {}
  raws = list(model.raws(args.inputs, **options))
  found, labels = [], []
  for raw in commands.tracked(raws):
    rows = model.features(raw, names, **options)
    found.append(rows)
    label = raw if isinstance(raw, str) else " | ".join(raw)
    labels += [label] * len(rows["latents"])
  arrays: dict[str, Any] = {
      k: np.concatenate([rows[k] for rows in found]) for k in names
  }
  shapes = ", ".join(f"{k} {list(x.shape)}" for k, x in arrays.items())
  arrays["inputs"] = np.array(labels)
  for file in args.output:
    with atomic.complete(pathlib.Path(file)) as part:
      with part.open("wb") as stream:
        np.savez(stream, **arrays)
    print(f"{file}: {shapes}")


def add_arguments(parser) -> None:
  """Arguments of `write`."""
  parser.add_argument(
      "inputs",
      nargs="+",
      metavar="INPUT",
      help="as for the model's own command; pairs follow each other",
  )
  parser.add_argument(
      "--outputs",
      action="store_true",
      help="also write the output array before the head",
  )
  parser.add_argument("--task", help="task of a multitask model")
  commands.add_output(parser)
