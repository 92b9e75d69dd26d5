"""A task's evals on several meshes: the same metrics, whatever the devices.

    python -m tests.evaluate_on_meshes --config=FILE:VARIANT
        --changes=JSON MESH...

A mesh is DATA×CONTEXT, as in 4x2. Prints the metrics of the initial model as a
line of JSON for each. With `--address=HOST:PORT --process=I/N` it is one of N
processes, and the meshes have all their devices.
"""

import argparse
import json

from absl import flags
import jax

from experiments.engine import settings
from experiments.engine.build import build
from experiments.evaluate import Evaluate


def main() -> None:
  """Prints a line for each mesh."""
  flags.FLAGS.mark_as_parsed()
  parser = argparse.ArgumentParser()
  parser.add_argument("--config")
  parser.add_argument("--changes", type=json.loads, default={})
  parser.add_argument("--address")
  parser.add_argument("--process", default="0/1")
  parser.add_argument("meshes", nargs="+")
  arguments = parser.parse_args()
  if arguments.address:
    index, count = map(int, arguments.process.split("/"))
    jax.distributed.initialize(arguments.address, count, index)
  for mesh in arguments.meshes:
    data, elements = map(int, mesh.split("x"))
    changes = arguments.changes | {"mesh.context": elements}
    built = build(settings.load(arguments.config, changes), data * elements)
    evaluate = Evaluate(built.task.evals, built.net, built.layout)
    evaluate.trace(built.like.model)
    metrics, _ = evaluate(built.initial_state().model)
    print(json.dumps(metrics), flush=True)


if __name__ == "__main__":
  main()
