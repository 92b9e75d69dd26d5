#!/usr/bin/env bash
# From a fresh clone to a trained model: a virtual environment in .venv, the
# pinned dependencies, the digits, and a training run in runs/quickstart.
# Needs Python 3.11 or later (PYTHON=... names it) and git. Arguments are passed
# to the training command.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --constraint constraints.txt \
  --editable '.[train]'
.venv/bin/python -m scripts.prepare_data digits --data_dir=runs/data
# Large pages on Linux make the allocation of each step's memory faster.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
.venv/bin/python -m experiments.train --config=configs/quickstart.py \
  --config.data_dir=runs/data --workdir=runs/quickstart --stopped_code=130 "$@"
echo "predictions: $(ls -t runs/quickstart/figures/*-predictions-*.png | head -1)"
