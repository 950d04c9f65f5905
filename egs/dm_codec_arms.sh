#!/usr/bin/env bash
# DM-Codec's four arms (none, LM, SM, LM+SM; arXiv:2410.15017): the same seed and crops, WER and WIL in pairs.
#
#   egs/dm_codec_arms.sh MANIFEST OUT [further options of egs/run_arms.py]
#
# MANIFEST has splits train, dev and test, and transcripts. SIZE=_tiny before the command takes small sizes,
# RECIPES=twins the network of `speech`, with Whisper for the speech model, in minutes of a CPU. Weights of the
# teachers: BERT=PATH, HUBERT=PATH or WHISPER=PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
manifest=$1 out=$2 recipes=recipes/${RECIPES:-dm_codec} size=${SIZE:-}
shift 2
speech=distillation.teachers.hubert.weights=${HUBERT:-facebook/hubert-base-ls960}
bert=distillation.teachers.text.weights=${BERT:-google-bert/bert-base-uncased}
if [ "${RECIPES:-}" = twins ]; then
  speech=distillation.teachers.whisper.weights=${WHISPER:-openai/whisper-tiny}
  bert=distillation.teachers.text.weights=${BERT:-sentence-transformers/all-MiniLM-L6-v2}
fi
python egs/run_arms.py "$out" \
  --arm "none=${recipes}_sm$size.toml,loss.distillation=0" \
  --arm "lm=${recipes}_lm$size.toml,$bert" \
  --arm "sm=${recipes}_sm$size.toml,$speech" \
  --arm "lm_sm=${recipes}_lm_sm$size.toml,$speech,$bert" \
  --set "data.manifest=$manifest" --set data.aligned=true \
  --data "$manifest" --split test --metrics "${METRICS:-wer,wil}" "$@"
