#!/usr/bin/env bash
# Installs the requirements of the site into .venv and builds the site in
# build/docs/html. Warnings, such as broken links and anchors, are errors.
#   bash scripts/docs.sh              build/docs/html/index.html
#   bash scripts/docs.sh --external   also checks links to other sites
# PYTHON_DOCS=... names a Python that has the requirements.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON_DOCS:-}"
if [ -z "$python" ]; then
  python=.venv/bin/python
  [ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
  "$python" -m pip install --quiet --constraint constraints.txt \
    --editable '.[all,docs]'
fi
export JAX_PLATFORMS=cpu
build() {
  "$python" -m sphinx --fail-on-warning --keep-going --quiet --jobs=auto \
    --conf-dir=docs --builder="$1" --doctree-dir=build/docs/doctrees \
    . "build/docs/$1"
}
build html
# The recorded runs, to which docs/results links.
"$python" -m scripts.report --runs=docs/results/runs \
  --output=build/docs/html/docs/results/runs
if [ "${1:-}" = --external ]; then
  build linkcheck
fi
echo "build/docs/html/index.html"
