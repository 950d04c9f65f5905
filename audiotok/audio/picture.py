"""Pictures of audio: waveform and spectrogram, for matplotlib and for notebooks."""

from __future__ import annotations

import math
from base64 import b64encode
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from audiotok._platform.errors import InputError

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio

Kind = Literal["waveform", "spectrogram"]
COLUMNS = 1500  # columns of a plot at most
ROWS = 160  # of a spectrogram
WINDOW, HOP = 0.032, 0.008  # seconds
RANGE = 80.0  # dB below the loudest part that are drawn
FLOOR = 1e-12  # power of digital silence, -120 dB
HERTZ = (0, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000)

PLAYED = 30.0  # seconds at most that a notebook can play
PLAYED_BYTES = 1_500_000  # of them, as a WAV file
SKETCH = (600, 60)  # width and height of a notebook's waveform


def envelope(wave: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest sample of each of at most `columns` stretches of a wave.

    Args:
        wave: `[t]`.
        columns: number of stretches, each as long as the next to a sample.
    """
    if not len(wave):
        return wave, wave
    edges = np.linspace(0, len(wave), min(columns, len(wave)), endpoint=False).astype(np.int64)
    return np.minimum.reduceat(wave, edges), np.maximum.reduceat(wave, edges)


def mel(hertz: float) -> float:
    """Return a frequency in mel, by O'Shaughnessy's formula."""
    return 2595 * math.log10(1 + hertz / 700)


def decibels(audio: Audio, *, rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.float32]:
    """Return levels `[rows columns]` in dB, of rows evenly spaced in mel from 0 to half the rate.

    A sine of full scale has 0 dB. Values are means of the power of windows of 32 ms (Hann), 8 ms
    apart, over a row's band and a column's time: no stretch of audio is left out.

    Args:
        audio: a recording; its channels are mixed down.
        rows: number of rows.
        columns: number of columns at most; there are no more than windows.

    Raises:
        ValueError: its channels cancel each other.
    """
    wave = audio.mono().samples[0].cpu()
    window = torch.hann_window(max(2, round(WINDOW * audio.rate)))
    size = 2 ** (len(window) * 2 - 1).bit_length()  # padded, so that low bands have bins
    spectrum = torch.stft(
        wave,
        size,
        max(1, round(HOP * audio.rate)),
        win_length=len(window),
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    power = (spectrum.abs() / (window.sum() / 2)).square().numpy()
    edges = 700 * (10 ** (np.linspace(0, mel(audio.rate / 2), rows + 1) / 2595) - 1)
    banded = _means(power, edges / (audio.rate / 2) * (len(power) - 1))
    windows = banded.shape[1]
    power = _means(banded.T, np.linspace(0, windows, min(columns, windows) + 1)).T
    return 10 * np.log10(np.maximum(power, FLOOR)).astype(np.float32)


def _means(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the means of rows `[n m]` between edges, which may lie within a row."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, 0, np.float64)])
    low = np.minimum(edges.astype(np.int64), len(values) - 1)
    part = (edges - low)[:, None]
    at_edges = sums[low] * (1 - part) + sums[low + 1] * part
    return np.diff(at_edges, axis=0) / np.diff(edges)[:, None]


def draw(
    axes: Any,
    audio: Audio,
    *,
    kind: Kind = "waveform",
    start: float = 0.0,
    colour: str = "tab:blue",
) -> None:
    """Draw a recording into matplotlib axes, with seconds below.

    Args:
        axes: where to draw.
        audio: the recording; its channels are mixed down.
        kind: "waveform" or "spectrogram".
        start: time of the first sample in seconds.
        colour: colour of the waveform.

    Raises:
        ValueError: there is no such kind, or the channels cancel each other.
    """
    if kind == "waveform":
        wave = audio.mono().samples[0].cpu().numpy()
        draw_waveform(axes, wave, start=start, seconds=audio.seconds, colour=colour)
    elif kind == "spectrogram":
        levels = decibels(audio)
        top = float(levels.max(initial=-RANGE))
        span = {"low": top - RANGE, "high": top}
        bar = draw_rows(axes, levels, audio, start=start, colours="magma", **span)
        bar.set_label("dB")
    else:
        raise InputError(f"kind {kind!r}: there are waveform and spectrogram")


def draw_waveform(
    axes: Any, wave: np.ndarray, *, start: float, seconds: float, colour: str
) -> None:
    """Draw a wave `[t]` into axes: the range of its samples in each column."""
    low, high = envelope(wave, COLUMNS)
    times = start + (np.arange(len(low)) + 0.5) * seconds / max(1, len(low))
    axes.fill_between(times, low, high, color=colour, linewidth=0.6)
    top = 1.05 * max(float(np.abs(wave).max(initial=0.0)), 1e-3)
    axes.set(xlim=(start, start + max(seconds, 1e-3)), ylim=(-top, top))
    axes.set(xlabel="seconds", ylabel="amplitude")


def draw_rows(
    axes: Any,
    values: np.ndarray,
    audio: Audio,
    *,
    start: float,
    low: float,
    high: float,
    colours: str,
) -> Any:
    """Draw values `[rows columns]` of mel-spaced rows into axes, and return their colour bar.

    Args:
        axes: where to draw.
        values: as of `decibels`.
        audio: the recording that they are of.
        start: time of the first sample in seconds.
        low: value of the first colour.
        high: value of the last colour.
        colours: name of matplotlib's colour map.
    """
    top, seconds = audio.rate / 2, max(audio.seconds, 1e-3)
    image = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        extent=(start, start + seconds, 0, mel(top)),
        vmin=low,
        vmax=high,
        cmap=colours,
        interpolation="nearest",
    )
    ticks = [hertz for hertz in HERTZ if hertz <= top]
    names = [f"{hertz // 1000}k" if hertz >= 1000 else str(hertz) for hertz in ticks]
    axes.set_yticks([mel(hertz) for hertz in ticks], names)
    axes.set(xlim=(start, start + seconds), xlabel="seconds", ylabel="Hz")
    return axes.figure.colorbar(image, ax=axes, pad=0.01)


def html(audio: Audio) -> str:
    """Return a self-contained player of a recording for a notebook, with its waveform and facts."""
    channels = f"{audio.channels} channel{'s' if audio.channels > 1 else ''}"
    facts = f"{audio.seconds:.2f} s · {audio.rate} Hz · {channels}"
    line = f"<div><b>Audio</b> {escape(facts)}</div>"
    if not len(audio):
        return f"<div>{line}</div>"
    wave = audio.samples.float().cpu().mean(0).numpy()
    most = min(PLAYED * audio.rate, PLAYED_BYTES / (2 * audio.channels))
    played = audio[: max(1, int(most))]
    notes = []
    if len(played) < len(audio):
        notes.append(f"plays the first {played.seconds:.1f} s of {audio.seconds:.1f} s")
    loud = int((played.samples.abs() > 1).sum())
    if loud:
        notes.append(f"{loud} samples past full scale are clipped in what is played")
    note = f'<div style="font-size:85%;opacity:.7">{escape("; ".join(notes))}</div>'
    source = f"data:audio/wav;base64,{b64encode(_wav(played)).decode()}"
    player = f'<audio controls preload="metadata" style="width:100%" src="{source}"></audio>'
    return (
        f'<div style="max-width:{SKETCH[0]}px">{line}{_sketch(wave)}{player}'
        f"{note if notes else ''}</div>"
    )


def _wav(audio: Audio) -> bytes:
    """Return a recording as a WAV file of 16 bits."""
    file = BytesIO()
    samples = audio.samples.cpu().clamp(-1, 1).T.numpy()
    soundfile.write(file, samples, audio.rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _sketch(wave: np.ndarray) -> str:
    """Return a wave `[t]` as an SVG image, scaled to its peak."""
    width, height = SKETCH
    low, high = envelope(wave, width // 2)
    scale = (height / 2 - 1) / max(float(np.abs(wave).max()), 1e-9)
    places = np.linspace(0, width, len(low)).round().astype(int)
    edges = [zip(places, y, strict=True) for y in (high, low)]
    upper, lower = ([f"{x},{height / 2 - y * scale:.1f}" for x, y in edge] for edge in edges)
    points = " ".join(upper + lower[::-1])
    return (
        f'<svg viewBox="0 0 {width} {height}" width="100%" role="img" aria-label="waveform">'
        f'<polygon points="{points}" fill="#4c8bd6" stroke="#4c8bd6" stroke-width="1"/></svg>'
    )
