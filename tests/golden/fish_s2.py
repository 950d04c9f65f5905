"""Writes fish_s2.npz: what Fish Audio's codec makes of noise with small random weights.

pip download --no-deps vllm-omni==0.30.0
unzip vllm_omni-0.30.0-*.whl 'vllm_omni/model_executor/models/fish_speech/dac_*' -d FOLDER
PYTHONPATH=tests:FOLDER python tests/golden/fish_s2.py

It holds names and shapes of the weights (whose values are `weights`), gains of the last
convolutions, and codes and waves of several lengths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden.qwen3_tts_12hz import noise
from golden.runs import runs_of
from random_weights import random_weights
from torch import Tensor

STORED = Path(__file__).with_suffix(".npz")
PACKAGE = "vllm_omni.model_executor.models.fish_speech"
FRAME = 32
LENGTHS = (1, FRAME - 1, FRAME + 1, 7 * FRAME, 41 * FRAME + 5, 300 * FRAME)


def available() -> bool:
    """Return whether the package is here, or as much of it as is needed."""
    try:
        import_module(f"{PACKAGE}.dac_modules")
    except ImportError:
        return False
    return True


def small() -> Any:
    """Return the package's codec in a small size, whose windows of attention are the published."""
    parts = import_module(f"{PACKAGE}.dac_modules")

    def sizes(**options: Any) -> Any:
        return parts.ModelArgs(
            **{"block_size": 2048, "head_dim": 64, "dropout_rate": 0, "attn_dropout_rate": 0}
            | options
        )

    def transformer() -> Any:
        options = sizes(n_layer=2, n_head=1, dim=64, intermediate_size=192)
        return parts.WindowLimitedTransformer(options, input_dim=64, window_size=128)

    quantizer = parts.DownsampleResidualVectorQuantize(
        input_dim=64,
        n_codebooks=3,
        codebook_size=32,
        codebook_dim=4,
        downsample_factor=[2, 2],
        pre_module=transformer(),
        post_module=transformer(),
        semantic_codebook_size=64,
    )
    return parts.DAC(
        encoder_dim=16,
        encoder_rates=[2, 4],
        decoder_dim=32,
        decoder_rates=[4, 2],
        quantizer=quantizer,
        encoder_transformer_layers=[0, 2],
        transformer_general_config=sizes,
    )


def full() -> Any:
    """Return the package's codec in its published size."""
    return import_module(f"{PACKAGE}.dac_utils").build_dac_codec()


def weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the package."""
    learnt = [name for name in shapes if not name.endswith(("freqs_cis", "causal_mask"))]
    state = random_weights({name: shapes[name] for name in learnt})
    for name, value in state.items():
        if name.endswith("alpha"):
            value.abs_().add_(0.5)
        elif name.endswith("gamma"):
            value.add_(0.5)
        elif name.endswith("bias"):
            value.mul_(0.3)
        length = name.replace("original1", "original0").replace("weight_v", "weight_g")
        if length != name:
            state[length].copy_(value.norm(dim=(1, 2), keepdim=True))
    for name, gain in (gains or {}).items():
        state[name] *= gain
    return state


@torch.no_grad()
def loaded(theirs: Any) -> tuple[Any, dict[str, float]]:
    """Return the package's codec with `weights`, and gains for which samples are quiet."""
    theirs = theirs.eval().requires_grad_(False)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    last = max(name for name in shapes if name.startswith("decoder.model.") and "conv" in name)
    end = last.rpartition(".conv.")[0] + ".conv."
    theirs.load_state_dict(weights(shapes), strict=False)
    codes = encode(theirs, noise(60 * theirs.frame_length))
    loud = float(torch.atanh(decode(theirs, codes).clamp(-1 + 1e-6, 1 - 1e-6)).std())
    gains = {
        f"{end}parametrizations.weight.original0": 0.15 / loud,
        f"{end}bias": 0.15 / loud,
    }
    theirs.load_state_dict(weights(shapes, gains), strict=False)
    return theirs, gains


@torch.no_grad()
def encode(theirs: Any, wave: Tensor) -> Tensor:
    """Return the package's codes `[k f]` of a wave `[1 1 t]`."""
    return theirs.encode(wave)[0][0]


@torch.no_grad()
def decode(theirs: Any, codes: Tensor) -> Tensor:
    """Return what the package makes of codes `[k f]`, `[1 t]`."""
    return theirs.decode(codes[None], torch.tensor([codes.shape[1]]))[0][0]


def main() -> None:
    """Write the file."""
    theirs, gains = loaded(small())
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    stored: dict[str, Any] = {"shapes": json.dumps(shapes), "gains": json.dumps(gains)}
    stored |= runs_of(LENGTHS, noise, partial(encode, theirs), partial(decode, theirs))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
