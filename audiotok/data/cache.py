"""A cache of decoded recordings: all samples of a corpus in one memory-mapped file."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from threading import Event
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float32
from rich.console import Console
from rich.progress import track
from torch import Tensor

from audiotok._platform.atomic import atomic_file, remove_stale_parts
from audiotok.audio.decoders import AudioFileError
from audiotok.data.recording import Recording, key_of
from audiotok.data.unreadable import Unreadable

BLOCK = 2**18  # samples decoded at a time
FORMAT = 2  # version of the cache's content; part of its file name


class SampleCache:
    """Recordings as 16-bit samples one after another in a memory-mapped file.

    Training reads every recording dozens of times, and decodes it once. An instance can be sent to
    other processes, which map the same file.

    Attributes:
        rate: Hz.
        recordings: in the order given; one that cannot be read is there with length 0.
        lengths: samples of each at `rate`, `[n]`.
    """

    def __init__(
        self, samples: np.ndarray, starts: np.ndarray, *, rate: int, recordings: list[Recording]
    ) -> None:
        self.samples = samples
        self.starts = starts
        self.rate = rate
        self.recordings = recordings
        self.lengths = np.diff(starts)

    @classmethod
    def build(
        cls,
        recordings: list[Recording],
        rate: int,
        cache: str | Path,
        *,
        console: Console | None = None,
    ) -> SampleCache:
        """Decode all recordings to mono at `rate` Hz, or take the cache of an earlier run.

        Memory does not grow with the number of recordings. An interrupted run leaves nothing. Of
        several processes one should go first; two at once do the work twice, to the same effect.

        Args:
            recordings: the recordings to decode.
            rate: Hz.
            cache: folder to which 2 bytes a sample are written.
            console: where progress is shown; stderr if None.

        Raises:
            ValueError: more than a tenth of the files cannot be read. Fewer are warned of, and
                have length 0.
        """
        name = Path(cache) / key_of(recordings, FORMAT, rate)
        data, index = name.with_suffix(".i16"), name.with_suffix(".npy")
        if not index.is_file():
            data.parent.mkdir(parents=True, exist_ok=True)
            remove_stale_parts([data.parent])
            with atomic_file(index) as index_part, atomic_file(data) as data_part:
                starts = _decode(recordings, rate, data_part, console or Console(stderr=True))
                with index_part.open("wb") as out:
                    np.save(out, np.array(starts))
            # The index is completed last: without it the cache counts as absent.
        starts = np.load(index)
        return cls(np.memmap(data, np.int16, "r"), starts, rate=rate, recordings=recordings)

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        if isinstance(self.samples, np.memmap):  # otherwise every sample would be sent
            state["samples"] = self.samples.filename
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if not isinstance(self.samples, np.ndarray):
            self.samples = np.memmap(self.samples, np.int16, "r")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Float32[Tensor, " t"]:
        """Return recording `i` `[t]`, in -1..1."""
        return self.read(i, 0, int(self.lengths[i]))

    def read(self, i: int, start: int, length: int) -> Float32[Tensor, " t"]:
        """Return up to `length` samples of recording `i` from `start` on, fewer at its end."""
        first, end = int(self.starts[i]) + start, int(self.starts[i + 1])
        piece = self.samples[first : min(end, first + length)]
        return torch.from_numpy(piece.astype(np.float32) / 32768)


def _decode(recordings: list[Recording], rate: int, path: Path, console: Console) -> list[int]:
    """Decode all recordings into one file; return where each begins and the last one ends.

    Threads decode some files ahead of the one being written, each until its queue is full:
    neither many files nor a long one fill the memory. (Decoding and resampling run outside Python's
    lock.)
    """
    starts, bad = [0], Unreadable(len(recordings))
    threads, stop = os.cpu_count() or 1, Event()
    todo = iter(recordings)
    pending: deque[tuple[Recording, Queue[bytes | Exception | None]]] = deque()

    def begin(workers: ThreadPoolExecutor) -> None:
        recording = next(todo, None)
        if recording is not None:
            pending.append((recording, Queue(2)))
            workers.submit(_decode_one, *pending[-1], rate, stop)

    with path.open("wb") as out, ThreadPoolExecutor(threads) as workers:
        try:
            for _ in range(2 * threads):
                begin(workers)
            for _ in track(
                recordings,
                "decoding",
                console=console,
                transient=True,
                disable=not console.is_terminal,
            ):
                recording, queue = pending.popleft()
                try:
                    starts.append(starts[-1] + _write(queue, out))
                except ValueError as error:
                    out.seek(2 * starts[-1])
                    out.truncate()
                    starts.append(starts[-1])
                    bad.add(recording.name, error)
                begin(workers)
        finally:
            stop.set()
    return starts


def _write(queue: Queue[bytes | Exception | None], out: BinaryIO) -> int:
    """Write the blocks of a queue up to None and return the samples; raise an exception in it."""
    samples = 0
    while (item := queue.get()) is not None:
        if isinstance(item, Exception):
            raise item
        out.write(item)
        samples += len(item) // 2
    if not samples:
        raise AudioFileError("holds no samples")
    return samples


def _decode_one(
    recording: Recording, queue: Queue[bytes | Exception | None], rate: int, stop: Event
) -> None:
    """Put the blocks of a recording into a queue, then None, or the exception that ended it."""

    def put(item: bytes | Exception | None) -> None:
        while not stop.is_set():
            with suppress(Full):
                return queue.put(item, timeout=0.1)
        return None

    try:
        with recording.open() as audio:
            for block in audio.blocks(BLOCK, rate=rate, mono=True):
                if stop.is_set():
                    return
                scaled = (block[0] * 32768).round().clamp(-32768, 32767)
                put(scaled.to(torch.int16).numpy().tobytes())
        put(None)
    except Exception as error:  # the thread that writes raises it
        put(error)
