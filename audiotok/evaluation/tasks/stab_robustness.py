"""Robustness of codes to noise, gain, speed, pitch and cuts that leave the words unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from audiotok.audio._torchaudio import load as load_torchaudio
from audiotok.audio.audio import Audio
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task, add_white_noise
from audiotok.tokens.statistics import deduplicated, distance

AT_MOST = 50  # recordings, evenly spaced in the corpus
GRID = 50  # Hz: rates are rounded to it, so that resampling has a common factor
SPAN = 1024  # samples in a window of the phase vocoder
Change = Callable[[Audio, Sequence[int]], Audio]


class StabRobustness(Task):
    """STAB-inspired robustness (Vashishth et al. 2024, arXiv:2409.02384).

    The unit edit distance is as in Gat et al. (2023, arXiv:2209.15483).
    """

    protocol = (
        "STAB-inspired; unit edit distance of codebook 1: insertions, deletions and substitutions "
        "between the codes of the recording and of the changed one, both without repeats, over "
        f"the former's length; up to {AT_MOST} recordings. Noise is white; gain does not clip; "
        "codes unchanged: share of frames with the same code of codebook 1. Speed is by "
        "resampling, which moves the pitch too; pitch by torchaudio's phase vocoder, which leaves "
        "the speed; a cut takes samples off the start and is compared with the codes that are "
        "left. Another recording's codes, as many, show what is far"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return unit edit distances; see `Task.run`."""
        every = np.linspace(0, len(bench.recordings) - 1, AT_MOST).round().astype(int)
        chosen = [bench.recordings[i] for i in sorted(set(every.tolist()))]
        all_codes = [bench.encode(recording).codes[0] for recording in chosen]
        findings = []
        frame = bench.codec.frame_size
        for name, (change, frames) in changes(frame).items():
            rows: list[tuple[np.ndarray, np.ndarray]] = []
            for i, recording in enumerate(bench.over(chosen, name)):
                audio = bench.audio(recording)
                if all_codes[i].shape[0] > frames + 1:
                    other = bench.encode_audio(change(audio, (bench.seed, i)))[0]
                    rows.append((all_codes[i][frames:], other))
            findings.append(self._distance(f"unit edit distance: {name}", rows))
            if name.startswith(("noise", "gain")):
                equal = [float((a == b).sum()) for a, b in rows]
                counts = [float(len(a)) for a, _ in rows]
                fields: dict[str, Any] = {"unit": "%", "better": "higher", "scale": 100}
                findings.append(self.mean(f"codes unchanged: {name}", equal, counts, **fields))
        if len(chosen) > 1:
            pairs = zip(all_codes, [*all_codes[1:], all_codes[0]], strict=True)
            rows = [(a[:n], b[:n]) for a, b in pairs for n in [min(len(a), len(b))]]
            name = "unit edit distance: another recording"
            findings.append(self._distance(name, rows, better="higher"))
        return findings

    def _distance(
        self, name: str, rows: list[tuple[np.ndarray, np.ndarray]], better: str = "lower"
    ) -> Finding:
        """Return the pooled edit distance of pairs of codes `[f]`, both without repeats."""
        strings = [(deduplicated(a), deduplicated(b)) for a, b in rows]
        totals = [float(distance(a, b)) for a, b in strings]
        counts = [float(len(a)) for a, _ in strings]
        return self.mean(name, totals, counts, unit="%", better=better, scale=100)


def changes(frame: int) -> dict[str, tuple[Change, int]]:
    """Return changes of audio by name, each with the number of frames it removes from the start."""
    changes_by_name: dict[str, tuple[Change, int]] = {}
    for snr in (20, 15, 10, 5, 0):
        changes_by_name[f"noise at {snr} dB SNR"] = (
            (lambda a, seed, snr=snr: add_white_noise(a, snr, seed)),
            0,
        )
    for gain in (-6, 6):
        changes_by_name[f"gain {gain:+d} dB"] = (lambda a, _, gain=gain: amplified(a, gain)), 0
    for speed in (0.8, 0.9, 1.1, 1.2):
        changes_by_name[f"speed {speed:g}"] = (lambda a, _, speed=speed: change_speed(a, speed)), 0
    for steps in (-4, -2, -1, 1, 2, 4):
        name = f"pitch {steps:+d} semitone{'s' if abs(steps) > 1 else ''}"
        changes_by_name[name] = (lambda a, _, steps=steps: shift_pitch(a, steps)), 0
    changes_by_name["cut by 10 frames"] = (lambda a, _: a[10 * frame :]), 10
    changes_by_name["cut by 10.5 frames"] = (lambda a, _: a[10 * frame + frame // 2 :]), 10
    return changes_by_name


def amplified(audio: Audio, gain: float) -> Audio:
    """Return the audio at another level, by a gain in dB."""
    return Audio(audio.samples * 10 ** (gain / 20), audio.rate)


def change_speed(audio: Audio, speed: float) -> Audio:
    """Return the audio played at another speed, with its pitch moved along, as on a tape."""
    return Audio(audio.samples, round(audio.rate * speed)).resample(audio.rate)


def shift_pitch(audio: Audio, steps: float) -> Audio:
    """Return the audio with its pitch raised by semitones, to a cent, and its length unchanged.

    The audio is stretched by a phase vocoder, then played faster.
    """
    speed = max(1, round(audio.rate * 2 ** (steps / 12) / GRID)) * GRID / audio.rate
    window = torch.hann_window(SPAN)
    stft_options = {"n_fft": SPAN, "hop_length": SPAN // 4, "window": window}
    spectrum = torch.stft(audio.samples, return_complex=True, **stft_options)
    advance = torch.linspace(0, torch.pi * (SPAN // 4), SPAN // 2 + 1)[:, None]
    vocoder = load_torchaudio().functional.phase_vocoder
    length = round(len(audio) * speed)
    longer = torch.istft(vocoder(spectrum, 1 / speed, advance), length=length, **stft_options)
    shifted = change_speed(Audio(longer, audio.rate), speed).samples[:, : len(audio)]
    return Audio(F.pad(shifted, (0, len(audio) - shifted.shape[1])), audio.rate)
