"""Classification of images, from files to percents."""

import shutil
from unittest import mock

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet as configs
from experiments import imagenet
from experiments.data.pipeline import Shard
from experiments.engine import initialisation
from experiments.engine import weights
from experiments.engine.build import build
from experiments.engine.build import build_network
from experiments.engine.build import fitted
from experiments.engine.errors import UserError
from experiments.train import check_batch

CLASSES, IMAGES = 11, 5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  """A folder with a few pictures of each class."""
  root = tmp_path_factory.mktemp("pictures")
  rng = np.random.default_rng(3)
  for split in ("train", "validation"):
    for label in range(CLASSES):
      folder = root / "imagenet2012" / split / f"n{label:08}"
      folder.mkdir(parents=True)
      for i in range(IMAGES):
        picture = rng.integers(0, 255, [31 + i, 37, 3], np.uint8)
        cv2.imwrite(str(folder / f"{i}.JPEG"), picture)
  return root


def tiny(pictures, **changes):
  config = configs.get_config("tiny")
  config.data_dir = str(pictures)
  config.update_from_flattened_dict(changes)
  return config


def batch_of(config, name="test"):
  task = build(config).task
  return next(iter(task.evals[name].data(Shard())))


def test_a_step_of_training_reads_mixed_pictures(pictures):
  built = build(tiny(pictures))
  batch = next(iter(built.task.train_data(Shard())))
  check_batch(batch, built.task.example)
  assert 0 < batch["ratio"].min() and batch["ratio"].max() <= 1
  state = built.initial_state()
  batch = {name: batch[name] for name in built.task.example}
  after, scalars = built.train_step()(state, jax.tree.map(jnp.asarray, batch))
  assert np.isfinite(scalars["loss"]) and 0 <= scalars["top1"] <= 100
  assert int(after.step) == 1


def test_without_mixing_there_is_one_label(pictures):
  config = tiny(pictures)
  config.mix = {}
  built = build(config)
  batch = next(iter(built.task.train_data(Shard())))
  check_batch(batch, built.task.example)
  assert "ratio" not in batch


def test_evaluation_sees_every_picture_once(pictures):
  task = build(tiny(pictures)).task
  real = [batch["real"] for batch in task.evals["test"].data(Shard())]
  assert np.concatenate(real).sum() == CLASSES * IMAGES


def own(pictures, **changes):
  """A config for a folder of three classes of ten images, without splits."""
  for kind in ("owl", "cat", "dog"):
    folder = pictures / "mine" / kind
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(10):
      level = np.full([31, 37, 3], 8 * i, np.uint8)
      cv2.imwrite(str(folder / f"{i}.png"), level)
  config = configs.get_config("mini")
  config.data_dir, config.train.name = str(pictures), "mine"
  config.update_from_flattened_dict(changes)
  return config


def test_of_a_folder_the_classes_are_counted_and_a_part_is_held_out(tmp_path):
  config, notes = fitted(own(tmp_path))
  assert config.num_classes == 3
  assert config.class_names == ("cat", "dog", "owl")
  assert notes == [
      "mine: 3 classes: cat, dog, owl",
      "mine has no validation or test set of these classes: train[90%:], a"
      " tenth of its training set, is held out and evaluated",
  ]
  parts = [
      {file for _, _, file in map(part.images.__getitem__, range(len(part)))}
      for part in (
          imagenet.images(config, **config.train),
          imagenet.images(config, **config.sets["test"]),
      )
  ]
  assert [len(part) for part in parts] == [27, 3] and not parts[0] & parts[1]
  assert fitted(config)[0].to_dict() == config.to_dict()


def test_one_class_is_refused(tmp_path):
  config = own(tmp_path)
  for kind in ("cat", "dog"):
    shutil.rmtree(tmp_path / "mine" / kind)
  with pytest.raises(UserError, match="mine has one class, owl: folders of"):
    fitted(config)


def test_a_test_set_without_labels_is_not_evaluated(tmp_path):
  config = own(tmp_path)
  (tmp_path / "mine").rename(tmp_path / "train")
  (tmp_path / "mine/test").mkdir(parents=True)
  (tmp_path / "train").rename(tmp_path / "mine/train")
  picture = (tmp_path / "mine/train/owl/0.png").read_bytes()
  (tmp_path / "mine/test/1.png").write_bytes(picture)
  assert fitted(config)[0].sets["test"].split == "train[90%:]"
  (tmp_path / "mine/test/labels.csv").write_text("1.png,owl\n")
  assert fitted(config)[0].sets["test"].split == "test"


def test_a_test_set_that_is_there_is_evaluated(pictures):
  config = configs.get_config("mini")
  config.data_dir, config.train.name = str(pictures), "imagenet2012"
  config.classes = (2, 0)
  config, _ = fitted(config)
  assert config.class_names == ("n00000002", "n00000000")
  assert config.num_classes == 2 and config.train.split == "train"
  assert config.sets["test"].to_dict() == {
      "name": "imagenet2012",
      "split": "validation",
      "max_labels": None,
  }


def test_a_warm_up_that_is_longer_than_the_run_is_shortened(tmp_path):
  config, notes = fitted(own(tmp_path, train_examples=50 * 64))
  assert config.schedule.warmup == 5
  assert notes[-1] == (
      "schedule.warmup is 5 steps instead of 100: the run has 50"
  )


def test_pictures_are_shown_with_the_names_of_their_classes(monkeypatch):
  titles = []

  def sixteen(count, show, title=""):
    del title
    ax = mock.Mock()
    for i in range(count):
      show(ax, i)
    titles.extend(call.args[0] for call in ax.set_title.call_args_list)

  monkeypatch.setattr("experiments.engine.figures.sixteen", sixteen)
  batch = {
      "image": np.zeros([2, 3, 3, 3]),
      "label": np.array([1, 0]),
      "real": np.ones(2, bool),
  }
  logits = np.array([[0, 1], [0, 1]])
  imagenet.draw({"logits": logits}, batch, ("cat", "owl"))
  imagenet.draw_input(batch, ("cat", "owl"))
  imagenet.draw_input(batch)
  assert titles == [
      "owl → owl 73%",
      "cat → owl 73%",
      "owl",
      "cat",
      "1",
      "0",
  ]


def test_some_classes_are_counted_from_0(pictures):
  config = tiny(pictures, classes=(7, 2), num_classes=2)
  labels = [
      batch["label"][batch["real"]]
      for batch in build(config).task.evals["test"].data(Shard())
  ]
  assert np.bincount(np.concatenate(labels)).tolist() == [IMAGES, IMAGES]


def test_of_several_labels_one_counts_and_without_any_an_image_does_not():
  logits = jnp.array([[0.0, 3.0, 2.0], [3.0, 0.0, 1.0], [3.0, 2.0, 1.0]])
  logits = jnp.pad(logits, [(0, 0), (0, 3)], constant_values=-1.0)
  labels = jnp.array([[2, 1], [1, -1], [-1, -1]])
  measured = imagenet.measure({"logits": logits}, {"labels": labels})
  measured = jax.tree.map(np.asarray, measured)
  assert imagenet.summarize(measured) == {"top1": 50, "top5": 100}
  of_none = {name: values[2:] for name, values in measured.items()}
  assert np.isnan(imagenet.summarize(of_none)["top1"])


@pytest.mark.parametrize(("classes", "has"), [(5, False), (6, True)])
def test_the_best_five_are_asked_for_where_there_are_more(classes, has):
  outputs = {"logits": jnp.zeros([3, classes])}
  measured = imagenet.measure(outputs, {"label": jnp.arange(3)})
  assert ("top5" in measured) == has
  measured = jax.tree.map(np.asarray, measured)
  assert ("top5" in imagenet.summarize(measured)) == has


def test_names_of_classes_stay_with_runs_that_count_none(pictures):
  config = tiny(pictures)
  assert not config.count_classes and not config.class_names
  names = tuple(f"n{i:08}" for i in range(config.num_classes))
  assert fitted(config)[0].class_names == names
  some = tiny(pictures, classes=(7, 2), num_classes=2)
  assert fitted(some)[0].class_names == ("n00000007", "n00000002")
  # Where it is only evaluated, and where nothing is.
  some.train.name = "elsewhere"
  assert fitted(some)[0].class_names == ("n00000007", "n00000002")
  some.data_dir = "/nowhere"
  assert not fitted(some)[0].class_names


def test_the_loss_of_several_labels_asks_for_each_class():
  logits = jnp.array([[0.0, 3.0, -2.0]])
  batch = {"labels": jnp.array([[2, 1, -1]]), "skipped": jnp.array([2])}
  value, told = imagenet.loss({"logits": logits}, batch, smoothing=0.1)
  assert told == {"skipped_images": 2}
  expected = np.log(2) + np.log1p(np.exp(-3.0)) + np.log1p(np.exp(2.0))
  np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_loss_of_a_mixture_is_that_of_both_labels():
  logits = jnp.array([[0.5, 3.0, -2.0, 1.0]])
  batch = {
      "label": jnp.array([2]),
      "mix_label": jnp.array([1]),
      "ratio": jnp.array([0.7]),
      "skipped": jnp.array([0]),
  }
  value, _ = imagenet.loss({"logits": logits}, batch, smoothing=0.2)
  targets = 0.8 * np.array([0, 0.3, 0.7, 0]) + 0.05
  expected = -(targets * np.asarray(jax.nn.log_softmax(logits[0]))).sum()
  np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param("tiny", marks=pytest.mark.slow),
        "mini_learned",
        "mini_conv",
    ],
)
def test_permuted_elements_matter_to_a_convolution_alone(variant):
  config = configs.get_config(variant)
  image = jax.random.normal(jax.random.key(1), (2, *config.image_size, 3))
  plain = build_network(config)
  params, state = jax.jit(plain.init)()
  outputs = []
  for permuted in (False, True):
    config.permuted = permuted
    net = build_network(config).net
    found, _ = jax.jit(lambda *x, net=net: net.apply(*x, False))(
        params, state, jax.random.key(0), {"image": image}
    )
    outputs.append(np.asarray(found["logits"]))
  same = np.allclose(*outputs, atol=1e-4)
  assert same == (variant != "mini_conv")


def test_only_square_images_are_cut(pictures):
  with pytest.raises(Exception, match="14 x 22"):
    build(tiny(pictures, image_size=(14, 22)))


def test_pictures_show_the_label_and_the_answer(pictures):
  batch = batch_of(tiny(pictures))
  logits = np.eye(CLASSES)[batch["label"]]
  drawn = imagenet.draw({"logits": logits}, batch)
  assert drawn["predictions"].shape == (1000, 1000, 3)
  task = build(tiny(pictures)).task
  drawn = task.draw(next(iter(task.train_data(Shard()))))
  assert drawn["input"].shape == (1000, 1000, 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A file with the weights of a tiny classifier of 11 classes."""
  config = configs.get_config("tiny")
  config.model.input = {"name": "conv", "channels": 16, "num_bands": 3}
  read = weights.random(config)
  file = tmp_path_factory.mktemp("trained") / "tiny.npz"
  weights.save(file, read.config, read.model)
  return file


def finetuned(pictures, file, **changes):
  """The config that fine-tunes a file on the three classes of `own`."""
  own(pictures)
  config = configs.get_config("finetune")
  config.folder, config.init.pretrained = str(pictures / "mine"), str(file)
  config.update_from_flattened_dict(changes)
  return config


def test_a_folder_and_weights_are_all_that_fine_tuning_needs(tmp_path, trained):
  config, notes = fitted(finetuned(tmp_path, trained, batch_size=4))
  assert config.model.input.name == "conv"  # Not the variant's own.
  assert config.image_size == (14, 14) and config.num_classes == 3
  assert config.data_dir == str(tmp_path) and config.train.name == "mine"
  assert config.train.split == "train[:90%]"
  assert f"the model is that of {trained}: input 'conv', images of 14 x 14" in (
      notes[0]
  )
  built = build(config)
  found = initialisation.given(built)
  assert "initialised here: logits/b, logits/w" in found.notes[0]
  assert initialisation.initial_state(built, found, notes.append)
  # What a run has written needs the weights no more.
  config.init.pretrained = "/nowhere.npz"
  assert fitted(config)[0].to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"folder": ""}, "--config.folder=FOLDER is missing"),
        (
            {"folder": "/nowhere/mine"},
            "=/nowhere/mine: .* it is not there",
        ),
        ({"init.pretrained": ""}, "--config.init.pretrained=FILE"),
        ({"init.pretrained": "/nowhere.npz"}, "/nowhere.npz: there is no such"),
    ],
)
def test_what_fine_tuning_lacks_is_said(tmp_path, trained, changes, error):
  with pytest.raises((UserError, FileNotFoundError), match=error):
    fitted(finetuned(tmp_path, trained, **changes))


def test_weights_that_do_not_say_their_model_are_refused(tmp_path):
  file = tmp_path / "model.safetensors"
  file.write_bytes(b"")
  with pytest.raises(UserError, match="convert_weights --weights=.*writes"):
    fitted(finetuned(tmp_path, file))


def test_any_variant_takes_a_folder(tmp_path):
  config = own(tmp_path)
  folder = tmp_path / "mine"
  config = configs.get_config("tiny")
  config.folder = str(folder)
  config, _ = fitted(config)
  assert config.num_classes == 3 and config.sets["test"].name == "mine"
  assert config.sets["test"].split == "train[90%:]"
