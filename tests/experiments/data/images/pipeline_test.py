"""Images from files to batches: mixed, and without those that are broken."""

import logging

import cv2
import numpy as np
import pytest

from experiments.data import pipeline
from experiments.data.images import augment
from experiments.data.images import image
from experiments.data.images import mixing
from experiments.data.pipeline import Shard

SIZE = 11


class Images:
  """Images of which some are broken; the label is the number."""

  def __init__(self, length, broken=()):
    self._length, self._broken = length, broken

  def __len__(self):
    return self._length

  def __getitem__(self, i):
    if i in self._broken:
      return {"image": b"", "label": np.int32(i), "file": f"{i}.jpg"}
    pixels = np.random.default_rng(i).integers(256, size=(23, 29, 3))
    content = cv2.imencode(".jpg", pixels.astype(np.uint8))[1].tobytes()
    return {"image": content, "label": np.int32(i), "file": f"{i}.jpg"}


def batches(count=3, broken=(), shard=None, **settings):
  settings = {
      "mix": mixing.Mix(),
      "skip": image.ImageError,
      "batch_size": 6,
      "seed": 3,
      "shard": shard or Shard(),
      **settings,
  }
  steps = augment.train_steps(SIZE, num_layers=2, magnitude=1.0)
  iterator = iter(pipeline.train(Images(31, broken), steps, **settings))
  return [next(iterator) for _ in range(count)]


def assert_equal(some, others):
  for one, other in zip(some, others, strict=True):
    assert one.keys() == other.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], other[key])


def test_a_batch_has_all_that_a_mixed_loss_needs():
  (batch,) = batches(1)
  found = {key: (x.shape, x.dtype) for key, x in batch.items()}
  assert found == {
      "image": ((6, SIZE, SIZE, 3), np.float32),
      "label": ((6,), np.int32),
      "mix_label": ((6,), np.int32),
      "ratio": ((6,), np.float32),
      "skipped": ((6,), np.int32),
  }


def test_an_epoch_of_pairs_has_every_image_once():
  # 31 images are 15.5 pairs: two epochs are 31.
  every = batches(31 // 6 + 1)
  labels = np.stack(
      [
          np.concatenate([batch[key] for batch in every])
          for key in ("label", "mix_label")
      ],
      axis=1,
  ).ravel()
  assert sorted(labels[:31]) == list(range(31))
  assert sorted(labels[31:62]) == list(range(31))


BROKEN = (2, 3, 5, 7, 11, 13)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_together_have_the_rows_of_one(count):
  whole = batches(broken=BROKEN)
  parts = [batches(broken=BROKEN, shard=Shard(i, count)) for i in range(count)]
  together = [
      {key: np.concatenate([p[key] for p in step]) for key in step[0]}
      for step in zip(*parts, strict=True)
  ]
  assert_equal(whole, together)


@pytest.mark.parametrize("count, num_workers", [(1, 0), (2, 0), (3, 1)])
def test_mixed_and_replaced_images_are_the_same_from_any_batch_on(
    count, num_workers
):
  whole = batches(4, broken=BROKEN)
  assert any(batch["skipped"].any() for batch in whole[2:])
  last = slice(6 * (count - 1) // count, None)  # The last process's rows.
  expected = [{key: x[last] for key, x in b.items()} for b in whole[2:]]
  shard = Shard(count - 1, count, first=2)
  found = batches(2, broken=BROKEN, shard=shard, num_workers=num_workers)
  assert_equal(expected, found)


def test_worker_processes_change_nothing():
  whole = batches(2, broken=BROKEN)
  assert_equal(whole, batches(2, broken=BROKEN, num_workers=1))


@pytest.mark.parametrize("mix", [None, mixing.Mix()])
def test_broken_images_are_replaced_counted_and_named(mix, caplog):
  with caplog.at_level(logging.WARNING):
    every = batches(11, broken=BROKEN, mix=mix)
  labels = [batch["label"] for batch in every]
  labels += [batch["mix_label"] for batch in every if mix]
  labels = np.concatenate(labels)
  assert not set(BROKEN) & set(labels) and len(set(labels)) > 20
  skipped = sum(batch["skipped"].sum() for batch in every)
  assert skipped >= 6  # More than one epoch has them all.
  assert any("5.jpg holds no image" in m for m in caplog.messages)


def test_what_is_not_broken_stays_where_it_was():
  without = batches(mix=None)
  some = batches(broken=BROKEN, mix=None)
  for one, other in zip(without, some, strict=True):
    same = other["skipped"] == 0
    assert (same == ~np.isin(one["label"], BROKEN)).all()
    np.testing.assert_array_equal(one["image"][same], other["image"][same])
  assert any(batch["skipped"].any() for batch in some)


def test_a_set_of_broken_images_ends_training():
  with pytest.raises(image.ImageError, match=r"\d+.jpg holds no image"):
    batches(1, broken=range(31))


def test_a_broken_image_ends_training_that_does_not_skip():
  with pytest.raises(image.ImageError, match=r"\d+.jpg holds no image"):
    batches(11, broken=BROKEN, skip=None)


def test_a_broken_image_ends_an_evaluation():
  evaluated = pipeline.evaluation(
      Images(13, [5]),
      augment.eval_steps(SIZE),
      batch_size=4,
      shard=Shard(),
  )
  with pytest.raises(image.ImageError, match="5.jpg holds no image"):
    list(evaluated)
