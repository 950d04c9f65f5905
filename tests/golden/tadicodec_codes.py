"""Writes tadicodec_codes.npz: the codes that TaDiCodec's repository gives with random weights.

pip install transformers==4.46.3 einops librosa pyworld
PYTHONPATH=tests:DIFFUSION_SPEECH_TOKENIZER python tests/golden/tadicodec_codes.py

DIFFUSION_SPEECH_TOKENIZER is a checkout of HeCheng0625/Diffusion-Speech-Tokenizer at cc660a8. The
file holds names and shapes of the weights of a small model (whose values are those of
random_weights.py), and of a reading of whole frames and of one that is longer by 5 steps of the
spectrum the codes, signs before them, and the spectrum of the beginning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_weights import random_weights

from audiotok import Audio
from audiotok.audio import _torchaudio

_torchaudio.load()  # which the repository imports, and which may not load by itself

from models.codec.melvqgan.melspec import MelSpectrogram  # noqa: E402  # type: ignore
from models.tts.tadicodec.modeling_tadicodec import TaDiCodec  # noqa: E402  # type: ignore

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"mel_dim": 40, "in_dim": 40, "hidden_size": 128, "num_heads": 2}
SMALL |= {"encoder_num_layers": 3, "decoder_num_layers": 1, "text_vocab_size": 30}
FRAMES = 50

if __name__ == "__main__":
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(24000).samples
    model = TaDiCodec(**SMALL).eval()
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    kept = {key: value for key, value in model.state_dict().items() if key.startswith("bsq.")}
    model.load_state_dict(random_weights(shapes, gain=3.0) | kept)
    front = MelSpectrogram(1920, SMALL["mel_dim"], 24000, 480, 1920, 0, 12000)
    stored: dict[str, Any] = {"shapes": json.dumps(shapes)}
    for name, steps in (("whole", 8 * FRAMES), ("longer", 8 * FRAMES + 5)):
        with torch.no_grad():
            spectrum = front(reading[:, : 480 * steps])
            x = ((spectrum - -4.92) / 8.14**0.5).transpose(1, 2)
            entries, codes = model.encode(x, torch.ones(x.shape[:2]))
        stored[f"{name} codes"] = codes[0].numpy().astype(np.int32)
        if name == "whole":
            stored["spectrum"] = spectrum[0, :, :20].numpy()
            hidden = model.vq_out_linear(entries)[0, :10]
            stored["decoded"] = hidden.detach().numpy()
    np.savez_compressed(ROOT / "tests/golden/tadicodec_codes.npz", **stored)
