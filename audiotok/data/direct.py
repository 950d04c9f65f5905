"""Recordings read from their files a piece at a time, for corpora too large for a cache."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from rich.console import Console
from torch import Tensor

from audiotok._platform.atomic import atomic_file, remove_stale_parts
from audiotok._platform.errors import InputError
from audiotok.audio.decoders import AudioFileError
from audiotok.audio.folder import Probe, probe_all
from audiotok.audio.reader import sample_at
from audiotok.audio.resample import ROLLOFF, ROWS, ZERO_CROSSINGS, Resampler
from audiotok.data.locator import opened
from audiotok.data.recording import Recording, key_of
from audiotok.data.unreadable import Unreadable


class FileSamples:
    """Recordings read from their files on demand, for corpora too large for a cache.

    A piece equals the same piece of the whole file, mixed down and resampled, to 1e-5. WAV, FLAC
    and the like are read from the piece's position; formats that cannot be entered exactly in the
    middle (mp3, ogg, opus, m4a) from their beginning, which is slow for long recordings.

    Attributes:
        rate: Hz.
        recordings: in the order given; one that cannot be read is there with length 0.
        lengths: samples of each at `rate`, `[n]`.
    """

    def __init__(self, recordings: list[Recording], rate: int, *, probes: np.ndarray) -> None:
        self.rate = rate
        self.recordings = recordings
        self._rates = probes[:, 0]
        self._samples = probes[:, 1]
        self.lengths = -(-self._samples * rate // self._rates)

    @classmethod
    def open(
        cls,
        recordings: list[Recording],
        rate: int,
        cache: str | Path,
        *,
        console: Console | None = None,
    ) -> FileSamples:
        """Read the header of every file, or take the headers that an earlier run read.

        Args:
            recordings: the recordings to read.
            rate: sample rate of what `read` returns, Hz.
            cache: folder for the content of the headers.
            console: where progress is shown; stderr if None.

        Raises:
            ValueError: a recording is in no file of this machine, or more than a tenth of the files
                cannot be read. Fewer are warned of, and have length 0.
        """
        for recording in recordings:
            if not (recording.locator.local or recording.locator.error):
                raise InputError(
                    f"{recording.name}: is in no file of this machine, and pieces of it cannot be "
                    "read; decode it into the cache instead"
                )
        index = Path(cache) / f"{key_of(recordings, rate)}.probes.npy"
        if not index.is_file():
            index.parent.mkdir(parents=True, exist_ok=True)
            remove_stale_parts([index.parent])
            bad = Unreadable(len(recordings))
            probes = np.array([(rate, 0)] * len(recordings), np.int64)
            looks = [recording.probe for recording in recordings]
            for i, probe in enumerate(probe_all(looks, console=console)):
                try:
                    if not isinstance(probe, Probe):
                        raise probe
                    Resampler(probe.rate, rate)  # raises where the rates share no factor
                    probes[i] = probe.rate, probe.samples
                except ValueError as error:
                    bad.add(recordings[i].name, error)
            with atomic_file(index) as part, part.open("wb") as out:
                np.save(out, probes)
        return cls(recordings, rate, probes=np.load(index))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Float32[Tensor, " t"]:
        """Return recording `i` `[t]`, in -1..1."""
        return self.read(i, 0, int(self.lengths[i]))

    def read(self, i: int, start: int, length: int) -> Float32[Tensor, " t"]:
        """Return up to `length` samples of recording `i` from `start` on, fewer at its end.

        Raises:
            AudioFileError: the file is damaged there, or has changed since its header was read.
        """
        old, samples = int(self._rates[i]), int(self._samples[i])
        factor = math.gcd(old, self.rate)
        down, up = old // factor, self.rate // factor  # `down` samples become `up`
        # Samples that the filter needs on either side. The first sample read has to coincide with
        # an output sample, as every `down`-th one does.
        margin = 0 if down == up else math.ceil(ZERO_CROSSINGS * down / (min(down, up) * ROLLOFF))
        first = max(0, (start * down // up - margin) // down * down)
        last = min(samples, -(-(start + length) * down // up) + margin + 1)
        locator = self.recordings[i].locator
        begin = sample_at(locator.start, old)
        stretch = (begin + first) / old, (begin + last) / old
        piece = replace(locator, start=stretch[0], end=stretch[1], overshoot=math.inf)
        with opened(piece) as audio:
            wave = torch.cat([torch.zeros(1, 0), *audio.blocks(mono=True)], 1)
        if audio.rate != old or wave.shape[1] < last - first:
            raise AudioFileError(f"{locator.name}: has changed since it was looked at; start again")
        if down != up:
            # One block, the smallest that holds the whole piece.
            block = wave.shape[1] + down * max(1, ROWS // up)
            resampler = Resampler(old, self.rate, block=block)
            wave = torch.cat([resampler.step(wave), resampler.finish()], 1)
        skip = start - first // down * up
        return wave[0, skip : skip + length]
