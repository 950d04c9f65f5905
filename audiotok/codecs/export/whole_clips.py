"""Encoders of whole recordings in operations that ONNX has: segments, and HuBERT's features."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.audio import _torchaudio
from audiotok.codecs.models.longcat import Semantic
from audiotok.codecs.models.xcodec import HubertFeatures

PERIODS = 16  # periods of input before and after a sample that a resampled one may depend on


class FoldedSegments(Semantic):
    """A `Semantic` that runs whole segments as one batch, and the last one, whole or not, apart."""

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        count = (x.shape[2] - 1) // self.size
        before, last = x[:, :, : count * self.size], x[:, :, count * self.size :]
        whole = before.unflatten(2, (count, self.size)).transpose(1, 2).flatten(0, 1)
        y = self.segment(whole).unflatten(0, (x.shape[0], count))
        return torch.cat([y.permute(0, 2, 1, 3).flatten(2), self.segment(last)], 2)


class ConvolvedHubert(HubertFeatures):
    """A `HubertFeatures` whose resampling is one convolution, for waves of whole frames."""

    kernel: Tensor

    def prepare(self) -> None:
        """Compute the kernel `[new 1 taps]`, which the response to impulses tells."""
        shared = gcd(self.sample_rate, self.hubert.sample_rate)
        old, new = self.sample_rate // shared, self.hubert.sample_rate // shared
        impulses = torch.zeros(old, (4 * PERIODS + 1) * old)
        impulses[:, 2 * PERIODS * old :][:, :old] = torch.eye(old)
        resample = _torchaudio.load().functional.resample
        y = resample(impulses, old, new).unflatten(1, (-1, new))[:, PERIODS : 3 * PERIODS + 1]
        kernel = y.flip(1).permute(2, 1, 0).flatten(1)[:, None]
        self.register_buffer("kernel", kernel.contiguous(), persistent=False)

    def resampled(self, wave: Tensor) -> Tensor:
        """See `HubertFeatures.resampled`."""
        if self.sample_rate == self.hubert.sample_rate:
            return wave
        shared = gcd(self.sample_rate, self.hubert.sample_rate)
        old = self.sample_rate // shared
        padded = F.pad(wave[:, None], (PERIODS * old, PERIODS * old))
        return F.conv1d(padded, self.kernel, stride=old).transpose(1, 2).flatten(1)
