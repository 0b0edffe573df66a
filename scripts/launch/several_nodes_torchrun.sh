#!/usr/bin/env bash
# The same command on every machine, NODE_RANK apart. Unmeasured: no such machines were at hand; the test suite runs it
# as two "nodes" of one process each on the cores of one machine.
#
#     MASTER_ADDR=node0 NODES=2 NODE_RANK=0 scripts/launch/several_nodes_torchrun.sh \
#         scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml   # on node0
#     MASTER_ADDR=node0 NODES=2 NODE_RANK=1 scripts/launch/several_nodes_torchrun.sh ...   # on the other
#
# `output_dir` must lie on a file system that all machines share.
set -euo pipefail
: "${MASTER_ADDR:?name of the first machine, as the others reach it}"
: "${NODES:?number of machines}"
: "${NODE_RANK:?place of this machine, 0 for the first}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Where no environment is active, the checkout's own, as `python` may be one without torch.
python="$(dirname "$0")/../../.venv/bin/python"
if [ -n "${VIRTUAL_ENV:-}" ] || [ ! -x "$python" ]; then python=python; fi
exec "${PYTHON:-$python}" -m torch.distributed.run \
    --nnodes "$NODES" \
    --node_rank "$NODE_RANK" \
    --nproc_per_node "${GPUS_PER_NODE:-8}" \
    --master_addr "$MASTER_ADDR" \
    --master_port "${MASTER_PORT:-29500}" \
    "$@"
