"""Waves of magnitudes, by the phase that fits them best.

Source: Griffin & Lim 1984 (doi 10.1109/TASSP.1984.1164317), with the momentum of Perraudin et al.
2013 (doi 10.1109/WASPAA.2013.6701851), as torchaudio implements it.
"""

from __future__ import annotations

from torch import Tensor

from audiotok.audio import _torchaudio
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
