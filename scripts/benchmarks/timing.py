"""Times, rates and memory of calls, with nothing but Python's own library.

Other software is measured by it too, where this project is not installed.
"""

from collections.abc import Callable
import statistics
import time

MATRIX = 2048  # Rows and columns of the product that sets the scale.


def timed(call: Callable[[], object], calls: int) -> list[float]:
  """Seconds of each call after a first one."""
  seconds = []
  for _ in range(calls + 1):
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
  return seconds[1:]


def product_rate(product: Callable[[], object]) -> float:
  """FLOP/s of a matrix product of the size `MATRIX`."""
  return 2 * MATRIX**3 / statistics.median(timed(product, 11)[1:])


def peak_bytes() -> int:
  """The most memory that this process has had so far."""
  with open("/proc/self/status") as file:
    lines = dict(line.split(":", 1) for line in file)
  return int(lines["VmHWM"].split()[0]) * 1024
