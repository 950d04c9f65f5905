#!/usr/bin/env bash
# From recordings to what a language model says of them, in a few minutes of two cores:
#   egs/feed_a_lm.sh [FOLDER_OF_AUDIO] [OUT]
# Needs: pip install -e '.[lm,exporters,metrics]'. On the 10 s of this repository the model can do no
# more than learn them by heart; give it some hours, and a larger recipe, to hear more.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
audio=${1:-$root/egs/data}
out=${2:-runs/feed_a_lm}
mkdir -p "$out"

echo "== recordings -> a corpus of codes"
audiotok corpus build "$audio" -o "$out/tokens" --codec speech -j 1
audiotok corpus info "$out/tokens"

echo "== codes -> ids of a layout -> Parquet and a memory map"
for format in parquet npy; do
  audiotok export-corpus "$out/tokens" --to $format --pattern flat -k 2 -o "$out/$format"
done

echo "== read by a foreign library, back to the codes that went in"
python - "$out" <<'PYTHON'
import sys
import numpy as np
import pyarrow.parquet as parquet
from audiotok import Layout

layout = Layout.load(f"{sys.argv[1]}/parquet/layout.json")
rows = parquet.read_table(f"{sys.argv[1]}/parquet/shard-000000.parquet").to_pylist()
for row in rows:
    assert np.array_equal(layout.decode(np.array(row["ids"])), np.array(row["codes"])[:2])
print(f"{len(rows)} recordings, {sum(len(row['ids']) for row in rows)} ids, each decoded to its codes")
PYTHON

echo "== ids -> a language model"
audiotok lm train "$root/recipes/lm_units.toml" -o "$out/lm" --minutes 4 \
  --set "data.corpus=\"$out/tokens\"" --set 'data.train=""' --set 'data.validate=""' \
  --set model.dropout=0.0 --set train.steps=300 --set data.batch=4

echo "== the model -> ids of the layout -> audio, and its scores"
audiotok lm score "$out/lm/best.safetensors" "$out/tokens"
audiotok lm generate "$out/lm/best.safetensors" --seconds 4 -o "$out/spoken.wav" --force
python - "$out" <<'PYTHON'
import sys
from audiotok import Audio
from audiotok import find

spoken = Audio.load(f"{sys.argv[1]}/spoken.wav")
print(f"{sys.argv[1]}/spoken.wav: {spoken.seconds:.2f} s, peak {spoken.samples.abs().max():.2f}")
for name in ("dnsmos", "distillmos"):
    try:
        print(name, round(find("metrics", name)().score(spoken, spoken).value, 3))
    except (ImportError, ValueError) as error:
        print(f"{name}: not scored: {error}")
PYTHON
