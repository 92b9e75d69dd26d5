"""Times, rates and memory of calls, by the standard library only.

Other software is measured by it too, where this project is not installed.
"""

from collections.abc import Callable
import json
import statistics
import sys
import time
from typing import Any

MATRIX = 2048  # Rows and columns of the product that sets the scale.


def timed(call: Callable[[], object], calls: int) -> list[float]:
  """Seconds of each call after a first one."""
  seconds = []
  for _ in range(calls + 1):
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
  return seconds[1:]


def serve(call: Callable[[], object], result: Callable[[], Any]) -> None:
  """Calls a function on request, so that programs are measured in turns.

  After a first call it makes one for each line of the standard input, and
  prints its seconds; at the input's end it prints `result()`. Each is a line of
  JSON.
  """
  call()
  print(json.dumps("ready"), flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    call()
    print(json.dumps(time.perf_counter() - start), flush=True)
  print(json.dumps(result()), flush=True)


def product_rate(product: Callable[[], object]) -> float:
  """FLOP/s of a matrix product of the size `MATRIX`."""
  return 2 * MATRIX**3 / statistics.median(timed(product, 11)[1:])


def peak_bytes() -> int:
  """The peak memory of this process."""
  with open("/proc/self/status") as file:
    lines = dict(line.split(":", 1) for line in file)
  return int(lines["VmHWM"].split()[0]) * 1024
