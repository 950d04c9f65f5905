#!/usr/bin/env bash
# libsndfile 1.2.2 (soundfile 0.14.0): 32-bit ALAC is lossless for tones and wrong for loud noise.
#
# A guess that holds for 16, 20 and 24 bits: what is written as ALAC, a lossless format, comes back
# to half a step. With subtype ALAC_32 it does for a full-scale tone, but white noise with a peak of
# 0.45 comes back with nearly every sample wrong, by more than 1.0 of full scale at worst, and no
# error on writing or reading. White noise with a peak of 0.1 is right, so a check on quiet audio
# does not show it.
#
# Seen 2026-11-29, Linux x86-64, Python 3.11:
#   ALAC_24 tone 0.9   worst 0.0000001  wrong   0.0 %
#   ALAC_24 noise 0.1  worst 0.0000001  wrong   0.0 %
#   ALAC_24 noise 0.45 worst 0.0000001  wrong   0.0 %
#   ALAC_32 tone 0.9   worst 0.0000000  wrong   0.0 %
#   ALAC_32 noise 0.1  worst 0.0000000  wrong   0.0 %
#   ALAC_32 noise 0.45 worst 1.4327888  wrong  99.9 %   (1.4413452 with another numpy: the worst
#                                                        varies, the share does not)
# The way out: ALAC_24, FLAC, or WAV with 32-bit floats.
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet soundfile==0.14.0 numpy==2.2.6
"$work/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import soundfile

print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}")
time = np.arange(16000) / 16000
noise = np.random.default_rng(0).uniform(-1, 1, 16000)
signals = {
    "tone 0.9": 0.9 * np.sin(2 * np.pi * 440 * time),
    "noise 0.1": 0.1 * noise,
    "noise 0.45": 0.45 * noise,
}
wrong = {}
for subtype in ("ALAC_24", "ALAC_32"):
    for name, samples in signals.items():
        file = io.BytesIO()
        soundfile.write(file, samples, 16000, format="CAF", subtype=subtype)
        file.seek(0)
        error = np.abs(soundfile.read(file)[0] - samples)
        wrong[subtype, name] = float((error > 1e-3).mean())
        share = 100 * wrong[subtype, name]
        print(f"{subtype} {name:10} worst {error.max():.7f}  wrong {share:5.1f} %")
bad = [key for key, share in wrong.items() if share > 0]
same = bad == [("ALAC_32", "noise 0.45")] and wrong[bad[0]] > 0.9
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
