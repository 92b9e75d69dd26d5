"""Every setting of every config: its type, its default, and what it takes."""

import dataclasses
import importlib
import json
import typing

from ml_collections import ConfigDict
import pytest

from experiments.engine import optim
from experiments.engine import settings
from experiments.engine.errors import UserError
from perceiver import Decoder
from perceiver import Encoder
from perceiver import Processor
from tests.conftest import ROOT

CONFIGS = {
    path.stem: importlib.import_module(f"configs.{path.stem}")
    for path in sorted((ROOT / "configs").glob("*.py"))
}
CONFIGS = {n: m for n, m in CONFIGS.items() if hasattr(m, "VARIANTS")}


def leaves(config, prefix=""):
  """Dotted path -> value."""
  found = {}
  for key, value in config.items():
    if isinstance(value, dict | ConfigDict):
      found |= leaves(value, f"{prefix}{key}.")
    else:
      found[prefix + key] = value
  return found


def another(value, kind):
  """A value of the same type that is not the same."""
  for part in (kind, *typing.get_args(kind)):
    if typing.get_origin(part) is typing.Literal:
      return next(x for x in typing.get_args(part) if x != value)
  if isinstance(value, bool):
    return not value
  if isinstance(value, int | float):
    return value + 1
  if isinstance(value, str):
    others = ("shared", "per_task", "other")
    return next(x for x in others if x != value and fits(x, kind))
  if isinstance(value, tuple) and value:
    return (another(value[0], None), *value[1:])
  if value == ():
    return (3,) if "int" in repr(kind) else ("other",)
  return next(x for x in (3, 0.5, "per_task", (3, 4)) if fits(x, kind))


def fits(value, kind):
  """Whether a value is of a type."""
  if kind is None:
    return True
  try:
    settings._converted(value, kind, "")
  except UserError:
    return False
  return True


@pytest.mark.parametrize("name", CONFIGS)
def test_every_setting_of_every_config_can_be_set_as_text_and_as_a_value(name):
  seen = set()
  for variant in CONFIGS[name].VARIANTS:
    config = settings.load(f"{name}:{variant}")
    kinds = dict(settings.settable(config))
    assert kinds.keys() == leaves(config).keys()
    new = kinds.items() - seen  # Most variants have the same settings.
    seen |= kinds.items()
    for path, kind in new:
      if path != "task":
        check(config, path, kind)


def check(config, path, kind):
  """Sets one setting as a value and as a text, and to None if it may be."""
  before = leaves(config)
  sets = (f"sets.{key}" for key in config.get("sets", {}))
  # Without the other choice's settings, a choice cannot be changed alone.
  is_choice = path.endswith(".name") and path[:-5] not in ("train", *sets)
  value = before[path] if is_choice else another(before[path], kind)
  text = value if isinstance(value, str) else repr(value)
  expected = before | {path: value}
  assert leaves(settings.changed(config, {path: value})) == expected
  assert leaves(settings.changed(config, {path: text}, True)) == expected
  if type(None) in typing.get_args(kind):
    none = settings.changed(config, {path: "None"}, True)
    assert leaves(none) == before | {path: None}


@pytest.mark.parametrize(
    "name, path, target",
    [
        ("imagenet:fourier", "model.encoder", Encoder),
        ("imagenet:fourier", "model.processor", Processor),
        ("imagenet:fourier", "model.output.decoder", Decoder),
        ("mlm:bytes", "model.encoder", Encoder),
        ("starcraft:perceiver_io", "model.encode.decoder", Decoder),
    ],
)
def test_every_field_of_a_module_is_in_the_config_at_its_default(
    name, path, target
):
  given = leaves(
      importlib.import_module(f"configs.{name.partition(':')[0]}").get_config(
          name.partition(":")[2]
      )
  )
  section = settings.load(name)
  for part in path.split("."):
    section = section[part]
  fields = {f.name: f.default for f in dataclasses.fields(target)}
  del fields["name"]
  assert set(section) == fields.keys()
  for key, default in fields.items():
    if f"{path}.{key}" not in given:
      assert section[key] == default


def test_every_setting_of_the_optimizers_and_schedules_is_there():
  for option in optim.OPTIMIZERS:
    config = settings.load("imagenet:tiny", {"optimizer.name": option.__name__})
    if option.__name__ != "sgd":
      assert {"b1", "b2", "eps"} <= set(config.optimizer)
  changes = {"schedule.name": "warmup_cosine", "schedule.warmup": 1}
  config = settings.load("imagenet:tiny", changes)
  assert config.schedule.to_dict() == {
      "name": "warmup_cosine",
      "peak": 2e-3,
      "warmup": 1,
      "end": 0.0,
  }


def test_a_config_that_is_complete_stays_as_it_is():
  config = settings.load("flow:mini")
  assert settings.complete(config).to_dict() == config.to_dict()


def test_a_config_comes_back_from_json_with_tuples():
  config = settings.load("flow:mini")
  read = ConfigDict(json.loads(config.to_json()))
  assert settings.complete(read).to_dict() == config.to_dict()


def test_a_choice_drops_what_it_does_not_have_and_brings_its_defaults():
  changes = {"model.output.name": "average_and_project"}
  config = settings.load("imagenet:fourier", changes)
  assert config.model.output.to_dict() == {"name": "average_and_project"}
  config = settings.load("imagenet:fourier", {"optimizer.name": "adamw"})
  assert config.optimizer.eps == 1e-8
  assert config.optimizer.weight_decay == 0.1


@pytest.mark.parametrize(
    "name, changes, path, value",
    [
        ("mlm:bytes", {"corpora.zh": "0.5"}, "corpora.zh", 0.5),
        ("mlm:bytes", {"corpora.zh": "1"}, "corpora.zh", 1.0),
        (
            "imagenet:fourier",
            {"sets.mine.name": "mine", "sets.mine.split": "test"},
            "sets.mine.max_labels",
            None,
        ),
        (
            "imagenet:fourier",
            {"sets.mine": "{'name': 'mine', 'split': 'test'}"},
            "sets.mine.name",
            "mine",
        ),
        ("imagenet:fourier", {"evals": "test,real"}, "evals", ("test", "real")),
        ("imagenet:fourier", {"evals": "real"}, "evals", ("real",)),
        ("imagenet:fourier", {"image_size": "32,48"}, "image_size", (32, 48)),
        ("imagenet:fourier", {"max_grad_norm": "None"}, "max_grad_norm", None),
        (
            "imagenet:fourier",
            {"train_examples": "1e6"},
            "train_examples",
            10**6,
        ),
        ("imagenet:fourier", {"permuted": "true"}, "permuted", True),
        ("imagenet:fourier", {"mix": "{}"}, "mix", {}),
        ("imagenet:fourier", {"init.pretrained": ""}, "init.pretrained", ""),
        (
            "imagenet:fourier",
            {"init.pretrained": "12"},
            "init.pretrained",
            "12",
        ),
        ("flow:patches", {"augmentation.hue": "0"}, "augmentation.hue", 0.0),
        (
            "flow:mini",
            {"augmentation.erased_size": "(3, 5)"},
            "augmentation.erased_size",
            (3, 5),
        ),
        ("glue:cola", {"tasks.rte": "2"}, "tasks.rte", 2),
    ],
)
def test_what_is_written_on_a_command_line_becomes(name, changes, path, value):
  file, _, variant = name.partition(":")
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  found = settings.changed(config, changes, are_texts=True)
  for part in path.split("."):
    found = found[part]
  found = found.to_dict() if isinstance(found, ConfigDict) else found
  assert found == value
  assert type(found) is type(value)


@pytest.mark.parametrize(
    "path, text, error",
    [
        (
            "model.processor.rematt",
            "True",
            r"config.model.processor has no 'rematt' \(did you mean 'remat'.*"
            "; it has layers_per_block, num_blocks",
        ),
        ("modl.encoder.x", "1", r"config has no 'modl' \(did you mean 'model'"),
        (
            "model.input.name",
            "pixel",
            "'pixel' .*'pixels'.* of conv, learned",
        ),
        ("model.encoder.num_latents", "many", "'many': a whole number was"),
        ("model.encoder.num_latents", "1.5", "'1.5': a whole number was"),
        ("model.encoder.num_latents", "True", "'True': a whole number was"),
        ("model.encoder.qk_channels", "x", "a whole number or None was"),
        ("model.encoder", "3", "config.model.encoder is a section"),
        ("model.encoder", "{'num_latents': 3}", "lacks 'latent_channels'"),
        ("model.encoder.num_latents.x", "3", "no 'num_latents'|has no 'x'"),
        ("sets.mine.name", "mine", "config.sets.mine lacks 'split', a text"),
        ("model.output.num_classes", "3", "has no 'num_classes'"),
        ("schedule.steps", "3", "config.schedule has no 'steps'"),
        ("permuted", "3", "'3': True or False was expected"),
        ("image_size", "a,b", "a sequence, each a whole number was"),
        ("start.weights", "x", "start.weights is now config.init.pretr"),
        ("start.grids.a.dims", "3", "is now config.init.grids.a.dims"),
    ],
)
def test_what_cannot_be_set_is_told_in_one_line(path, text, error):
  config = importlib.import_module("configs.imagenet").get_config("fourier")
  with pytest.raises(UserError, match=error) as raised:
    settings.changed(config, {path: text}, are_texts=True)
  assert "\n" not in str(raised.value)


def test_configs_that_are_offered_are_those_of_tasks():
  with pytest.raises(UserError, match="there is no config") as raised:
    settings.load("configs/quickstrt.py")
  assert "did you mean 'configs/quickstart.py'" in str(raised.value)
  assert "configs/base.py" not in str(raised.value)


def test_a_config_with_a_key_that_nothing_reads_is_refused():
  config = importlib.import_module("configs.imagenet").get_config("fourier")
  config.model.encoder.num_latent = 3
  with pytest.raises(UserError, match="did you mean 'num_latents'"):
    settings.complete(config)


def test_a_task_that_is_not_there_is_told():
  config = importlib.import_module("configs.imagenet").get_config("fourier")
  config.task = "imagent"
  with pytest.raises(UserError, match="no experiments/imagent.py"):
    settings.complete(config)


@pytest.mark.parametrize(
    "name",
    ["flow:mini", "kinetics:tiny", "mlm:mini", "glue:custom", "autoregression"],
)
def test_a_config_with_old_names_of_settings_is_read(name):
  config = settings.load(name)
  old = json.loads(config.to_json())
  renamed = 0
  for before, now in settings.RENAMED.items():
    *sections, key = now.split(".")
    place = old
    for section in sections:
      place = place.get(section, {})
    if key not in place:
      continue
    value = place.pop(key)
    *sections, key = before.split(".")
    place = old
    for section in sections:
      place = place.setdefault(section, {})
    place[key] = value
    renamed += 1
  assert renamed > 6 and "start" in old
  old.pop("init", None)
  assert settings.complete(ConfigDict(old)) == config
