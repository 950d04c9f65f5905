#!/usr/bin/env bash
# A token corpus on one node with several GPUs, or several nodes, started by torchrun: a part a GPU.
#   LISTING=talks.tsv OUT=tokens egs/corpus_torchrun.sh [CODEC]
# On more nodes give torchrun its options in TORCHRUN (--nnodes 4 --rdzv-endpoint host:29500 ...),
# and start this on each of them; the node that ends last joins the parts.
# Run it again to go on; what is complete is left alone.
set -euo pipefail
: "${LISTING:?what to encode}" "${OUT:?a folder that all nodes see}"
case $OUT in *://*) echo "OUT=$OUT: parts are joined in a folder, not behind a URL" >&2; exit 2 ;; esac
export LISTING OUT CODEC=${1:-speech}
mkdir -p "$OUT.parts"

# shellcheck disable=SC2086
torchrun ${TORCHRUN:---standalone --nproc-per-node "${GPUS:-1}"} --no-python bash -c '
  device=cpu
  if [ "${DEVICE:-cuda}" = cuda ]; then device=cuda:$LOCAL_RANK; fi
  echo "$WORLD_SIZE" > "$OUT.parts/count.$RANK"
  audiotok corpus build "$LISTING" -o "$OUT.parts/$RANK" --shard "$RANK/$WORLD_SIZE" \
    --codec "$CODEC" --device "$device" --jobs 1 --accept-missing'

counts=("$OUT".parts/count.*)
count=$(< "${counts[0]}")
parts=()
for ((rank = 0; rank < count; rank++)); do
  parts+=("$OUT.parts/$rank")
  if [ ! -e "$OUT.parts/$rank/corpus.json" ]; then
    echo "$OUT.parts/$rank: another node still builds it, and joins the parts"
    exit 0
  fi
done
audiotok corpus merge "${parts[@]}" -o "$OUT"
