"""Has the last word for a process that cannot have it itself.

JAX aborts a process as soon as process 0 is out of reach, and a process that is
killed says nothing at all. This program runs beside a process of a job, imports
nothing large, is told over a pipe what there is to know, and speaks once the
pipe closes without a farewell.
"""

import contextlib
import json
import pathlib
import signal
import socket
import sys
from typing import Any

TRIES = 3  # Each waits so many seconds at most.


def last_checkpoint(place: str | None) -> str:
  """What a message says of a run's newest finished checkpoint, if any.

  Args:
    place: where its checkpoints are, a folder or a URL.
  """
  if place is None:
    return ""
  if "://" in place:  # What could look there is large, and may hang.
    newest = f"in {place}"
  else:
    folder, steps = pathlib.Path(place), []
    with contextlib.suppress(OSError):
      steps = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
    if not steps:
      return ""
    newest = folder / str(max(steps))
  return f"; the last checkpoint: {newest}; the same command goes on from it"


def last_words(about: dict[str, Any]) -> str:
  """The line for a process that ended without a farewell.

  Args:
    about: `process` and `processes`, its number and how many there are;
      `coordinator`, process 0's HOST:PORT; `joined`, whether they have met;
      `checkpoints`, where they are, if the run has any. What is not known yet
      is missing.
  """
  if not about.get("joined"):
    who = "this process"
    if about:
      who = "process {process} of {processes}".format(**about)
    return (
        f"error: {who} ended before all had met at"
        f" {about.get('coordinator', 'the coordinator')}; they wait for each"
        " other for five minutes"
    )
  index, count = about["process"], about["processes"]
  if index and not _answers(about["coordinator"]):
    line = f"error: process 0 of {count} is lost, {about['coordinator']} closed"
  else:
    line = (
        f"error: process {index} of {count} ended without a word: killed, or"
        " out of memory?"
    )
  return line + last_checkpoint(about.get("checkpoints"))


def _answers(address: str) -> bool:
  host, port = address.rsplit(":", 1)
  for _ in range(TRIES):
    try:
      socket.create_connection((host.strip("[]"), int(port)), TRIES).close()
    except ConnectionRefusedError:
      return False
    except OSError:
      continue
    return True
  return False


def main() -> None:
  """Reads objects in JSON, one a line; an empty one is the farewell."""
  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)  # They are meant for the process.
  about: dict[str, Any] = {}
  for line in sys.stdin:
    told = json.loads(line)
    if not told:
      return
    about |= told
  words = last_words(about)
  print(words, file=sys.stderr, flush=True)
  if "log" in about:
    with contextlib.suppress(OSError), open(about["log"], "a") as log:
      log.write(words + "\n")


if __name__ == "__main__":
  main()
