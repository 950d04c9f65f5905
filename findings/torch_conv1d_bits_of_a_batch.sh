#!/usr/bin/env bash
# torch 2.13.0, CPU: a short signal has other last bits alone than in a batch, up to 20,480 numbers.
#
# A tokenizer promises that a recording has the same codes alone and in a batch. One expects that of a
# convolution, where rows do not see each other, or expects that it never holds to the bit. Neither
# is so: without gradients, torch computes conv1d by code of its own for one signal of at most 20,480
# numbers (features times steps), and by oneDNN for a longer one or for two. So two rows of 64 features
# and 320 steps differ from each alone in the last bits, and with 321 steps they do not. Where two
# entries of a codebook are about as near, that is another code. The way out: steps that are
# large enough, or a batch of one repeated.
#
# Seen 2026-11-30, Linux x86-64, Python 3.11, one thread:
#   64 x 320 =  20480 numbers: alone and in a batch differ by up to 1e-06
#   64 x 321 =  20544 numbers: the same bits
#  128 x 160 =  20480 numbers: alone and in a batch differ by up to 1e-06
#  128 x 161 =  20608 numbers: the same bits
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
seen = []
with torch.no_grad():
    for features, steps in ((64, 320), (64, 321), (128, 160), (128, 161)):
        layer = torch.nn.Conv1d(features, features, 7)
        signals = torch.randn(2, features, steps)
        alone = torch.cat([layer(signal[None]) for signal in signals])
        apart = float((layer(signals) - alone).abs().max())
        words = f"alone and in a batch differ by up to {apart:.0e}" if apart else "the same bits"
        print(f"{features:4} x {steps} = {features * steps:6} numbers: {words}")
        seen.append(apart)
same = seen[0] > 0 and seen[1] == 0 and seen[2] > 0 and seen[3] == 0
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
