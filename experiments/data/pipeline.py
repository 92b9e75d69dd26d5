"""Makes batches: in order, shuffled, sharded, from any batch on.

A step of a pipeline is a function of numpy arrays, (example) -> example or, if
it draws at random, (example, rng) -> example; a pipeline is a list of them.
Every batch is a function of the seed and of its number alone: the number of
processes, threads and workers changes no row.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import inspect
import logging
import math
import pathlib
import signal
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from experiments.data import errors
from experiments.data import processes
from experiments.data.errors import DataError

Example = Mapping[str, Any]
Step = (
    Callable[[Example], Example]
    | Callable[[Example, np.random.Generator], Example]
)


@dataclasses.dataclass(frozen=True)
class Shard:
  """The part of every batch that a process reads, and its first batch."""

  index: int = 0
  count: int = 1
  first: int = 0  # A run that resumes after step k starts with batch k.
  # Into how many parts the devices of all processes cut a batch. Those of
  # evaluation are filled up to a multiple of it.
  parts: int = 1


def source(name: str, split: str, data_dir: str) -> Any:
  """A split of a data set that `scripts.prepare_data` or TFDS has written.

  Args:
    name: the data set.
    split: a TFDS split, slices such as "train[:80%]" included.
    data_dir: the folder with all data sets; "~" is the home folder.

  Returns:
    its examples, by index, read from ArrayRecord files without TensorFlow.

  Raises:
    FileNotFoundError: if it is not there; says which command prepares it.
    DataError: if it is in another format; says which command converts it.
  """
  builder = prepared(name, data_dir)
  folder, file_format = builder.data_path, builder.info.file_format.value
  if file_format != "array_record":
    raise DataError(
        f"{folder} holds {file_format} files, which cannot be read by"
        " index: `pip install -e '.[tensorflow]'` and `tfds convert_format"
        f" --dataset_dir={folder} --out_file_format=array_record` make"
        " files that can"
    )
  where = f"{folder} ({split})"
  with errors.naming(where):
    return errors.Named(builder.as_data_source(split), where)


def prepared(name: str, data_dir: str) -> Any:
  """TFDS's builder of the newest version of a data set.

  Raises:
    FileNotFoundError: as `source`.
    DataError: if what describes it is damaged.
  """
  root = pathlib.Path(data_dir).expanduser()
  versions = list((root / name).glob("[0-9]*/dataset_info.json"))
  if not versions:
    raise errors.not_there(
        f"data set {name!r}",
        root,
        f"prepare it with `python -m scripts.prepare_data {name}"
        f" --data_dir={data_dir}`",
    )
  newest = max(versions, key=lambda path: tfds.core.Version(path.parent.name))
  # A decorator hides the function's arguments from type checkers.
  open_builder: Any = read_only_builder.builder_from_directory
  with errors.naming(newest.parent):
    return open_builder(newest.parent)


def train(
    source: Any,
    steps: Sequence[Step],
    *,
    batch_size: int,
    seed: int,
    shard: Shard,
    num_workers: int = 0,
    mix: Step | None = None,
    skip: type[Exception] | None = None,
) -> grain.IterDataset:
  """Endless batches, shuffled anew in every epoch.

  Args:
    source: examples, by index; or a MapDataset that is endless and shuffled.
    steps: steps of preprocessing.
    batch_size: rows of a batch over all processes.
    seed: seed of the order and of the steps' random numbers.
    shard: the rows of each batch for this process, and the first batch.
    num_workers: processes that prepare batches; 0: threads of this one.
    mix: a step that makes one example of two that follow each other. It gets
      them as "pair", and "row": the number of what it makes.
    skip: if reading an example or changing it raises this, another one, which
      is always the same, takes its place. "skipped" then says for each row how
      many were of no use; more than nine in one place raise the last's error.

  Returns:
    this process's rows of every batch from number `shard.first` on.

  Raises:
    ValueError: if the processes do not divide the batch.
  """
  examples = source
  if not isinstance(source, grain.MapDataset):
    examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  examples = _apply(examples, steps)
  if mix:
    pairs = examples.batch(2, batch_fn=list)
    pairs = pairs.map_with_index(lambda i, pair: {"pair": pair, "row": i})
    examples = _apply(pairs, [mix])
  if skip:
    examples = _Skipping(examples, skip)
  batches = _batches(examples, batch_size, shard)
  if not num_workers:
    return batches.to_iter_dataset(_AHEAD)
  options = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=2)
  return batches.to_iter_dataset(_AHEAD).mp_prefetch(options, _begin_worker)


def _begin_worker(index: int, count: int) -> None:
  """Lets a process end with its parent, and ignore signals to its group."""
  del index, count
  processes.end_with_parent()
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)


def is_lost_worker(error: RuntimeError) -> bool:
  """Whether an error of Grain means that one of its processes has ended."""
  # It has no type of its own.
  return "Worker process was terminated unexpectedly" in str(error)


def evaluation(
    source: Any,
    steps: Sequence[Step],
    *,
    batch_size: int,
    shard: Shard,
    together: int = 1,
    scattered: bool = False,
) -> grain.IterDataset:
  """Batches of one pass, in order; padded rows are not "real".

  Args:
    source: examples, by index.
    steps: as of `train`; their random numbers are the same each time.
    batch_size: examples of a batch over all processes, whatever the number of
      processes and devices; the last batch may have fewer. Rows that are not
      real, which repeat others, fill it up until both divide it.
    shard: the rows of each batch for this process.
    together: examples that follow each other and are to be in one batch; the
      batch is filled up to a multiple, and `batch_size` is rounded up to one.
    scattered: in another order, always the same, in which any few examples that
      follow each other are from all over the set.

  Returns:
    this process's rows of every batch.
  """
  examples = _apply(grain.MapDataset.source(source).seed(0), steps)
  size = _multiple(batch_size, together)
  batches = _Filled(examples, size, shard, together, scattered)
  return batches.to_iter_dataset(_AHEAD)


def number_of_batches(data: Any) -> int | None:
  """The number of batches of `evaluation`; None: unknown."""
  try:
    return len(data.parents[0] if hasattr(data, "parents") else data)
  except TypeError:
    return None


# Batches that are prepared ahead; each may be large, so there are few.
_AHEAD = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)


class _Filled(grain.MapDataset):
  """A process's part of batches, padded for all devices."""

  def __init__(
      self,
      examples: grain.MapDataset,
      batch_size: int,
      shard: Shard,
      together: int,
      scattered: bool,
  ):
    super().__init__(examples)
    self._stride = _stride(len(examples)) if scattered else 1
    self._batch_size = batch_size
    among = math.lcm(shard.count, shard.parts, together)
    own = _multiple(batch_size, among) // shard.count
    self._rows = np.arange(own * shard.index, own * (shard.index + 1))

  def __len__(self) -> int:
    return -(-len(self._parent) // self._batch_size)

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return self.slice(index)
    first = index * self._batch_size
    real = self._rows < min(self._batch_size, len(self._parent) - first)
    # A process without a real row shows another's first one.
    wanted = first + (self._rows[real] if real.any() else np.zeros(1, int))
    wanted = wanted * self._stride % len(self._parent)
    rows: list[Any] = [self._parent[int(i)] for i in wanted]
    rows += [rows[-1]] * (len(real) - len(rows))
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return {**batch, "real": real}


def _stride(length: int) -> int:
  """A stride that visits all of a number of places once, evenly spread."""
  stride = max(round(length * (math.sqrt(5) - 1) / 2), 1)  # The golden section.
  while math.gcd(stride, length) > 1:
    stride += 1
  return stride


def _multiple(number: int, of: int) -> int:
  """The smallest multiple that is not smaller."""
  return -(-number // of) * of


class _Skipping(grain.MapDataset):
  """Endless examples, without those that raise an error."""

  # Further away than any training goes, so that what takes an example's place
  # is seen, and changed at random, like no other. Even, for steps that differ
  # between even and odd rows.
  _JUMP = 2**40
  _TRIES = 10

  def __init__(self, parent: grain.MapDataset, error: type[Exception]):
    super().__init__(parent)
    self._error = error

  def __len__(self) -> int:
    return len(self._parent)

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return self.slice(index)
    skipped = 0
    while True:
      try:
        example = self._parent[index + skipped * self._JUMP]
        return {**example, "skipped": np.int32(skipped)}
      except self._error as error:
        logging.warning("skipped: %s", error)
        skipped += 1
        if skipped == self._TRIES:
          raise


def in_turn(
    steps: Sequence[Step],
) -> Callable[[Example, np.random.Generator], Example]:
  """Combines several steps into one, with the same random generator."""
  each = [(step, _draws(step)) for step in steps]
  return functools.partial(_in_turn, each=each)


def _in_turn(
    example: Example,
    rng: np.random.Generator,
    each: Sequence[tuple[Callable[..., Example], bool]],
) -> Example:
  for step, draws in each:
    example = step(example, rng) if draws else step(example)
  return example


def _draws(step: Step) -> bool:
  """Whether a step takes random numbers: one of its parameters is `rng`."""
  return "rng" in inspect.signature(step).parameters


def _apply(
    examples: grain.MapDataset, steps: Sequence[Step]
) -> grain.MapDataset:
  for step in steps:
    # Grain seeds a step by its place among all of them, so that a step draws
    # the same numbers whether those before it draw any or not.
    change: Any = examples.random_map if _draws(step) else examples.map
    examples = change(step)
  return examples


def _batches(
    examples: grain.MapDataset, batch_size: int, shard: Shard
) -> grain.MapDataset:
  """This process's part of each batch; parts are consecutive."""
  if batch_size % shard.count:
    raise ValueError(
        f"batch_size {batch_size} does not divide among {shard.count} processes"
    )
  # The examples never end. Grain counts batches that may be cut off in floating
  # point, where the endless length of batches of one is too large by one.
  parts = examples.batch(batch_size // shard.count, drop_remainder=True)
  start = shard.index + shard.first * shard.count
  return parts.slice(slice(start, None, shard.count))
