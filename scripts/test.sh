#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them; arguments go to pytest.
#   bash scripts/test.sh              all but the slow ones
#   bash scripts/test.sh -m fast      those of three minutes, while you work
#   bash scripts/test.sh -m slow      the slow ones
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --constraint constraints.txt \
  --editable '.[dev]'
.venv/bin/python -m pytest --numprocesses=2 --dist=loadfile \
  --no-loadscope-reorder "$@"
