#!/usr/bin/env bash
# torch 2.13.0, snac 1.2.1: folding weight norm in a deep copy of a codec breaks the original.
#
# To export a codec in the middle of a training one copies it, folds the weight norm of the copy and
# goes on with the original, which one expects to be untouched. With
# torch.nn.utils.parametrizations.weight_norm, which SNAC has, each layer gets a class of its own
# whose property `weight` computes the weight; copy.deepcopy makes
# copies of the layers that share these classes, and remove_parametrizations deletes the property from
# the class. So the original has no weights at the next step, though its state dict and is_parametrized
# say that nothing has changed. The way out: build a second codec and load the state dict into it.
#
# Seen 2026-11-30, Linux x86-64, Python 3.11:
#   second codec, folded: as before
#   original after it: as before
#   deep copy, folded: as before
#   original after it: 'ParametrizedConv1d' object has no attribute 'weight'
#   original's state dict: as before, is_parametrized: True
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6 einops==0.8.1
"$work/venv/bin/pip" install --quiet --no-deps snac==1.2.1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import copy
import sys

import torch
from snac import SNAC
from torch.nn.utils import parametrize

CONFIG = {"encoder_dim": 4, "encoder_rates": [2, 2], "decoder_dim": 16, "decoder_rates": [2, 2]}
OTHER = {"attn_window_size": None, "codebook_size": 8, "vq_strides": [2, 1], "noise": False}


def fold(codec):
    """Replace each weight norm by the weight that it computes."""
    for layer in codec.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")


def outcome(codec):
    """Return whether a codec does what it did, or in which words it does not."""
    try:
        same = torch.allclose(codec(audio)[0], before, atol=1e-5)
    except AttributeError as error:
        return str(error)
    return "as before" if same else "another wave"


torch.manual_seed(0)
audio = 0.1 * torch.randn(1, 1, 800)
original = SNAC(**CONFIG, **OTHER).eval()
with torch.no_grad():
    before = original(audio)[0]
    second = SNAC(**CONFIG, **OTHER).eval()
    second.load_state_dict(original.state_dict())
    fold(second)
    seen = [outcome(second), outcome(original)]
    weights = copy.deepcopy(original.state_dict())
    twin = copy.deepcopy(original)
    fold(twin)
    seen += [outcome(twin), outcome(original)]
state = original.state_dict()
kept = list(state) == list(weights) and all(torch.equal(state[name], weights[name]) for name in state)
marked = parametrize.is_parametrized(original.encoder.block[0], "weight")
titles = ("second codec, folded", "original after it", "deep copy, folded", "original after it")
for title, words in zip(titles, seen):
    print(f"{title}: {words}")
print(f"original's state dict: {'as before' if kept else 'other'}, is_parametrized: {marked}")
same = seen[:3] == ["as before"] * 3 and "no attribute 'weight'" in seen[3] and kept and marked
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
