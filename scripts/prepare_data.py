"""Prepares data sets for the tasks.

    python -m scripts.prepare_data digits [--manual_dir=DIR]
    python -m scripts.prepare_data cifar10 [--manual_dir=DIR]
    python -m scripts.prepare_data glue [--tasks=cola,sst2] [--manual_dir=DIR]
    python -m scripts.prepare_data imagenet [--manual_dir=DIR]
    python -m scripts.prepare_data mlm --c4=DIR_OR_GLOB --wikipedia=FILE
        --text=NAME=GLOB [--processes=N]
    python -m scripts.prepare_data sentencepiece --corpus=c4,wikipedia
        --vocabulary_size=32000 --model=FILE.model
    python -m scripts.prepare_data scenes --pairs=40000 [--textures=DIR]
    python -m scripts.prepare_data kinetics --csv train.csv validate.csv
        --videos=DIR
    python -m scripts.prepare_data audioset --csv eval_segments.csv
        --classes=class_labels_indices.csv --videos=DIR
    python -m scripts.prepare_data kinetics --videos=DIR --as_name=NAME
    python -m scripts.prepare_data film --video=FILE --output=DIR
    python -m scripts.prepare_data spoken_images --recordings=ZIP
        --images=ZIP --output=DIR

All commands accept --data_dir=DIR, the folder of data. The default is the
environment variable PERCEIVER_DATA, or else ~/tensorflow_datasets. Any module
in experiments/data/builders can be named like `digits`. `cifar10`, `glue` and
`imagenet` check the data set and make missing parts from the publishers' files,
which are in --manual_dir, beside the data set, or downloaded; ImageNet's must
be downloaded by hand. `mlm` makes corpora from local files of the allenai/c4
release, dumps of Wikipedia, and plain text; a stopped command resumes when it
is started again. `sentencepiece` learns a tokenizer from such corpora. `scenes`
generates pairs of frames with their flow in AutoFlow's format. `kinetics` and
`audioset` index local clips by their lists or, without lists, in class folders.
`film` cuts a film into clips in the layout of Kinetics, and `spoken_images`
combines spoken digits and CIFAR-10 images in the layout of AudioSet.
"""

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
import contextlib
import functools
import importlib
import io
import pathlib
import pkgutil
import re
import sys
import time
from typing import Any

import rich.console
import rich.progress
import rich.table

from configs import base
from experiments.data import atomic
from experiments.data import builders
from experiments.data import processes
from experiments.data import published
from experiments.data.text import corpus
from experiments.data.text import sources
from experiments.engine.errors import UserError
from experiments.engine.parsing import Parser

# JAX and TFDS take seconds to import, and every worker imports this module:
# they are imported where they are used.


def main(argv: list[str] | None = None) -> None:
  """Prepares data; existing data stay unchanged."""
  args = parser().parse_args(argv)
  from experiments.engine import command

  with command.one_line_errors(), _stops():
    args.run(args)


def build(args: argparse.Namespace) -> None:
  """Prepares a data set of TFDS."""
  import tensorflow_datasets as tfds

  importlib.import_module(f"experiments.data.builders.{args.name}")
  data_dir = pathlib.Path(args.data_dir).expanduser()
  builder = tfds.builder(
      args.name, data_dir=data_dir, file_format="array_record"
  )
  manual_dir = data_dir / "downloads" / "manual"
  if args.manual_dir:
    manual_dir = pathlib.Path(args.manual_dir).expanduser()
  asked = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
  if asked and not pathlib.Path(builder.data_path).exists():
    if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
      raise UserError(
          f"{manual_dir} is empty or missing. Name another folder with"
          f" --manual_dir, that of {asked}"
      )
  builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
  )
  sizes = {name: s.num_examples for name, s in builder.info.splits.items()}
  print(f"{args.name}: {sizes} in {builder.data_path}")


def prepare_cifar10(args: argparse.Namespace) -> None:
  """Prepares CIFAR-10, and prints its splits."""
  from experiments.data.images import cifar10

  folder = pathlib.Path(args.data_dir).expanduser() / "cifar10"
  if not _splits("cifar10", args.data_dir):
    (archive,) = _published([cifar10.ARCHIVE], folder, args)
    with _count("cifar10") as progress:
      cifar10.write(archive, folder / "cifar10.zip", progress)
  _print_images("cifar10", cifar10.SPLITS, args.data_dir)


def prepare_imagenet(args: argparse.Namespace) -> None:
  """Unpacks ImageNet's archives, and prints its splits."""
  from experiments.data.images import imagenet

  folder = pathlib.Path(args.data_dir).expanduser() / imagenet.NAME
  there = _splits(imagenet.NAME, args.data_dir)
  files = [] if "train" in there else [imagenet.TRAIN]
  if "validation" not in there:
    files += [imagenet.VALIDATION, imagenet.KIT]
  paths = dict(zip(files, _published(files, folder, args), strict=True))
  with _count("imagenet") as progress:
    if imagenet.TRAIN in paths:
      imagenet.unpack_train(paths[imagenet.TRAIN], folder, progress)
    if imagenet.VALIDATION in paths:
      imagenet.unpack_validation(
          paths[imagenet.VALIDATION], paths[imagenet.KIT], folder, progress
      )
  _print_images(imagenet.NAME, imagenet.SPLITS, args.data_dir)


def prepare_glue(args: argparse.Namespace) -> None:
  """Unpacks GLUE's archives, and prints its tasks."""
  from experiments.data.text import glue
  from experiments.data.text import glue_archives

  tasks = args.tasks.split(",") if args.tasks else list(glue.TASKS)
  for task in tasks:
    if task not in glue.TASKS:
      raise UserError(
          f"--tasks={args.tasks}: {task!r} is not one of {[*glue.TASKS]}"
      )
  folder = pathlib.Path(args.data_dir).expanduser() / "glue"
  missing = [task for task in tasks if not _has_glue(task, args.data_dir)]
  files = [file for task in missing for file in glue_archives.FILES[task]]
  paths = dict(zip(files, _published(files, folder, args), strict=True))
  for task in missing:
    its = [paths[file] for file in glue_archives.FILES[task]]
    glue_archives.unpack(task, its, folder)
  table = rich.table.Table("task", "split", title=str(folder))
  table.add_column("examples", justify="right")
  notes: dict[str, None] = {}
  for task in tasks:
    settings = glue.TASKS[task]
    for split in ("train", *settings.evaluated, *settings.tests):
      count = "-"  # Not all have the sets that GLUE's server asks for.
      with contextlib.suppress(FileNotFoundError):
        examples = glue.read(task, split, args.data_dir, notes.setdefault)
        count = f"{len(examples):,}"
      table.add_row(task, split, count)
  rich.console.Console().print(table)
  for note in notes:
    print(f"note: {note}", file=sys.stderr)


def _has_glue(task: str, data_dir: str) -> bool:
  """Whether the splits for training and evaluation exist."""
  from experiments.data.text import glue

  try:
    for split in ("train", *glue.TASKS[task].evaluated):
      glue.read(task, split, data_dir, note=lambda line: None)
  except FileNotFoundError:
    return False
  return True


def _published(
    files: list[published.File], folder: pathlib.Path, args: argparse.Namespace
) -> list[pathlib.Path]:
  """The paths of published files, with a progress bar for each download."""
  from perceiver.weights import download

  def fetch(file: published.File, path: pathlib.Path) -> None:
    try:
      with _count(file.name) as progress:
        download.fetch(file.url, path, progress, sha256=file.sha256)
    except download.FetchError as error:
      raise UserError(error.reason) from error

  by_hand = args.manual_dir and pathlib.Path(args.manual_dir).expanduser()
  try:
    return published.found(
        files, [folder, *([by_hand] if by_hand else [])], fetch
    )
  except published.MissingError as error:
    if len(error.files) > 1:  # The error itself is one line.
      print("missing files:", *error.files, sep="\n  ", file=sys.stderr)
    raise


def _splits(name: str, data_dir: str) -> Sequence[str]:
  """The splits of a data set of images; none if it is not there."""
  from experiments.data.images import sets

  try:
    about = sets.about(name, data_dir)
  except FileNotFoundError:
    return ()
  return about.splits if about.classes else ()  # A folder of archives has none.


def _print_images(name: str, splits: Mapping[str, int], data_dir: str) -> None:
  """Prints the number of images of each split."""
  from experiments.data.images import sets

  table = rich.table.Table("split", title=f"{name} in {data_dir}")
  for column in ("images", "published"):
    table.add_column(column, justify="right")
  there = _splits(name, data_dir)
  for split, count in splits.items():
    has = len(sets.open_images(name, split, data_dir)) if split in there else 0
    table.add_row(split, f"{has:,}", f"{count:,}")
  rich.console.Console().print(table)


def build_corpora(args: argparse.Namespace) -> None:
  """Prepares corpora, and prints their contents."""
  if args.processes < 0 or args.held_out < 0 or args.max_bytes < 100:
    raise UserError(
        f"--processes={args.processes} --held_out={args.held_out}"
        f" --max_bytes={args.max_bytes}: the minima are 0, 0 and 100"
    )
  made_of = list(_sources(args))
  if not made_of:
    raise UserError("--c4, --wikipedia or --text is missing")
  made = {}
  for each in made_of:  # All of them have been found: nothing fails late.
    with _bar(each.name) as (note, progress):
      made[each.name] = corpus.prepare(
          each,
          args.data_dir,
          processes=args.processes,
          note=note,
          progress=progress,
      )
  _print_tables(made)


def learn_tokens(args: argparse.Namespace) -> None:
  """Trains a SentencePiece model with the special ids of the byte tokenizer."""
  import sentencepiece

  made = [
      corpus.open_documents(name, "train", args.data_dir)
      for name in args.corpus.split(",")
  ]
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_sample(made, args.max_bytes, args.seed),
        model_writer=model,
        model_type="unigram",
        vocab_size=args.vocabulary_size,
        byte_fallback=True,  # No text is unknown.
        pad_id=0,
        pad_piece="[PAD]",
        bos_id=1,
        bos_piece="[BOS]",
        eos_id=2,
        eos_piece="[EOS]",
        control_symbols=["[MASK]", "[CLS]", "[SEP]"],  # The next free ids.
        unk_id=6,
        unk_piece="[UNK]",
        max_sentence_length=1 << 16,  # Longer paragraphs would be left out.
        minloglevel=1,
    )
  except RuntimeError as error:  # "Internal: file(line) [condition] reason".
    reason = str(error).rpartition("] ")[2]
    raise UserError(f"SentencePiece: {reason}") from error
  atomic.write(pathlib.Path(args.model).expanduser(), model.getvalue())
  print(f"{args.model}: {args.vocabulary_size:,} tokens from {args.corpus}")


def draw_scenes(args: argparse.Namespace) -> None:
  """Generates pairs of frames; existing ones stay unchanged."""
  from experiments.data.flow import scenes as flow_scenes

  folder = pathlib.Path(args.data_dir).expanduser() / "autoflow"
  scenes = flow_scenes.Scenes(
      size=tuple(args.size),
      length=args.pairs,
      seed=args.seed,
      textures=args.textures,
      part="all",
  )
  write = functools.partial(
      flow_scenes.write_autoflow, scenes=scenes, folder=folder
  )
  paths = processes.each(
      write, range(args.pairs), processes=args.processes, chunk=8
  )
  with _count("scenes") as progress:
    for done, _ in enumerate(paths):
      progress(done + 1, args.pairs)
  print(f"{args.pairs:,} pairs of {args.size[0]} x {args.size[1]} in {folder}")


def index_clips(args: argparse.Namespace) -> None:
  """Indexes the clips of lists; existing indexes stay unchanged."""
  from experiments.data.clips import index as clip_index

  read = clip_index.kinetics_rows
  lists = [pathlib.Path(path).expanduser() for path in args.csv]
  classes = args.classes and pathlib.Path(args.classes).expanduser()
  videos = pathlib.Path(args.videos).expanduser()
  kind = clip_index.SOUNDS if args.sound_only else clip_index.CLIPS
  rows: dict[str, Any] = {}  # By split; of a list, read when it is its turn.
  if not lists:
    if not args.as_name:
      raise UserError(
          "--csv=LISTS is missing; or, of your own clips in a folder for each"
          " class, --as_name=NAME"
      )
    train, held_out, classes = clip_index.folder_rows(videos, kind)
    other = "test" if args.kind == "audioset" else "validate"
    rows = {"train": lambda: train, other: lambda: held_out}
  elif args.kind == "audioset":
    if not classes:
      raise UserError("--classes=class_labels_indices.csv is missing")
    classes = clip_index.audioset_classes(classes)
    read = clip_index.audioset_rows
  else:
    classes = clip_index.kinetics_classes(classes or lists[0])
  for path in lists:
    rows[path.stem] = functools.partial(read, path)
  folder = pathlib.Path(args.data_dir).expanduser() / (
      args.as_name or args.kind
  )
  table = rich.table.Table("clips", "what", title=str(folder))
  for split, of_split in rows.items():
    index = folder / f"{split}.json"
    if index.exists():
      made = atomic.read_json(index)
    else:
      with _count(f"{folder.name} {split}") as progress:
        made = clip_index.prepare(
            of_split(),
            classes,
            videos,
            index,
            min_seconds=args.min_seconds,
            kind=kind,
            processes=args.processes,
            progress=progress,
        )
    table.add_row(f"{made['clips']:,}", f"{split}: indexed")
    table.add_row(f"{made['without_sound']:,}", "of them without sound")
    for reason, count in made["left_out"].items():
      table.add_row(f"{count:,}", f"left out: {reason}")
  rich.console.Console().print(table)


def cut_film(args: argparse.Namespace) -> None:
  """Cuts a film into clips; existing clips stay unchanged."""
  from experiments.data.clips import film

  output = pathlib.Path(args.output).expanduser()
  with _count("clips") as progress:
    counts = film.cut(
        pathlib.Path(args.video).expanduser(),
        output,
        seconds=args.seconds,
        parts=args.parts,
        height=args.height,
        gain=args.gain,
        processes=args.processes,
        progress=progress,
    )
  print(f"{counts} clips in {output}")


def speak_images(args: argparse.Namespace) -> None:
  """Writes clips of spoken digits; existing clips stay unchanged."""
  from experiments.data.clips import spoken_images

  output = pathlib.Path(args.output).expanduser()
  clips = {"train": args.train_clips, "test": args.test_clips}
  with _count("clips") as progress:
    spoken_images.write(
        pathlib.Path(args.recordings).expanduser(),
        args.images and pathlib.Path(args.images).expanduser(),
        output,
        clips=clips,
        seed=args.seed,
        snr=tuple(args.snr),
        processes=args.processes,
        progress=progress,
    )
  print(f"{clips} clips in {output}")


@contextlib.contextmanager
def _count(name: str) -> Iterator[Callable[[int, int], None]]:
  """A progress bar, as a callback (done, total)."""
  console = rich.console.Console(stderr=True)
  with rich.progress.Progress(console=console) as bar:
    task = bar.add_task(name, total=None)
    yield lambda done, total: bar.update(task, completed=done, total=total)


def _sources(args: argparse.Namespace) -> Iterator[sources.Sources]:
  """The sources of each corpus."""
  if args.c4:
    yield sources.c4(args.c4)
  if args.wikipedia:
    yield sources.wikipedia_dumps(args.wikipedia, held_out=args.held_out)
  texts: dict[str, list[str]] = {}
  for option in args.text:
    name, equals, place = option.partition("=")
    if not equals or not place or not re.fullmatch(r"\w[\w.-]*", name):
      raise UserError(f"--text={option} is not --text=NAME=GLOB")
    if name in ("c4", "wikipedia"):
      raise UserError(f"--text={option}: use --{name} for that corpus")
    texts.setdefault(name, []).append(place)
  for name, places in texts.items():
    yield sources.text(
        name, places, held_out=args.held_out, max_bytes=args.max_bytes
    )


@contextlib.contextmanager
def _stops() -> Iterator[None]:
  """Adds to errors of stopped commands that they resume."""
  try:
    yield
  except BrokenProcessPool as error:
    raise UserError(
        "a process was killed, perhaps because memory was short; the same"
        " command resumes, and --processes=N uses fewer processes"
    ) from error
  except KeyboardInterrupt as error:
    raise UserError("stopped; the same command resumes") from error


@contextlib.contextmanager
def _bar(
    name: str,
) -> Iterator[tuple[Callable[[str], None], Callable[[corpus.Progress], None]]]:
  """Callbacks for notes and progress, with a progress bar on a terminal."""
  console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
  bar = rich.progress.Progress(
      rich.progress.TextColumn("{task.description}"),
      rich.progress.BarColumn(),
      rich.progress.DownloadColumn(),
      rich.progress.TextColumn("{task.fields[speed]}"),
      rich.progress.TimeRemainingColumn(),
      console=console,
      disable=not console.is_terminal,
  )
  task = bar.add_task(name, speed="")
  begin = time.monotonic()

  def note(message: str) -> None:
    console.print(f"note: {message}", markup=False)

  def progress(done: corpus.Progress) -> None:
    speed = done.new_documents / (time.monotonic() - begin)
    jobs = f"{done.jobs}/{done.total_jobs or '?'} jobs"
    speed = f"{jobs}, {done.documents:,} documents, {speed:,.0f}/s"
    size = done.total_bytes
    bar.update(task, completed=done.bytes, total=size, speed=speed)

  with bar:
    yield note, progress


def _print_tables(made: Mapping[str, Mapping[str, Any]]) -> None:
  """Prints the tables of kept and dropped documents."""
  kept = rich.table.Table("corpus", "split", title="kept")
  left = rich.table.Table("corpus", "reason", title="left out")
  for column in ("documents", "bytes", "shards"):
    kept.add_column(column, justify="right")
  left.add_column("documents", justify="right")
  for name, index in made.items():
    for split, what in index["splits"].items():
      sizes = what["documents"], what["bytes"], len(what["shards"])
      kept.add_row(name, split, *(f"{size:,}" for size in sizes))
    for reason, count in sorted(index["dropped"].items()):
      left.add_row(name, reason, f"{count:,}")
  console = rich.console.Console()
  for table in (kept, left):
    if table.row_count:
      console.print(table)


def _sample(documents: list[Any], max_bytes: int, seed: int) -> Iterator[str]:
  """Paragraphs of documents of all corpora, drawn without replacement."""
  import grain

  parts = [grain.MapDataset.source(each) for each in documents]
  drawn: Any = grain.MapDataset.concatenate(parts).shuffle(seed=seed)
  size = 0
  for i in range(len(drawn)):
    text = drawn[i]
    size += len(text)
    if i and size > max_bytes:
      break
    for paragraph in text.decode("utf-8", errors="ignore").splitlines():
      if paragraph.strip():
        yield paragraph


def parser() -> Parser:
  """The command line."""
  whole = Parser(prog="python -m scripts.prepare_data")
  commands = whole.add_subparsers(dest="name", required=True, metavar="NAME")

  def add(name: str, run: Callable, what: str) -> Any:
    command = commands.add_parser(name, help=what, description=what)
    command.set_defaults(run=run)
    command.add_argument(
        "--data_dir",
        default=base.DATA_DIR,
        help="folder of data; default: PERCEIVER_DATA, ~/tensorflow_datasets",
    )
    return command

  for module in pkgutil.iter_modules(builders.__path__):
    one = add(module.name, build, "a data set")
    one.add_argument("--manual_dir", help="folder of manual downloads")
  for name, run in (
      ("cifar10", prepare_cifar10),
      ("glue", prepare_glue),
      ("imagenet", prepare_imagenet),
  ):
    one = add(name, run, "its publisher's files, checked and unpacked")
    one.add_argument("--manual_dir", help="folder of the source files")
    if name == "glue":
      one.add_argument(
          "--tasks", default="", help="tasks of GLUE; default: all"
      )
  mlm = add("mlm", build_corpora, "corpora of text")
  files = dict(nargs="+", action="extend", default=[])
  mlm.add_argument("--c4", help="files, folders or globs", **files)
  mlm.add_argument("--wikipedia", help="dumps: pages-articles", **files)
  mlm.add_argument("--text", help="NAME=FILE, folder or glob", **files)
  mlm.add_argument("--processes", type=int, default=0, help="0: one per core")
  mlm.add_argument(
      "--held_out",
      type=int,
      default=sources.HELD_OUT,
      help="hold out one document in N, except for C4",
  )
  mlm.add_argument(
      "--max_bytes",
      type=int,
      default=sources.MAX_BYTES,
      help="maximum size of a text file",
  )
  learn = add("sentencepiece", learn_tokens, "a tokenizer, from corpora")
  learn.add_argument("--corpus", required=True, help="NAME,NAME")
  learn.add_argument("--vocabulary_size", type=int, default=32_000)
  learn.add_argument("--model", required=True, help="FILE.model to write")
  learn.add_argument("--max_bytes", type=int, default=200_000_000)
  learn.add_argument("--seed", type=int, default=0, help="seed of the sample")
  scenes = add("scenes", draw_scenes, "pairs of frames with optical flow")
  scenes.add_argument("--pairs", type=int, default=40_000)
  scenes.add_argument("--textures", help="a folder of images")
  scenes.add_argument(
      "--size", type=int, nargs=2, default=(448, 576), help="height and width"
  )
  scenes.add_argument("--seed", type=int, default=0)
  scenes.add_argument(
      "--processes", type=int, default=0, help="0: one per core"
  )
  for name, shortest in (("kinetics", 0.64), ("audioset", 1.28)):
    clips = add(name, index_clips, "an index of clips that you have")
    clips.set_defaults(kind=name)
    clips.add_argument(
        "--csv",
        help="lists of clips; default: --videos has class folders",
        **files,
    )
    clips.add_argument(
        "--videos", required=True, help="the folder of the clips"
    )
    clips.add_argument(
        "--classes",
        help="class_labels_indices.csv"
        if name == "audioset"
        else "a list with all classes; default: the first of --csv",
    )
    clips.add_argument("--as_name", help="another name in --data_dir")
    clips.add_argument(
        "--sound_only",
        action="store_true",
        help="files need no frames: those of sound, such as .wav, are read too",
    )
    clips.add_argument(
        "--min_seconds",
        type=float,
        default=shortest,
        help="omit shorter clips",
    )
    clips.add_argument(
        "--processes", type=int, default=0, help="0: one per core"
    )
  film = add("film", cut_film, "a film as clips in the layout of Kinetics")
  film.add_argument("--video", required=True, help="the film")
  film.add_argument("--output", required=True, help="a folder")
  film.add_argument(
      "--seconds", type=float, default=5.0, help="length of a clip"
  )
  film.add_argument(
      "--parts", type=int, default=10, help="parts of the film, the classes"
  )
  film.add_argument("--height", type=int, default=72, help="height of frames")
  film.add_argument(
      "--gain", type=float, default=1.0, help="factor of the sound"
  )
  film.add_argument("--processes", type=int, default=0, help="0: one per core")
  spoken = add("spoken_images", speak_images, "clips of spoken digits")
  spoken.add_argument(
      "--recordings", required=True, help="ZIP: DIGIT_SPEAKER_NUMBER.wav"
  )
  spoken.add_argument(
      "--images",
      help="ZIP: {train,test}/CLASS/NUMBER.jpg; default: sound alone",
  )
  spoken.add_argument("--output", required=True, help="a folder")
  spoken.add_argument(
      "--snr",
      type=float,
      nargs=2,
      default=(0.0, 15.0),
      help="least and largest ratio of the digit to the noise, in decibels",
  )
  spoken.add_argument("--train_clips", type=int, default=1500)
  spoken.add_argument("--test_clips", type=int, default=300)
  spoken.add_argument("--seed", type=int, default=0)
  spoken.add_argument(
      "--processes", type=int, default=0, help="0: one per core"
  )
  return whole


if __name__ == "__main__":
  main(sys.argv[1:])
