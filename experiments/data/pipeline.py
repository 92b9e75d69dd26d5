"""From prepared data to batches: in order, shuffled, sharded, resumable.

A step of a pipeline is a function (example, rng) -> example of numpy arrays; a
pipeline is a list of them. Every batch is a function of the seed and of its
number alone: the number of processes, threads and workers changes no row.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

Example = Mapping[str, Any]
Step = Callable[[Example, np.random.Generator], Example]


@dataclasses.dataclass(frozen=True)
class Shard:
  """Which part of every batch a process reads."""

  index: int = 0
  count: int = 1


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
    ValueError: if it is in another format; says which command converts it.
  """
  root = pathlib.Path(data_dir).expanduser()
  versions = list((root / name).glob("[0-9]*/dataset_info.json"))
  if not versions:
    raise FileNotFoundError(
        f"no data set {name!r} in {root}: prepare it with `python -m"
        f" scripts.prepare_data {name} --data_dir={data_dir}`."
    )
  newest = max(versions, key=lambda path: tfds.core.Version(path.parent.name))
  # A decorator hides the function's arguments from type checkers.
  open_builder: Any = read_only_builder.builder_from_directory
  builder = open_builder(newest.parent)
  file_format = builder.info.file_format.value
  if file_format != "array_record":
    raise ValueError(
        f"{newest.parent} holds {file_format} files, which cannot be read by"
        " index: `pip install -e '.[tensorflow]'` and `tfds convert_format"
        f" --dataset_dir={newest.parent} --out_file_format=array_record` make"
        " files that can"
    )
  return builder.as_data_source(split)


def train(
    source: Any,
    steps: Sequence[Step],
    *,
    batch_size: int,
    seed: int,
    shard: Shard,
    num_workers: int = 0,
) -> grain.IterDataset:
  """Endless batches, in a new order every epoch.

  Args:
    source: examples, by index; or a MapDataset that is endless and shuffled.
    steps: what to do with each of them.
    batch_size: rows of a batch over all processes.
    seed: of the order and of the steps' random numbers.
    shard: which rows of each batch are this process's.
    num_workers: processes that prepare batches; 0: threads of this one.

  Returns:
    this process's rows of every batch, which iterate from any saved state.

  Raises:
    ValueError: if the processes do not divide the batch.
  """
  examples = source
  if not isinstance(source, grain.MapDataset):
    examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  batches = _batches(_apply(examples, steps), batch_size, shard)
  if not num_workers:
    return batches.to_iter_dataset(_AHEAD)
  options = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=2)
  return batches.to_iter_dataset(_AHEAD).mp_prefetch(options)


def evaluation(
    source: Any,
    steps: Sequence[Step],
    *,
    batch_size: int,
    shard: Shard,
) -> grain.IterDataset:
  """One pass, in order; rows that only fill the last batch are not "real".

  Args and Raises: as `train`. The steps' random numbers are the same each time.
  """
  padded = _Padded(source, batch_size)
  examples = _apply(grain.MapDataset.source(padded).seed(0), steps)
  examples = examples.map_with_index(
      lambda i, example: {**example, "real": np.bool_(i < padded.num_real)}
  )
  return _batches(examples, batch_size, shard).to_iter_dataset(_AHEAD)


# Batches that are prepared ahead; each may be large, so there are few.
_AHEAD = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)


class _Padded:
  """A source whose last example repeats until batches are full."""

  def __init__(self, source: Any, batch_size: int):
    self.num_real = len(source)
    self._source = source
    self._length = -(-len(source) // batch_size) * batch_size

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> Example:
    return self._source[min(index, self.num_real - 1)]


def _apply(
    examples: grain.MapDataset, steps: Sequence[Step]
) -> grain.MapDataset:
  for step in steps:
    examples = examples.random_map(step)
  return examples


def _batches(
    examples: grain.MapDataset, batch_size: int, shard: Shard
) -> grain.MapDataset:
  """Every batch cut into consecutive parts, of which this process has one."""
  if batch_size % shard.count:
    raise ValueError(
        f"batch_size {batch_size} does not divide among {shard.count} processes"
    )
  parts = examples.batch(batch_size // shard.count)
  return parts.slice(slice(shard.index, None, shard.count))
