"""Waves of magnitudes, by the phase that fits them best.

Source: Griffin & Lim 1984 (doi 10.1109/TASSP.1984.1164317), with the momentum of Perraudin et al.
2013 (doi 10.1109/WASPAA.2013.6701851), as torchaudio implements it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.audio import _torchaudio
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.layers.centred_mel import slaney_bank
from audiotok.nn.spectrogram import hann

ROUNDS = 60  # usual number of iterations
MOMENTUM = 0.99  # usual momentum of one


def griffin_lim(
    magnitude: Tensor,
    *,
    hop: int,
    window: int,
    fft: int,
    iterations: int = ROUNDS,
    momentum: float = MOMENTUM,
) -> Tensor:
    """Return waves `[b hop*(f-1)]` whose spectra have about these magnitudes `[b fft/2+1 f]`.

    Args:
        magnitude: magnitudes of frames, of which the first is centred on the first sample.
        hop: samples per frame.
        window: samples of the Hann window.
        fft: samples of the transform.
        iterations: number of iterations.
        momentum: momentum of an iteration.
    """
    return _torchaudio.load().functional.griffinlim(
        magnitude,
        window=hann(window, magnitude.device, fft=fft),
        n_fft=fft,
        hop_length=hop,
        win_length=fft,
        power=1.0,
        n_iter=iterations,
        momentum=momentum,
        length=(magnitude.shape[2] - 1) * hop,
        rand_init=False,
    )


class MelInversion(WholeClip):
    """Layer from log-mel magnitudes of `CentredMel` `[b bands f]` to waves that have about these.

    Recordings run one after the other: where magnitudes are small, phases turn with the rounding
    of a product, which depends on how many recordings there are.

    Args:
        rate, hop, window, fft, bands, low, high: as in `CentredMel`.
        quietest: decimal logarithm of the least magnitude of a band; lower ones are raised to it.
        loudest: that of the greatest; higher ones are lowered to it.
        iterations: number of iterations of Griffin-Lim.
        momentum: momentum of an iteration.
    """

    inverse: Tensor

    def __init__(
        self,
        *,
        rate: int,
        hop: int,
        window: int,
        fft: int,
        bands: int,
        low: float,
        high: float,
        quietest: float,
        loudest: float = 2.0,
        iterations: int = ROUNDS,
        momentum: float = MOMENTUM,
    ) -> None:
        super().__init__(bands, 1)
        self.produces = self.hop = hop
        self.window = window
        self.fft = fft
        self.quietest = quietest
        self.loudest = loudest
        self.iterations = iterations
        self.momentum = momentum
        bank = torch.from_numpy(slaney_bank(rate, fft, bands, low, high)).double()
        self.register_buffer("inverse", torch.linalg.pinv(bank).float(), persistent=False)

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return torch.cat([self._wave(one) for one in x.split(1)])

    def _wave(self, x: Features) -> Output:
        """Return the wave `[1 1 t]` of one recording."""
        frames = x.shape[2]
        x = x.float().clamp(self.quietest, self.loudest)
        # One frame more, as a frame is centred on its first sample; and silence up to a window.
        x = F.pad(torch.cat([x, x[:, :, -1:]], 2), (0, self.fft // self.hop), value=self.quietest)
        wave = griffin_lim(
            (self.inverse @ 10**x).clamp(min=0),
            hop=self.hop,
            window=self.window,
            fft=self.fft,
            iterations=self.iterations,
            momentum=self.momentum,
        )
        return wave[:, None, : frames * self.hop]
