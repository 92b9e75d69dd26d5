"""The command that converts weights."""

import pickle

import jax
import numpy as np
import pytest

from configs import imagenet
from experiments.engine import weights
from perceiver.weights import deepmind
from perceiver.weights import tensors
from tests.conftest import Command

CONVERT = "scripts.convert_weights"
CONFIG = "--config=configs/imagenet.py:tiny"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
  """A checkpoint as the official release has them, and the same model."""
  read = weights.random(imagenet.get_config("tiny"))
  flat = tensors.to_theirs(
      tensors.flatten(*read.model), deepmind.places("imagenet")
  )
  tree = {}
  for key, array in flat.items():
    module, name = key.split("|")
    tree.setdefault(module, {})[name] = array
  file = tmp_path_factory.mktemp("weights") / "model.pystate"
  file.write_bytes(pickle.dumps({"params": tree, "state": {}}))
  return file, read


def test_an_official_file_becomes_ours(official, tmp_path):
  file, read = official
  output = tmp_path / "new" / "model.npz"
  command = Command(CONVERT, f"--weights={file}", CONFIG, f"--output={output}")
  code, out, err = command.wait()
  assert code == 0, err
  assert "7,266 parameters" in out
  again = weights.load(output)
  for key, array in tensors.flatten(*read.model).items():
    np.testing.assert_array_equal(
        tensors.flatten(*again.model)[key], array, err_msg=key
    )


def test_a_training_run_becomes_one_file_or_a_program_for_jax_alone(
    in_fork, training, tmp_path
):
  run = training(tmp_path / "run", "--config.train_examples=48")
  assert in_fork(*run)[0] == 0
  output = tmp_path / "run.npz"
  code, out, err = in_fork(
      CONVERT, f"--weights={tmp_path / 'run'}", f"--output={output}"
  )
  assert code == 0, err
  assert "9,111 parameters" in out
  assert weights.load(output).config.task == "digits"
  pytest.importorskip("flatbuffers")
  code, out, err = in_fork(
      CONVERT,
      f"--weights={tmp_path / 'run'}",
      f"--output={tmp_path / 'exported'}",
      "--format=jax",
  )
  assert code == 0, err
  assert "in: image float32[b, 28, 28, 1]" in out
  assert "logits float32[b, 10]" in out
  exported = jax.export.deserialize(
      (tmp_path / "exported" / "forward.jax").read_bytes()
  )
  arrays = dict(np.load(tmp_path / "exported" / "weights.npz"))
  del arrays["config.json"]
  image = np.ones((2, 28, 28, 1), np.float32)
  read = weights.load(tmp_path / "run")
  np.testing.assert_allclose(
      exported.call(arrays, {"image": image})["logits"],
      read.outputs({"image": image})["logits"],
      rtol=1e-4,
      atol=1e-5,
  )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--weights=FILE"], "--output"),
        (["--output=OUT"], "--weights"),
        (["--output=OUT", "--weights=/none"], "no such file"),
        (["--output=OUT", "--weights=FILE"], "--config"),
        (["--output=OUT", "--download=everything"], "is not one of"),
        (
            ["--output=OUT", "--weights=FILE", "--config=configs/flow.py:tiny"],
            "tensors are missing",
        ),
        (
            ["--output=OUT", "--weights=FILE", "--format=huggingface", CONFIG],
            "num_bands = 3",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    in_fork, official, tmp_path, args, message
):
  output = tmp_path / "out"
  args = [
      a.replace("FILE", str(official[0])).replace("OUT", str(output))
      for a in args
  ]
  code, _, err = in_fork(CONVERT, *args)
  assert code == 2
  (line,) = [x for x in err.splitlines() if "TPU" not in x]
  assert line.startswith("error: ") and message in line
  assert not output.exists()


def forged(folder):
  """A checkpoint with an array of fields that are objects."""
  dtype = np.dtype([("a", "O"), ("b", "f4")])
  tree = {"encoder": {"w": np.zeros(2, dtype)}}
  file = folder / "forged.pickle"
  file.write_bytes(pickle.dumps(tree))
  return file


def cut_off(folder):
  """A file of ours without its end."""
  file = folder / "cut.npz"
  read = weights.random(imagenet.get_config("tiny"))
  weights.save(file, read.config, read.model)
  file.write_bytes(file.read_bytes()[:-3000])
  return file


COMMANDS = {
    "convert": (CONVERT, "--output=out.npz", "--weights={}"),
    "predict": ("scripts.predict", "classify", "a.png", "--weights={}"),
    "show_attention": (
        ("scripts.show_attention", "a.png", "--output=out", "--weights={}")
    ),
    "train": (
        "experiments.train",
        "--workdir=run",
        "--config.init.pretrained={}",
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("make", [forged, cut_off])
def test_damaged_weights_end_every_command_in_a_line(
    in_fork, tmp_path, data_dir, command, make
):
  file = make(tmp_path)
  module, *args = (
      arg.format(file)
      .replace("=out", f"={tmp_path}/out")
      .replace("=run", f"={tmp_path}/run")
      for arg in COMMANDS[command]
  )
  if command == "train":
    args += ["--config=configs/quickstart.py:mini"]
    args += [f"--config.data_dir={data_dir}"]
  elif file.suffix != ".npz":
    args += [CONFIG]
  code, out, err = in_fork(module, *args)
  assert code == 2 and not (tmp_path / "out").exists(), err
  (line,) = [x for x in err.splitlines() if not x.startswith("note: ")]
  assert line.startswith("error: ") and file.name in line
