"""Writes qwen3_tts_12hz.npz: what the package qwen-tts makes of noise with small random weights.

pip install --no-deps qwen-tts==0.1.1 transformers==4.57.3 tokenizers==0.22.1
            huggingface_hub==0.36.0
PYTHONPATH=tests python tests/golden/qwen3_tts_12hz.py

It holds the package's options, names and shapes of the weights (whose values are `weights`), sums
of entries that are near the latents of noise, and codes and waves of several lengths. Codes are of
an encoder that heeds its window, as it does with Flash Attention; `unheeding` are those without.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from random_weights import random_weights
from torch import Tensor

from audiotok.audio import _torchaudio

STORED = Path(__file__).with_suffix(".npz")
SMALL: dict[str, Any] = {
    "encoder_config": {
        "num_filters": 4,
        "upsampling_ratios": [5, 4, 2],
        "frame_rate": 300,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 32,
        "sliding_window": 12,
        "upsample_groups": 16,
        "codebook_size": 64,
        "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8,
        "num_quantizers": 6,
    },
    "decoder_config": {
        "codebook_size": 64,
        "codebook_dim": 16,
        "num_quantizers": 4,
        "latent_dim": 24,
        "hidden_size": 12,
        "head_dim": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
        "sliding_window": 5,
        "upsampling_ratios": [2, 2],
        "upsample_rates": [5, 4],
        "decoder_dim": 16,
    },
    "encoder_valid_num_quantizers": 4,
    "encode_downsample_rate": 80,
    "decode_upsample_rate": 80,
}
FULL: dict[str, Any] = {
    "encoder_config": {},
    # As published; the defaults of the package are another network's.
    "decoder_config": {
        "codebook_dim": 512,
        "hidden_size": 512,
        "intermediate_size": 1024,
        "head_dim": 64,
    },
}
LENGTHS = (1, 79, 81, 5 * 80, 41 * 80 + 7, 300 * 80)


def available() -> bool:
    """Return whether the package is here, with the transformers that it runs with."""
    if importlib.util.find_spec("qwen_tts") is None:
        return False
    from importlib.metadata import version

    return version("transformers").startswith("4.57.")


def _modules() -> tuple[Any, Any]:
    """Return the package's modules of this tokenizer, without importing what else it has."""
    _torchaudio.load()
    root = importlib.util.find_spec("qwen_tts")
    assert root is not None
    assert root.submodule_search_locations is not None
    (folder,) = map(Path, root.submodule_search_locations)
    name = "qwen_tts"
    for part in ("", "core", "tokenizer_12hz"):
        folder, name = folder / part, f"{name}.{part}" if part else name
        if name not in sys.modules:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [str(folder)]
    return tuple(
        importlib.import_module(f"{name}.{kind}_qwen3_tts_tokenizer_v2")
        for kind in ("configuration", "modeling")
    )  # type: ignore[return-value]


def oracle(options: Mapping[str, Any]) -> Any:
    """Return the package's model of these options, in eval mode."""
    configuration, modeling = _modules()
    config = configuration.Qwen3TTSTokenizerV2Config(**copy.deepcopy(dict(options)))
    return modeling.Qwen3TTSTokenizerV2Model(config).eval().requires_grad_(False)


@contextmanager
def heeding_its_window() -> Iterator[None]:
    """Let transformers' Mimi heed its window of attention without Flash Attention."""
    from transformers.masking_utils import (  # pyright: ignore
        create_sliding_window_causal_mask,
    )

    modeling_mimi: Any = importlib.import_module("transformers.models.mimi.modeling_mimi")
    whole = modeling_mimi.create_causal_mask
    modeling_mimi.create_causal_mask = create_sliding_window_causal_mask
    try:
        yield
    finally:
        modeling_mimi.create_causal_mask = whole


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the package."""
    state = random_weights(shapes)
    for name, value in state.items():
        if name.endswith(("scale", "gamma")):  # new branches are all but silent
            value.add_(0.3)
        elif name.endswith("cluster_usage"):
            value.abs_().add_(0.5)
        elif name.endswith("embedding_sum"):
            value.mul_(2.0)
        elif name.endswith("initialized"):
            value.fill_(1.0)
        elif name.startswith("encoder.encoder.") and name.endswith("conv.weight"):
            value.mul_(1.8)
        elif len(shapes[name]) > 2 and shapes[name][0] == 1:  # the last convolution
            value.mul_(0.1)
    return state


@torch.no_grad()
def spread(theirs: Any, frame: int) -> dict[str, Tensor]:
    """Set sums of the encoder's entries to some near latents of noise; return them by name."""
    encoder, sums = theirs.encoder, {}
    wave = noise(400 * frame)
    x = encoder.encoder(wave)
    x = encoder.encoder_transformer(x.transpose(1, 2))[0].transpose(1, 2)
    latent = encoder.downsample(x)
    random = torch.Generator().manual_seed(0)
    for kind in ("semantic", "acoustic"):
        part = getattr(encoder.quantizer, f"{kind}_residual_vector_quantizer")
        rest = part.input_proj(latent)[0].T
        for i, layer in enumerate(part.layers):
            book = layer.codebook
            drawn = torch.randn(book.embed_sum.shape, generator=random)
            entries = rest.mean(0) + 0.5 * rest.std(0) * drawn
            book.embed_sum.copy_(entries * book.cluster_usage[:, None])
            book._embed = None
            name = f"encoder.quantizer.{kind}_residual_vector_quantizer.layers.{i}.codebook"
            sums[f"{name}.embed_sum"] = book.embed_sum
            rest = rest - book.decode(book.encode(rest))
    return sums


def noise(samples: int) -> Tensor:
    """Return noise `[1 1 t]` of a slowly varying level, the same on any machine."""
    x = np.random.RandomState(samples).standard_normal(samples)
    swell = 0.1 + 0.1 * np.sin(np.arange(samples) / 3000)
    return torch.from_numpy((x * swell).astype(np.float32))[None, None]


@torch.no_grad()
def encode(theirs: Any, wave: Tensor) -> Tensor:
    """Return the package's codes `[k f]` of a wave `[1 1 t]`."""
    real = torch.ones_like(wave[0], dtype=torch.int64)
    return theirs.encode(wave[0], real, return_dict=True).audio_codes[0].T


@torch.no_grad()
def decode(theirs: Any, codes: Tensor) -> Tensor:
    """Return what the package's network makes of codes `[k f]` as a whole, `[1 t]`."""
    return theirs.decoder(codes[None])[0]


def loaded(options: Mapping[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """Return the package's model with `weights`, and the sums of `spread`."""
    theirs = oracle(options)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(weights(shapes))
    return theirs, spread(theirs, theirs.encode_downsample_rate)


@torch.no_grad()
def quieten(theirs: Any) -> None:
    """Scale the last convolution so that no sample is cut off at 1, as many are at full size."""
    last = theirs.decoder.decoder[-1].conv
    last.weight.mul_(1e-4)
    last.bias.zero_()
    codes = torch.arange(20) % 64 + torch.zeros(theirs.encoder_valid_num_quantizers, 1)
    last.weight.mul_(0.1 / decode(theirs, codes.long()).std())


def main() -> None:
    """Write the file."""
    theirs, sums = loaded(SMALL)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    stored: dict[str, Any] = {name: value.numpy() for name, value in sums.items()}
    stored["shapes"] = json.dumps(shapes)
    stored["options"] = theirs.config.to_json_string()
    for samples in LENGTHS:
        with heeding_its_window():
            codes = encode(theirs, noise(samples))
        stored[f"codes {samples}"] = codes.numpy().astype(np.int16)
        stored[f"wave {samples}"] = decode(theirs, codes).numpy()
        print(samples, codes.shape, [len(row.unique()) for row in codes])
    unheeding = encode(theirs, noise(LENGTHS[-1]))
    stored["unheeding"] = unheeding.numpy().astype(np.int16)
    heeding = torch.from_numpy(stored[f"codes {LENGTHS[-1]}"].astype(np.int64))
    differ = (unheeding != heeding).any(0)
    print("frames that differ without the window:", int(differ.sum()), "of", len(differ))
    print("the first:", int(differ.nonzero()[0]))
    print("peak", float(np.abs(stored[f"wave {LENGTHS[-1]}"]).max()))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
