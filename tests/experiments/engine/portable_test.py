"""Exported models: in a process that has only JAX, they say the same."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.engine import build
from experiments.engine import portable
from experiments.engine import settings
from experiments.engine import weights
from experiments.engine.errors import UserError
from tests.conftest import ENVIRONMENT

pytest.importorskip("flatbuffers")
CONFIGS = (
    "quickstart:mini",
    "imagenet:tiny",
    "imagenet:mini_conv",
    "imagenet:mini_learned",
    "imagenet:mini_repeated",
    "mlm:tiny",
    "autoregression:tiny",
    "glue:mini_multitask_task_tokens",
    "flow:tiny",
    "kinetics:tiny",
    "audioset:tiny_mel",
    "modelnet40:tiny",
    "starcraft:tiny",
)
# What a reader without this project writes.
READER = """
import json, sys
import jax
import numpy as np
forward = jax.export.deserialize(open("forward.jax", "rb").read())
weights = dict(np.load("weights.npz"))
del weights["config.json"]
for size in json.loads(sys.argv[1]):
  outputs = forward.call(weights, dict(np.load(f"batch-{size}.npz")))
  np.savez(f"outputs-{size}.npz", **outputs)
ours = ("perceiver", "experiments", "haiku", "optax", "orbax", "grain")
print(json.dumps([name for name in ours if name in sys.modules]))
"""


def batch_of(network, size):
  """Examples of random numbers."""
  rng = np.random.default_rng(size)
  draw = {
      "f": lambda x: rng.normal(size=(size, *x.shape)),
      "i": lambda x: rng.integers(0, 3, (size, *x.shape)),
      "b": lambda x: rng.integers(0, 2, (size, *x.shape)),
      "u": lambda x: rng.integers(0, 255, (size, *x.shape)),
  }
  return {
      name: draw[x.dtype.kind](x).astype(x.dtype)
      for name, x in network.example.items()
  }


@pytest.mark.parametrize("name", ["imagenet:tiny", "mlm:tiny"])
def test_a_process_with_jax_alone_computes_the_same(name, tmp_path):
  read = weights.random(settings.load(name))
  lines = portable.save(tmp_path, read)
  assert lines[1].startswith("out: logits float32[b, ")
  sizes = [1, 3]
  for size in sizes:
    np.savez(tmp_path / f"batch-{size}.npz", **batch_of(read.network, size))
  done = subprocess.run(
      [sys.executable, "-c", READER, json.dumps(sizes)],
      cwd=tmp_path,
      env={**ENVIRONMENT, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == []
  for size in sizes:  # Compiled here or there, sums are of another order.
    expected = read.outputs(batch_of(read.network, size))["logits"]
    found = np.load(tmp_path / f"outputs-{size}.npz")["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  # The weights are one of our files.
  assert weights.load(tmp_path / "weights.npz").config == read.config


@pytest.mark.parametrize("name", CONFIGS)
def test_every_task_is_exported_for_any_number_of_examples(name):
  network = build.build_network(settings.load(name))
  exported = portable.program(network)
  assert set(exported.platforms) == set(portable.PLATFORMS)
  for shape in exported.out_avals:
    assert str(shape.shape[0]) == "b"
  (_, batch), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
  assert batch and batch.keys() <= network.example.keys()


@pytest.mark.parametrize("size", [None, 2])
def test_what_no_output_depends_on_is_no_input(size):
  network = build.build_network(settings.load("quickstart:mini"))
  assert "label" in network.example
  exported = portable.program(network, size)
  (_, batch), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
  assert list(batch) == ["image"]
  assert batch["image"].shape[1:] == (28, 28, 1)


def test_a_model_that_needs_its_number_of_examples_says_so(monkeypatch):
  network = build.build_network(settings.load("quickstart:mini"))
  apply = network.net.apply

  def needs_a_number(params, state, rng, batch, is_training):
    assert int(batch["image"].shape[0])
    return apply(params, state, rng, batch, is_training)

  net = network.net._replace(apply=needs_a_number)
  monkeypatch.setitem(network.__dict__, "net", net)
  with pytest.raises(UserError, match="any number of examples .* --batch_size"):
    portable.program(network)
  assert portable.program(network, 4).out_avals[0].shape[0] == 4
