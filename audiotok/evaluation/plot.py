"""Pictures of recordings, tokens and codecs: panels over one time axis, written to a file."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.atomic import atomic_file
from audiotok._platform.console import plain
from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.audio import picture as of_audio
from audiotok.audio.audio import Audio
from audiotok.tokens import picture as of_tokens
from audiotok.tokens.kinds import AnyTokens

FORMATS = (".png", ".svg", ".pdf")
LONGEST = 60.0  # seconds that are drawn of a longer recording
WIDTH, DPI = 12.0, 110  # inches, and dots an inch
DIFFERENCE = 20.0  # dB of the last colours of a difference
BANDS, A_SECOND = 40, 25  # rows of a difference, and its columns a second
SPECTROGRAM = (
    "Spectrograms: Hann windows of 32 ms, rows evenly spaced in mel, dB of full scale, from the "
    f"loudest part down to {of_audio.RANGE:.0f} dB below it."
)
COMPARED = (
    f"Difference: decoded minus original, each the mean power of {BANDS} bands and "
    f"{1000 // A_SECOND} ms but at least that lower end; red is too loud, blue too quiet."
)
PROJECTED = (
    "Tokens: colours by the first three principal components of each codebook's entries; "
    "those of different codebooks cannot be compared."
)


@dataclass(frozen=True)
class Panel:
    """Part of a picture: its height beside the others', and the function that draws it."""

    height: float
    draw: Callable[[Any], None]


def draw_roundtrip(
    before: Audio,
    after: Audio,
    tokens: AnyTokens,
    path: str | Path,
    *,
    title: str,
    embeddings: Sequence[np.ndarray] | None = None,
) -> None:
    """Draw what a codec does to a recording: waveforms, spectrograms, their difference, tokens.

    The file appears under its name when it is complete.

    Args:
        before: the original recording.
        after: the decoded recording; both are drawn at its rate, up to the shorter one's end.
        tokens: the tokens between them.
        path: file to write: .png, .svg or .pdf.
        title: title over the panels, as plain text.
        embeddings: entries of each codebook, which tokens are coloured by; None if not at hand.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
        ValueError: channels that cancel each other in their mean, or another file format.
    """
    original, decoded = before.mono().resample(after.rate), after.mono()
    length = min(len(original), len(decoded), round(LONGEST * after.rate))
    original, decoded = original[:length], decoded[:length]
    tokens = tokens.cut(0, length / after.rate)
    panels = [
        *_waveforms(original, decoded),
        *_spectrograms(original, decoded),
        token_panel(tokens, embeddings),
    ]
    notes = [SPECTROGRAM, COMPARED, *([] if embeddings is None else [PROJECTED])]
    save(figure(panels, title, " ".join(notes), (0, decoded.seconds)), path)


def _waveforms(original: Audio, decoded: Audio) -> list[Panel]:
    """Return the panels of two waveforms, of one scale."""
    peak = max(float(audio.samples.abs().max()) for audio in (original, decoded))
    most = 1.05 * max(peak, 1e-3)

    def draw(axes: Any, audio: Audio, name: str, colour: str) -> None:
        of_audio.draw(axes, audio, colour=colour)
        axes.set(ylim=(-most, most), ylabel=name)

    return [
        Panel(0.9, lambda axes: draw(axes, original, "original", "tab:gray")),
        Panel(0.9, lambda axes: draw(axes, decoded, "decoded", "tab:blue")),
    ]


def _spectrograms(original: Audio, decoded: Audio) -> list[Panel]:
    """Return the panels of two spectrograms, of one scale, and of their difference."""
    before, after = (of_audio.decibels(audio) for audio in (original, decoded))
    top = float(before.max())
    low = top - of_audio.RANGE
    columns = max(1, min(of_audio.COLUMNS, round(A_SECOND * decoded.seconds)))
    coarse = [
        np.maximum(of_audio.decibels(audio, rows=BANDS, columns=columns), low)
        for audio in (original, decoded)
    ]

    def draw(
        axes: Any, values: np.ndarray, name: str, low: float, top: float, colours: str
    ) -> None:
        span = {"low": low, "high": top}
        bar = of_audio.draw_rows(axes, values, decoded, start=0, colours=colours, **span)
        bar.set_label("dB")
        axes.set_ylabel(f"{name}, Hz")

    difference = (coarse[1] - coarse[0], "difference", -DIFFERENCE, DIFFERENCE, "RdBu_r")
    return [
        Panel(2, lambda axes: draw(axes, before, "original", low, top, "magma")),
        Panel(2, lambda axes: draw(axes, after, "decoded", low, top, "magma")),
        Panel(2, lambda axes: draw(axes, *difference)),
    ]


def draw_recording(
    path: str | Path,
    *,
    title: str,
    audio: Audio | None = None,
    tokens: AnyTokens | None = None,
    start: float = 0.0,
    tokens_start: float = 0.0,
    embeddings: Sequence[np.ndarray] | None = None,
) -> None:
    """Draw a recording, its tokens, or both: waveform, spectrogram and a row for each codebook.

    The file appears under its name when it is complete.

    Args:
        path: file to write: .png, .svg or .pdf.
        title: title over the panels, as plain text.
        audio: the recording, if it is to be drawn.
        tokens: its tokens, if they are to be drawn.
        start: time of the first sample in seconds.
        tokens_start: time of the first frame in seconds, which may begin before that sample.
        embeddings: entries of each codebook, which tokens are coloured by; None if not at hand.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
        ValueError: channels that cancel each other in their mean, or another file format.
    """
    panels, notes, span = [], [], None
    if tokens is not None:
        panels.append(token_panel(tokens, embeddings, start=tokens_start))
        notes += [] if embeddings is None else [PROJECTED]
    if audio is not None:
        sound = audio.mono()
        panels = [
            Panel(1, lambda axes: of_audio.draw(axes, sound, start=start)),
            *panels,
            Panel(2, lambda axes: of_audio.draw(axes, sound, kind="spectrogram", start=start)),
        ]
        notes.append(SPECTROGRAM)
        span = (start, start + audio.seconds)
    save(figure(panels, title, " ".join(notes), span), path)


def token_panel(
    tokens: AnyTokens, embeddings: Sequence[np.ndarray] | None, *, start: float = 0.0
) -> Panel:
    """Return the panel of tokens, the higher the more codebooks there are."""
    height = 0.5 + 0.16 * min(16, len(tokens.numbers))
    return Panel(
        height, lambda axes: of_tokens.draw(axes, tokens, embeddings=embeddings, start=start)
    )


def figure(
    panels: Sequence[Panel], title: str, note: str, span: tuple[float, float] | None = None
) -> Any:
    """Return a matplotlib figure of panels over one time axis.

    Args:
        panels: from top to bottom.
        title: text above them.
        note: text below them.
        span: first and last second of the axis; those of the last panel if None.

    Raises:
        ImportError: matplotlib is not installed.
    """
    matplotlib = optional_import("matplotlib.figure", "matplotlib", extra="plot")
    heights = [panel.height for panel in panels]
    size = (WIDTH, 1.2 + 0.95 * sum(heights))
    drawn = matplotlib.Figure(figsize=size, layout="constrained")
    drawn.suptitle(plain(title), parse_math=False)
    all_axes = drawn.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for panel, axes in zip(panels, all_axes, strict=True):
        panel.draw(axes)
        axes.label_outer()
    if span is not None:
        all_axes[0].set_xlim(*span)
    if note:
        drawn.supxlabel("\n".join(textwrap.wrap(note, 170)), fontsize="x-small", color="dimgray")
    return drawn


def save(figure: Any, path: str | Path) -> None:
    """Write a figure to a file of its extension's format, complete or not at all.

    Raises:
        OSError: the file cannot be written.
        ValueError: another extension than .png, .svg or .pdf.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: a picture is written as {' '.join(FORMATS)}")
    # Without its date the same picture is the same file.
    date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    title = figure.get_suptitle()
    with atomic_file(path) as part, warnings.catch_warnings():
        # The font may lack a character of the title.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(part, dpi=DPI, format=suffix[1:], metadata={"Title": title, **date})
