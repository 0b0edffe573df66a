#!/usr/bin/env bash
# Two processes on the cores of one machine, over gloo; the test suite trains through this file.
#
#     scripts/launch/two_cpu_processes.sh scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml
#
# `accelerate launch --cpu --num_processes 2` would start one process without a word.
set -euo pipefail
# More threads than cores make the processes wait for each other.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Without it each process trains alone, on all the data, where there is no GPU.
export ACCELERATE_USE_CPU=true
# Where no environment is active, the checkout's own, as `python` may be one without torch.
python="$(dirname "$0")/../../.venv/bin/python"
if [ -n "${VIRTUAL_ENV:-}" ] || [ ! -x "$python" ]; then python=python; fi
exec "${PYTHON:-$python}" -m torch.distributed.run --standalone --nproc_per_node "${PROCESSES:-2}" "$@"
