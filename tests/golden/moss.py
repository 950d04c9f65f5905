"""Writes moss.npz: what the network in vllm-omni makes of noise with small random weights.

pip download --no-deps vllm-omni==0.30.0 && unzip vllm_omni-0.30.0-*.whl -d vllm
PYTHONPATH=tests:vllm/vllm_omni/model_executor/models/moss_tts python tests/golden/moss.py

It holds the configuration, names and shapes of the weights (whose values are `weights`), a gain of
the last map, and codes and waves of several lengths.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden.qwen3_tts_12hz import noise
from golden.runs import runs_of
from random_weights import random_weights
from torch import Tensor
from torch.nn import functional as F

from audiotok.audio import _torchaudio

STORED = Path(__file__).with_suffix(".npz")
FRAME = 40
LENGTHS = (1, FRAME - 1, FRAME + 1, 7 * FRAME, 60 * FRAME + 5)
LAST = "decoder.2.out_proj.weight"


def _transformer(inputs: int, outputs: int, width: int, layers: int) -> dict[str, Any]:
    """Return the options of a transformer."""
    options = {"module_type": "Transformer", "input_dimension": inputs, "causal": True}
    options |= {"output_dimension": outputs, "d_model": width, "num_heads": width // 64}
    options |= {"num_layers": layers, "dim_feedforward": 4 * width, "norm": "layer_norm"}
    options |= {"positional_embedding": "rope", "max_period": 10000, "gating": "none"}
    return options | {"layer_scale": 0.01, "conv_layout": True}


def _patch(steps: int) -> dict[str, Any]:
    """Return the options of patches."""
    return {"module_type": "PatchedPretransform", "patch_size": steps}


# Windows of 20 steps of 20 samples, and of 10 frames. Maps are missing where widths are equal.
SMALL: dict[str, Any] = {
    "sampling_rate": 4000,
    "downsample_rate": FRAME,
    "causal_transformer_context_duration": 0.1,
    "encoder_kwargs": [
        _patch(20),
        _transformer(20, 64, 128, 2),
        _patch(2),
        _transformer(128, 48, 128, 2),
    ],
    "decoder_kwargs": [
        _transformer(48, 128, 128, 2),
        _patch(2),
        _transformer(64, 20, 64, 2),
        _patch(20),
    ],
    "quantizer_kwargs": {
        "input_dim": 48,
        "rvq_dim": 32,
        "output_dim": 48,
        "num_quantizers": 4,
        "codebook_size": 64,
        "codebook_dim": 8,
        "quantizer_type": "rlfq",
    },
}


# The published widths with 2 blocks in each transformer, of 12 and 32.
LIGHT: dict[str, Any] = {
    "encoder_kwargs": [
        _patch(240),
        _transformer(240, 384, 768, 2),
        _patch(2),
        _transformer(768, 384, 768, 2),
        _patch(2),
        _transformer(768, 640, 768, 2),
        _patch(2),
        _transformer(1280, 768, 1280, 2),
    ],
    "decoder_kwargs": [
        _transformer(768, 1280, 1280, 2),
        _patch(2),
        _transformer(640, 768, 768, 2),
        _patch(2),
        _transformer(384, 768, 768, 2),
        _patch(2),
        _transformer(384, 240, 768, 2),
        _patch(240),
    ],
}


def available() -> bool:
    """Return whether the network is here."""
    return importlib.util.find_spec("audio_tokenizer") is not None


def weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the program."""
    state = random_weights(shapes)
    for name, value in state.items():
        if name.endswith("scale"):  # the branches are not all but the whole
            value.abs_().add_(0.3)
        elif name.endswith("original0"):
            value.abs_().add_(0.5)
    for name, gain in (gains or {}).items():
        state[name] *= gain
    return state


@torch.no_grad()
def loaded(options: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    """Return the program's model with `weights`, and a gain for which samples spread."""
    _torchaudio.load()
    import audio_tokenizer as program  # pyright: ignore

    config = program.MossAudioTokenizerConfig(**json.loads(json.dumps(options)))
    theirs = program.MossAudioTokenizerModel(config).eval().requires_grad_(False)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(weights(shapes))
    loud = float(
        decode(theirs, encode(theirs, noise(60 * options.get("downsample_rate", 1920)))).std()
    )
    gains = {f"decoder.{len(options['decoder_kwargs']) - 2}.out_proj.weight": 0.15 / loud}
    theirs.load_state_dict(weights(shapes, gains))
    return theirs, gains


@torch.no_grad()
def encode(theirs: Any, wave: Tensor) -> Tensor:
    """Return the program's codes `[k f]` of a wave `[1 1 t]`, filled up with silence."""
    wave = F.pad(wave, (0, -wave.shape[2] % theirs.downsample_rate))
    return theirs.batch_encode([wave[0, 0]]).audio_codes[:, 0]


@torch.no_grad()
def decode(theirs: Any, codes: Tensor) -> Tensor:
    """Return what the program makes of codes `[k f]`, `[1 t]`."""
    return theirs.batch_decode([codes]).audio[0]


def main() -> None:
    """Write the file."""
    theirs, gains = loaded(SMALL)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    stored: dict[str, Any] = {
        "config": json.dumps(SMALL),
        "shapes": json.dumps(shapes),
        "gains": json.dumps(gains),
    }
    stored |= runs_of(LENGTHS, noise, partial(encode, theirs), partial(decode, theirs))
    codes = torch.from_numpy(stored[f"codes {LENGTHS[-1]}"]).long()
    stored["prefix"] = decode(theirs, codes[:2]).numpy()
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
