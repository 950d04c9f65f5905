"""Writes hificodec.npz: what InspireMusic's music tokenizer makes of noise with random weights.

pip install matplotlib pyyaml
PYTHONPATH=tests:INSPIREMUSIC python tests/golden/hificodec.py

INSPIREMUSIC is a checkout of FunAudioLLM/InspireMusic at 0aefb55. Its widths of 512 and 32 are
numbers in the source, which are read as 64 and 8 here. The file holds names and shapes of the
weights (whose values are `weights`), gains of some, and codes, waves and the beginning of latents
of several lengths, filled up with silence to whole frames.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from golden.qwen3_tts_12hz import noise
from golden.runs import runs_of
from random_weights import random_weights
from torch import Tensor, nn
from torch.nn import functional as F

STORED = Path(__file__).with_suffix(".npz")
FILE = "inspiremusic/music_tokenizer/models.py"
FULL: dict[str, Any] = {
    "upsample_rates": [8, 5, 4, 2],
    "upsample_kernel_sizes": [16, 11, 8, 4],
    "upsample_initial_channel": 512,
    "resblock": "1",
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "n_code_groups": 2,
    "n_codes": 1024,
    "codebook_loss_lambda": 1.0,
    "commitment_loss_lambda": 0.25,
}
SMALL = FULL | {
    "upsample_rates": [5, 4, 2],
    "upsample_kernel_sizes": [11, 8, 4],
    "upsample_initial_channel": 32,
    "n_codes": 512,
}
NARROW = {"512": "64", "32": "8"}
FRAME = 40
LENGTHS = (1, FRAME - 1, FRAME, FRAME + 1, 60 * FRAME + 25)
LATENTS = 10  # frames of latents that are stored


class Tokenizer(nn.Module):
    """The three networks of the program's `VQVAE`, which reads them from files."""

    def __init__(self, program: ModuleType, options: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = SimpleNamespace(**options)
        self.encoder = program.Encoder(sizes)
        self.quantizer = program.Quantizer(sizes)
        self.generator = program.Generator(sizes)


def _file() -> Path | None:
    """Return the network's file; None if it is nowhere."""
    return next((file for path in sys.path if (file := Path(path) / FILE).is_file()), None)


def available() -> bool:
    """Return whether the program is here."""
    return _file() is not None


def weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the program."""
    state = random_weights(shapes)
    for name, value in state.items():
        if name.endswith("weight_g"):
            value.abs_().mul_(0.1).add_(1)
            if "convs2" in name:  # the branches are not all but the whole
                value.mul_(0.3)
        elif "embedding" in name:
            value.mul_(shapes[name][1] ** 0.5)
    for name, gain in (gains or {}).items():
        state[name] *= gain
    return state


@torch.no_grad()
def loaded(options: Mapping[str, Any]) -> tuple[Tokenizer, dict[str, float]]:
    """Return the program's networks with `weights`, and gains for which codes and waves spread."""
    file = _file()
    assert file is not None
    source = file.read_text("utf-8")
    for wide, narrow in NARROW.items() if options is SMALL else ():
        source = source.replace(wide, narrow)
    program = ModuleType("models")
    exec(compile(source, str(file), "exec"), program.__dict__)
    theirs = Tokenizer(program, options).eval().requires_grad_(False)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(weights(shapes))
    frame = int(np.prod(options["upsample_rates"]))
    spread = float(theirs.encoder(noise(60 * frame)).std())
    gains = {f"encoder.conv_post.{part}": 1 / spread for part in ("weight", "bias")}
    books = [name for name in shapes if "embedding" in name]
    gains |= dict.fromkeys(books, 0.7)
    quiet = {"generator.conv_post.weight_g": 1e-4, "generator.conv_post.bias": 0.0}
    theirs.load_state_dict(weights(shapes, gains | quiet))
    loud = float(decode(theirs, encode(theirs, noise(60 * frame))).std())
    gains |= quiet | {"generator.conv_post.weight_g": 1e-4 * 0.15 / loud}
    theirs.load_state_dict(weights(shapes, gains))
    return theirs, gains


def filled(theirs: Tokenizer, wave: Tensor) -> Tensor:
    """Return a wave `[1 1 t]` filled up with silence to whole frames."""
    frame = int(np.prod(theirs.encoder.h.upsample_rates))
    return F.pad(wave, (0, -wave.shape[2] % frame))


@torch.no_grad()
def latents(theirs: Tokenizer, wave: Tensor) -> Tensor:
    """Return the program's latents `[d f]` of a wave `[1 1 t]`, before the quantizer."""
    return theirs.encoder(filled(theirs, wave))[0]


@torch.no_grad()
def encode(theirs: Tokenizer, wave: Tensor) -> Tensor:
    """Return the program's codes `[k f]` of a wave `[1 1 t]`."""
    codes = theirs.quantizer(theirs.encoder(filled(theirs, wave)))[2]
    return torch.stack(codes).long()


@torch.no_grad()
def decode(theirs: Tokenizer, codes: Tensor) -> Tensor:
    """Return what the program makes of codes `[k f]`, `[1 t]`."""
    return theirs.generator(theirs.quantizer.embed(codes.T[None]))[0]


def main() -> None:
    """Write the file."""
    theirs, gains = loaded(SMALL)
    shapes = {name: list(value.shape) for name, value in theirs.state_dict().items()}
    stored: dict[str, Any] = {"shapes": json.dumps(shapes), "gains": json.dumps(gains)}
    stored |= runs_of(LENGTHS, noise, partial(encode, theirs), partial(decode, theirs))
    for samples in LENGTHS:
        stored[f"latents {samples}"] = latents(theirs, noise(samples))[:, :LATENTS].numpy()
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
