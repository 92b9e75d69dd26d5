"""Settings of every config, and variants of config files.

A task's config file has the numbers of one model, its root, and `VARIANTS`, the
changes that make the others.
"""

from collections.abc import Callable
from collections.abc import Mapping
import difflib
import functools
import operator
import os
from typing import Any

from ml_collections import ConfigDict

# Where data lives, unless --data_dir says so.
DATA_DIR = os.environ.get("PERCEIVER_DATA") or "~/tensorflow_datasets"
# By name: the variant that it starts from, None for the root, and the changes.
Variants = Mapping[str, tuple[str | None, Mapping[str, Any]]]


def get_config() -> ConfigDict:
  """The settings that the engine reads."""
  return ConfigDict(
      {
          "task": "",  # experiments/TASK.py
          "seed": 0,  # seed of parameters, data order and all random numbers
          "data_dir": DATA_DIR,  # folder of all data sets; also --data_dir
          "num_workers": 0,  # processes that prepare input; 0: threads
          "batch_size": 64,  # examples, over all devices
          "accumulate": 1,  # gradient accumulation steps of a batch
          "train_examples": 64,  # training length: epochs × examples
          "compute_dtype": "float32",  # or "bfloat16"; parameters stay float32
          "attention": "auto",  # or "plain", "blocked", "cudnn", "tpu"
          # Order of attention's products (perceiver/orders.py): "cheapest", or
          # "written", as in the papers.
          "products": "cheapest",
          # Initialisation of a run.
          "init": {
              # A run's folder, or a file of scripts/convert_weights.py; "": all
              # parameters are new.
              "pretrained": "",
              # Regular expression of paths of parameters to re-initialise.
              "reinitialize": "",
              # Regular expression of paths of parameters to freeze.
              "frozen": "",
              # Regular expression of paths of parameters that start at 0.
              "zeros": "",
              # Strength of the initial bias of cross-attends towards near
              # positions; 0: no bias.
              "locality_bias": 0.0,
              # With Fourier features, the grids of latents: a name, and the
              # fields of locality.Grid.
              "grids": {},
          },
          "mesh": {
              # Context parallelism: devices that share each example, each with
              # a part of its inputs, latents and output queries.
              "context": 1,
              "heads": False,  # In attention, split heads instead of queries.
              # FSDP: parameters of at least this size are split over all
              # devices; smaller ones are replicated.
              "fsdp_min_size": 2**18,
          },
          "max_grad_norm": 10.0,  # global norm that gradients are clipped to
          # Decay of an exponential moving average of the parameters, such as
          # 0.9999, which is also evaluated and saved; 0: no average.
          "ema": 0.0,
          "skip_nonfinite": False,  # skip updates that are not finite, or stop
          "best": "",  # EVAL/METRIC that selects the best checkpoint
          "best_is_largest": True,
          # Settings that may change when a run resumes.
          "run": {
              "log_every": 50,  # steps
              "eval_every": 1000,  # steps
              "checkpoint_every": 1000,  # steps
              "checkpoints": "",  # a folder or URL; empty: in the run's folder
              "keep_checkpoints": 2,  # number of newest ones; also the best
              "profile_from": 10,  # the first step that jax.profiler traces
              "profile_steps": 0,  # number of traced steps
              "wandb": "",  # project of Weights & Biases
          },
      }
  )


def variant_of(
    variants: Variants, name: str, root: Callable[[], ConfigDict]
) -> ConfigDict:
  """The config of a variant: the config of its base with changes.

  Changes are made in their order. {"model.encoder.num_latents": 64} sets one
  value. {"model.encoder": {"num_latents": 64}} replaces a section: it has these
  keys and no others.

  Args:
    variants: the `VARIANTS` of a config file.
    name: one of them.
    root: makes the config that a base of None stands for.

  Raises:
    ValueError: if there is no such variant.
    KeyError: if a change is to a key that the base does not have.
  """
  if name not in variants:
    close = difflib.get_close_matches(name, variants, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    names = ", ".join(variants)
    raise ValueError(f"variant {name!r}{hint} is not one of {names}")
  base, changes = variants[name]
  config = root() if base is None else variant_of(variants, base, root)
  for key, value in changes.items():
    *sections, last = key.split(".")
    section = functools.reduce(operator.getitem, sections, config)
    if last not in section:
      raise KeyError(f"variant {name!r} changes {key!r}, which does not exist")
    section[last] = value
  return config
