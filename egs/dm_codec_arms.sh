#!/usr/bin/env bash
# DM-Codec's four arms (none, LM, SM, LM+SM; arXiv:2410.15017): the same seed and crops, WER and WIL in pairs.
#
#   egs/dm_codec_arms.sh MANIFEST OUT [further options of egs/run_arms.py]
#
# MANIFEST has splits train, dev and test, and transcripts. Small sizes: SIZE=_tiny before the command. Weights
# of the teachers: --set distillation.teachers.hubert.weights=PATH is for arms that have that teacher; give
# HUBERT=PATH and BERT=PATH instead.
set -euo pipefail
cd "$(dirname "$0")/.."
manifest=$1 out=$2 size=${SIZE:-}
shift 2
hubert=distillation.teachers.hubert.weights=${HUBERT:-facebook/hubert-base-ls960}
bert=distillation.teachers.text.weights=${BERT:-google-bert/bert-base-uncased}
python egs/run_arms.py "$out" \
  --arm "none=recipes/dm_codec_sm$size.toml,loss.distillation=0" \
  --arm "lm=recipes/dm_codec_lm$size.toml,$bert" \
  --arm "sm=recipes/dm_codec_sm$size.toml,$hubert" \
  --arm "lm_sm=recipes/dm_codec_lm_sm$size.toml,$hubert,$bert" \
  --set "data.manifest=$manifest" --set data.aligned=true \
  --data "$manifest" --split test --metrics wer,wil "$@"
