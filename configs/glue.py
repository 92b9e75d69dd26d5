"""GLUE as in Perceiver IO, Tables 1, 2, 13 and 14.

python -m experiments.train --config=configs/glue.py:cola --workdir=DIR
    --config.start.weights=PRETRAINED
python -m scripts.sweep --config=configs/glue.py:cola --workdir=DIR
    --config.start.weights=PRETRAINED

A variant is a task, or one of three ways to train on all tasks; with a model of
configs/mlm.py before it if that is not "bytes": bert_base_cola.
"""

from ml_collections import ConfigDict

from configs import base
from configs import mlm

# Classes, 1: a number is predicted; and examples to train on.
TASKS = {
    "cola": (2, 8_551),
    "mnli": (3, 392_702),
    "mrpc": (2, 3_668),
    "qnli": (2, 104_743),
    "qqp": (2, 363_846),
    "rte": (2, 2_490),
    "sst2": (2, 67_349),
    "stsb": (1, 5_749),
}
# What one can do without the archives of GLUE: some of its tasks, in the sizes
# of the corpora that they were made from.
RAW = {
    "cola": (2, 8_551),
    "mrpc": (2, 4_076),
    "sst2": (2, 6_920),
    "stsb": (1, 2_234),
}
MULTITASK = {
    "multitask_queries": None,
    "multitask_shared_token": "shared",
    "multitask_task_tokens": "own",
}
VARIANTS = (*TASKS, *MULTITASK)


def tasks_of(model: str) -> dict[str, tuple[int, int]]:
  """The tasks that a model of configs/mlm.py is meant for."""
  return RAW if model in mlm.MINI else TASKS


def parts(variant: str) -> tuple[str, str]:
  """The model of configs/mlm.py and the task, or tasks, of a variant.

  Raises:
    ValueError: if there is no such variant.
  """
  name = next((v for v in VARIANTS if f"_{variant}".endswith(f"_{v}")), None)
  model = (variant[: -len(name) - 1] or "bytes") if name else ""
  if model not in mlm.VARIANTS or name not in (*tasks_of(model), *MULTITASK):
    raise ValueError(
        f"variant {variant!r} is not one of {list(VARIANTS)}; nor one of those"
        f" after MODEL_ with a model of {list(mlm.VARIANTS)}, of which"
        f" {list(mlm.MINI)} have the tasks {list(RAW)}"
    )
  return model, name


def get_config(variant: str = "cola") -> ConfigDict:
  """The numbers of a variant, as is said above."""
  model, name = parts(variant)
  tasks = tasks_of(model)
  if name not in MULTITASK:
    tasks = {name: tasks[name]}
  config = base.get_config()
  config.task = "glue"
  config.tasks = ConfigDict({task: n for task, (n, _) in tasks.items()})
  config.size_power = 1.0  # Tasks are drawn in proportion to size ** this.
  config.hidden_head = True
  config.model = ConfigDict(mlm.model(model))
  config.tokenizer = mlm.get_config(model).tokenizer
  if name in MULTITASK:
    config.model.task_token = MULTITASK[name]
  config.max_length = config.model.tokens.max_length
  config.batch_size = 32
  config.train_examples = 10 * sum(size for _, size in tasks.values())
  config.best = "dev/average"
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.01})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 5e-5, "warmup": 200}  # steps
  )
  # What scripts/sweep.py tries, each with each.
  config.sweep = ConfigDict(
      {
          "batch_size": (16, 32, 64),
          "schedule": {"peak": (1e-4, 5e-5, 2e-5, 1e-5)},
      }
  )
  if model in mlm.MINI:
    config.optimizer.name = "adamw"
    config.schedule.peak = 1e-3
    config.schedule.warmup = 50
    config.train_examples //= 2
    config.run.eval_every = 100
    # All that is pretrained, or its tokens alone, to read anew.
    config.sweep = ConfigDict(
        {
            "schedule": {"peak": (3e-4, 1e-3)},
            "start": {"fresh": ("", "coder|processor|positions")},
        }
    )
  return config
