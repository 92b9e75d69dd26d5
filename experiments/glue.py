"""GLUE: one model a task, or one for all tasks.

Source: Perceiver IO, §4.1 and appendix F.4; Table 2 for several tasks at once.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from experiments.task import choose
from experiments.task import Network
from perceiver import baselines
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import Processor


def network(config) -> Network:
  """Text to logits of every task, {task: [B, classes]}; one class: a number."""
  read_text = choose((perceiver_io, bert), config.model)
  tasks = config.tasks.to_dict()

  def forward(batch, is_training):
    del is_training
    y = read_text(batch, num_tasks=len(tasks))  # [B, 1 or a task each, E]
    return {
        task: head(y[:, i % y.shape[1]], classes, config.hidden_head, task)
        for i, (task, classes) in enumerate(tasks.items())
    }

  length = config.max_length
  example = {
      "tokens": jax.ShapeDtypeStruct((length,), jnp.int32),
      "mask": jax.ShapeDtypeStruct((length,), jnp.bool_),  # False: padding.
      "task": jax.ShapeDtypeStruct((), jnp.int32),  # Which of `tasks`.
  }
  return Network(example, forward)


def perceiver_io(
    batch,
    num_tasks,
    tokens,
    encoder,
    processor,
    query_channels,
    decoder,
    task_token=None,
):
  """What queries read from the latents of a text.

  Args:
    batch: "tokens", "mask", "task".
    num_tasks: tasks of this model.
    tokens: settings of `inputs.tokens`.
    encoder: of `Encoder`.
    processor: of `Processor`.
    query_channels: E.
    decoder: of `Decoder`.
    task_token: None: a query per task, and nothing is added to the text.
      "shared": a learned element comes before the text, and the one query is
      that of its position. "own": a different one for each task.
  """
  x, _ = inputs.tokens(batch["tokens"], **tokens)
  mask = batch["mask"]
  if task_token is None:
    query = LearnedArray(num_tasks, query_channels, name="query")(len(x))
  else:
    query = LearnedArray(1, query_channels, name="query")(len(x))
    num_tokens = {"shared": 1, "own": num_tasks}[task_token]
    first = LearnedArray(num_tokens, x.shape[-1], name="task_tokens")(1)[0]
    first = first[batch["task"] % num_tokens][:, None]
    x = jnp.concatenate([first, x], axis=1)
    mask = jnp.pad(mask, [(0, 0), (1, 0)], constant_values=True)
  z = Encoder(**encoder)(x, mask)
  z = Processor(**processor)(z)
  return Decoder(**decoder)(query, z)


def bert(batch, num_tasks, tokens, transformer):
  """The first element, [CLS], of BERT's output."""
  del num_tasks
  x, _ = inputs.tokens(batch["tokens"], **tokens)
  x = baselines.embedded(x)
  return baselines.Transformer(**transformer)(x, batch["mask"])[:, :1]


def head(y, num_classes, has_hidden, name):
  """Two linear maps with a tanh between them; or the last one alone."""
  if has_hidden:
    y = jnp.tanh(hk.Linear(y.shape[-1], name=f"{name}_hidden")(y))
  return hk.Linear(num_classes, name=f"{name}_logits")(y)
