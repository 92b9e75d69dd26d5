"""Runs commands in forks of one process, which has imported what takes long.

Each line of its input is a list: a module and arguments. For each it prints a
list: exit code, standard output, standard error. No command may have computed
anything before the next is forked; each is in a process of its own.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback

# Imported ahead; they define no flags but those that all commands share.
MODULES = (
    "experiments.digits",
    "experiments.engine.command",
    "experiments.engine.weights",
    "experiments.inference.commands",
    "experiments.train",
)


TIMEOUT = 300  # Seconds; then a command is killed.


def in_fork(module: str, *args: str) -> tuple[int, str, str]:
  """(exit code, standard output, standard error) of a command."""
  with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
    child = os.fork()
    if not child:
      _become(module, args, out.fileno(), err.fileno())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out.seek(0)
    err.seek(0)
    return code, out.read(), err.read()


def _become(module: str, args: tuple[str, ...], out: int, err: int) -> None:
  """Runs the command in this process, and ends it."""
  code = 1
  signal.alarm(TIMEOUT)
  try:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.argv = [module, *args]
    sys.modules.pop(module, None)  # As `python -m` finds it.
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as ended:
    code = ended.code if isinstance(ended.code, int) else bool(ended.code)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
  """Answers until its input ends."""
  for module in MODULES:
    importlib.import_module(module)
  for line in sys.stdin:
    print(json.dumps(in_fork(*json.loads(line))), flush=True)


if __name__ == "__main__":
  main()
