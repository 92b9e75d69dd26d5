"""Order, shards and padding of the input pipelines."""

import functools
import json
import shutil

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from experiments.data import pipeline
from experiments.data.pipeline import Shard


class Numbers:
  """A source whose example i holds i."""

  def __init__(self, length):
    self._length = length

  def __len__(self):
    return self._length

  def __getitem__(self, i):
    return {"i": np.int32(i)}


def noisy(example, rng):
  return {**example, "noise": rng.integers(10**9)}


def train_batches(count, shard=None, **changes):
  settings = {"batch_size": 6, "seed": 3, "shard": shard or Shard(), **changes}
  batches = iter(pipeline.train(Numbers(13), [noisy], **settings))
  return [next(batches) for _ in range(count)]


def rows(batches, key="i"):
  return np.concatenate([batch[key] for batch in batches]).tolist()


# What steps drew when this was recorded. Runs that were published drew so too.
FIRST = [187, 480, 678, 143, 661, 661]
SECOND = [758, 666, 832, 330, 25, 877]
MIXED = [57, 335, 701, 655, 903, 671]
EVALUATED = {
    "first": [822, 869, 239, 787, 970, 384],
    "second": [94, 519, 402, 242, 495, 512],
}


def drawn(example, rng, key):
  return {**example, key: rng.integers(1000)}


def twice(example):
  return {**example, "twice": 2 * example["i"]}


def twice_with_rng(example, rng):
  del rng
  return twice(example)


def times(example, factor):
  return {**example, "twice": factor * example["i"]}


class Times:

  def __call__(self, example):
    return times(example, 2)


def second_of(example, rng):
  return {**example["pair"][1], "mixed": rng.integers(1000)}


WITHOUT_RNG = {
    "a function": twice,
    "a function that takes an rng": twice_with_rng,
    "a partial function": functools.partial(times, factor=2),
    "a callable object": Times(),
    "one step of several": pipeline.in_turn([twice]),
}


@pytest.mark.parametrize("kind", WITHOUT_RNG)
def test_random_numbers_are_those_that_published_runs_had_beside(kind):
  first, second = (
      functools.partial(drawn, key=key) for key in ("first", "second")
  )
  steps = [first, WITHOUT_RNG[kind], second]
  settings = {"batch_size": 6, "shard": Shard()}
  batches = pipeline.train(
      Numbers(13), steps, **settings, seed=3, mix=second_of
  )
  batch = next(iter(batches))
  assert batch["i"].tolist() == [6, 7, 3, 12, 0, 8]
  assert batch["twice"].tolist() == [12, 14, 6, 24, 0, 16]
  assert batch["first"].tolist() == FIRST
  assert batch["second"].tolist() == SECOND
  assert batch["mixed"].tolist() == MIXED
  batch = next(iter(pipeline.evaluation(Numbers(13), steps, **settings)))
  for key, expected in EVALUATED.items():
    assert batch[key].tolist() == expected


class TrainTest(parameterized.TestCase):

  def test_an_epoch_has_every_example_once_and_the_next_another_order(self):
    order = rows(train_batches(13))  # Six epochs of 13.
    epochs = [order[i : i + 13] for i in range(0, 78, 13)]
    for epoch in epochs:
      self.assertEqual(sorted(epoch), list(range(13)))
    self.assertLen({tuple(epoch) for epoch in epochs}, 6)

  def test_the_seed_decides_and_nothing_else(self):
    self.assertEqual(rows(train_batches(5)), rows(train_batches(5)))
    self.assertNotEqual(rows(train_batches(5)), rows(train_batches(5, seed=4)))

  def test_noise_differs_from_epoch_to_epoch_and_repeats_with_the_seed(self):
    batches = train_batches(13)
    pairs = list(zip(rows(batches), rows(batches, "noise"), strict=True))
    self.assertLen(set(pairs), 78)
    self.assertEqual(rows(batches, "noise"), rows(train_batches(13), "noise"))

  @parameterized.parameters(2, 3)
  def test_processes_together_read_the_rows_of_one(self, count):
    whole = train_batches(5)
    parts = [train_batches(5, Shard(i, count)) for i in range(count)]
    for key in ("i", "noise"):
      for step in range(5):
        together = np.concatenate([part[step][key] for part in parts])
        np.testing.assert_array_equal(together, whole[step][key])

  def test_worker_processes_change_nothing(self):
    np.testing.assert_array_equal(
        rows(train_batches(5)), rows(train_batches(5, num_workers=2))
    )

  @parameterized.parameters((1, 0), (2, 0), (4, 0), (1, 2), (2, 2))
  def test_from_any_batch_on_they_are_those_that_follow(
      self, count, num_workers
  ):
    for index in range(count):
      batches = train_batches(8, Shard(index, count), batch_size=12)
      shard = Shard(index, count, first=5)
      rest = train_batches(3, shard, batch_size=12, num_workers=num_workers)
      for key in ("i", "noise"):
        self.assertEqual(rows(rest, key), rows(batches[5:], key))

  def test_an_epoch_read_by_ever_other_processes_has_every_example_once(self):
    # (first batch, batches, processes, workers of each).
    parts = [(0, 2, 1, 0), (2, 3, 4, 0), (5, 1, 2, 2), (6, 7, 3, 0)]
    order = []
    for first, batches, count, num_workers in parts:
      read = [
          train_batches(
              batches,
              Shard(index, count, first),
              batch_size=12,
              num_workers=num_workers,
          )
          for index in range(count)
      ]
      for step in zip(*read, strict=True):
        order += rows(step)
    for epoch in range(12):
      self.assertEqual(
          sorted(order[13 * epoch : 13 * (epoch + 1)]), list(range(13))
      )

  def test_processes_that_do_not_divide_the_batch_are_refused(self):
    with self.assertRaisesRegex(ValueError, "6 does not divide among 4"):
      train_batches(1, Shard(0, 4))

  @parameterized.parameters((1, 1), (2, 2), (4, 4), (8, 8), (8, 4))
  def test_processes_may_have_a_row_each(self, batch_size, count):
    whole = rows(train_batches(3, batch_size=batch_size))
    parts = [
        train_batches(3, Shard(i, count), batch_size=batch_size)
        for i in range(count)
    ]
    together = [rows(batches) for batches in zip(*parts, strict=True)]
    self.assertEqual(sum(together, []), whole)


class EvaluationTest(parameterized.TestCase):

  @parameterized.product(
      batch_size=[1, 2, 6, 26], shards=[(1, 1), (1, 3), (2, 2), (3, 12)]
  )
  def test_every_example_is_real_exactly_once_and_in_order(
      self, batch_size, shards
  ):
    processes, devices = shards
    parts = [
        list(
            pipeline.evaluation(
                Numbers(13),
                [noisy],
                batch_size=batch_size,
                shard=Shard(i, processes, parts=devices),
            )
        )
        for i in range(processes)
    ]
    self.assertLen({len(part) for part in parts}, 1)  # As many batches each.
    seen, noise = [], []
    for batches in zip(*parts, strict=True):
      for batch in batches:
        # No more than it takes.
        self.assertLen(
            batch["i"], -(-batch_size // devices) * devices // processes
        )
        seen += batch["i"][batch["real"]].tolist()
        noise += batch["noise"][batch["real"]].tolist()
    self.assertEqual(seen, list(range(13)))
    (whole,) = pipeline.evaluation(
        Numbers(13), [noisy], batch_size=13, shard=Shard()
    )
    self.assertEqual(noise, whole["noise"].tolist())

  @parameterized.parameters(1, 2, 13, 60, 1000)
  def test_scattered_examples_are_from_all_over_the_set(self, length):
    settings = {"batch_size": 4, "shard": Shard()}
    batches = list(
        pipeline.evaluation(
            Numbers(length), [noisy], scattered=True, **settings
        )
    )
    order = [i for b in batches for i in b["i"][b["real"]].tolist()]
    self.assertEqual(sorted(order), list(range(length)))
    if length >= 60:  # Of each half, quarter and eighth of the set.
      self.assertLen({8 * i // length for i in order[:16]}, 8)
    straight = pipeline.evaluation(Numbers(length), [noisy], **settings)
    whole = np.concatenate([b["noise"][b["real"]] for b in straight])
    noise = np.concatenate([b["noise"][b["real"]] for b in batches])
    np.testing.assert_array_equal(noise, whole[order])


class SourceTest(absltest.TestCase):

  def test_a_missing_data_set_names_the_command_that_prepares_it(self):
    with self.assertRaisesRegex(
        FileNotFoundError, "scripts.prepare_data digits --data_dir=/nowhere"
    ):
      pipeline.source("digits", "train", "/nowhere")


def test_the_digits_are_split_by_class_and_never_shared(data_dir):
  train = pipeline.source("digits", "train", data_dir)
  test = pipeline.source("digits", "test", data_dir)
  assert len(train) == 4000 and len(test) == 1000
  labels = [test[i]["label"] for i in range(1000)]
  assert np.bincount(labels).tolist() == [100] * 10
  images = {train[i]["image"].tobytes() for i in range(4000)}
  assert not any(test[i]["image"].tobytes() in images for i in range(1000))


def test_files_that_cannot_be_read_by_index_name_the_converter(
    data_dir, tmp_path
):
  shutil.copytree(f"{data_dir}/digits", tmp_path / "digits")
  (info,) = tmp_path.glob("digits/*/dataset_info.json")
  changed = json.loads(info.read_text()) | {"fileFormat": "tfrecord"}
  info.write_text(json.dumps(changed))
  with pytest.raises(ValueError, match="tfds convert_format --dataset_dir"):
    pipeline.source("digits", "train", str(tmp_path))


if __name__ == "__main__":
  absltest.main()
