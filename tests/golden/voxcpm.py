"""Writes voxcpm.npz: what the AudioVAE in package voxcpm makes of noise with small random weights.

pip install --no-deps --target packages voxcpm==2.0.3
PYTHONPATH=tests:packages python tests/golden/voxcpm.py

Only the file of the network is imported, not the package, which needs a language model's. It holds
the configuration, names and shapes of the weights (whose values are `weights`), gains of the last
convolutions, and latents and waves of several lengths.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden.qwen3_tts_12hz import noise
from random_weights import dac_weights
from torch import Tensor

STORED = Path(__file__).with_suffix(".npz")
SMALL: dict[str, Any] = {
    "encoder_dim": 4,
    "encoder_rates": [2, 5, 3, 4],
    "latent_dim": 8,
    "decoder_dim": 48,
    "decoder_rates": [4, 3, 5, 2],
    "sample_rate": 8000,
}
FULL: dict[str, Any] = {}
FRAME = 120
LENGTHS = (1, FRAME - 1, FRAME, FRAME + 1, 60 * FRAME + 25)
FILE = "voxcpm/modules/audiovae/audio_vae.py"
MEANS, LAST = "encoder.fc_mu.weight_g", "decoder.model.7.weight_g"


def _file() -> Path | None:
    """Return the network's file; None if it is nowhere."""
    known = (Path(path) / FILE for path in sys.path)
    return next((path for path in known if path.is_file()), None)


def available() -> bool:
    """Return whether the network is here."""
    return _file() is not None


@torch.no_grad()
def loaded(options: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    """Return the program's model with `weights`, and gains for which latents and waves spread."""
    file = _file()
    assert file is not None
    spec = spec_from_file_location("audio_vae", file)
    assert spec is not None
    assert spec.loader is not None
    program = module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weight normalisation by hooks, and of scripts
        spec.loader.exec_module(program)
        theirs = program.AudioVAE(program.AudioVAEConfig(**options))
    theirs = theirs.eval().requires_grad_(False)
    shapes = {k: list(v.shape) for k, v in theirs.state_dict().items()}
    gains = {MEANS: 1.0, LAST: 1e-3}  # so little that the last tangent is straight
    wave = noise(60 * int(theirs.hop_length))
    theirs.load_state_dict(dac_weights(shapes, gains))
    gains[MEANS] /= float(encode(theirs, wave).std())
    theirs.load_state_dict(dac_weights(shapes, gains))
    gains[LAST] *= 0.15 / float(decode(theirs, encode(theirs, wave)).std())
    theirs.load_state_dict(dac_weights(shapes, gains))
    return theirs, gains


@torch.no_grad()
def encode(theirs: Any, wave: Tensor) -> Tensor:
    """Return the program's latents `[d f]` of a wave `[1 1 t]`."""
    return theirs.encode(wave, theirs.sample_rate)[0]


@torch.no_grad()
def decode(theirs: Any, latents: Tensor) -> Tensor:
    """Return what the program makes of latents `[d f]`, `[1 t]`."""
    return theirs.decode(latents[None])[0]


def main() -> None:
    """Write the file."""
    theirs, gains = loaded(SMALL)
    stored: dict[str, Any] = {
        "options": json.dumps(SMALL),
        "shapes": json.dumps({k: list(v.shape) for k, v in theirs.state_dict().items()}),
        "gains": json.dumps(gains),
    }
    for samples in LENGTHS:
        latents = encode(theirs, noise(samples))
        wave = decode(theirs, latents)
        stored |= {f"latents {samples}": latents.numpy(), f"wave {samples}": wave.numpy()}
        print(samples, latents.shape, float(latents.std()), float(wave.abs().max()))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
