"""Plot of a codec's effect on a recording: waveforms and mel spectrograms."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from audiotok._platform.atomic import partial_path
from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.mel import log_mel

LONGEST = 60  # seconds that are drawn of a longer recording


def draw(before: Audio, after: Audio, path: str | Path, *, title: str) -> None:
    """Write a PNG with the waveform and the mel spectrogram of both recordings.

    The file appears under its name when it is complete.

    Args:
        before: the original recording.
        after: the decoded recording; both are drawn at its rate.
        path: file to write.
        title: title over the plots, as plain text.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("a picture needs matplotlib: pip install 'audiotok[plot]'") from None
    figure = Figure(figsize=(12, 7), layout="constrained")
    figure.suptitle(title, parse_math=False)
    axes = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": [1, 2.2, 1, 2.2]})
    rate = after.rate
    both = {"original": before.mono().resample(rate), "decoded": after.mono()}
    top = max(float(audio.samples.abs().amax()) if len(audio) else 0.0 for audio in both.values())
    for i, (name, audio) in enumerate(both.items()):
        samples = audio.samples[0, : LONGEST * rate]
        seconds = len(samples) / rate
        wave, mel = axes[2 * i], axes[2 * i + 1]
        wave.plot(np.arange(len(samples)) / rate, samples.numpy(), linewidth=0.3, color="tab:blue")
        wave.set(ylabel=name, ylim=(-1.05 * max(top, 1e-3), 1.05 * max(top, 1e-3)))
        decibels = 20 * log_mel(samples, rate).numpy()
        image = mel.imshow(
            decibels,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, len(decibels)),
            vmin=-80,
            vmax=30,
            cmap="magma",
            interpolation="nearest",
        )
        mel.set(ylabel="mel band")
        figure.colorbar(image, ax=mel, label="dB", pad=0.01)
    axes[-1].set(xlabel="seconds")
    part = partial_path(Path(path))
    try:
        with warnings.catch_warnings():
            # The font may lack a character of the title.
            warnings.filterwarnings("ignore", message="Glyph")
            figure.savefig(part, dpi=110, format="png")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
