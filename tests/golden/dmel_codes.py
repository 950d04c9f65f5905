"""Writes dmel_codes.npz: the codes that Apple's package gives two seconds of reading.

pip install dmel==1.0.1 einops librosa
python tests/golden/dmel_codes.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from dmel import DiscretizedLogMelFbank, LogMelFbank  # type: ignore

from audiotok import Audio

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    audio = Audio.load(ROOT / "egs/data/reading.flac", start=1, end=3.01).resample(16000)
    codes = {}
    for rate, stride in ((40, 25), (80, 12.5)):
        front = LogMelFbank(frame_stride_ms=stride)  # pyright: ignore[reportArgumentType]
        package = DiscretizedLogMelFbank(front, n_bits=4)
        marked = package(audio.samples, torch.tensor([len(audio)]))[0][0]  # type: ignore
        codes[f"dmel_{rate}hz"] = marked[1:-1].T.numpy().astype(np.uint8)
    np.savez_compressed(Path(__file__).with_name("dmel_codes.npz"), **codes)
