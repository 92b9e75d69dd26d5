"""Packages that only some tasks need, and what says so."""

import json
import subprocess
import sys
import textwrap

import pytest

from experiments.engine import command
from experiments.engine import declared
from experiments.engine import extras
from experiments.engine.errors import UserError
from tests.conftest import ENVIRONMENT
from tests.conftest import ROOT
from tests.packaging_test import given  # noqa: F401  A fixture.
from tests.packaging_test import names

INSTALLED_AS = {
    "kaldi_native_fbank": "kaldi-native-fbank",
    "skimage": "scikit-image",
}
OF_TASKS = ("text", "image", "video", "audio", "starcraft")
# What can be imported with an extra alone; with the first, most can.
IMPORTED = {
    "train": [
        "experiments.digits",
        "experiments.imagenet",
        "experiments.mlm",
        "experiments.glue",
        "experiments.autoregression",
        "experiments.modelnet40",
        "experiments.flow",
        "experiments.inference",
        "experiments.train",
        "scripts.prepare_data",
        "scripts.describe",
        "scripts.sweep",
    ],
    "video": ["experiments.kinetics"],
    "audio": ["experiments.audioset"],
    "starcraft": ["experiments.starcraft"],
}


def test_each_package_is_in_the_extras_that_are_named(given):  # noqa: F811
  known = given["extras_require"]
  for package, its in extras.EXTRAS_OF.items():
    for extra in its:
      assert INSTALLED_AS.get(package, package) in names(known[extra])
  for extra in OF_TASKS:
    assert names(known["train"]) < names(known[extra]) < names(known["all"])
  every = {name for extra in OF_TASKS for name in names(known[extra])}
  assert every == names(known["all"])
  # What only some have is in the table, so that its absence is explained.
  told = {INSTALLED_AS.get(package, package) for package in extras.EXTRAS_OF}
  special = every - names(known["train"])
  assert special - {"protobuf"} <= told  # Other packages require it, too.


def test_a_missing_package_is_told_with_its_extras(monkeypatch, capsys):
  error = ModuleNotFoundError("No module named 'av.error'", name="av.error")
  line = (
      "the package 'av' is not installed: pip install -e '.[video]' or"
      " '.[audio]', or '.[all]' for every task"
  )
  assert extras.missing(error) == line
  assert extras.missing(ModuleNotFoundError("x", name="jax")) is None
  with pytest.raises(SystemExit), command.one_line_errors():
    raise error
  assert capsys.readouterr().err == f"error: {line}\n"
  monkeypatch.setitem(sys.modules, "sc2reader.exceptions", None)
  for name in list(sys.modules):
    if name.startswith(("experiments.starcraft", "experiments.data.starcraft")):
      monkeypatch.delitem(sys.modules, name)
  with pytest.raises(UserError, match=r"'starcraft': the package 'sc2reader'"):
    declared.module("starcraft")


PROBE = textwrap.dedent("""
    import importlib.abc, importlib, json, sys

    class Blocked(importlib.abc.MetaPathFinder):
      names = ()
      def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in self.names:
          raise ModuleNotFoundError(name, name=name.partition(".")[0])

    blocked = Blocked()
    sys.meta_path.insert(0, blocked)
    packages, imported = map(json.loads, sys.argv[1:])
    for extra, modules in imported.items():
      blocked.names = [p for p, its in packages.items() if extra not in its]
      for name in modules:
        importlib.import_module(name)
""")


def test_each_task_is_imported_with_its_own_extra_alone():
  done = subprocess.run(
      [
          sys.executable,
          "-c",
          PROBE,
          json.dumps(extras.EXTRAS_OF),
          json.dumps(IMPORTED),
      ],
      cwd=ROOT,
      env=ENVIRONMENT,
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
