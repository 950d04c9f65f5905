"""Lyra v2 by its own tflite models, frame by frame, without its packet loss and comfort noise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline, fit_length

RATE = 16000
FRAME = 320  # samples
STAGES = {"3200": 16, "6000": 30, "9200": 46}  # bits/s -> residual stages of 4 bits a frame
MODELS = ("soundstream_encoder", "quantizer", "lyragan")


class Lyra(Baseline):
    """Lyra at a rate in bits/s, as `lyra:6000:FOLDER`, or `lyra:6000` with the variable LYRA set.

    The folder is `lyra/model_coeffs` of the repository google/lyra. Input is at 16 kHz, so nothing
    above 8 kHz is kept. Bytes are those of the packets, without a container.
    """

    def __init__(self, option: str = "") -> None:
        bits, _, folder = option.partition(":")
        super().__init__(option)
        if bits not in STAGES:
            raise InputError(f"lyra:{option}: the option is a rate in bits/s: {', '.join(STAGES)}")
        self.stages = STAGES[bits]
        self.nominal_kbps = int(bits) / 1000
        self.folder = Path(folder or os.environ.get("LYRA", "")).expanduser()
        self.facts = {
            "program": f"google/lyra's tflite models by {version('ai-edge-litert')}",
            "rate": RATE,
            "bytes": "of the packets; the last frame is filled with zeros",
            "delay": "none (envelopes of speech differ by less than 1 ms)",
        }

    def _nets(self) -> list[Any]:
        """Return new instances of the three networks, whose states belong to one recording."""
        paths = [self.folder / f"{name}.tflite" for name in MODELS]
        for path in paths:
            if not path.is_file():
                raise MissingModelError(
                    f"Lyra: no {path.name} in {str(self.folder)!r}; give the folder model_coeffs "
                    "of the repository google/lyra as lyra:RATE:FOLDER or in the variable LYRA"
                )
        library = optional_import("ai_edge_litert.interpreter", "ai-edge-litert")
        nets = [library.Interpreter(model_path=str(path)) for path in paths]
        for net in nets:
            net.allocate_tensors()
        return nets

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`."""
        encoder, quantizer, decoder = self._nets()
        code, back = (quantizer.get_signature_runner(name) for name in ("encode", "decode"))
        wave = audio.mono().resample(RATE).samples[0].numpy()
        frames = [np.zeros(0, np.float32)]
        for frame in np.pad(wave, (0, -len(wave) % FRAME)).reshape(-1, FRAME):
            latent = _run_network(encoder, frame)
            indices = code(
                input_frames=latent.reshape(1, 1, -1), num_quantizers=np.int32(self.stages)
            )
            quantized = back(encoding_indices=indices["output_0"])["output_0"]
            frames.append(_run_network(decoder, quantized).ravel())
        output = Audio(torch.from_numpy(np.concatenate(frames))[None], RATE)
        return fit_length(output, audio, seconds=FRAME / RATE), (len(frames) - 1) * self.stages // 2


def _run_network(net: Any, x: np.ndarray) -> np.ndarray:
    """Run a network on one frame and return its output."""
    into, out = net.get_input_details()[0], net.get_output_details()[0]
    net.set_tensor(into["index"], x.reshape(into["shape"]).astype(np.float32))
    net.invoke()
    return net.get_tensor(out["index"])
