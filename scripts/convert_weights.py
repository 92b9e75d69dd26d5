"""Converts published weights to this project's format, and exports models.

python -m scripts.convert_weights --download=language --output=language.npz
python -m scripts.convert_weights --weights=model.safetensors
    --config=configs/mlm.py:bytes --output=language.npz
python -m scripts.convert_weights --weights=language.npz
    --format=huggingface --output=FOLDER
python -m scripts.convert_weights --weights=RUN --format=jax --output=FOLDER

`--weights` is a file of the official release, of transformers or of this
project, or the folder of a run. All tensors are checked before anything is
written.
"""

import pathlib
import sys

from absl import flags

from experiments.engine import command
from experiments.engine import export
from experiments.engine import portable
from experiments.engine import settings
from experiments.engine import weights
from experiments.engine.errors import UserError
from experiments.inference import model as model_lib

WEIGHTS = flags.DEFINE_string("weights", None, "a file or folder of weights")
DOWNLOAD = flags.DEFINE_string(
    "download", None, "name of a published model, such as language or flow"
)
CACHE = flags.DEFINE_string("cache", model_lib.CACHE, "folder for downloads")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "latest",
    'checkpoint of a run: "latest", "best" or a step; ":ema": averaged',
)
SWAP_KERNEL = flags.DEFINE_bool(
    "swap_kernel",
    False,
    "swap height and width of the kernel in transformers' published"
    " convolutional checkpoint",
)
ALLOW_NONFINITE = flags.DEFINE_bool(
    "allow_nonfinite",
    False,
    "accept numbers that are not finite or too large, with a note",
)
OUTPUT = flags.DEFINE_string("output", None, "FILE.npz, or a folder")
FORMAT = flags.DEFINE_enum(
    "format",
    "npz",
    ["npz", "huggingface", "jax"],
    "npz: a file of this project; huggingface: model.safetensors and"
    " config.json; jax: forward.jax (StableHLO) and weights.npz for JAX alone",
)
HALF = flags.DEFINE_bool(
    "half", False, "of --format=npz: numbers as float16, in half the bytes"
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "for --format=jax: a fixed number of examples",
    lower_bound=1,
)


def main() -> None:
  """Converts."""
  if not OUTPUT.value:
    raise UserError("--output=FILE.npz or --output=FOLDER is missing")
  if bool(WEIGHTS.value) == bool(DOWNLOAD.value):
    raise UserError("one of --weights=FILE and --download=NAME is needed")
  path, config = WEIGHTS.value or "", command.config()
  swap_kernel = SWAP_KERNEL.value
  if DOWNLOAD.value:
    known = model_lib.published()
    if DOWNLOAD.value not in known:
      raise UserError(
          f"--download={DOWNLOAD.value}{settings.hint(DOWNLOAD.value, known)}"
          f" is not one of {', '.join(sorted(known))}"
      )
    published = known[DOWNLOAD.value]
    cache = pathlib.Path(CACHE.value).expanduser()
    path = model_lib.fetch(published, cache)
    config = config or settings.load(published.config)
    swap_kernel = swap_kernel or published.swap_kernel
  read = weights.load(
      path,
      config,
      swap_kernel=swap_kernel,
      checkpoint=CHECKPOINT.value,
      allow_nonfinite=ALLOW_NONFINITE.value,
  )
  notes = read.notes
  if FORMAT.value == "huggingface":
    notes = export.to_huggingface(OUTPUT.value, read.config, read.model)
  elif FORMAT.value == "jax":
    for line in portable.save(OUTPUT.value, read, BATCH_SIZE.value):
      print(line)
  else:
    weights.save(OUTPUT.value, read.config, read.model, HALF.value)
  for note in notes:
    print(f"note: {note}", file=sys.stderr)
  print(f"{OUTPUT.value}: {read.network.parameters():,} parameters")


if __name__ == "__main__":
  command.run(main, needs_config=False)
