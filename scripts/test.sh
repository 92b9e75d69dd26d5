#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them; arguments go to pytest.
#   bash scripts/test.sh              all but the slow ones
#   bash scripts/test.sh -m fast      those of three minutes, while you work
#   bash scripts/test.sh -m slow      the slow ones
#   bash scripts/test.sh --newest     in .venv-newest, with the newest version
#                                     of every package, beyond setup.py's bounds
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.venv
if [ "${1:-}" = --newest ]; then
  shift
  environment=.venv-newest
fi
python="$environment/bin/python"
[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$environment"
if [ "$environment" = .venv ]; then
  "$python" -m pip install --quiet --constraint constraints.txt \
    --editable '.[dev]'
else
  "$python" -m pip install --quiet --no-deps --editable .
  # What '.[dev]' asks for, without the bounds.
  "$python" - <<'END' >"$environment/newest.txt"
import importlib.metadata
import re

for line in importlib.metadata.requires("perceiver-io-jax"):
  package, _, extra = line.partition(";")
  if not extra or "dev" in re.findall(r"\w+", extra):
    print(re.sub(r",?<[\w.]+,?", "", package))
END
  "$python" -m pip install --quiet --upgrade --upgrade-strategy eager \
    --requirement "$environment/newest.txt"
fi
"$python" -m pytest --numprocesses=2 --dist=loadfile \
  --no-loadscope-reorder "$@"
