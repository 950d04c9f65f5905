"""Worker of a build: one process that encodes recordings, reading some while it computes others.

    tasks --> reading threads: decode, mix, resample --> ready --> the codec --> outcomes
               at most `prefetch` recordings                like lengths side by side on a GPU,
                                                         alone on a CPU

A recording's codes are those of `audiotok encode`: to the bit on a CPU, up to near-ties on a GPU.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import queue
import threading
import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.audio.decoders import AudioFileError
from audiotok.audio.reader import Source
from audiotok.codecs.load import load_in_backend
from audiotok.corpus.build.work import EncodedRecording, Work, smallest, version_here
from audiotok.corpus.inputs import MISSING, UNSEEN, FileStamp, look
from audiotok.data.failures import may_be_transient, missing_here, reason
from audiotok.data.locator import opened
from audiotok.data.recording import Recording
from audiotok.data.transient import retry
from audiotok.runtime.backends.base import limit_threads
from audiotok.runtime.base import Executor, RunnableCodec
from audiotok.runtime.sessions import Encoding, encode_together

log = logging.getLogger("audiotok")

LONG = 60  # seconds; a longer recording is read in blocks

Key = Hashable  # by which a recording and its outcome are known


@dataclass
class _Ready:
    """Recording that has been read: its wave `[c t]`, or blocks of a long one."""

    key: Key
    item: Recording
    wave: np.ndarray | None = None
    blocks: Iterator[np.ndarray] = field(default_factory=lambda: iter(()))
    source: Source | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    error: str = ""
    passing: bool = False
    missing: str = ""
    input: FileStamp = UNSEEN


class Worker:
    """Worker that encodes recordings put into it, with threads that read them.

    Args:
        work: options of encoding.

    Raises:
        ValueError: the codec cannot be loaded, or its fingerprint differs.
    """

    def __init__(self, work: Work) -> None:
        if work.version != version_here():
            here = f"audiotok {version_here() or '(not installed)'} is here"
            raise InputError(f"{here}, and {work.version} where the build runs; install the same")
        limit_threads(work.threads)
        self.work = work
        self.codec: RunnableCodec[Any] = load_in_backend(
            work.codec, work.device, work.backend or None, search=work.search
        )
        limit_threads(work.threads)  # of torch, which may be loaded now
        if work.fingerprint not in ("", self.codec.fingerprint):
            here = f"its weights on {platform.node() or 'a worker'} are {self.codec.fingerprint}"
            there = f"{work.fingerprint} where the build runs; give every machine the same file"
            raise InputError(f"{work.codec}: {here}, and {there}")
        self.executor: Executor[Any] = self.codec.executor
        self.codebooks = self.codec.kept(work.codebooks)
        rate = self.codec.sample_rate
        self.header = self.codec.header(rate, streams=1, codebooks=self.codebooks, half=work.half)
        self.inbox: queue.SimpleQueue[_Ready | None] = queue.SimpleQueue()
        self._given = 0
        self._done = 0  # each counter is written by one thread
        self._tasks: queue.SimpleQueue[tuple[Key, Recording] | None] = queue.SimpleQueue()
        self._ready: list[_Ready] = []
        self._used = time.process_time()
        readers = range(work.readers)
        self._threads = [threading.Thread(target=self._read, daemon=True) for _ in readers]
        for thread in self._threads:
            thread.start()

    def put(self, key: Key, item: Recording) -> None:
        """Add a recording to encode."""
        self._given += 1
        self._tasks.put((key, item))

    @property
    def reading(self) -> int:
        """Number of recordings that are being read, or wait in the inbox."""
        return self._given - self._done - len(self._ready)

    def close(self) -> None:
        """Stop the reading threads."""
        for _ in self._threads:
            self._tasks.put(None)

    def step(self) -> Iterator[tuple[Key, EncodedRecording]] | None:
        """Wait for a recording to be read, and return the outcomes that follow; None at the end."""
        ready = self.inbox.get()
        return None if ready is None else self._step(ready)

    def _step(self, ready: _Ready) -> Iterator[tuple[Key, EncodedRecording]]:
        self._ready.append(ready)
        group = self.work.batch_size
        # Twice a batch to choose from: a batch of similar lengths wastes little. When no recording
        # is being read, the rest is encoded without waiting.
        while len(self._ready) >= (2 * group if group > 1 else 1) or (
            self._ready and not self.reading
        ):
            chosen = self._chosen(group)
            for ready, coded in self._code(chosen):
                self._done += 1
                now = time.process_time()
                busy = now - self._used
                self._used = now
                yield (
                    ready.key,
                    replace(
                        coded,
                        busy=busy,
                        input=ready.input,
                        passing=ready.passing,
                        missing=ready.missing,
                        apart=bool(ready.missing) and missing_here(ready.item.locator),
                    ),
                )

    def all(self, tasks: Iterable[tuple[Key, Recording]]) -> list[tuple[Key, EncodedRecording]]:
        """Return the outcomes of some recordings."""
        count = 0
        for key, item in tasks:
            self.put(key, item)
            count += 1
        return [outcome for _ in range(count) for outcome in self.step() or ()]

    # -- reading, in threads ----------------------------------------------------------------------

    def _read(self) -> None:
        while (task := self._tasks.get()) is not None:
            read = partial(self._load, *task)
            self.inbox.put(retry(read, self.work.waits, lambda ready: ready.passing))

    def _load(self, key: Key, item: Recording) -> _Ready:
        ready = _Ready(key, item, input=look(item.locator.path))
        try:
            with ExitStack() as guard:  # an error passes through the open source, which names it
                guard.push(ready.stack)
                self._open(ready)
                guard.pop_all()
        except Exception as error:  # one recording never stops the others
            ready.error = reason(error, item.locator)
            ready.passing = may_be_transient(error, item.locator)
            ready.missing = _missing(item.locator.local)
        return ready

    def _open(self, ready: _Ready) -> None:
        codec, work = self.codec, self.work
        context = opened(ready.item.locator, commands=work.commands, scratch=work.scratch)
        source = ready.stack.enter_context(context)
        codec.streams(source.channels)  # raises if it cannot encode so many
        ready.source = source
        mixes = source.channels > codec.channels
        blocks = source.arrays(rate=codec.sample_rate, mono=mixes)
        head: list[np.ndarray] = []
        length = 0
        for block in blocks:
            head.append(block)
            length += block.shape[1]
            if length > LONG * codec.sample_rate:
                ready.blocks = chain(head, blocks)
                return
        ready.stack.close()
        none = np.zeros((codec.channels, 0), np.float32)
        ready.wave = np.concatenate(head, 1) if head else none

    # -- coding -----------------------------------------------------------------------------------

    def _chosen(self, group: int) -> list[_Ready]:
        """Return the recordings to encode next: the first, and those of the most similar length."""
        first = self._ready.pop(0)
        if group == 1 or first.wave is None:
            return [first]
        length = first.wave.shape[1]
        others = [r for r in self._ready if r.wave is not None]
        others.sort(key=lambda r: abs(r.wave.shape[1] - length) if r.wave is not None else 0)
        chosen = [first, *others[: group - 1]]
        self._ready = [r for r in self._ready if r not in chosen]
        return chosen

    def _code(self, chosen: list[_Ready]) -> Iterator[tuple[_Ready, EncodedRecording]]:
        whole = [r for r in chosen if r.wave is not None and r.wave.shape[1]]
        if len(whole) > 1:
            try:
                yield from self._encode_batch(whole)
                chosen = [r for r in chosen if r not in whole]
            except Exception:  # out of memory perhaps: encode one by one, for an error of each
                log.debug("a group failed", exc_info=True)
                if self.work.device.startswith("cuda"):
                    import torch

                    torch.cuda.empty_cache()
        for ready in chosen:
            try:
                with ready.stack:
                    coded = (
                        EncodedRecording(ready.error) if ready.error else self._encode_one(ready)
                    )
            except Exception as error:
                ready.passing = may_be_transient(error, ready.item.locator)
                coded = EncodedRecording(reason(error, ready.item.locator))
            yield ready, coded

    def _encode_batch(self, chosen: list[_Ready]) -> Iterator[tuple[_Ready, EncodedRecording]]:
        pairs = [(r, r.wave) for r in chosen if r.wave is not None]
        pairs.sort(key=lambda pair: pair[1].shape[1])
        waves = [self.executor.array(wave) for _, wave in pairs]
        codes_of_all = encode_together(self.executor, waves, self.codebooks)
        for (ready, wave), codes in zip(pairs, codes_of_all, strict=True):
            digest = hashlib.blake2b(_bytes(wave), digest_size=8)
            small = self._small(codes[None])
            yield ready, _coded(small, wave.shape[1], ready, digest)

    def _encode_one(self, ready: _Ready) -> EncodedRecording:
        wave = ready.wave
        blocks = ready.blocks if wave is None else iter([wave] if wave.shape[1] else [])
        run = Encoding(self.executor, codebooks=self.codebooks)
        digest = hashlib.blake2b(digest_size=8)
        parts = []
        for block in blocks:
            digest.update(_bytes(block))
            parts.append(self._small(run.push(self.executor.array(block[None]))))
        if not run.samples:
            raise AudioFileError(f"{ready.item.locator.name}: holds no samples; record it again")
        parts.append(self._small(run.finish()))
        return _coded(np.concatenate(parts, 1), run.samples, ready, digest)

    def _small(self, codes: Any) -> np.ndarray:
        """Return codes `[1 k f]` as `[k f]` of the smallest fitting type, to save memory."""
        return smallest(self.executor.numpy(codes)[0], self.header)


def _missing(path: str) -> str:
    """Return the highest part of a path that this machine does not have; "" if it has the file."""
    missing = ""
    while path and look(path) == MISSING:
        missing, path = path, str(Path(path).parent)
    return missing


def _coded(
    codes: np.ndarray, samples: int, ready: _Ready, digest: hashlib.blake2b
) -> EncodedRecording:
    assert ready.source is not None
    return EncodedRecording(
        codes=codes,
        samples=samples,
        original_rate=ready.source.rate,
        original_samples=ready.source.read,
        audio=int.from_bytes(digest.digest(), "little"),
    )


def _bytes(wave: np.ndarray) -> bytes:
    """Return samples `[c t]` as bytes for hashing, interleaved, so that cutting does not matter."""
    return np.ascontiguousarray(wave.T).tobytes()
