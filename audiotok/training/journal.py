"""Log of a training run: log.csv, TensorBoard scalars, sounds and spectrograms, a progress bar.

out/log.csv        a line at every checkpoint
out/tensorboard/   the same as curves, with held-out recordings to see and hear
"""

from __future__ import annotations

import csv
import logging
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from audiotok._platform.console import stderr_console
from audiotok.audio.audio import Audio
from audiotok.training.recipe import Band

log = logging.getLogger("audiotok")


class Journal:
    """Writer of the log of one run; a resumed run goes on in the same files.

    Args:
        out: the run's folder.
        steps: number of steps of the whole run.
        bands: ranges of logged values, each checked once, at the first line from its step on.
        on: whether to write at all (one process of several does).
    """

    def __init__(self, out: Path, *, steps: int, bands: tuple[Band, ...], on: bool = True) -> None:
        self.path = out / "log.csv"
        self.on = on
        self._bands = sorted(bands, key=lambda band: band.step)
        self._board = _board(out / "tensorboard") if on else None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=stderr_console,
            disable=not on,
        )
        self._task = self._progress.add_task("training", total=steps, note="")

    def __enter__(self) -> Journal:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    def moved(self, step: int, note: str = "") -> None:
        """Move the progress bar to `step` steps done, with a note beside it."""
        self._progress.update(self._task, completed=step, note=note)

    def row(self, row: dict[str, Any]) -> None:
        """Write a line to log.csv, TensorBoard and the console.

        Values outside the recipe's bands are logged as warnings.

        Args:
            row: column -> value; `step` is required.
        """
        if not self.on:
            return
        self._write(row)
        step = row["step"]
        if self._board is not None:
            for key, value in row.items():
                if key != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(_group(key), value, step)
            self._board.flush()
        shown = " ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, (int, float)))
        stderr_console.print(shown, soft_wrap=True, highlight=False)
        for line in self._outside(row):
            log.warning(line)

    def _write(self, row: dict[str, Any]) -> None:
        rows: list[dict[str, Any]] = []
        columns: list[str] = []
        if self.path.is_file():
            with self.path.open(newline="") as lines:
                reader = csv.DictReader(lines)
                rows = list(reader)
                columns = list(reader.fieldnames or ())
        # A run that was killed is resumed from a step before its last lines.
        rows_before = [line for line in rows if int(line["step"]) < row["step"]]
        added = [key for key in row if key not in columns]
        if rows_before == rows and columns and not added:
            with self.path.open("a", newline="") as lines:
                csv.DictWriter(lines, columns, restval="").writerow(row)
            return
        part = self.path.with_suffix(".part")
        with part.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, columns + added, restval="")
            writer.writeheader()
            writer.writerows([*rows_before, row])
        part.replace(self.path)

    def _outside(self, row: dict[str, Any]) -> list[str]:
        """Return warnings about values outside the bands that are due at this line."""
        due = [band for band in self._bands if band.step <= row["step"]]
        self._bands = self._bands[len(due) :]
        # Of several bands for one column the last counts: a resumed run may pass several at once.
        latest = {band.key: band for band in due}
        lines = []
        for key, band in latest.items():
            value = row.get(key)
            if value is None:
                lines.append(f"the recipe has a band for {key!r}, which is not logged")
            elif not band.low <= value <= band.high:
                lines.append(
                    f"step {row['step']}: {key} is {value:.4g}, outside the {band.low:g} to "
                    f"{band.high:g} that the recipe expects from step {band.step}"
                )
        return lines

    def sounds(self, step: int, name: str, decoded: Audio, reference: Audio | None = None) -> None:
        """Write a held-out recording to TensorBoard, as sound and as spectrogram.

        Args:
            step: the step of the run.
            name: the recording's name in TensorBoard.
            decoded: the decoded recording.
            reference: the recording itself, or None to leave it out.
        """
        if self._board is None:
            return
        for label, audio in (("reference", reference), ("decoded", decoded)):
            if audio is not None:
                wave = audio.samples[:1].clamp(-1, 1)
                tag = f"{label}/{name}"
                self._board.add_audio(tag, wave, step, sample_rate=audio.rate)
                self._board.add_image(tag, spectrogram(wave[0]), step)


class Sums:
    """Weighted sums of logged values over the steps since the last line."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self._start = time.monotonic()

    def add(self, values: dict[str, Tensor], weight: float = 1.0) -> None:
        """Add the values of a step; they stay on their device, so that nothing waits for a GPU."""
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + weight * value
            self._weights[key] = self._weights.get(key, 0.0) + weight

    def means(self) -> dict[str, float]:
        """Return the mean of each value over the steps that had it."""
        return {key: value.item() / self._weights[key] for key, value in self._sums.items()}

    def lap(self) -> float:
        """Return the seconds since this object was made."""
        return time.monotonic() - self._start


def spectrogram(wave: Tensor, *, size: int = 512) -> Tensor:
    """Return the spectrogram of a waveform as a grey picture, over 80 dB below its peak.

    Args:
        wave: samples `[t]`.
        size: window in samples; the hop is a quarter of it.

    Returns:
        Brightness `[1 size/2+1 frames]` in 0 to 1, high frequencies first.
    """
    window = torch.hann_window(size, device=wave.device)
    bins = torch.stft(
        wave, size, size // 4, window=window, return_complex=True, pad_mode="constant"
    )
    decibels = 20 * bins.abs().clamp(min=1e-9).log10()
    return ((decibels - decibels.max()) / 80 + 1).clamp(0, 1).flip(0)[None]


def _group(key: str) -> str:
    """Return the tag of a column; TensorBoard draws tags with one prefix together."""
    for prefix in ("held", "usage", "gradient", "score"):
        if key.startswith(f"{prefix}_"):
            return f"{prefix}/{key.removeprefix(f'{prefix}_')}"
    return f"train/{key}"


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        log.warning("no TensorBoard log: pip install tensorboard, or 'audiotok[train]'")
        return None
    return SummaryWriter(folder)


def finite(values: dict[str, float]) -> dict[str, float]:
    """Return the values rounded to six digits, without those that are not finite."""
    kept = {k: v for k, v in values.items() if math.isfinite(v)}
    return {k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in kept.items()}
