"""Writes ichigo_codes.npz: codes and features that the package ichigo-whisper gives a small model.

pip install --no-deps ichigo-whisper==2.3.0 vector-quantize-pytorch==1.6.22 openai-whisper einops
PYTHONPATH=tests python tests/golden/ichigo_codes.py

The weights are those of random_weights.py, and a few entries that are near its latents, one of them
that of the mask.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from peers import modules
from random_weights import random_weights
from torch.nn import functional as F

from audiotok import Audio

with modules("ichigo_whisper", "ichigo_whisper.data"):  # without what its training needs
    from ichigo_whisper.config.vq_config import VQConfig  # type: ignore
    from ichigo_whisper.models.vq_transformer import RQBottleneckTransformer  # type: ignore
    from whisper.model import AudioEncoder  # type: ignore

ROOT = Path(__file__).parents[2]
GAIN = 2.0
NEAR = range(2000, 2064)  # entries near latents
DIMS = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 128, "n_audio_head": 2}
DIMS |= {"n_audio_layer": 2}

if __name__ == "__main__":
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(16000).samples
    sizes: dict[str, Any] = {"codebook_dim": 64, "vq_codes": 2560, "n_head": 2, "downsample": 2}
    kept: dict[str, Any] = {"depth": 1, "q_depth": 1, "threshold_ema_dead_code": 0}
    kept |= {"use_cosine_sim": True, "whisper_model_name": "medium", "config": VQConfig()}
    package = RQBottleneckTransformer(**sizes, **kept).eval()
    encoder = AudioEncoder(*DIMS.values()).eval()
    stored: dict[str, Any] = {"dims": json.dumps(DIMS)}
    for name, part in (("quantizer", package), ("whisper", encoder)):
        state = part.state_dict()
        shapes = {key: list(value.shape) for key, value in state.items()}
        own = {k: v for k, v in state.items() if "positional" in k and name == "whisper"}
        own |= {k: v for k, v in state.items() if "inv_freq" in k}
        part.load_state_dict(random_weights(shapes, gain=GAIN) | own)
        stored[f"{name} shapes"] = json.dumps(shapes)
    package.whmodel = [SimpleNamespace(encoder=encoder)]
    book = package.rq.layers[0]._codebook.embed
    book.copy_(F.normalize(book, dim=2))
    with torch.no_grad():
        mel = package.log_mel_spectrogram(reading)
        mel = F.pad(mel, (0, 3000 - mel.shape[2]), value=-1.5)
        x = package.downsample_embeddings(encoder(mel))
        x = package.rq.layers[0].project_in(x + package.mlp(package.mlp_ln(x)))[0, : len(NEAR) * 3]
        book[0, NEAR.start : NEAR.stop] = F.normalize(x[::3])
        stored["entries"] = book[0, NEAR.start : NEAR.stop].numpy()
        stored["clip"] = package.quantize(reading[:, 16000:48160])[0].numpy().astype(np.int16)
        stored["whole"] = package.quantize(reading)[0].numpy().astype(np.int16)
        features = package.dequantize(package.quantize(reading))[0]
        stored["features"] = features[::100].numpy()
    np.savez_compressed(Path(__file__).with_name("ichigo_codes.npz"), **stored)
    print({key: len(set(stored[key].tolist())) for key in ("clip", "whole")})
    print("the mask:", (stored["whole"] == 2048).sum(), "of", len(stored["whole"]))
