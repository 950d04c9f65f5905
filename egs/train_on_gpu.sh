#!/usr/bin/env bash
# Trains a codec's decoder on with discriminators of published size, in some minutes of one large GPU.
#   python egs/pack_speech.py data/speech.tsv speech.tar 40            # first, where the speech is
#   egs/train_on_gpu.sh speech.tar CHECKPOINT OUT [MINUTES]            # then, where the GPU is
# OUT gets the weights in files of less than 16 MB (`cat OUT/weights.*` is best.safetensors), the
# log, and a recording to hear. Run it again with the same OUT to go on after an interruption.
# DEVICE=cpu MORE="--set data.batch=2 ..." tries it without a GPU.
set -euo pipefail
packed=${1:?speech.tar} checkpoint=${2:?a checkpoint} out=${3:?a folder} minutes=${4:-10}
device=${DEVICE:-cuda} recipe=$(dirname "$0")/../recipes/speech_semantic_gpu.toml
reading=$(dirname "$0")/data/reading.flac
mkdir -p "$out"
settings=(--set "data.manifest=$packed" --set "data.cache=$out/cache"
  --set "train.start_from=$checkpoint" --device "$device")
# shellcheck disable=SC2206
settings+=(${MORE:-})

# The rate falls to zero over the last half of the steps, so their number must fit the time.
if [ ! -e "$out/steps" ]; then
  audiotok train "$recipe" "${settings[@]}" --dry-run | tee "$out/estimate"
  awk -v minutes="$minutes" '$1 == "a" && $2 == "step" {
    steps = int(0.85 * 60 * minutes / $3); print (steps < 2 ? 2 : steps)
  }' "$out/estimate" > "$out/steps"
fi
steps=$(cat "$out/steps")
echo "$steps steps in $minutes minutes"
audiotok train "$recipe" "${settings[@]}" -o "$out/run" --minutes "$minutes" \
  --set train.steps="$steps" --set train.cooldown=$((steps / 2)) --set train.warmup=$((steps / 50))

audiotok roundtrip "$reading" --codec "$out/run/best.safetensors" -o "$out/heard" --force
split --bytes=15000000 --numeric-suffixes "$out/run/best.safetensors" "$out/weights."
cp "$out/run/log.csv" "$out/"
