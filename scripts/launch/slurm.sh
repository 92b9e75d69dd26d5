#!/usr/bin/env bash
# Trains on the GPUs of one or several nodes, one process a GPU:
#
#   sbatch --nodes=2 scripts/launch/slurm.sh --config=configs/X.py --workdir=DIR
#
# from the repository's root. Arguments after the file go to the training
# command; options of sbatch stand before it. See docs/launching.md.
#SBATCH --job-name=perceiver
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.txt
set -euo pipefail

STOPPED=75 # The exit code of a run that SIGTERM came to before its end.

# The processes end each other by themselves, with a line that says why.
code=0
srun --kill-on-bad-exit=0 --label "${PYTHON:-.venv/bin/python}" -u \
  -m experiments.train --stopped_code="$STOPPED" "$@" || code=$?
if [ "$code" -eq "$STOPPED" ]; then
  scontrol requeue "$SLURM_JOB_ID" # The same command resumes.
fi
exit "$code"
