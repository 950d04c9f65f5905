"""What one process of a build does: recordings in, codes out, reading beside computing.

    tasks --> reading threads: decode, mix, resample --> ready --> the codec --> outcomes
               at most `ahead` recordings                like lengths side by side on a GPU,
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
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from audiotok.audio.audio import AudioFileError, Source
from audiotok.codecs.models.base import Codec
from audiotok.corpus.inputs import UNSEEN, Look, look
from audiotok.data.passing import retried
from audiotok.data.sources.base import Item
from audiotok.codecs.load import load_once
from audiotok.data.locator import may_pass, opened, reason
from audiotok.runtime.sessions import Encoding

log = logging.getLogger("audiotok")

LONG = 60  # seconds; a longer recording is never in memory whole
GROUP = 16  # recordings side by side on a GPU


@dataclass(frozen=True)
class Work:
    """What a process is to do with every recording; picklable.

    Attributes:
        codec: a name, or a checkpoint's path.
        device: of torch.
        codebooks: the first so many; all if None.
        readers: threads that decode and resample.
        group: recordings side by side; 1 on a CPU, else `GROUP`, if 0.
        commands: whether shell commands of listings may run.
        scratch: a folder that all processes of this machine share while they run; see `opened`.
        threads: of torch, within one operation.
        waits: seconds before each new try, where a reading fails for a reason that passes.
        fingerprint: of the weights that the codec must have; any if empty.
    """

    codec: str
    device: str = "cpu"
    codebooks: int | None = None
    readers: int = 1
    group: int = 0
    commands: bool = False
    scratch: str = ""
    threads: int = 1
    waits: tuple[float, ...] = (0.5, 2.0, 8.0)
    fingerprint: str = ""

    @property
    def side_by_side(self) -> int:
        """Recordings in a group."""
        return self.group or (1 if self.device == "cpu" else GROUP)

    @property
    def ahead(self) -> int:
        """Recordings that a process has in hand, so that it never waits for the next."""
        return 2 * self.readers if self.side_by_side == 1 else 4 * self.side_by_side


Task = tuple[int, Item]


@dataclass(frozen=True)
class Coded:
    """What came of one recording: its codes, or why there are none."""

    error: str = ""
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint16))  # [k f]
    samples: int = 0  # at the codec's rate
    original_rate: int = 0
    original_samples: int = 0
    audio: int = 0  # 64-bit hash of the samples at the codec's rate
    busy: float = 0.0  # seconds of CPU that this process used since the last outcome
    passing: bool = False  # whether it may well be read if it is tried again
    input: Look = UNSEEN  # what its file was like


Outcome = tuple[int, Coded]


@dataclass
class _Ready:
    """A recording that has been opened: its wave `[c t]`, or, of a long one, blocks of it."""

    number: int
    item: Item
    wave: Tensor | None = None
    blocks: Iterator[Tensor] = field(default_factory=lambda: iter(()))
    source: Source | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    error: str = ""
    passing: bool = False
    input: Look = UNSEEN


class Stage:
    """A process's part: recordings are put in, outcomes come out.

    Args:
        work: what to do.

    Raises:
        ValueError: the codec cannot be loaded, or has other weights than it must have.
    """

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(work.threads)
        self.work = work
        self.codec: Codec = load_once(work.codec, work.device)
        if work.fingerprint not in ("", self.codec.fingerprint):
            here = f"its weights on {platform.node() or 'a worker'} are {self.codec.fingerprint}"
            there = f"{work.fingerprint} where the build runs; give every machine the same file"
            raise ValueError(f"{work.codec}: {here}, and {there}")
        self.codebooks = self.codec.quantizer.check(work.codebooks)
        self.inbox: queue.SimpleQueue[_Ready | None] = queue.SimpleQueue()
        self._given = self._done = 0  # counted by one thread each
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._ready: list[_Ready] = []
        self._used = time.process_time()
        readers = range(work.readers)
        self._threads = [threading.Thread(target=self._read, daemon=True) for _ in readers]
        for thread in self._threads:
            thread.start()

    def put(self, task: Task) -> None:
        """A recording to be done."""
        self._given += 1
        self._tasks.put(task)

    @property
    def reading(self) -> int:
        """Recordings on their way to the inbox, or in it."""
        return self._given - self._done - len(self._ready)

    def close(self) -> None:
        """Ends the reading threads."""
        for _ in self._threads:
            self._tasks.put(None)

    def step(self) -> Iterator[Outcome] | None:
        """Waits for a recording, and gives what outcomes it makes possible; None: the end."""
        ready = self.inbox.get()
        return None if ready is None else self._step(ready)

    def _step(self, ready: _Ready) -> Iterator[Outcome]:
        self._ready.append(ready)
        group = self.work.side_by_side
        # Enough to choose from: a group of like lengths wastes little. But nothing waits for what
        # has not begun to come.
        while len(self._ready) >= (2 * group if group > 1 else 1) or (
            self._ready and not self.reading
        ):
            chosen = self._chosen(group)
            known = {each.number: each for each in chosen}
            for number, coded in self._code(chosen):
                self._done += 1
                now = time.process_time()
                busy, self._used = now - self._used, now
                of = known[number]
                yield number, replace(coded, busy=busy, input=of.input, passing=of.passing)

    def all(self, tasks: list[Task]) -> list[Outcome]:
        """Outcomes of these tasks: for engines that hand over lists."""
        for task in tasks:
            self.put(task)
        return [outcome for _ in tasks for outcome in self.step() or ()]

    # -- reading, in threads ----------------------------------------------------------------------

    def _read(self) -> None:
        torch.set_num_threads(self.work.threads)  # each thread has a number of its own
        while (task := self._tasks.get()) is not None:
            got = partial(self._got, *task)
            self.inbox.put(retried(got, self.work.waits, lambda ready: ready.passing))

    def _got(self, number: int, item: Item) -> _Ready:
        ready = _Ready(number, item, input=look(item.place.path))
        try:
            with ExitStack() as guard:  # an error goes through what is open, which names it
                guard.push(ready.stack)
                self._open(ready)
                guard.pop_all()
        except Exception as error:  # whatever one recording does, the rest go on
            ready.error, ready.passing = reason(error, item.place), may_pass(error, item.place)
        return ready

    def _open(self, ready: _Ready) -> None:
        codec, work = self.codec, self.work
        opening = opened(ready.item.place, commands=work.commands, scratch=work.scratch)
        source = ready.stack.enter_context(opening)
        codec.streams(source.channels)  # raises where it cannot code them
        ready.source = source
        mixes = source.channels > codec.channels
        blocks = source.blocks(rate=codec.sample_rate, mono=mixes)
        begun: list[Tensor] = []
        length = 0
        for block in blocks:
            begun.append(block)
            length += block.shape[1]
            if length > LONG * codec.sample_rate:
                ready.blocks = chain(begun, blocks)
                return
        ready.stack.close()
        ready.wave = torch.cat(begun, 1) if begun else torch.zeros(codec.channels, 0)

    # -- coding -----------------------------------------------------------------------------------

    def _chosen(self, group: int) -> list[_Ready]:
        """The recordings to code next: the first that came, and those most like it in length."""
        first = self._ready.pop(0)
        if group == 1 or first.wave is None:
            return [first]
        length = first.wave.shape[1]
        others = [r for r in self._ready if r.wave is not None]
        others.sort(key=lambda r: abs(r.wave.shape[1] - length) if r.wave is not None else 0)
        chosen = [first, *others[: group - 1]]
        self._ready = [r for r in self._ready if r not in chosen]
        return chosen

    def _code(self, chosen: list[_Ready]) -> Iterator[Outcome]:
        whole = [r for r in chosen if r.wave is not None and r.wave.shape[1]]
        if len(whole) > 1:
            try:
                yield from self._side_by_side(whole)
                chosen = [r for r in chosen if r not in whole]
            except Exception:  # too much for the memory? one by one, and each with its own error
                log.debug("a group failed", exc_info=True)
                if self.codec.device.type == "cuda":
                    torch.cuda.empty_cache()
        for ready in chosen:
            try:
                with ready.stack:
                    coded = Coded(ready.error) if ready.error else self._alone(ready)
            except Exception as error:
                ready.passing = may_pass(error, ready.item.place)
                coded = Coded(reason(error, ready.item.place))
            yield ready.number, coded

    @torch.inference_mode()
    def _side_by_side(self, chosen: list[_Ready]) -> Iterator[Outcome]:
        waves = [r.wave for r in chosen if r.wave is not None]
        made = self.codec._codes(waves, self.codebooks, len(waves))
        for ready, wave, codes in zip(chosen, waves, made, strict=True):
            digest = hashlib.blake2b(_bytes(wave), digest_size=8)
            yield ready.number, _coded(codes, wave.shape[1], ready, digest)

    @torch.inference_mode()
    def _alone(self, ready: _Ready) -> Coded:
        codec, wave = self.codec, ready.wave
        blocks = ready.blocks if wave is None else iter([wave] if wave.shape[1] else [])
        run = Encoding(codec, codebooks=self.codebooks)
        digest = hashlib.blake2b(digest_size=8)
        made = []
        for block in blocks:
            digest.update(_bytes(block))
            made.append(_small(run.push(block.to(codec.device)[None]), codec.sizes))
        if not run.samples:
            raise AudioFileError(f"{ready.item.place.name}: holds no samples; record it again")
        made.append(_small(run.finish(), codec.sizes))
        return _coded(np.concatenate(made, 1), run.samples, ready, digest)


def _coded(codes: np.ndarray, samples: int, ready: _Ready, digest: hashlib.blake2b) -> Coded:
    assert ready.source is not None
    return Coded(
        codes=codes,
        samples=samples,
        original_rate=ready.source.rate,
        original_samples=ready.source.read,
        audio=int.from_bytes(digest.digest(), "little"),
    )


def _bytes(wave: Tensor) -> bytes:
    """Samples `[c t]` as they are hashed: channel after channel would depend on where it is cut."""
    return wave.T.contiguous().numpy().tobytes()


def _small(codes: Tensor, sizes: tuple[int, ...]) -> np.ndarray:
    """Codes `[1 k f]` as `[k f]` of the smallest fitting type: they wait in memory, and travel."""
    return codes[0].cpu().numpy().astype(np.uint16 if max(sizes) <= 1 << 16 else np.uint32)
