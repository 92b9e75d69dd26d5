"""Who may import whom."""

import ast
import sys

from absl.testing import absltest
from absl.testing import parameterized

from tests.conftest import ROOT

# A folder, and what may be imported below it besides the standard library.
RULES = {
    "configs": "configs ml_collections",
    "perceiver": (
        "perceiver einops haiku jax jaxtyping numpy optax safetensors torch"
    ),
    "experiments/data": (
        "experiments.data"
        " PIL array_record av cv2 etils google.protobuf grain jaxtyping"
        " kaldi_native_fbank mlxtend mwparserfromhell numpy sc2reader"
        " sentencepiece simplejpeg tensorflow_datasets"
    ),
    "experiments/engine": (
        "experiments.engine experiments.task experiments.data.pipeline"
        " experiments.data.errors experiments.data.clips.video"
        " perceiver PIL absl etils haiku jax matplotlib ml_collections numpy"
        " optax orbax rich tensorboardX"
    ),
    "experiments/inference": (
        "experiments.inference experiments.task experiments.data"
        " experiments.engine perceiver cv2 jax matplotlib numpy rich"
    ),
}
# What is run is imported by nothing but by what else is run, and by tests.
RUN = "scripts tools experiments.train experiments.evaluate"


def imports_of(file):
  """Dotted names of all that a file imports, inside of functions as well."""
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      module = "." * node.level + (node.module or "")
      yield from (f"{module}.{alias.name}" for alias in node.names)


def is_any_of(name, packages):
  """Whether a dotted name is one of some packages, or inside of one."""
  return any(f"{name}.".startswith(f"{p}.") for p in packages.split())


def files_below(folder):
  return sorted((ROOT / folder).rglob("*.py"))


class LayersTest(parameterized.TestCase):

  @parameterized.parameters(*RULES)
  def test_a_layer_imports_what_it_may(self, folder):
    allowed = f"{RULES[folder]} {' '.join(sys.stdlib_module_names)}"
    files = files_below(folder)
    self.assertNotEmpty(files)
    for file in files:
      with self.subTest(file.relative_to(ROOT)):
        names = imports_of(file)
        self.assertEmpty([n for n in names if not is_any_of(n, allowed)])

  @parameterized.parameters("configs", "perceiver", "experiments")
  def test_what_is_run_is_not_imported(self, folder):
    for file in files_below(folder):
      path = file.relative_to(ROOT)
      if not is_any_of(".".join(path.with_suffix("").parts), RUN):
        with self.subTest(path):
          self.assertEmpty([n for n in imports_of(file) if is_any_of(n, RUN)])


if __name__ == "__main__":
  absltest.main()
