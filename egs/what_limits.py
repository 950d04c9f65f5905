"""Measure whether a codec's errors are in magnitudes or phases, by replacing each in its output.

    python egs/what_limits.py DATA [--codec speech] [--split test] [--limit 20]

DATA is a manifest or a folder of audio. Spectra have windows of 40 ms, a hop of 10 ms. The cosine
of the phase error is weighted by magnitude: 1 is a perfect waveform, 0 is chance.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import torch

import audiotok
from audiotok import find
from audiotok.data import read_manifest
from audiotok.evaluation import Score

BANDS = ((0, 500), (0, 1000), (0, 2000), (0, 4000), (2000, 8000))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", default="speech")
    parser.add_argument("--split")
    parser.add_argument("--limit", type=int, default=20)
    given = parser.parse_args()
    codec = audiotok.load(given.codec)
    metrics = {name: find("metrics", name)() for name in ("pesq", "stoi")}
    totals = defaultdict(lambda: Score(0, 0))
    size = codec.sample_rate // 25
    shape = {"n_fft": size, "hop_length": size // 4, "window": torch.hann_window(size)}
    recordings = read_manifest(given.data, split=given.split)
    for recording in recordings[:: max(1, len(recordings) // given.limit)][: given.limit]:
        audio = recording.load().mono().resample(codec.sample_rate)
        waves = (codec.decode(codec.encode(audio)).samples[0], audio.samples[0])
        ours, theirs = (torch.stft(wave, **shape, return_complex=True) for wave in waves)
        mixed = torch.polar(theirs.abs(), ours.angle())
        spectra = {"as it is": ours, "the original's magnitudes": mixed}
        hertz = torch.linspace(0, codec.sample_rate / 2, len(ours))[:, None]
        for low, high in BANDS:
            inside = (hertz >= low) & (hertz < high)
            angle, name = torch.where(inside, theirs.angle(), ours.angle()), f"{low} to {high} Hz"
            spectra[f"the original's phases, {name}"] = torch.polar(ours.abs(), angle)
            cosine, weight = (ours.angle() - theirs.angle()).cos(), theirs.abs() * inside
            totals["cosine", name] += Score((cosine * weight).sum().item(), weight.sum().item())
        for name, bins in spectra.items():
            wave = torch.istft(bins, **shape, length=audio.samples.shape[1])
            for key, metric in metrics.items():
                totals[key, name] += metric.score(audiotok.Audio(wave[None], audio.rate), audio)
    for (key, name), score in totals.items():
        print(f"{key}, {name}: {score.value:.3f}")


if __name__ == "__main__":
    try:
        main()
    except (audiotok.Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
