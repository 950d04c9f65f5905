"""Distil a model of your own into the first codebook, with a teacher of one class.

    python egs/distill_your_own.py MANIFEST OUT

The teacher in this example returns the level of each frame in 32 mel bands. To use another model,
implement `states`, which yields a feature vector for every 20 ms.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from audiotok import Error, load
from audiotok.data import SpeechTeacher
from audiotok.nn import mel_bank
from audiotok.training import read_recipe, train


class Loudness(SpeechTeacher):
    """Teacher of log mel spectra."""

    name, width, layers = "loudness", 32, 0

    def __init__(self) -> None:
        super().__init__()
        bank = mel_bank(16000, 640, 32, torch.device("cpu"), norm=None, scale="htk")
        self.bank = torch.nn.Parameter(bank, requires_grad=False)

    def states(self, wave: Tensor) -> Iterator[Tensor]:
        """Yield the log mel spectra `[b f 32]` of samples `[b t]`, 50 frames per second."""
        window = torch.hann_window(640, device=wave.device)
        bins = torch.stft(wave, 640, 320, window=window, pad_mode="constant", return_complex=True)
        frames = -(-wave.shape[1] // 320)
        yield (bins.abs().transpose(1, 2)[:, :frames] @ self.bank).clamp(min=1e-3).log()


def main(manifest: str, out: str) -> None:
    settings = [f"data.manifest={manifest}", f"data.cache={out}/cache", "config.semantic=32"]
    settings += ["loss.distillation=1.0", f"distillation.cache={out}/features"]
    settings += ["distillation.teachers.loudness={layer = 0}"]
    recipe = read_recipe(Path(__file__).parents[1] / "recipes/speech_tiny.toml", settings)
    codec = load(train(recipe, out, teachers={"loudness": Loudness()}))
    print(f"{codec.name} {codec.fingerprint} is in {out}/best.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
