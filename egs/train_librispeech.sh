#!/usr/bin/env bash
# Trains a published recipe at full size on LibriSpeech, on a node with GPUs, from nothing.
#   egs/train_librispeech.sh [RECIPE] [FOLDER]      RECIPE: speechtokenizer (default), dac_16k ...
# Needs about 60 GB for the archives, as much for the audio, and 110 GB for the decoded cache (set
# data.direct=true to do without the cache). Run it again to go on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
recipe=${1:-speechtokenizer} folder=${2:-data}
mkdir -p "$folder"

for part in train-clean-100 train-clean-360 train-other-500 dev-clean; do
  if [ ! -d "$folder/LibriSpeech/$part" ]; then
    curl --fail --location --continue-at - -o "$folder/$part.tar.gz" \
      "https://www.openslr.org/resources/12/$part.tar.gz"
    tar -xzf "$folder/$part.tar.gz" -C "$folder"
  fi
done

manifest=$folder/librispeech.tsv
[ -f "$manifest" ] || audiotok manifest "$folder/LibriSpeech" -o "$manifest" --split dev=0.01

# Under a launcher every process takes its own batches; on one GPU this is the same as without.
accelerate launch --module audiotok train "recipes/$recipe.toml" -o "runs/$recipe" --device cuda \
  --set data.manifest="$manifest" --set train.precision=bf16 --set train.compile=true
