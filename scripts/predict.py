"""Applies a trained model to files and texts.

    python -m scripts.predict classify --weights=MODEL a.jpg b.jpg
    python -m scripts.predict fill-mask --weights=MODEL "Some words[MASK:9]"
    python -m scripts.predict classify-text --weights=MODEL "A text."
    python -m scripts.predict flow --weights=MODEL first.png second.png
        --output=flow.flo --output=flow.png
    python -m scripts.predict flow --weights=MODEL in.mp4 --output=flow.mp4
    python -m scripts.predict autoencode --weights=MODEL in.mp4 --output=out.mp4
    python -m scripts.predict tag --weights=MODEL clip.mp4
    python -m scripts.predict classify-shape --weights=MODEL chair.off
    python -m scripts.predict starcraft --weights=MODEL game.SC2Replay
        --output=moments.png --attention=latents.png
    python -m scripts.predict generate --weights=MODEL "It was"
    python -m scripts.predict generate --weights=MODEL a.png --output=b.png
    python -m scripts.predict features --weights=MODEL a.jpg b.jpg
        --output=features.npz

MODEL is the folder of a run; a file of this project, of the official release or
of transformers; the name of a published model such as imagenet_fourier, which
is downloaded once, or of a small model of this repository such as digits; or
"random". Files of other releases have no config: they are read as the published
model unless --config=configs/FILE.py:variant and --config.key=value name
another one. `experiments.inference.load` does the same in Python.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

from experiments import inference
from experiments.engine import command
from experiments.engine import weights
from experiments.engine import workdir as workdir_lib
from experiments.engine.declared import of_every_task
from experiments.engine.errors import UserError
from experiments.engine.parsing import Parser
from experiments.inference import features
from experiments.inference import LoadedModel


def load(args: argparse.Namespace) -> LoadedModel:
  """The model that the command names.

  Raises:
    UserError: if there is none, or it is of another task.
  """
  path = pathlib.Path(args.weights).expanduser()
  config = command.config()
  names = {**inference.published(), **weights.trained()}
  has_own = args.weights in names or path.suffix == ".npz"
  if has_own or workdir_lib.find_checkpoints(path):
    if args.changes and not args.config:
      raise UserError(
          f"{path} has its own config; {args.changes[0]} needs another,"
          " --config=..."
      )
    config = config if args.config else None
  model = inference.load(
      args.weights,
      config,
      checkpoint=args.checkpoint,
      swap_kernel=args.swap_kernel,
      allow_nonfinite=args.allow_nonfinite,
  )
  if args.of_task not in (None, model.task):
    raise UserError(
        f"{args.weights}: the weights are of task {model.task!r}, not"
        f" {args.of_task!r}"
    )
  for note in model.notes:
    print(f"note: {note}", file=sys.stderr)
  return model


def parser() -> Parser:
  """The parser of the command line, except for the config."""
  both = Parser(add_help=False)
  both.add_argument(
      "--weights",
      required=True,
      help='a run\'s folder, a file, a published name, or "random"',
  )
  both.add_argument("--config", help="file.py[:variant]")
  both.add_argument(
      "--swap_kernel",
      action="store_true",
      help="fix a swap in transformers' published convolutional checkpoint",
  )
  both.add_argument(
      "--checkpoint",
      default="latest",
      help="of a run: latest, best or a step; :ema: averaged parameters",
  )
  both.add_argument(
      "--allow_nonfinite",
      action="store_true",
      help="accept weights that are not finite or too large",
  )
  whole = Parser(
      prog="python -m scripts.predict",
      description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = whole.add_subparsers(dest="command", required=True)
  for task, prediction in of_every_task("PREDICTION").items():
    made = commands.add_parser(
        prediction.name,
        description=prediction.run.__doc__,
        epilog=f"The published model is {prediction.config}.",
        parents=[both],
        allow_abbrev=False,
    )
    prediction.add_arguments(made)
    made.set_defaults(
        of_task=task, run=prediction.run, published=prediction.config
    )
  made = commands.add_parser(
      "features",
      description=features.write.__doc__,
      parents=[both],
      allow_abbrev=False,
  )
  features.add_arguments(made)
  made.set_defaults(of_task=None, run=features.write, published=None)
  return whole


def run(args: argparse.Namespace) -> None:
  """Runs the subcommand."""
  args.run(args, lambda: load(args))


def main(argv: Sequence[str]) -> None:
  """Parses the command line and runs the subcommand."""
  # For argparse, what has a space is no flag.
  changes = [arg for arg in argv if arg.startswith("--config.")]
  args = parser().parse_args([arg for arg in argv if arg not in changes])
  args.changes = changes
  config = args.config or args.published
  sys.argv[1:] = [*[f"--config={config}"] * bool(config), *changes]
  command.run(lambda: run(args), needs_config=False)


if __name__ == "__main__":
  main(sys.argv[1:])
