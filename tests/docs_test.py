"""What the documentation says can be done is done."""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ENVIRONMENT
from tests.conftest import recorded
from tests.conftest import ROOT

MINI = {
    "--config.model.encoder.num_latents": "7",
    "--config.model.encoder.latent_channels": "16",
    "--config.model.processor.layers_per_block": "1",
    "--config.batch_size": "16",
    "--config.train_examples": "64",
    "--config.schedule.warmup": "1",
}


def blocks(path: pathlib.Path, language: str) -> list[str]:
  return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def in_order(args: list[str], extra: dict[str, str]) -> list[str]:
  """The command, smaller: what it says itself counts more."""
  given = {arg.split("=")[0] for arg in args}
  return args + [f"{k}={v}" for k, v in extra.items() if k not in given]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> pathlib.Path:
  """A copy of the code, to write into."""
  folder = tmp_path_factory.mktemp("copy")
  weights = "docs/results/weights"
  packages = ("perceiver", "experiments", "configs", "scripts", "tools")
  for part in (*packages, weights):
    shutil.copytree(ROOT / part, folder / part)
  return folder


def run(args: list[str], folder: pathlib.Path) -> None:
  done = subprocess.run(
      [sys.executable, *args],
      cwd=folder,
      env={**ENVIRONMENT, "HOME": str(folder)},
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr


def commands_of(block: str) -> list[list[str]]:
  lines = [line for line in block.splitlines() if line.startswith("python -m ")]
  return [shlex.split(line)[1:] for line in lines]


README = [b for b in blocks(ROOT / "README.md", "bash") if commands_of(b)]


@pytest.mark.parametrize(
    "block",
    # The first is the quickstart.
    [README[0], *(pytest.param(b, marks=pytest.mark.slow) for b in README[1:])],
    ids=lambda block: block.splitlines()[0],
)
def test_the_commands_of_the_readme_run(copy, block):
  (copy / "runs").mkdir(exist_ok=True)
  if block is not README[0]:  # It prepares its data.
    run(["-m", "scripts.prepare_data", "digits"], copy)
  for args in commands_of(block):
    extra = {}
    if any(arg.startswith("--config=configs/quickstart") for arg in args):
      extra = MINI | {"--config.model.query_channels": "16"}
    run(in_order(args, extra), copy)


ADDING = ROOT / "docs" / "adding_a_task.md"


def files_of(page: pathlib.Path) -> dict[str, str]:
  """The Python files that a page has in whole, by their paths."""
  named = r"`([\w/]+\.py)`:\n\n```python\n(.*?)```"
  return dict(re.findall(named, page.read_text(), re.DOTALL))


@pytest.fixture(scope="module")
def with_the_tutorials_task(copy) -> pathlib.Path:
  files = files_of(ADDING)
  assert len(files) == 3
  shutil.copytree(ROOT / "tests" / "configs", copy / "tests" / "configs")
  for name in ("__init__.py", "conftest.py"):
    shutil.copy(ROOT / "tests" / name, copy / "tests")
  for path, code in files.items():
    (copy / path).parent.mkdir(exist_ok=True)
    (copy / path).write_text(code)
  return copy


def test_the_task_of_the_tutorial_passes_its_tests_and_those_of_configs(
    with_the_tutorials_task,
):
  tests = ["tests/configs/configs_test.py", "tests/experiments/halves_test.py"]
  run(["-m", "pytest", *tests, "-k", "halves"], with_the_tutorials_task)


def test_the_source_of_the_tutorial_gives_batches(tmp_path):
  from experiments.data import pipeline

  (code,) = set(blocks(ADDING, "python")) - set(files_of(ADDING).values())
  names = {}
  exec(code, names)  # pylint: disable=exec-used
  for i in range(3):
    np.save(tmp_path / f"{i}.npy", np.full([5, 7], i))
  source = names["Arrays"](tmp_path)
  shard = pipeline.Shard()
  (batch,) = pipeline.evaluation(source, [], batch_size=3, shard=shard)
  assert batch["image"][:, 0, 0].tolist() == [0, 1, 2]
  data = iter(pipeline.train(source, [], batch_size=2, seed=0, shard=shard))
  assert next(data)["image"].shape == (2, 5, 7)


@pytest.mark.slow
def test_the_task_of_the_tutorial_trains(with_the_tutorials_task, data_dir):
  copy = with_the_tutorials_task
  args = ["-m", "experiments.train", "--config=configs/halves.py"]
  extra = MINI | {
      "--workdir": "runs/halves",
      "--config.data_dir": data_dir,
      "--config.train_examples": "640",
      "--config.run.log_every": "1",
  }
  run(in_order(args, extra), copy)
  records = recorded(copy / "runs" / "halves")
  first, last = records[0]["train/loss"], records[-2]["train/loss"]
  assert last < first
  assert records[-1]["test/squared_error"] < first
  assert records[-1]["test/of_last_row"] > 0
  assert list((copy / "runs" / "halves" / "figures").glob("*completed*"))


def test_the_library_alone_is_used_as_its_page_says():
  import haiku as hk
  import jax

  (code,) = blocks(ROOT / "docs" / "library.md", "python")
  names = {}
  exec(code, names)  # pylint: disable=exec-used
  image = jax.ShapeDtypeStruct((2, 224, 224, 3), "float32")
  net = hk.without_apply_rng(hk.transform(names["forward"]))
  params = jax.eval_shape(net.init, jax.random.key(0), image)
  logits = jax.eval_shape(net.apply, params, image)
  assert logits.shape == (2, 1000)


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
    if "://" not in link:
      assert (page.parent / link).exists(), link


@pytest.mark.parametrize(
    "code",
    blocks(ROOT / "docs" / "python.md", "python"),
    ids=lambda code: re.findall(r"configs/(\S+)\"", code)[0],
)
def test_the_examples_of_models_in_python_run(code, capsys):
  exec(code, {})  # pylint: disable=exec-used
  assert capsys.readouterr().out
