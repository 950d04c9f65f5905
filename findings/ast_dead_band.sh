#!/usr/bin/env bash
# torchaudio 2.11.0: one of the 128 mel bands that AST and BEATs read says nothing of the audio.
#
# Both read 128 bands of torchaudio's Kaldi-compatible fbank at 16 kHz, and one expects a feature in
# each. The low bands are narrower than the 31.25 Hz between two bins of the 512-point spectrum (25 ms
# of audio, padded): the triangle of the fourth holds no bin, so the band is the logarithm of the
# smallest float step, whatever the audio is. Kaldi's own code (kaldi-native-fbank) refuses these
# settings, and torchaudio's, ported from it, computes them without a warning. A port that drops,
# mends or widens the band feeds the published weights something they never saw; normalising features by
# a deviation per band divides by zero there. With 124 bands each holds something.
#
# Seen 2026-11-30, Linux x86-64, Python 3.11:
#   bands  constant bands       Kaldi's own code
#      80  none                 accepts
#     124  none                 accepts
#     128  [3] at -15.94        refuses: You may have set num_mel_bins too large.
#   warnings of torchaudio: 0
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6 kaldi-native-fbank==1.23.0
"$work/venv/bin/pip" install --quiet --no-deps torchaudio==2.11.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import importlib.util
import math
import sys
import types
import warnings

import kaldi_native_fbank
import torch

package = types.ModuleType("torchaudio")  # without its compiled parts, which fbank does not use
package.__path__ = importlib.util.find_spec("torchaudio").submodule_search_locations
sys.modules["torchaudio"] = package
from torchaudio.compliance.kaldi import fbank

RATE = 16000
SETTINGS = {"htk_compat": True, "window_type": "hanning", "dither": 0.0, "frame_shift": 10}


def native(bands):
    """Return what Kaldi's own code says of a number of bands."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.mel_opts.num_bins = bands
    try:
        kaldi_native_fbank.OnlineFbank(options)
    except ValueError as error:
        return f"refuses: {error}"
    return "accepts"


torch.manual_seed(0)
time = torch.arange(RATE) / RATE
sweep = torch.sin(2 * math.pi * (20 * time + 3990 * time**2))
audio = torch.stack([torch.cat([scale * sweep, 0.1 * torch.randn(RATE)]) for scale in (0.01, 0.9)])
seen = {}
print("bands  constant bands       Kaldi's own code")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for bands in (80, 124, 128):
        clips = [fbank(clip[None], sample_frequency=RATE, num_mel_bins=bands, **SETTINGS) for clip in audio]
        features = torch.cat(clips)
        dead = [band for band in range(bands) if bool((features[:, band] == features[0, band]).all())]
        seen[bands] = dead, native(bands)
        words = f"{dead} at {float(features[0, dead[0]]):.2f}" if dead else "none"
        print(f"{bands:5}  {words:20} {seen[bands][1]}")
print(f"warnings of torchaudio: {len(caught)}")
same = [dead for dead, _ in seen.values()] == [[], [], [3]] and not caught
same &= [words.split(":")[0] for _, words in seen.values()] == ["accepts", "accepts", "refuses"]
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
