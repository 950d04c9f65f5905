"""Writes nanocodec.npz: what the package nanocodec-torch makes of noise with small random weights.

pip install --no-deps nanocodec-torch==1.0.0
PYTHONPATH=tests python tests/golden/nanocodec.py

It holds names and shapes of the weights (whose values are `weights`), gains of the last
convolutions, and codes and waves of several lengths, filled up with silence to whole frames.
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

STORED = Path(__file__).with_suffix(".npz")
SMALL: dict[str, Any] = {
    "encoder_config": {"down_sample_rates": [2, 3, 6], "encoded_dim": 16, "base_channels": 4},
    "decoder_config": {"up_sample_rates": [6, 3, 2], "input_dim": 16, "base_channels": 40},
    "quantizer_config": {"num_groups": 4, "num_levels_per_group": [9, 8, 8, 7]},
}
FULL: dict[str, Any] = {}
FRAME = 36
LENGTHS = (1, FRAME - 1, FRAME + 1, 7 * FRAME, 101 * FRAME + 5, 400 * FRAME)


def available() -> bool:
    """Return whether the package is here."""
    return importlib.util.find_spec("nanocodec_torch") is not None


def weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the package."""
    grids = [name for name in shapes if name.startswith("vector_quantizer.")]
    state = random_weights({name: shape for name, shape in shapes.items() if name not in grids})
    for name, value in state.items():
        if name.endswith("alpha"):
            value.abs_().add_(0.5)
        elif "skip_conv" in name:  # the branches are not all but the whole
            value.mul_(0.5)
        elif name.endswith("bias"):
            value.mul_(0.3)
    for name, gain in (gains or {}).items():
        state[name] *= gain
    values = {"num_levels": [9, 8, 8, 7], "dim_base_index": [1, 9, 72, 576]}
    ends = {name: values[name.rpartition(".")[2]] for name in grids}
    return state | {name: torch.tensor(end, dtype=torch.int32) for name, end in ends.items()}


@torch.no_grad()
def loaded(options: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    """Return the package's model with `weights`, and gains for which codes and samples spread."""
    from nanocodec_torch.models.audio_codec import AudioCodecModel  # pyright: ignore

    theirs = AudioCodecModel(**options).eval().requires_grad_(False)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    state = weights(shapes)
    theirs.load_state_dict(state)
    frame = theirs.samples_per_frame
    spread = float(theirs.audio_encoder(noise(60 * frame))[0].std())
    gains = {f"audio_encoder.post_conv.conv.{part}": 1 / spread for part in ("weight", "bias")}
    quiet = {"audio_decoder.post_conv.conv.weight": 1e-4, "audio_decoder.post_conv.conv.bias": 0.0}
    theirs.load_state_dict(weights(shapes, gains | quiet))
    loud = float(theirs.decode(theirs.encode(noise(60 * frame))[0])[0].std())
    gains |= quiet | {"audio_decoder.post_conv.conv.weight": 1e-4 * 0.15 / loud}
    theirs.load_state_dict(weights(shapes, gains))
    return theirs, gains


@torch.no_grad()
def encode(theirs: Any, wave: Tensor) -> Tensor:
    """Return the package's codes `[k f]` of a wave `[1 1 t]`, filled up with silence."""
    wave = F.pad(wave, (0, -wave.shape[2] % theirs.samples_per_frame))
    return theirs.encode(wave)[0][0].long()


@torch.no_grad()
def decode(theirs: Any, codes: Tensor) -> Tensor:
    """Return what the package makes of codes `[k f]`, `[1 t]`."""
    return theirs.decode(codes[None])[0][0]


def main() -> None:
    """Write the file."""
    theirs, gains = loaded(SMALL)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    stored: dict[str, Any] = {"shapes": json.dumps(shapes), "gains": json.dumps(gains)}
    stored |= runs_of(LENGTHS, noise, partial(encode, theirs), partial(decode, theirs))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
