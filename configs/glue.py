"""GLUE as in Perceiver IO, Tables 1, 2, 13 and 14.

    python -m experiments.train --config=configs/glue.py:cola --workdir=DIR
        --config.init.pretrained=PRETRAINED
    python -m scripts.sweep --config=configs/glue.py:cola --workdir=DIR
        --config.init.pretrained=PRETRAINED

The archives of GLUE are read as they are, from DATA_DIR/glue. A variant is a
task, or one of three ways to train on all tasks, of the model "bytes". With
another model of configs/mlm.py, the model comes first: bert_base_cola,
mini_custom.

`custom` reads any texts: a folder with train.csv and perhaps dev.csv (or .tsv,
or .jsonl), with the columns label and text, or label, text1 and text2. Classes
are counted and named. Where the label is called "score", or labels are numbers
and not all whole, a number is predicted. Training is ten epochs unless
`train_examples` is set:

    python -m experiments.train --config=configs/glue.py:custom --workdir=DIR
        --config.custom.folder=FOLDER --config.init.pretrained=PRETRAINED

The full-size models were not trained here. From `mini` each task takes a minute
of two cores. The better of two initialisations and two rates came to

    mini_cola  mini_mrpc  mini_sst2  mini_stsb  average
       9.2       69.6       78.0       60.0      54.2

and from all of `mini` on all four tasks at once

    mini_multitask_queries  mini_multitask_shared_token  ..._task_tokens
             49.3                      47.9                   47.3
"""

from typing import Any

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
# All tasks at once, by `model.task_token`.
MULTITASK = {
    "multitask_queries": None,  # a query for each task
    "multitask_shared_token": "shared",  # one query, and one input token
    "multitask_task_tokens": "per_task",  # one query, and a token each
}
# A folder of texts: how many classes and examples it has is found there.
CUSTOM = {
    "custom": {"folder": ""},
    "tasks": {"custom": 2},
    "train_examples": 0,
}
# How small models are fine-tuned.
MINI = {
    "optimizer.name": "adamw",
    "schedule.peak": 1e-3,
    "schedule.warmup": 50,
    "run.eval_every": 100,
    # Fine-tune all of it, or keep its token embeddings alone.
    "sweep": {
        "schedule": {"peak": (3e-4, 1e-3)},
        "init": {"reinitialize": ("", "coder|processor|positions")},
    },
}


def tasks_of(model: str) -> dict[str, tuple[int, int]]:
  """The tasks that a model of configs/mlm.py is meant for."""
  return RAW if model in mlm.MINIS else TASKS


def of_model(model: str) -> dict[str, Any]:
  """The changes for a model of configs/mlm.py."""
  config = mlm.get_config(model)
  return {
      "model": config.model.to_dict(),
      "tokenizer": config.tokenizer.to_dict(),
      "max_length": config.model.tokens.max_length,
      **(MINI if model in mlm.MINIS else {}),
  }


def of_tasks(model: str, *names: str) -> dict[str, Any]:
  """The changes for some tasks."""
  tasks = {name: tasks_of(model)[name] for name in names}
  epochs = 5 if model in mlm.MINIS else 10
  return {
      "tasks": {name: classes for name, (classes, _) in tasks.items()},
      "train_examples": epochs * sum(size for _, size in tasks.values()),
  }


def of_all_tasks(model: str, task_token: str | None) -> dict[str, Any]:
  """The changes for all tasks of a model."""
  return {
      "model": of_model(model)["model"] | {"task_token": task_token},
      **of_tasks(model, *tasks_of(model)),
  }


VARIANTS = {
    # Each task, and each way to train on all, of the published model.
    **{name: (f"bytes_{name}", {}) for name in (*TASKS, *MULTITASK)},
    "custom": ("bytes_custom", {}),
    # Each model of configs/mlm.py and each task that it is meant for.
    **{
        f"{model}_{task}": (None, of_model(model) | of_tasks(model, task))
        for model in mlm.VARIANTS
        for task in tasks_of(model)
    },
    # Each model of configs/mlm.py and a folder of texts.
    **{
        f"{model}_custom": (None, of_model(model) | CUSTOM)
        for model in mlm.VARIANTS
    },
    # Each model and each way to train on all of its tasks; BERT has no queries.
    **{
        f"{model}_{name}": (None, of_model(model) | of_all_tasks(model, token))
        for model in mlm.VARIANTS
        if model not in mlm.BERTS
        for name, token in MULTITASK.items()
    },
}
# The model of configs/mlm.py that a variant starts from.
MODEL_OF = {
    **{name: "bytes" for name in (*TASKS, *MULTITASK)},
    **{
        f"{model}_{name}": model
        for model in mlm.VARIANTS
        for name in (*tasks_of(model), *MULTITASK)
        if f"{model}_{name}" in VARIANTS
    },
}
DEFAULT = "cola"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "bytes_cola"."""
  config = base.get_config()
  config.task = "glue"
  config.tasks = ConfigDict({"cola": 2})
  config.custom = ConfigDict()  # a folder of texts, data/text/custom.py
  config.size_power = 1.0  # tasks are drawn in proportion to size ** this
  config.hidden_head = True
  pretrained = mlm.get_config("bytes")
  config.model = pretrained.model
  config.tokenizer = pretrained.tokenizer
  config.max_length = pretrained.model.tokens.max_length
  config.batch_size = 32
  config.train_examples = 10 * 8_551
  config.best = "dev/average"
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.01})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 5e-5, "warmup": 200}  # steps
  )
  # The grid of scripts/sweep.py.
  config.sweep = ConfigDict(
      {
          "batch_size": (16, 32, 64),
          "schedule": {"peak": (1e-4, 5e-5, 2e-5, 1e-5)},
      }
  )
  return config
