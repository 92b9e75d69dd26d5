"""Tasks, and the engine that trains and evaluates them."""

import importlib.util

# The library alone may be installed. What a task needs beside this is said by
# experiments/engine/extras.py.
if importlib.util.find_spec("absl") is None:
  raise ModuleNotFoundError(
      "experiments and scripts need more than the library: pip install -e"
      " '.[train]', or '.[all]' for every task",
      name="absl",
  )
