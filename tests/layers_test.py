"""Who may import whom."""

import ast
import sys

from absl.testing import absltest
from absl.testing import parameterized

from tests.conftest import NOT_FAST
from tests.conftest import ROOT

# A folder, and what may be imported below it besides the standard library.
RULES = {
    "configs": "configs ml_collections",
    "perceiver": (
        "perceiver einops haiku jax jaxtyping numpy optax safetensors torch"
    ),
    "experiments/data": (
        "experiments.data"
        " PIL array_record av cv2 etils google.protobuf google_crc32c grain"
        " jaxtyping kaldi_native_fbank mlxtend mwparserfromhell numpy"
        " pretty_midi sc2reader scipy sentencepiece simplejpeg"
        " tensorflow_datasets"
    ),
    "experiments/engine": (
        "experiments.engine experiments.task experiments.data.pipeline"
        " experiments.data.errors experiments.data.clips.video"
        " experiments.data.atomic perceiver PIL absl etils filelock haiku jax"
        " jaxtyping matplotlib ml_collections numpy optax orbax rich"
        " tensorboardX wandb"
    ),
    "experiments/inference": (
        "experiments.inference experiments.task experiments.data"
        " experiments.engine perceiver cv2 haiku jax matplotlib numpy rich"
    ),
}
# What is run is imported by nothing but by what else is run, and by tests.
RUN = "scripts tools experiments.train experiments.evaluate"


def imports_of(file):
  """Dotted names of all that a file imports, inside of functions as well."""
  for node in ast.walk(ast.parse(file.read_text())):
    yield from imported_by(node)


def parts_at_import(node):
  """A syntax tree's nodes that run when the module is imported."""
  functions = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
  for child in ast.iter_child_nodes(node):
    if not isinstance(child, functions):
      yield child
      yield from parts_at_import(child)


def imported_by(node):
  """Dotted names that an import, or a call of `import_module`, asks for."""
  if isinstance(node, ast.Import):
    return [alias.name for alias in node.names]
  if isinstance(node, ast.ImportFrom):
    module = "." * node.level + (node.module or "")
    return [f"{module}.{alias.name}" for alias in node.names]
  if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
      ("import_module", "__import__")
  ):
    return [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
  return []


def private_at_import(source):
  """Private names that a module imports as soon as it is imported itself."""
  names = [
      name
      for node in parts_at_import(ast.parse(source))
      for name in imported_by(node)
  ]
  return [
      name
      for name in names
      if any(
          part.startswith("_") and part != "__future__"
          for part in name.split(".")
      )
  ]


def is_any_of(name, packages):
  """Whether a dotted name is one of some packages, or inside of one."""
  return any(f"{name}.".startswith(f"{p}.") for p in packages.split())


def files_below(folder):
  return sorted((ROOT / folder).rglob("*.py"))


def test_every_path_that_is_left_out_of_the_fast_tests_exists():
  for name in NOT_FAST:
    assert (ROOT / "tests" / name).exists(), name


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

  def test_what_users_run_needs_nothing_of_what_maintainers_run(self):
    for file in files_below("scripts"):
      with self.subTest(file.relative_to(ROOT)):
        self.assertEmpty([n for n in imports_of(file) if is_any_of(n, "tools")])

  @parameterized.parameters(
      "perceiver", "experiments", "scripts", "tools", "configs"
  )
  def test_nothing_private_is_imported_at_module_level(self, folder):
    for file in files_below(folder):
      with self.subTest(file.relative_to(ROOT)):
        self.assertEmpty(private_at_import(file.read_text()))

  @parameterized.parameters(
      ("from __future__ import annotations", []),
      ("import jax._src.mesh", ["jax._src.mesh"]),
      ("from jax import _src", ["jax._src"]),
      ("try:\n  import a._b\nexcept ImportError:\n  pass", ["a._b"]),
      ("class A:\n  from a import _b", ["a._b"]),
      ("x = importlib.import_module('numpy._core')", ["numpy._core"]),
      ("def f():\n  import jax._src.mesh", []),
  )
  def test_what_counts_as_private_at_module_level(self, source, expected):
    self.assertEqual(private_at_import(source), expected)


if __name__ == "__main__":
  absltest.main()
