#!/usr/bin/env bash
# Installs the requirements of the tests into .venv and runs the tests. Arguments
# are passed to pytest.
#   bash scripts/test.sh                  all tests except the slow ones
#   bash scripts/test.sh -m fast          tests of three minutes, while you work
#   bash scripts/test.sh -m slow          slow tests
#   bash scripts/test.sh -m accelerators  tests of programs for TPUs and GPUs, in
#                                         .venv-accelerators, with the compilers
#                                         (6 GB; needs neither TPU nor GPU)
#   bash scripts/test.sh --newest         in .venv-newest, with the newest version
#                                         of every package, beyond setup.py's
#                                         bounds
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.venv
extras=dev
processes=2
case "$*" in
*"-m accelerators"*)
  environment=.venv-accelerators
  extras=dev,tpu-compiler,cuda-compiler
  processes=1 # Each program takes up to 4 GiB to compile.
  ;;
--newest*)
  shift
  environment=.venv-newest
  ;;
esac
python="$environment/bin/python"
[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$environment"
if [ "$environment" != .venv-newest ]; then
  "$python" -m pip install --quiet --constraint constraints.txt \
    --editable ".[$extras]"
else
  "$python" -m pip install --quiet --no-deps --editable .
  # The requirements of '.[dev]' without bounds.
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
"$python" -m pytest --numprocesses="$processes" --dist=loadfile \
  --no-loadscope-reorder "$@"
