"""Times Perceiver AR: sampling of an element, and a training step.

    python -m tools.time_sampling --config=configs/autoregression.py:mini_bytes

draws with kept keys and values, and with all computed again for each element,
in turns, and takes training steps at several numbers of inputs, the latents
being the same. What it prints are ratios of medians; the parameters are random.
"""

import dataclasses
import json
import statistics
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from experiments import autoregression
from experiments.data.text.tokenizers import BOS
from experiments.engine import build
from experiments.engine import command
from experiments.engine import settings
from experiments.engine import weights as weights_lib
from perceiver import sampling

_NUMBER = flags.DEFINE_integer("number", 64, "elements to generate")
_CALLS = flags.DEFINE_integer(
    "calls", 5, "calls of each program", lower_bound=1
)
_LENGTHS = flags.DEFINE_list(
    "lengths", ["1024", "2048", "4096", "8192"], "numbers of inputs"
)


def timed(call) -> float:
  """Seconds of a call."""
  start = time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - start


def in_turns(calls, count: int) -> dict[str, float]:
  """The median of each, in seconds; a first round is not counted."""
  seconds = {name: [] for name in calls}
  for turn in range(count + 1):
    for name, call in calls.items():
      took = timed(call)
      if turn:
        seconds[name].append(took)
  return {name: statistics.median(each) for name, each in seconds.items()}


def of_drawing(config, number: int, count: int) -> dict[str, float]:
  """Seconds per element of one sequence, with a cache and without."""
  made = weights_lib.random(config)
  kept = autoregression.Sampler(made.config, number, None)
  length = autoregression.lengths(made.config)[0]
  prompt = np.random.default_rng(0).integers(BOS + 9, 200, size=length)
  samplers = {"kept": kept, "again": dataclasses.replace(kept, keeps=False)}
  calls = {
      name: lambda sampler=sampler: sampler(
          made.model, [prompt], sampling.Choice(), 0
      )
      for name, sampler in samplers.items()
  }
  each = in_turns(calls, count)
  return {name: each[name] / number for name in each}


def of_learning(config, length: int) -> tuple[Any, int]:
  """A training step of one example: a call, and its FLOPs."""
  changes = {"model.max_length": length, "batch_size": 1}
  made = build.build(settings.changed(config, changes))
  state, step = made.initial_state(), made.train_step()
  latents = autoregression.lengths(made.config)[1]
  batch = {
      "tokens": np.full([1, length + 1], BOS + 9, np.int32),
      "counted": np.full([1], latents, np.int32),
  }
  held = [state]

  def call():
    held[0], scalars = step(held[0], batch)
    return scalars["loss"]

  return call, made.network.flops_per_example()


def main() -> None:
  """Measures, and prints JSON."""
  config = settings.complete(command.config())
  drawing = of_drawing(config, _NUMBER.value, _CALLS.value)
  lengths = [int(x) for x in _LENGTHS.value]
  steps = {length: of_learning(config, length) for length in lengths}
  seconds = in_turns(
      {str(length): call for length, (call, _) in steps.items()}, _CALLS.value
  )
  first = str(lengths[0])
  print(
      json.dumps(
          {
              "seconds_an_element": drawing,
              "again_over_kept": drawing["again"] / drawing["kept"],
              "seconds_a_step": seconds,
              "step_over_first": {
                  name: each / seconds[first] for name, each in seconds.items()
              },
              "flops_over_first": {
                  str(length): flops / steps[lengths[0]][1]
                  for length, (_, flops) in steps.items()
              },
          },
          indent=1,
      )
  )


if __name__ == "__main__":
  command.run(main, needs_config=True)
