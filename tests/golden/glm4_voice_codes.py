"""Writes glm4_voice_codes.npz: the codes that GLM-4-Voice's own program gives a small tokenizer.

git clone https://github.com/THUDM/GLM-4-Voice glm && git -C glm checkout eb00ce9
pip install transformers==4.44.2 tokenizers==0.19.1 huggingface_hub==0.24.6
PYTHONPATH=tests:glm python tests/golden/glm4_voice_codes.py

The weights are those of random_weights.py, and entries that are near its latents.
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

_torchaudio.load()

from speech_tokenizer.configuration_whisper import WhisperVQConfig  # noqa: E402  # type: ignore
from speech_tokenizer.modeling_whisper import WhisperVQEncoder  # noqa: E402  # type: ignore
from transformers import WhisperFeatureExtractor  # noqa: E402  # type: ignore

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = {
    "vocab_size": 32,
    "num_mel_bins": 128,
    "d_model": 128,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 512,
    "encoder_layers": 2,
    "max_source_positions": 1500,
    "dropout": 0.0,
    "pooling_kernel_size": 4,
    "pooling_type": "avg",
    "pooling_position": 2,
    "quantize_vocab_size": 64,
    "quantize_position": 2,
    "quantize_encoder_only": True,
    "quantize_causal_block_size": 200,
    "quantize_ema_decay": 0.99,
    "encoder_causal_convolution": True,
    "encoder_causal_attention": False,
    "quantize_causal_encoder": False,
    "scale_embedding": False,
    "activation_function": "gelu",
    **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")},
}
extract = WhisperFeatureExtractor(feature_size=128)


def features(samples: torch.Tensor) -> Any:
    """Return what the program computes of a segment by itself, as `extract_speech_token` does."""
    options = {"padding": "longest", "pad_to_multiple_of": 1280, "return_attention_mask": True}
    return extract([samples.numpy()], sampling_rate=16000, return_tensors="pt", **options)


@torch.no_grad()
def codes(network: Any, samples: torch.Tensor) -> np.ndarray:
    """Return the program's codes of one recording, segment by segment."""
    found = []
    for segment in samples.split(480_000):
        given = features(segment)
        own = given.attention_mask[0, ::8].bool()
        found.append(network(**given).quantized_token_ids[0][own])
    return torch.cat(found).numpy().astype(np.int16)


if __name__ == "__main__":
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(16000).samples[0]
    network = WhisperVQEncoder(WhisperVQConfig(**CONFIG)).eval()
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    weights = random_weights(shapes, gain=3.0)
    weights["embed_positions.weight"] = network.embed_positions.weight.detach()
    network.load_state_dict(weights)
    seen: dict[str, torch.Tensor] = {}
    network.layers[1].register_forward_hook(lambda *given: seen.update(hidden=given[2][0]))
    network(**features(reading))
    latents = seen["hidden"][0].unflatten(0, (-1, 4)).mean(1).detach()
    weights["codebook.weight"] = latents[torch.randperm(len(latents))[:64]]
    network.load_state_dict(weights)
    stored: dict[str, Any] = {
        "shapes": json.dumps(shapes),
        "config": json.dumps(CONFIG),
        "entries": weights["codebook.weight"].numpy(),
        "clip": codes(network, reading[16000:48160]),
        "long": codes(network, reading.repeat(4)),
    }
    np.savez_compressed(Path(__file__).with_name("glm4_voice_codes.npz"), **stored)
    print({key: len(set(stored[key].tolist())) for key in ("clip", "long")})
