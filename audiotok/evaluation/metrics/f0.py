"""F0: preservation of pitch and voicing, by librosa's pYIN or by torchcrepe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.evaluation.cache import BoundedCache, fingerprint
from audiotok.evaluation.metrics.base import Metric, Score, optional_import, pair, version

RATE = 16000
FRAME, HOP = 1024, 160  # samples: 64 and 10 ms
LOWEST, HIGHEST = 50.0, 550.0  # Hz, those of Vocos and WavTokenizer
PERIODIC, QUIET = 0.21, -60.0  # torchcrepe: a frame below either is unvoiced (dB, A-weighted)
REMEMBERED = 128  # recordings

Pitch = Any  # `[f]` array in Hz, NaN where not voiced

TRACKERS = ("pyin", "torchcrepe", "torchcrepe:tiny")
BETTER = {"rmse": "lower", "correlation": "higher", "voicing": "higher"}
WHAT = {
    "rmse": "root mean square difference of F0 in cents over frames voiced in both",
    "correlation": "Pearson's correlation of F0 in Hz over frames voiced in both",
    "voicing": "F1 of which frames are voiced",
}


class F0(Metric):
    """F0 error against the reference in frames of 10 ms: one value a recording, then their mean.

    `f0` is `f0:rmse`, in cents, the pitch error of CARGAN, Vocos and WavTokenizer; Hz would give
    errors of high voices more weight. `f0:correlation` is blind to a transposition. `f0:voicing` is
    WavTokenizer's V/UV F1, with `models["f0"] = "torchcrepe"` in its settings. None of the three is
    a ratio of sums over recordings, so a corpus's value is the mean of its recordings' values.
    """

    options = tuple(WHAT)

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.variant = option or "rmse"
        self.better = BETTER[self.variant]
        self.unit = "cents" if self.variant == "rmse" else ""
        tracker = self.models.get("f0", "pyin")
        if tracker not in TRACKERS:
            known = ", ".join(TRACKERS)
            raise InputError(f"no F0 tracker {tracker!r}: f0 is measured by one of {known}")
        self.tracker = tracker
        self.track: Callable[[np.ndarray], Pitch] = _pyin
        how = f"{version('librosa')}, pYIN, steps of 10 cents"
        if tracker != "pyin":
            capacity = "tiny" if tracker.endswith("tiny") else "full"
            self.track = lambda wave: _torchcrepe(wave, capacity)
            how = (
                f"{version('torchcrepe')} {capacity}, Viterbi, voiced from periodicity {PERIODIC} "
                f"and {QUIET:.0f} dB"
            )
        self.protocol = (
            f"{WHAT[self.variant]}, mean over recordings; {how}, {LOWEST:.0f} to {HIGHEST:.0f} Hz, "
            "window 64 ms, hop 10 ms, 16 kHz, mono mean"
        )

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; both must share a voiced frame, except for `f0:voicing`."""
        waves = (x.numpy() for x in pair(output, reference, rate=RATE))
        estimate, target = (self._pitch(wave) for wave in waves)
        voiced = ~np.isnan(estimate), ~np.isnan(target)
        if self.variant == "voicing":
            return Score(_f1(*voiced), 1)
        voiced_in_both = voiced[0] & voiced[1]
        if not voiced_in_both.any():
            raise InputError("F0: no frame is voiced in both the output and the reference")
        estimate, target = estimate[voiced_in_both], target[voiced_in_both]
        if self.variant == "rmse":
            cents = 1200 * np.log2(estimate / target)
            return Score(float(np.sqrt(np.mean(cents**2))), 1)
        if np.ptp(estimate) == 0 or np.ptp(target) == 0:
            raise InputError("F0: it does not vary, so that nothing can be correlated")
        return Score(float(np.corrcoef(estimate, target)[0, 1]), 1)

    def _pitch(self, wave: np.ndarray) -> Pitch:
        """Return the F0 of a waveform `[t]` at 16 kHz, from the cache where it is there."""
        if len(wave) < FRAME:
            raise InputError(f"F0: {len(wave) / RATE:.3f} s are too short, 64 ms are needed")
        key = self.tracker, fingerprint(torch.from_numpy(wave), RATE)
        pitch = _KNOWN.get(key)
        return _KNOWN.put(key, self.track(wave)) if pitch is None else pitch


# A reference is the same for every output, and its F0 for every variant of the metric.
_KNOWN: BoundedCache[Pitch] = BoundedCache(REMEMBERED)


def _f1(estimate: np.ndarray, target: np.ndarray) -> float:
    """Return the F1 of voiced frames `[f]` in the output against those in the reference."""
    both = np.sum(estimate & target)
    either = np.sum(estimate) + np.sum(target)
    if not either:
        raise InputError("F0: no frame is voiced in the output nor in the reference")
    return float(2 * both / either)


def _pyin(wave: np.ndarray) -> Pitch:
    """Return F0 by pYIN (Mauch and Dixon 2014), with voicing by a hidden Markov model."""
    librosa = optional_import("librosa")
    pitch, voiced, _ = librosa.pyin(
        wave, fmin=LOWEST, fmax=HIGHEST, sr=RATE, frame_length=FRAME, hop_length=HOP
    )
    return np.where(voiced, pitch, np.nan)


def _torchcrepe(wave: np.ndarray, capacity: str) -> Pitch:
    """Return F0 by CREPE (Kim et al. 2018, arXiv:1802.06182) as Vocos and WavTokenizer use it."""
    _torchaudio.load()  # torchcrepe imports torchaudio
    torchcrepe, librosa = optional_import("torchcrepe"), optional_import("librosa")
    # The package dithers its result from numpy's global generator. A fixed seed gives a recording
    # one F0, and restoring the state leaves the random numbers of other code unchanged.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        pitch, periodicity = torchcrepe.predict(
            torch.from_numpy(wave)[None],
            RATE,
            HOP,
            LOWEST,
            HIGHEST,
            capacity,
            return_periodicity=True,
            pad=False,
            batch_size=512,
        )
    finally:
        np.random.set_state(before)  # noqa: NPY002
    window = torch.hann_window(FRAME)
    frames = torch.from_numpy(wave).unfold(0, FRAME, HOP) * window
    power = torch.fft.rfft(frames).abs().square().T.numpy()
    frequencies = librosa.fft_frequencies(sr=RATE, n_fft=FRAME)
    with np.errstate(divide="ignore"):  # the bin at 0 Hz has weight 0
        loudness = librosa.perceptual_weighting(power, frequencies).mean(0) - 20
    voiced = (loudness >= QUIET) & (periodicity[0].numpy() >= PERIODIC)
    return np.where(voiced, pitch[0].numpy(), np.nan)
