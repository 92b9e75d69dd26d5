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
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import json
import pathlib
import sys
from typing import Any

import av
import cv2
import jax
import numpy as np
import rich.console
import rich.progress

from experiments.data.clips import video as video_lib
from experiments.data.flow import colors as flow_colors
from experiments.data.flow import files as flow_files
from experiments.data.images import image as image_lib
from experiments.engine import command
from experiments.engine import weights as weights_lib
from experiments.engine import workdir as workdir_lib
from experiments.engine.errors import user_errors
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from experiments.inference import predictions
from experiments.inference import selections

FPS = 25.0  # The autoencoder's.
# The published models.
CONFIGS = {
    "fill-mask": "configs/mlm.py:bytes",
    "flow": "configs/flow.py:patches",
    "classify": "configs/imagenet.py:fourier",
    "autoencode": "configs/kinetics.py:published",
    "starcraft": "configs/starcraft.py:perceiver_io",
}


class Parser(argparse.ArgumentParser):
  """A parser whose errors are one line."""

  def error(self, message):
    """Ends the process."""
    command.fail(message)


def fill_mask(args: argparse.Namespace) -> None:
  """Prints texts without masks, and what else may have been there."""
  for text in args.inputs:
    predictions.masked(text, args.mask)  # It is quicker to fail than to load.
  weights = load(args, "mlm")
  for text in args.inputs:
    filled = predictions.fill_mask(weights, text, args.mask)
    print(filled.text)
    for span in filled.spans:
      end = span.start + len(span.by_byte) - 1
      print(f"  bytes {span.start} to {end}:")
      for guess in span.strings:
        print(f"    {percent(guess.probability):>10}  '{guess}'")
      for i, guesses in enumerate(span.by_byte, span.start):
        shown = (f"'{x}' {percent(x.probability)}" for x in guesses)
        print(f"    byte {i}: {', '.join(shown)}")


def flow(args: argparse.Namespace) -> None:
  """Writes the flow from an image to another, or through a video."""
  if len(args.inputs) > 2:
    raise UserError("flow takes two images or one video")
  is_video = len(args.inputs) == 1
  check_outputs(args.output, (".mp4",) if is_video else (".flo", ".png"))
  if args.batch_size < 1:
    raise UserError(f"--batch_size={args.batch_size}: at least 1 is needed")
  if is_video:
    (file,) = args.inputs
    with using(file):
      fps = frame_rate(file)
      frames = video_lib.read_frames(file, fps=fps)
    if len(frames) < 2:
      raise UserError(f"{file} has one frame, flow is between two")
  else:
    fps, frames = FPS, read_images(args.inputs)
  weights = load(args, "flow")
  with about(*args.inputs):
    flows = [
        predictions.flow(weights, frames[i], frames[i + 1], args.batch_size)
        for i in tracked(range(len(frames) - 1))
    ]
  longest = max(float(np.hypot(x[..., 0], x[..., 1]).max()) for x in flows)
  pictures = [flow_colors.colors(x, max(longest, 1e-6)) for x in flows]
  if args.side_by_side:
    pictures = beside(frames, pictures)
  for file in args.output:
    if file.suffix == ".flo":
      flow_files.write_flo(file, flows[0])
    elif file.suffix == ".png":
      bgr = cv2.cvtColor(pictures[0], cv2.COLOR_RGB2BGR)
      file.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
    else:
      video_lib.write(file, np.stack(pictures), fps)
    print(f"{file}: the longest flow is {longest:.1f} pixels")


def classify(args: argparse.Namespace) -> None:
  """Prints the likeliest classes of images."""
  images = read_images(args.inputs)
  weights = load(args, "imagenet")
  names = read_names(args.labels, weights)
  for file, image in zip(args.inputs, images, strict=True):
    with about(file):
      labels = predictions.classify(weights, image)
    print(file)
    print_labels(labels, names)


def autoencode(args: argparse.Namespace) -> None:
  """Writes a video as the model remembers it."""
  (file,) = args.inputs
  check_outputs(args.output, (".mp4",))
  if args.clips < 1:
    raise UserError(f"--clips={args.clips}: at least 1 is needed")
  if not pathlib.Path(file).is_file():
    raise UserError(f"{file}: there is no such file")
  weights = load(args, "kinetics")
  config = weights.config
  names = read_names(args.labels, weights)
  length, height, width = config.video
  if height != width:
    raise UserError(f"the model's videos are {height} x {width}, not square")
  with using(file):  # All of it: it is small, and what is missing shows now.
    clips = [
        video_lib.read_clip(
            file,
            length,
            height,
            FPS,
            config.samples_per_frame,
            start=i * length / FPS,
        )
        for i in range(args.clips)
    ]
  decoded = [predictions.autoencode(weights, clip) for clip in tracked(clips)]
  for i, clip in enumerate(decoded):
    print(f"{file}, from {i * length / FPS:.2f} s")
    print_labels(clip.labels, names)
  video = as_bytes(np.concatenate([clip.video for clip in decoded]))
  if args.side_by_side:
    seen = as_bytes(np.concatenate([clip["video"] for clip in clips]))
    video = np.stack(beside(seen, video))
  audio = np.concatenate([clip.audio for clip in decoded])
  rate = round(FPS * config.samples_per_frame)
  for output in args.output:
    video_lib.write(output, video, FPS, audio, rate)
    print(output)


def starcraft(args: argparse.Namespace) -> None:
  """Prints what people selected in a game, and what the model would have."""
  (file,) = args.inputs
  pictures = [*args.output, *args.attention]
  if pictures:
    check_outputs(pictures, (".png",))
  if args.moments < 1:
    raise UserError(f"--moments={args.moments}: at least 1 is needed")
  with using(file):
    game = selections.play(file)
  weights = load(args, "starcraft")
  with about(file):
    found = selections.predict(weights, game)
  count = min(args.moments, len(game.frames))
  moments = np.linspace(0, len(game.frames) - 1, count).round().astype(int)
  races = game.info["races"]
  print(f"{file}: {game.info['map']}, {' against '.join(races.values())}")
  for i in moments:
    minutes, seconds = divmod(
        game.frames[i] // selections.FRAMES_PER_SECOND, 60
    )
    player = f"player {game.players[i]}, {races[game.players[i]]}"
    units, truth, picks = (found[x][i] for x in ("units", "truth", "picks"))
    print(f"  {minutes:2}:{seconds:02} {player}")
    print(f"    selected:  {selections.named(units, truth)}")
    print(f"    predicted: {selections.named(units, picks)}")
  print(f"all {len(game.frames):,} selections:")
  for name, value in selections.scores(found).items():
    print(f"  {name}: {value:.2f}")
  for output in args.output:
    write_png(output, selections.draw(found, moments[:16]))
  for output in args.attention:
    units = found["units"][moments[len(moments) // 2]]
    with about(file):
      write_png(output, selections.draw_attention(weights, units))


def write_png(file: pathlib.Path, picture: np.ndarray) -> None:
  """Writes a picture, RGB, uint8 [Y, X, 3]."""
  bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
  file.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
  print(file)


def load(args: argparse.Namespace, task: str) -> Weights:
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
        path, config, swap_kernel=args.swap_kernel, checkpoint=args.checkpoint
    )
  with about(args.weights):
    predictions.require(read, task)
  for note in read.notes:
    print(f"note: {note}", file=sys.stderr)
  return read._replace(model=jax.device_put(read.model))


def check_outputs(files: Sequence[pathlib.Path], kinds: Sequence[str]) -> None:
  """Makes the folders of what will be written, if it can be.

  Raises:
    UserError: if there is none, or of another kind.
  """
  if not files:
    raise UserError(f"--output=FILE{' or '.join(kinds)} is missing")
  for file in files:
    if file.suffix not in kinds:
      raise UserError(f"{file}: what is written is {' or '.join(kinds)}")
    with using(str(file)):
      file.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def using(file: str) -> Iterator[None]:
  """Makes plain what is wrong with a file."""
  try:
    yield
  except (OSError, ValueError) as error:
    message = str(error)
    if file not in message:
      message = f"{file}: {message}"
    raise UserError(message) from error


@contextlib.contextmanager
def about(*files: str) -> Iterator[None]:
  """Puts the names of the inputs before what is wrong with them."""
  try:
    yield
  except UserError as error:
    raise UserError(f"{' and '.join(files)}: {error}") from error


def read_images(files: Iterable[str]) -> list[np.ndarray]:
  """Images, RGB, uint8 [Y, X, 3]."""
  images = []
  for file in files:
    with using(file):
      images.append(image_lib.read(file))
  return images


def frame_rate(file: str) -> float:
  """Frames per second of a video."""
  opened: Any = av.open(file)
  with opened as container:
    if not container.streams.video:
      raise ValueError(f"{file} has no video")
    return float(container.streams.video[0].average_rate or FPS)


def beside(
    left: Iterable[np.ndarray], right: Iterable[np.ndarray]
) -> list[np.ndarray]:
  """Pictures next to each other."""
  # A video has a frame more than it has flows.
  pairs = zip(left, right, strict=False)
  return [np.concatenate(pair, axis=1) for pair in pairs]


def as_bytes(video: np.ndarray) -> np.ndarray:
  """Video in [0, 1] as uint8."""
  return np.round(255.0 * video).astype(np.uint8)


def read_names(file: str | None, weights: Weights) -> list[str]:
  """Names of the classes, one a line, or JSON; without a file, their numbers.

  JSON is a list, or names by number, as in transformers' `config.json`.

  Raises:
    UserError: if the file is something else, or has more or fewer.
  """
  count = weights.config.num_classes
  if file is None:
    return [f"class {i}" for i in range(count)]
  with user_errors(file):
    names = pathlib.Path(file).read_text(encoding="utf-8")
    if file.endswith(".json"):
      names = json.loads(names)
      if isinstance(names, dict):
        names = names.get("id2label", names)
        names = [names[str(i)] for i in range(len(names))]
      # Some have an identifier before the name.
      names = [str(x if isinstance(x, str) else x[-1]) for x in names]
    else:
      names = names.splitlines()
    if len(names) != count:
      raise ValueError(f"{len(names)} names for the model's {count} classes")
  return names


def print_labels(
    labels: Iterable[predictions.Label], names: Sequence[str]
) -> None:
  """Prints a table."""
  for label in labels:
    print(f"    {percent(label.probability):>10}  {names[label.index]}")


def percent(probability: float) -> str:
  """A probability, however small."""
  return f"{100 * probability:.3g} %"


def tracked(items: Sequence[Any]) -> Iterable[Any]:
  """The items, with a bar for who looks at a terminal."""
  console = rich.console.Console(stderr=True)
  hidden = len(items) < 2 or not console.is_terminal
  return rich.progress.track(items, "", console=console, disable=hidden)


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
      "--checkpoint", default="latest", help="of a run: latest, best or a step"
  )
  output = Parser(add_help=False)
  output.add_argument(
      "--output",
      type=pathlib.Path,
      action="append",
      default=[],
      help="a file; its ending says what of; may be repeated",
  )
  output.add_argument(
      "--side_by_side", action="store_true", help="the input beside it"
  )
  labels = Parser(add_help=False)
  labels.add_argument("--labels", help="names of the classes: lines or JSON")

  whole = Parser(
      prog="python -m scripts.predict",
      description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = whole.add_subparsers(dest="command", required=True)

  def add(function, *parents):
    name = function.__name__.replace("_", "-")
    made = commands.add_parser(
        name,
        description=function.__doc__,
        epilog=f"The published model is {CONFIGS[name]}.",
        parents=[both, *parents],
        allow_abbrev=False,
    )
    made.set_defaults(function=function)
    return made

  text = add(fill_mask)
  text.add_argument(
      "inputs",
      nargs="+",
      metavar="TEXT",
      help="[MASK] is a masked byte, [MASK:9] are nine",
  )
  text.add_argument(
      "--mask",
      action="append",
      default=[],
      help="mask this wherever it is; best with the space before it",
  )
  frames = add(flow, output)
  frames.add_argument(
      "inputs", nargs="+", metavar="FILE", help="two images or one video"
  )
  frames.add_argument("--batch_size", type=int, default=1, help="tiles at once")
  images = add(classify, labels)
  images.add_argument("inputs", nargs="+", metavar="IMAGE")
  video = add(autoencode, output, labels)
  video.add_argument("inputs", nargs=1, metavar="VIDEO")
  video.add_argument(
      "--clips", type=int, default=1, help="how many, one after another"
  )
  replay = add(starcraft, output)
  replay.add_argument("inputs", nargs=1, metavar="REPLAY")
  replay.add_argument(
      "--moments", type=int, default=16, help="how many selections are shown"
  )
  replay.add_argument(
      "--attention",
      type=pathlib.Path,
      action="append",
      default=[],
      help="a .png: what latents read in the middle one of these",
  )
  return whole


def main(argv: Sequence[str]) -> None:
  """Parses the command line and does what it says."""
  # For argparse, what has a space is no flag.
  changes = [arg for arg in argv if arg.startswith("--config.")]
  args = parser().parse_args([arg for arg in argv if arg not in changes])
  args.changes = changes
  config = args.config or CONFIGS[args.command]
  sys.argv[1:] = [f"--config={config}", *changes]
  command.run(lambda: args.function(args), needs_config=False)


if __name__ == "__main__":
  main(sys.argv[1:])
