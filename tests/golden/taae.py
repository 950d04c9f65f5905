"""Writes taae.npz: what Stable Codec's packages make of noise with small random weights.

pip install --no-deps --target FOLDER stable-audio-tools==0.0.17 stable-codec==0.1.2
PYTHONPATH=tests:FOLDER python tests/golden/taae.py

The packages need a GPU with Flash Attention to heed the window of attention. Here their module of
attention is run as it is on a CPU, with scores outside of the window set to minus infinity, and
without the modules that it does not need.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from golden.qwen3_tts_12hz import noise
from random_weights import random_weights
from torch import Tensor
from torch.nn import functional as F

STORED = Path(__file__).with_suffix(".npz")
PATCH, FRAME, WINDOW = 16, 32, (5, 6)
LENGTHS = (1, FRAME - 1, FRAME + 1, 7 * FRAME, 101 * FRAME + 5, 300 * FRAME)
LAYOUTS = {
    "1x46656_400bps": [([6] * 6, 1.0)],
    "2x15625_700bps": [([5] * 6, 1.0), ([5] * 6, 0.25)],
    "4x729_1000bps": [([3] * 6, 0.5**i) for i in range(4)],
}
SIDE: dict[str, Any] = {
    "channels": 128,
    "c_mults": [1, 2],
    "strides": [1, 2],
    "latent_dim": 6,
    "transformer_depths": [1, 2],
    "use_snake": True,
    "sliding_window": list(WINDOW),
}
PAPER: dict[str, Any] = SIDE | {
    "channels": 1024,
    "c_mults": [1, 1],
    "transformer_depths": [8, 20],
    "use_snake": False,
    "sliding_window": [63, 64],
}
OPTIONS: dict[str, Any] = {
    "model_type": "autoencoder",
    "sample_size": 81920,
    "sample_rate": 16000,
    "audio_channels": 1,
    "model": {
        "encoder": {"type": "taae", "config": {"in_channels": PATCH, **SIDE}},
        "decoder": {"type": "taae", "config": {"out_channels": PATCH, **SIDE}},
        "bottleneck": {"type": "dithered_fsq", "config": {"dim": 6, "levels": 17}},
        "pretransform": {"type": "patched", "config": {"patch_size": PATCH, "channels": 1}},
        "latent_dim": 6,
        "downsampling_ratio": FRAME,
        "io_channels": 1,
    },
}
UNUSED = (
    *("alias_free_torch", "torchaudio", "torchaudio.transforms", "stable_audio_tools.inference"),
    *("stable_audio_tools.inference.sampling", "stable_audio_tools.inference.utils"),
    *("stable_audio_tools.models.bottleneck", "stable_audio_tools.models.diffusion"),
    *("stable_audio_tools.models.factory", "stable_audio_tools.models.pretransforms"),
)


def available() -> bool:
    """Return whether the packages are here."""
    return all(importlib.util.find_spec(name) for name in ("stable_audio_tools", "stable_codec"))


def package(name: str) -> Any:
    """Return a module of the packages, without those that they would import and not need."""
    bare: dict[str, Any] = {unused: MagicMock() for unused in UNUSED}
    for outer in ("stable_audio_tools", "stable_audio_tools.models", "stable_codec"):
        top, *inner = outer.split(".")
        spec = importlib.util.find_spec(top)
        assert spec is not None
        bare[outer] = ModuleType(outer)
        bare[outer].__path__ = [str(Path(str(spec.origin)).parent.joinpath(*inner))]
    with patch.dict(sys.modules, bare):
        return importlib.import_module(name)


class Theirs(torch.nn.Module):
    """The two halves of the package's codec."""

    def __init__(self, options: Mapping[str, Any], patch_size: int) -> None:
        super().__init__()
        parts = package("stable_audio_tools.models.autoencoders")
        self.transformer = package("stable_audio_tools.models.transformer")
        parts.TransformerBlock = self.transformer.TransformerBlock  # the same, which is patched
        self.patch = patch_size
        self.window = options["sliding_window"]
        self.encoder = parts.TAAEEncoder(in_channels=patch_size, **options)
        self.decoder = parts.TAAEDecoder(out_channels=patch_size, **options)

    @contextmanager
    def heeding_its_window(self) -> Iterator[None]:
        """Set scores of attention outside of the window to minus infinity."""
        plain = self.transformer.einsum

        def windowed(equation: str, q: Tensor, k: Tensor) -> Tensor:
            y = plain(equation, q, k)
            if not equation.endswith("i j"):
                return y
            steps = torch.arange(y.shape[3])
            distance = steps - steps[:, None]
            seen = (distance >= -self.window[0]) & (distance <= self.window[1])
            return y.masked_fill(~seen, float("-inf"))

        with patch.object(self.transformer, "einsum", windowed):
            yield


def weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the package."""
    state = random_weights(shapes)
    for name, value in state.items():
        kind = name.rpartition(".")[2]
        if kind == "gamma":
            value.add_(1)
        elif kind in ("scale", "alpha"):
            value.add_(0.5)
        elif kind in ("bias", "beta"):
            value.mul_(0.0 if "norm.beta" in name else 0.3)
        elif kind == "inv_freq":
            value.copy_(1 / 10000 ** (torch.arange(len(value)) / len(value)))
        length = name.replace("weight_v", "weight_g")
        if length != name:
            state[length].copy_(value.norm(dim=(1, 2), keepdim=True))
    for name, gain in (gains or {}).items():
        state[name] *= gain
    return state


@torch.no_grad()
def loaded(options: Mapping[str, Any], patch_size: int) -> tuple[Theirs, dict[str, float]]:
    """Return the package's codec with `weights`, and gains for which codes and samples spread."""
    theirs = Theirs(options, patch_size).eval().requires_grad_(False)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(weights(shapes))
    wave, last = noise(4000 * patch_size // 16), len(options["strides"]) + 2
    spread = float(latents(theirs, wave).std())
    gains = {f"encoder.layers.{last}.{part}": 0.7 / spread for part in ("weight_g", "bias")}
    theirs.load_state_dict(weights(shapes, gains))
    loud = float(decode(theirs, torch.tanh(latents(theirs, wave))).std())
    gains[f"decoder.layers.{last}.weight_g"] = 0.15 / loud
    theirs.load_state_dict(weights(shapes, gains))
    return theirs, gains


@torch.no_grad()
def latents(theirs: Theirs, wave: Tensor) -> Tensor:
    """Return the package's latents `[1 d f]` of a wave `[1 1 t]`, filled up with silence."""
    wave = F.pad(wave, (0, -wave.shape[2] % (2 * theirs.patch)))
    with theirs.heeding_its_window():
        return theirs.encoder(wave.view(1, -1, theirs.patch).transpose(1, 2))


@torch.no_grad()
def decode(theirs: Theirs, latent: Tensor) -> Tensor:
    """Return what the package makes of quantized latents `[1 d f]`, `[1 t]`."""
    with theirs.heeding_its_window():
        return theirs.decoder(latent).transpose(1, 2).reshape(1, -1)


def bottleneck(layout: str) -> Any:
    """Return the package's quantizer of a layout."""
    return package("stable_codec.residual_fsq").ResidualFSQBottleneck(LAYOUTS[layout]).eval()


def encode(latent: Tensor, layout: str) -> Tensor:
    """Return the package's codes `[k f]` of latents in a layout."""
    return torch.cat(bottleneck(layout).encode(latent))[:, :, 0]


def look_up(codes: Tensor, layout: str) -> Tensor:
    """Return the package's latents of codes `[k f]`."""
    return bottleneck(layout).decode([row[None, :, None] for row in codes]).float()


def main() -> None:
    """Write the file."""
    theirs, gains = loaded(SIDE, PATCH)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    stored: dict[str, Any] = {"shapes": json.dumps(shapes), "gains": json.dumps(gains)}
    for samples in LENGTHS:
        latent = latents(theirs, noise(samples))
        for layout in LAYOUTS:
            codes = encode(latent, layout)
            stored[f"codes {layout} {samples}"] = codes.numpy().astype(np.int32)
            print(samples, layout, codes.shape, [len(row.unique()) for row in codes])
        wave = decode(theirs, look_up(encode(latent, "2x15625_700bps"), "2x15625_700bps"))
        stored[f"wave {samples}"] = wave.numpy()
    print("peak", float(np.abs(stored[f"wave {LENGTHS[-1]}"]).max()))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
