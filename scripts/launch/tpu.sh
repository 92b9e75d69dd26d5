#!/usr/bin/env bash
# Trains on a Cloud TPU slice of one or many hosts, one process a host:
#
#   TPU=my-slice ZONE=us-central2-b bash scripts/launch/tpu.sh install URL
#   TPU=my-slice ZONE=us-central2-b bash scripts/launch/tpu.sh train \
#     --config=configs/X.py --config.data_dir=/shared/data --workdir=/shared/X
#
# The slice exists already. See docs/launching.md.
set -euo pipefail

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "${TPU:?the name of the slice}" \
    --zone="${ZONE:?the zone of the slice}" --worker=all --command="$1"
}

case "${1:-}" in
  install)
    repository="${2:?where to clone from}"
    on_all_hosts "set -e
      [ -d perceiver ] || git clone -q '$repository' perceiver
      cd perceiver
      git pull -q --ff-only
      [ -x .venv/bin/python ] || python3 -m venv .venv
      .venv/bin/python -m pip install -q -c constraints.txt -e '.[all,tpu]'"
    ;;
  train)
    shift
    # --coordinator=auto: JAX asks the slice's metadata for the other hosts.
    on_all_hosts "cd perceiver && exec .venv/bin/python -u \
      -m experiments.train --coordinator=auto $(printf '%q ' "$@")"
    ;;
  *)
    echo "usage: TPU=NAME ZONE=ZONE bash $0 install URL | train FLAGS" >&2
    exit 2
    ;;
esac
