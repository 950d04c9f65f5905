"""Writes s3_codes.npz: the codes that the package s3tokenizer gives small random tokenizers.

pip install s3tokenizer==0.3.0
PYTHONPATH=tests python tests/golden/s3_codes.py

Of each preset in a small size it holds names and shapes of the weights (whose values are those of
random_weights.py), entries that are near the latents of v1, and the codes of two seconds and of 39
seconds of reading.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_weights import random_weights
from torch.nn import functional as F

from audiotok import Audio
from audiotok.audio import _torchaudio

_torchaudio.load()

import s3tokenizer  # noqa: E402  # type: ignore
from s3tokenizer.model import ModelConfig, S3Tokenizer  # noqa: E402  # type: ignore
from s3tokenizer.model_v2 import ModelConfig as ConfigV2  # noqa: E402  # type: ignore
from s3tokenizer.model_v2 import S3TokenizerV2  # noqa: E402  # type: ignore
from s3tokenizer.model_v3 import ModelConfigV3, S3TokenizerV3  # noqa: E402  # type: ignore

ROOT = Path(__file__).parents[2]
GAIN = 3.0
SMALL: dict[str, Any] = {"n_audio_state": 128, "n_audio_head": 2, "n_audio_layer": 2}
KINDS: dict[str, tuple[Any, Any]] = {
    "s3_v1": (S3Tokenizer, ModelConfig(**SMALL, n_codebook_size=64)),
    "s3_v1_25hz": (S3Tokenizer, ModelConfig(**SMALL, n_codebook_size=64)),
    "s3_v2_25hz": (S3TokenizerV2, ConfigV2(**SMALL)),
    "s3_v3_25hz": (S3TokenizerV3, ModelConfigV3(**SMALL | {"n_audio_layer": 3})),
}
ENTRIES = "quantizer._codebook.embed"


def codes(package: Any, samples: torch.Tensor) -> np.ndarray:
    """Return the package's codes of one recording."""
    mel = s3tokenizer.log_mel_spectrogram(samples)[None]
    found, lengths = package(mel, torch.tensor([mel.shape[2]]))
    return found[0, : lengths[0]].numpy().astype(np.int16)


if __name__ == "__main__":
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(16000)
    clip, long = reading[16000:48160].samples[0], torch.cat([reading.samples[0]] * 4)
    stored: dict[str, Any] = {}
    for name, (kind, config) in KINDS.items():
        package = kind(name.replace("s3_", "speech_tokenizer_"), config).eval()
        shapes = {key: list(value.shape) for key, value in package.state_dict().items()}
        kept = {key: value for key, value in package.state_dict().items() if "positional" in key}
        weights = random_weights(shapes, gain=GAIN) | kept
        package.load_state_dict(weights)
        if ENTRIES in weights:
            mel = s3tokenizer.log_mel_spectrogram(reading.samples[0])[None]
            latents = F.normalize(package.encoder(mel, torch.tensor([mel.shape[2]]))[0][0])
            entries = latents[torch.randperm(len(latents), generator=torch.manual_seed(0))[:64]]
            weights[ENTRIES] = entries.detach()
            package.load_state_dict(weights)
            stored[f"{name} entries"] = weights[ENTRIES].numpy()
        stored[f"{name} shapes"] = json.dumps(shapes)
        stored[f"{name} config"] = json.dumps(asdict(config))
        stored[f"{name} clip"] = codes(package, clip)
        stored[f"{name} long"] = codes(package, long)
        print(name, len(set(stored[f"{name} long"].tolist())), len(stored[f"{name} long"]))
    np.savez_compressed(Path(__file__).with_name("s3_codes.npz"), **stored)
