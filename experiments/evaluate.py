"""Measures a checkpoint on a task's evals.

python -m experiments.evaluate --config=configs/X.py --workdir=DIR
    [--checkpoint=latest|best|STEP]
"""

from collections.abc import Callable
from collections.abc import Mapping
import json
import pathlib

from absl import flags
import haiku as hk
import jax
import numpy as np

from experiments import task as task_lib
from experiments.engine import command
from experiments.engine import sharding
from experiments.engine import step as step_lib
from experiments.engine import workdir as workdir_lib
from experiments.engine.build import build
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import UserError
from experiments.engine.state import Model

Pictures = dict[str, np.ndarray | str]
Evaluate = Callable[[Model], tuple[dict[str, float], Pictures]]


def make_evaluate(
    evals: Mapping[str, task_lib.Eval],
    net: hk.TransformedWithState,
    layout: sharding.Layout,
) -> Evaluate:
  """A function model -> (metrics, pictures), named EVAL/METRIC, EVAL/PICTURE.

  Rows that only fill a batch count for nothing, so the metrics are those of the
  split, whatever the batch size and the number of devices.
  """
  mesh = layout.mesh
  shard = sharding.part_of_batches(mesh)
  measures = {
      name: step_lib.compile_eval_step(
          net,
          lambda outputs, batch, e=e: (
              e.measure(outputs, batch),
              batch["real"],
          ),
          layout,
      )
      for name, e in evals.items()
  }
  look = step_lib.compile_eval_step(
      net, lambda out, batch: (out, batch), layout
  )

  def measure(name: str, model: Model) -> dict[str, np.ndarray]:
    parts = []
    for batch in evals[name].data(shard):
      measured, real = jax.device_get(
          measures[name](model, sharding.spread(batch, mesh))
      )
      parts.append({key: value[real] for key, value in measured.items()})
    if not parts:
      raise UserError(f"eval {name!r} has no examples")
    return {
        key: np.concatenate([part[key] for part in parts]) for key in parts[0]
    }

  def evaluate(model: Model):
    metrics, pictures = {}, {}
    for name, e in evals.items():
      for key, value in e.summarize(measure(name, model)).items():
        metrics[f"{name}/{key}"] = value
      if e.draw is not None:
        batch = sharding.spread(next(iter(e.data(shard))), mesh)
        for key, picture in e.draw(*jax.device_get(look(model, batch))).items():
          pictures[f"{name}-{key}"] = picture
    return metrics, pictures

  return evaluate


def evaluate(config, workdir: pathlib.Path, which: str) -> dict[str, float]:
  """Metrics of a checkpoint; `config` may differ from that of its training.

  Raises:
    UserError: if there is no such checkpoint, or it is another model's.
  """
  place = config.run.checkpoints or workdir_lib.find_checkpoints(workdir)
  if place is None:
    raise UserError(f"there are no checkpoints in {workdir}")
  built = build(config)
  checkpoints = Checkpoints(
      place,
      best=config.best or None,
      best_is_largest=config.best_is_largest,
      read_only=True,
  )
  model, step = checkpoints.restore_model(built.like.model, which)
  metrics, _ = make_evaluate(built.task.evals, built.net, built.layout)(model)
  return {"step": step, **metrics}


def main() -> None:
  """Prints the metrics as a line of JSON."""
  if _WORKDIR.value is None:
    raise UserError("--workdir=DIR is missing")
  workdir = pathlib.Path(_WORKDIR.value)
  metrics = evaluate(command.config(), workdir, _CHECKPOINT.value)
  if jax.process_index() == 0:
    print(json.dumps(metrics))


if __name__ == "__main__":
  _WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder")
  _CHECKPOINT = flags.DEFINE_string(
      "checkpoint", "latest", '"latest", "best" or a step'
  )
  command.run(main)
