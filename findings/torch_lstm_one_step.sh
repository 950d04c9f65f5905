#!/usr/bin/env bash
# torch 2.13.0, CPU: one step of an LSTM takes as long as a dozen or more.
#
# A codec that streams runs its LSTM a frame at a time (EnCodec's and SpeechTokenizer's have 512 and
# 1,024 features). One expects a frame to cost what a frame of a long recording does, or twice as
# much. Without gradients torch hands the LSTM to oneDNN, which puts its weights, 33 MB at 1,024
# features, into an order of its own in every call, however short. With oneDNN turned off for the
# call (torch.backends.mkldnn.flags(enabled=False)) one step is several times as fast, and a long
# recording slower: neither way is the right one for both.
#
# Seen 2026-11-30, Linux x86-64 (AMD EPYC with AVX-512), Python 3.11, one thread:
#   1024 features, one step: 6.9 ms by oneDNN, 1.5 ms without it: 4.6 times
#   1024 features, 200 steps: 0.42 ms a step by oneDNN: one step alone costs 16 of these
#
# Exits with 0 as long as one step alone costs more than 4 of a long run, and more than 2 times what it
# costs without oneDNN; with 1 when that has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
FEATURES, LONG = 1024, 200


def least(call, times=15):
    """Return the least of the times that a call takes, in ms."""
    spans = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spans.append(1000 * (time.perf_counter() - begin))
    return min(spans)


with torch.no_grad():
    lstm = torch.nn.LSTM(FEATURES, FEATURES)
    step, run = torch.randn(1, 1, FEATURES), torch.randn(LONG, 1, FEATURES)
    alone, of_many = least(lambda: lstm(step)), least(lambda: lstm(run), 5) / LONG
    with torch.backends.mkldnn.flags(enabled=False):
        without = least(lambda: lstm(step))
print(
    f"{FEATURES} features, one step: {alone:.1f} ms by oneDNN, {without:.1f} ms without it:"
    f" {alone / without:.1f} times"
)
print(
    f"{FEATURES} features, {LONG} steps: {of_many:.2f} ms a step by oneDNN:"
    f" one step alone costs {alone / of_many:.0f} of these"
)
same = alone > 4 * of_many and alone > 2 * without
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
