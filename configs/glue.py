"""GLUE as in Perceiver IO, Tables 1, 2, 13 and 14."""

from ml_collections import ConfigDict

from configs import base
from configs import mlm

# Classes; 1: a number is predicted.
TASKS = {
    "cola": 2,
    "mnli": 3,
    "mrpc": 2,
    "qnli": 2,
    "qqp": 2,
    "rte": 2,
    "sst2": 2,
    "stsb": 1,
}
MULTITASK = {
    "multitask_queries": None,
    "multitask_shared_token": "shared",
    "multitask_task_tokens": "own",
}
# The others fine-tune one task: CoLA, or what --config.tasks.NAME=CLASSES adds.
VARIANTS = (*MULTITASK, *mlm.VARIANTS)


def get_config(variant: str = "bytes") -> ConfigDict:
  """The numbers of a variant: a pretrained model of `mlm`, or a Table 2 row."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  config = base.get_config()
  config.task = "glue"
  config.tasks = ConfigDict({"cola": TASKS["cola"]})
  config.hidden_head = True
  config.model = ConfigDict(
      mlm.model(variant if variant in mlm.VARIANTS else "bytes")
  )
  if variant in MULTITASK:
    config.tasks = ConfigDict(TASKS)
    config.model.task_token = MULTITASK[variant]
  config.max_length = config.model.tokens.max_length
  return config
