"""Published weights to ours, and ours to what others read.

python -m scripts.convert_weights --download=language --output=language.npz
python -m scripts.convert_weights --weights=model.safetensors
    --config=configs/mlm.py:bytes --output=language.npz
python -m scripts.convert_weights --weights=language.npz
    --format=huggingface --output=FOLDER
python -m scripts.convert_weights --weights=RUN --format=jax --output=FOLDER

`--weights` is a file of the official release or of transformers, one of ours,
or the folder of a training run. Nothing is written unless all of it fits.
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
    "download", None, "fetches a published model, as language or flow"
)
CACHE = flags.DEFINE_string(
    "cache", model_lib.CACHE, "where downloads are kept"
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "latest",
    'of a training run: "latest", "best" or a step; with ":ema" averaged',
)
SWAP_KERNEL = flags.DEFINE_bool(
    "swap_kernel",
    False,
    "the published convolutional checkpoint of transformers: put height and"
    " width of its kernel back",
)
ALLOW_NONFINITE = flags.DEFINE_bool(
    "allow_nonfinite",
    False,
    "take numbers that are not finite or too large, and say so",
)
OUTPUT = flags.DEFINE_string("output", None, "FILE.npz, or a folder")
FORMAT = flags.DEFINE_enum(
    "format",
    "npz",
    ["npz", "huggingface", "jax"],
    "ours; model.safetensors and config.json for transformers; or the forward"
    " pass as StableHLO, forward.jax and weights.npz, that JAX alone runs",
)
HALF = flags.DEFINE_bool(
    "half", False, "of --format=npz: numbers as float16, in half the bytes"
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "of --format=jax: examples of a call, where it cannot be any number",
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
