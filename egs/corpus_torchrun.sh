#!/usr/bin/env bash
# A token corpus on one node with several GPUs, or several nodes, started by torchrun: a part a GPU.
#   LISTING=talks.tsv OUT=tokens egs/corpus_torchrun.sh [CODEC]
# On more nodes give torchrun its options in TORCHRUN (--nnodes 4 --rdzv-endpoint host:29500 ...).
# Run it again to go on; every part that is complete is left alone.
set -euo pipefail
: "${LISTING:?what to encode}" "${OUT:?a folder that all nodes see}"
export LISTING OUT CODEC=${1:-speech}

# shellcheck disable=SC2086
torchrun ${TORCHRUN:---standalone --nproc-per-node "${GPUS:-1}"} --no-python bash -c '
  device=cpu
  if [ "${DEVICE:-cuda}" = cuda ]; then device=cuda:$LOCAL_RANK; fi
  audiotok corpus build "$LISTING" -o "$OUT.parts/$RANK" --shard "$RANK/$WORLD_SIZE" \
    --codec "$CODEC" --device "$device" --jobs 1
  if [ "$RANK" = 0 ]; then echo "$WORLD_SIZE" > "$OUT.parts/count"; fi'

last=$(($(cat "$OUT.parts/count") - 1))
# shellcheck disable=SC2046
if [ ! -e "$OUT" ]; then
  audiotok corpus merge $(seq -f "$OUT.parts/%.0f" 0 "$last") -o "$OUT"
fi
