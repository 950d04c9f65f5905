#!/usr/bin/env bash
# Vec-Tok's two halves from recordings: tokens (units without the speaker's mean, BPE), and vectors:
#   egs/vec_tok.sh MANIFEST WEIGHTS RECORDING [OUT]     # splits train, dev; openai/whisper-base or a path
# Needs: pip install 'audiotok[units,lm]'. TEACHER, LAYER, HOURS, UNITS, PIECES, STEPS and WIDTH in the
# environment change what is made. Features are computed once and kept in OUT/features.
set -euo pipefail
manifest=$1
weights=$2
recording=$3
out=${4:-runs/vec_tok}
mkdir -p "$out"

echo "== recordings -> units: features less the mean of each recording, k-means"
audiotok units fit "$manifest" --teacher "${TEACHER:-whisper}" --weights "$weights" \
  --layer "${LAYER:-6}" --size "${UNITS:-300}" --hours "${HOURS:-4}" --centred \
  --cache "$out/features" -o "$out/units.safetensors"

echo "== recordings -> a corpus of units -> pieces of several units"
audiotok corpus build "$manifest" -o "$out/corpus" --codec "$out/units.safetensors" -j 1
audiotok lm pieces "$out/corpus" --split train --size "${PIECES:-8192}" -o "$out/layout.json"

echo "== units -> vectors: inverse k-means, and its error beside that of centroids"
audiotok units inverse "$out/units.safetensors" "$manifest" --hours "${HOURS:-4}" \
  --steps "${STEPS:-1500}" --width "${WIDTH:-256}" --cache "$out/features" -o "$out/inverse.safetensors"

echo "== one recording both ways"
audiotok lm ids "$recording" --layout "$out/layout.json" --codec "$out/units.safetensors" -o "$out/ids.npy" --force
audiotok encode "$recording" --codec "$out/units.safetensors" -o "$out/units.tok" --force
audiotok units vectors "$recording" --codec "$out/units.safetensors" -o "$out/voice.tok" --force
audiotok units recover "$out/units.tok" --inverse "$out/inverse.safetensors" \
  --prompt "$out/voice.tok" -o "$out/recovered.tok" --force
