"""docs/hyperparameters.md says what the configs are."""

import importlib
import re

import pytest

from experiments.engine import settings
from scripts.reproduce import flat
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "hyperparameters.md").read_text()
EVERYWHERE = "Everywhere"
# How it is computed, and not what.
NOT_HYPERPARAMETERS = ("chunk", "remat", "remat_policy", "unroll")
# A paper's experiment each: nothing of these is left out.
WHOLE = (
    "imagenet:fourier",
    "mlm:bytes",
    "flow:patches",
    "kinetics:latents_784",
    "audioset:raw",
    "starcraft:perceiver_io",
    "modelnet40:perceiver",
)


def read(expression):
  """A number, a tuple, True, None; or a name, which is a string."""
  try:
    return eval(expression, {"__builtins__": {}})
  except NameError:
    return expression


def sections():
  """By its config, or "Everywhere": (paper, where, setting, value) each."""
  found = {}
  for part in PAGE.split("\n## ")[1:]:
    title, _, body = part.partition("\n")
    config = re.search(r"`(.*)`", title)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in body.splitlines()
        if line.startswith("| ") and "paper or release" not in line
    ]
    found[config[1] if config else title] = [
        (paper, where, key, read(value.strip("`")))
        for _, paper, where, keys, value in rows
        for key in re.findall("`([^`]+)`", keys)
    ]
  return found


SECTIONS = sections()


def config_of(name):
  file, variant = name.split(":")
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  return flat(settings.complete(config).to_dict())


def same(one, other):
  is_text = isinstance(one, str) or one is None or other is None
  if is_text or one == other:
    return one == other
  return one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize("name", [n for n in SECTIONS if n != EVERYWHERE])
def test_the_page_has_the_values_of_the_config(name):
  config = config_of(name)
  for _, _, key, value in SECTIONS[name]:
    assert key in config, key
    assert same(config[key], value), (key, config[key], value)


@pytest.mark.parametrize("name", WHOLE)
def test_what_a_section_leaves_out_is_as_everywhere(name):
  own = {key for _, _, key, _ in SECTIONS[name]}
  usual = {key: value for _, _, key, value in SECTIONS[EVERYWHERE]}
  named = {"batch_size", "train_examples", "max_grad_norm"}
  for key, value in config_of(name).items():
    section, last = key.split(".")[0], key.split(".")[-1]
    if section not in ("model", "optimizer", "schedule") and key not in named:
      continue
    if last in NOT_HYPERPARAMETERS or key in own:
      continue
    if value is None or last == "name" and section == "model":
      continue  # The module's default; which kind of model it is.
    if last == "time_resolution":
      continue  # Of separate frames alone.
    key = key.replace("model.encode.", "model.")
    assert key in usual and same(usual[key], value), (key, value)


def test_what_nobody_says_is_assumed_and_nothing_else_is():
  for rows in SECTIONS.values():
    for paper, where, key, _ in rows:
      assert where, key
      assert paper.startswith("–") == (where == "assumed"), (key, paper, where)
