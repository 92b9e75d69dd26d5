"""Does with a model what the official examples do.

    python -m scripts.predict fill-mask --weights=FILE "Some words[MASK:9]"
    python -m scripts.predict flow --weights=FILE first.png second.png
        --output=flow.flo --output=flow.png
    python -m scripts.predict flow --weights=FILE in.mp4 --output=flow.mp4
    python -m scripts.predict classify --weights=FILE a.jpg b.jpg
    python -m scripts.predict autoencode --weights=FILE in.mp4 --output=out.mp4
    python -m scripts.predict starcraft --weights=FILE game.SC2Replay
        --output=moments.png --attention=latents.png

Weights are an official checkpoint, one of transformers, one of this project, or
"random". Those of others are taken for the published model; another one is
named by --config=configs/FILE.py:variant and --config.key=value.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

import jax

from experiments.engine import command
from experiments.engine import weights as weights_lib
from experiments.engine import workdir as workdir_lib
from experiments.engine.declared import of_every_task
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights


class Parser(argparse.ArgumentParser):
  """A parser whose errors are one line."""

  def error(self, message):
    """Ends the process."""
    command.fail(message)


def load(args: argparse.Namespace) -> Weights:
  """The weights that the command names, on the device.

  Raises:
    UserError: if there are none, or they are of another task.
  """
  path = pathlib.Path(args.weights).expanduser()
  config = command.config()
  if args.weights == "random":
    read = weights_lib.random(config)
    read.notes.append("random weights: what comes out means nothing")
  else:
    if path.suffix == ".npz" or workdir_lib.find_checkpoints(path):
      if args.changes and not args.config:
        raise UserError(
            f"{path} has its own config; {args.changes[0]} changes the one that"
            " --config=... names"
        )
      config = config if args.config else None
    read = weights_lib.load(
        path,
        config,
        swap_kernel=args.swap_kernel,
        checkpoint=args.checkpoint,
        allow_nonfinite=args.allow_nonfinite,
    )
  if read.config.task != args.task:
    raise UserError(
        f"{args.weights}: the weights are of task {read.config.task!r}, not"
        f" {args.task!r}"
    )
  for note in read.notes:
    print(f"note: {note}", file=sys.stderr)
  return read._replace(model=jax.device_put(read.model))


def parser() -> Parser:
  """The command line but for the config."""
  both = Parser(add_help=False)
  both.add_argument("--weights", required=True, help='a file, or "random"')
  both.add_argument("--config", help="file.py[:variant]")
  both.add_argument(
      "--swap_kernel",
      action="store_true",
      help="undo a swap in transformers' published convolutional checkpoint",
  )
  both.add_argument(
      "--checkpoint",
      default="latest",
      help="of a run: latest, best or a step; with :ema, averaged",
  )
  both.add_argument(
      "--allow_nonfinite",
      action="store_true",
      help="take weights with numbers that are not finite or too large",
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
    made.set_defaults(task=task, prediction=prediction)
  return whole


def run(args: argparse.Namespace) -> None:
  """Does what the command line says."""
  args.prediction.run(args, lambda: load(args))


def main(argv: Sequence[str]) -> None:
  """Parses the command line and does what it says."""
  # For argparse, what has a space is no flag.
  changes = [arg for arg in argv if arg.startswith("--config.")]
  args = parser().parse_args([arg for arg in argv if arg not in changes])
  args.changes = changes
  config = args.config or args.prediction.config
  sys.argv[1:] = [f"--config={config}", *changes]
  command.run(lambda: run(args), needs_config=False)


if __name__ == "__main__":
  main(sys.argv[1:])
