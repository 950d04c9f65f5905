"""WeSpeaker's speaker embeddings: an ONNX model given by its path, run by onnxruntime."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.evaluation.speaker.base import SpeakerEncoder, local, unit
from audiotok.runtime.initializers import not_finite

WANTED = "a speaker model of WeSpeaker in ONNX, such as voxceleb_resnet34.onnx of its model list"


class Wespeaker(SpeakerEncoder):
    """ResNet34 and other models of the toolkit (Wang et al. 2023, arXiv:2210.17016).

    Input as in its wespeaker/cli: Kaldi's 80 mel bands of 16-bit samples, 25 ms Hamming windows
    every 10 ms, without dither, each band's mean over time removed. Silence is not cut.
    """

    @property
    def protocol(self) -> str:
        """See `SpeakerEncoder`."""
        return (
            f"WeSpeaker model {self.name or '(none given)'} by {version('onnxruntime')}, Kaldi "
            "fbank 80 without its mean, 16 kHz, mono mean"
        )

    @cached_property
    def _network(self) -> Any:
        path = local(self.model, WANTED)
        runtime = optional_import("onnxruntime")
        try:
            session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a different kind for each cause
            raise MissingModelError(f"{path}: not an ONNX model; wanted is {WANTED}") from error
        bad = not_finite(path.read_bytes())
        if bad:
            raise MissingModelError(f"{path}: tensor {bad!r} holds NaN or infinity: damaged")
        shape = session.get_inputs()[0].shape
        if len(shape) != 3 or shape[2] != 80:
            raise MissingModelError(f"{path}: takes {shape}, not [batch frames 80]: not {WANTED}")
        return session

    def embed(self, audio: Audio) -> Float[Tensor, " d"]:
        """See `SpeakerEncoder.embed`; 0.1 s is needed."""
        wave = audio.mono().resample(16000).samples
        if wave.shape[1] < 1600 or not wave.any():
            raise InputError("wespeaker: the recording is silent or shorter than 0.1 s")
        _torchaudio.load()
        from torchaudio.compliance import kaldi

        bands = kaldi.fbank(
            wave * 32768,
            num_mel_bins=80,
            sample_frequency=16000,
            dither=0.0,
            window_type="hamming",
        )
        bands = bands - bands.mean(0)
        name = self._network.get_inputs()[0].name
        return unit(torch.from_numpy(self._network.run(None, {name: bands[None].numpy()})[0]))
