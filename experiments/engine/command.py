"""What every command does first: flags, the config, the other processes.

What a person got wrong ends in one line that says so and exit code 2.
"""

from collections.abc import Callable
import contextlib
import difflib
import errno
import functools
import os
import re
import sys
from typing import Any, NoReturn

from absl import app
from absl import flags
from absl import logging
import jax

from experiments.data.errors import DataError
from experiments.engine import extras
from experiments.engine import job
from experiments.engine import settings
from experiments.engine.errors import said
from experiments.engine.errors import UserError

CONFIG = flags.DEFINE_string(
    "config", None, "file.py[:variant]; --config.key=value changes a setting"
)
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "folder of the data sets, config.data_dir; default: the environment"
    " variable PERCEIVER_DATA, or else ~/tensorflow_datasets",
)
_changes: dict[str, str] = {}  # Dotted path -> value, as written.
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0 of several; auto: JAX finds all processes",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "number of processes"
)
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    "~/.cache/perceiver/compiled",
    "cache of compiled programs; empty: no cache",
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "index of this process")
_LOST_AFTER = flags.DEFINE_float(
    "lost_after",
    60.0,
    "seconds without a heartbeat after which a process counts as lost",
    lower_bound=1.0,
)


def run(main: Callable[[], int | None], needs_config: bool = True) -> None:
  """Runs a command: parses its flags, joins the other processes, calls it.

  What it returns is the exit code.
  """

  def without_arguments(arguments):
    if arguments:
      fail(f"unexpected arguments: {' '.join(arguments)}")
    return main()

  run_with_arguments(without_arguments, needs_config)


def run_with_arguments(
    main: Callable[[list[str]], int | None], needs_config: bool = False
) -> None:
  """Runs a command that takes words besides flags."""

  def guarded(argv):
    with one_line_errors():
      if needs_config and CONFIG.value is None:
        raise UserError("--config=configs/FILE.py[:variant] is missing")
      _keep_compiled()
      join_processes()
    with job.together(), one_line_errors():
      return main(argv[1:])

  quiet()
  app.run(guarded, flags_parser=parse)


def quiet() -> None:
  """Hides the log messages of libraries."""
  logging.set_verbosity(logging.FATAL)


def fail(message: str) -> NoReturn:
  """Ends the process, and the others of its job, with one line."""
  line = " ".join(message.split())
  # A name in a file must not reach the terminal as a command to it.
  line = "".join(c if c.isprintable() else "?" for c in line)
  _say(line)
  job.failed(line, 2)
  sys.exit(2)


@contextlib.contextmanager
def one_line_errors():
  """Prints errors of users as one line."""
  try:
    yield
  except (
      UserError,
      DataError,
      FileNotFoundError,
      IsADirectoryError,
      NotADirectoryError,
  ) as error:
    fail(said(error))
  except ModuleNotFoundError as error:
    told = extras.missing(error)
    if told is None:
      raise
    fail(told)
  except KeyboardInterrupt:
    _say("interrupted")
    job.failed("interrupted", 130)
    sys.exit(130)
  except Exception as error:
    reason = _of_the_system(error)
    if reason is None:
      raise
    _say(reason)
    job.failed(reason, 1)
    os._exit(1)  # What else wants to write at exit would only fail again.


def _say(line: str) -> None:
  try:
    print(f"error: {line}", file=sys.stderr, flush=True)
  except OSError:  # A file on a full disk; Python would try again at its end.
    sys.stderr = open(os.devnull, "w")


def join_processes() -> None:
  """Joins the job's other processes; alone, does nothing.

  They are found from the flags --coordinator, --num_processes, --process_id; or
  from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID; or from what
  SLURM, Kubernetes or a TPU pod say.

  Raises:
    UserError: if what is said of them is not whole, or they do not come.
  """
  env = os.environ.get
  address = _COORDINATOR.value or env("JAX_COORDINATOR_ADDRESS")
  if address == "auto":
    _join()
  elif address:
    try:
      count = _NUM_PROCESSES.value or int(os.environ["JAX_NUM_PROCESSES"])
      index = _PROCESS_ID.value
      if index is None:
        index = int(os.environ["JAX_PROCESS_ID"])
    except (KeyError, ValueError) as error:
      raise UserError(
          "--coordinator needs --num_processes and --process_id, or"
          f" JAX_NUM_PROCESSES and JAX_PROCESS_ID ({error})"
      ) from error
    _join(address, count, index)
  elif (
      int(env("SLURM_NTASKS", "1")) > 1
      and "SLURM_STEP_NODELIST" in os.environ
      or "JOB_COMPLETION_INDEX" in os.environ
      or "," in env("TPU_WORKER_HOSTNAMES", "")
  ):
    _join()


def _keep_compiled() -> None:
  """Turns JAX's compilation cache on, unless JAX's variable names one."""
  if _CACHE.value and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    folder = os.path.expanduser(_CACHE.value)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _join(*how) -> None:
  more = {}
  if how and "KUBERNETES_SERVICE_HOST" in os.environ:
    # JAX would ask Kubernetes for what it has been told already.
    more["cluster_detection_method"] = "deactivate"
  try:
    job.join(*how, lost_after=_LOST_AFTER.value, **more)
  except (RuntimeError, ValueError) as error:
    message = f"the other processes cannot be joined: {error}"
    raise UserError(message) from error


def parse(argv: list[str]) -> list[str]:
  """Parses flags; errors are one line."""
  app.define_help_flags()
  try:
    return flags.FLAGS(_take_changes(argv))
  except flags.UnrecognizedFlagError as error:
    name, dot, setting = error.flagname.partition(".")
    if dot and difflib.get_close_matches(name, ["config"]):
      fail(f"there is no flag --{name}.{setting}: --config.{setting}?")
    fail(str(error))
  except (flags.Error, ValueError) as error:
    fail(str(error))


def _of_the_system(error: BaseException | None) -> str | None:
  """A line for what the disk or the system refuses, at any depth of causes."""
  reasons = {
      errno.ENOSPC: "the disk is full",
      errno.EDQUOT: "the disk quota is used up",
      errno.EFBIG: "a file may not grow further",
      errno.EACCES: "permission denied",
      errno.EROFS: "the file system is read-only",
      errno.EPERM: "it is not permitted",
      errno.ENOTDIR: "not a folder",
      errno.ENAMETOOLONG: "a name is too long",
      errno.ELOOP: "links lead in a circle",
      errno.EMFILE: "too many files are open",
      errno.EIO: "the disk cannot be read or written",
  }
  while error is not None:
    for code, reason in reasons.items():
      same = isinstance(error, OSError) and error.errno == code
      if same or os.strerror(code).lower() in str(error).lower():
        return f"stopped, {reason}: {' '.join(str(error).split())}"
    error = error.__cause__ or error.__context__
  return None


def _take_changes(argv: list[str]) -> list[str]:
  """Keeps each --config.key=value, or --config.key value; returns the rest."""
  rest, args = [], iter(argv)
  for arg in args:
    found = re.fullmatch(r"--?config\.([^=]+)(?:=(.*))?", arg, re.DOTALL)
    if found is None:
      rest.append(arg)
      continue
    value = next(args, None) if found[2] is None else found[2]
    if value is None:
      raise ValueError(f"{arg} has no value: {arg}=VALUE")
    _changes[found[1]] = value
  return rest


@functools.cache
def config() -> Any:
  """The command's config, complete and with its changes; None without one.

  Raises:
    UserError: if there is no such file or variant, or a change is to what
      cannot be set.
  """
  return None if CONFIG.value is None else changed(settings.named(CONFIG.value))


def changed(found: Any) -> Any:
  """A config, complete and with the command's changes; raises as `config`."""
  changes = dict(_changes)
  if DATA_DIR.value is not None:
    changes["data_dir"] = DATA_DIR.value
  return settings.changed(found, changes, are_texts=True).lock()
