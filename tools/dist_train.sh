#!/usr/bin/env bash
# Trains with several processes, one per GPU; on a machine without GPUs, GPUS counts the processes on the CPU.
#
#   bash tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]
#
# NNODES, NODE_RANK, MASTER_ADDR and PORT as in the OpenMMLab tools; two runs on one machine need different PORTs.
# PYTHON names the Python (default: python).
set -euo pipefail

if [ $# -lt 2 ] || ! [[ "$2" =~ ^[1-9][0-9]*$ ]]; then
  echo 'usage: bash tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py], with GPUS a number' >&2
  exit 2
fi
config="$1"
gpus="$2"
tools="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$gpus" \
  "$tools/train.py" "$config" --launcher pytorch "${@:3}"
