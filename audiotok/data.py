"""Audio for training: manifests, decoded once into a cache, and random crops of it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Recording:
    """A line of a manifest: the file and what is known of it."""

    path: Path
    fields: dict[str, str]


def read_manifest(path: str | Path, *, split: str | None = None) -> list[Recording]:
    """Recordings of a TSV manifest with a header line and a `path` column (relative to it).

    Args:
        path: the manifest.
        split: keep only lines whose `split` column says so.

    Raises:
        ValueError: no such file, no `path` column, or no line left.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such manifest (a TSV file with a `path` column)")
    with path.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        if "path" not in (rows.fieldnames or ()):
            raise ValueError(f"{path}: the header has no `path` column, only {rows.fieldnames}")
        kept = [
            Recording(path.parent / row["path"], row)
            for row in rows
            if split is None or row.get("split") == split
        ]
    if not kept:
        raise ValueError(f"{path}: no recording" + (f" of split {split!r}" if split else ""))
    return kept


class Pool:
    """Recordings as 16-bit samples one after another in a memory-mapped file.

    Training reads every recording dozens of times; decoded once, reading costs nothing after.
    """

    def __init__(self, samples: np.ndarray, starts: np.ndarray) -> None:
        self.samples, self.starts = samples, starts

    @classmethod
    def build(cls, recordings: list[Recording], rate: int, cache: str | Path) -> Pool:
        """Decode all recordings to mono at `rate` Hz, or take the cache of an earlier run."""
        cache = Path(cache)
        listed = json.dumps([rate, *(_seen(r.path) for r in recordings)])
        key = hashlib.sha256(listed.encode()).hexdigest()[:16]
        data, index = cache / f"{key}.i16", cache / f"{key}.npy"
        if not index.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            part, starts = data.with_suffix(".part"), [0]
            paths = [r.path for r in recordings]
            # Threads: decoding and resampling run outside Python's lock, and a forked process
            # hangs in torch where its parent has used it.
            with part.open("wb") as out, ThreadPoolExecutor(os.cpu_count()) as workers:
                for samples in workers.map(partial(_decode, rate=rate), paths):
                    out.write(samples)
                    starts.append(starts[-1] + len(samples) // 2)
            part.replace(data)
            # The index comes last: without it the cache counts as not there.
            np.save(index.with_suffix(".part.npy"), np.array(starts))
            index.with_suffix(".part.npy").replace(index)
        return cls(np.memmap(data, np.int16, "r"), np.load(index))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> Tensor:
        """Recording i, `[t]` in -1..1."""
        return _float(self.samples[self.starts[i] : self.starts[i + 1]])

    def crop(self, start: int, length: int) -> Tensor:
        """`length` samples from the recording that `start` lies in, silence past its end."""
        end = self.starts[np.searchsorted(self.starts, start, side="right")]
        piece = _float(self.samples[start : min(end, start + length)])
        return torch.nn.functional.pad(piece, (0, length - len(piece)))


def _seen(path: Path) -> list[object]:
    """A file's name, size and time: what a cache of it goes by."""
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; the manifest lists it") from None
    return [str(path), status.st_size, status.st_mtime_ns]


def _float(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(samples.astype(np.float32) / 32768)


def _decode(path: Path, *, rate: int) -> bytes:
    from audiotok.audio import Audio

    samples = Audio.load(path).mono().resample(rate).samples[0]
    return (samples.clamp(-1, 1) * 32767).round().to(torch.int16).numpy().tobytes()


def crops(pool: Pool, *, batch: int, length: int, seed: int, step: int) -> Iterator[Tensor]:
    """Batches `[b 1 length]` without end, from step `step` on, the same for the same seed.

    Starts are uniform over all samples, so a long recording is seen as often as it is long; each
    crop is scaled to a random loudness (peak -26 to 0 dB), which makes the codec deaf to gain.
    """
    while True:
        random = np.random.default_rng((seed, step))
        starts = random.integers(0, len(pool.samples) - 1, batch).tolist()
        wave = torch.stack([pool.crop(start, length) for start in starts])
        peak = wave.abs().amax(1, keepdim=True).clamp(min=1e-3)
        wanted = 10 ** (random.uniform(-26, 0, (batch, 1)) / 20)
        # Half keep their own loudness.
        keep = random.random((batch, 1)) < 0.5
        gain = np.where(keep, 1.0, wanted / peak.numpy()).clip(max=20.0)
        yield (wave * torch.from_numpy(gain.astype(np.float32)))[:, None].clamp(-1, 1)
        step += 1
