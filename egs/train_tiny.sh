#!/usr/bin/env bash
# Trains a tiny codec on a folder of audio, on a CPU, in minutes, and lets you hear it.
#   egs/train_tiny.sh [FOLDER] [OUT]
# Without FOLDER it takes the recording that comes with the repository, cut in pieces: enough to
# see that all works, far too little to learn speech.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-} out=${2:-runs/tiny}
mkdir -p "$out"

if [ -z "$folder" ]; then
  folder=$out/pieces
  python - "$folder" <<'EOF'
import sys
from pathlib import Path

from audiotok import Audio

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
audio = Audio.load("egs/data/reading.flac")
for i in range(int(audio.seconds)):
    piece = audio[i * audio.rate : (i + 1) * audio.rate]
    piece.save(folder / f"piece{i:02}.wav", force=True)
EOF
fi

audiotok manifest "$folder" -o "$out/manifest.tsv" --split dev=0.1 --force
settings=(--set data.manifest="$out/manifest.tsv" --set data.cache="$out/cache")
audiotok train recipes/speech_tiny.toml "${settings[@]}" --dry-run
audiotok train recipes/speech_tiny.toml "${settings[@]}" -o "$out/run"
audiotok roundtrip egs/data/reading.flac --codec "$out/run/best.safetensors" -o "$out/heard" --force
