"""The engine: one thread that steps every conversation side by side.

    clients   push --> waiting --+                                +--> answers
                                 |   at most one of each client   |
    thread                       +--> [ encode ] --> [ decode ] --+    one step
                                          all abreast

A step takes what waits, at most `quantum` frames of each, so that a client who sends a second at
once holds up nobody; it is stepped on with the others until all of its message has gone through.
Before a step the engine waits for others to join, at most `gather` seconds after the last one. Who
sends recordings and not speech as it is spoken goes in blocks of many frames, which is faster, one
at a time, where those who are live leave time, and in a small share of it where they leave none
(`turns`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from audiotok.serving.server.protocol import Mode
from audiotok.serving.server.steps import Steps
from audiotok.serving.server.turns import Turns

log = logging.getLogger("audiotok")


class EngineError(RuntimeError):
    """A step went wrong, or the engine has stopped."""


@dataclass(eq=False)
class Conversation:
    """One client's stream: what it wants and how far it is."""

    mode: Mode
    codebooks: int  # given back, and decoded in "both" until `decoded` says otherwise
    decoded: int
    live: bool = True  # speech as it is spoken; or else a recording
    block: int = 1  # frames a step
    stream: Any = None  # made by the thread, which alone touches it
    samples: int = 0  # that came in, or that were given back
    heard: int = 0  # samples that were decoded, in "both"
    frames: int = 0


@dataclass(frozen=True)
class Answer:
    """What a message completed; None where the mode gives no such thing."""

    codes: np.ndarray | None  # [k f]
    samples: np.ndarray | None  # [c t]
    seconds: float  # from its arrival


@dataclass(eq=False)
class _Job:
    """A message on its way: the rest of it, and what it has made so far."""

    conversation: Conversation
    rest: np.ndarray  # [c t] samples or [k f] codes
    last: bool  # the end follows
    length: int | None  # of a decoding that ends
    done: asyncio.Future[Answer]
    arrived: float = field(default_factory=perf_counter)
    stepped: float = field(default_factory=perf_counter)  # when it last was
    codes: list[np.ndarray] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """See `Conversation`."""
        return self.conversation.live


class Engine:
    """Steps conversations with a codec; made and used in an event loop.

    Args:
        steps: who steps them.
        gather: seconds that a message may wait for others to be stepped with.
        quantum: frames of one client in a step.
        stepped: told after each step how many were in it, and how many seconds it took.
    """

    def __init__(
        self,
        steps: Steps,
        *,
        gather: float = 0.003,
        quantum: int = 2,
        stepped: Callable[[int, float], None] = lambda _count, _seconds: None,
    ) -> None:
        self.steps, self.codec = steps, steps.codec
        self.quantum = quantum
        self._stepped = stepped
        self._open: set[Conversation] = set()
        self._waiting: list[_Job] = []
        self._closed: list[Conversation] = []  # for the thread to forget
        self._turns = Turns(gather, perf_counter())
        self._change = threading.Condition()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="audiotok-engine", daemon=True)
        self._thread.start()

    @property
    def conversations(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def idle(self) -> bool:
        """True if nothing waits and nothing is left of conversations that ended."""
        with self._change:
            return not (self._waiting or self._closed)

    def open(self, mode: Mode, codebooks: int, *, live: bool = True) -> Conversation:
        """Begin one, of speech as it is spoken or of a recording."""
        block = 1 if live else self.steps.block
        conversation = Conversation(mode, codebooks, codebooks, live, block)
        with self._change:
            self._open.add(conversation)
        return conversation

    def close(self, conversation: Conversation) -> None:
        """Forget one, in whatever state it is; what of it still waits is cancelled."""
        with self._change:
            self._open.discard(conversation)
            self._closed.append(conversation)
            gone = [job for job in self._waiting if job.conversation is conversation]
            self._waiting = [job for job in self._waiting if job.conversation is not conversation]
            self._change.notify()
        for job in gone:
            job.done.cancel()

    async def push(self, conversation: Conversation, piece: np.ndarray) -> Answer:
        """What samples [c t], or codes [k f] to decode, complete; one at a time.

        Raises:
            EngineError: it went wrong; the conversation is over.
        """
        return await self._enter(conversation, piece, last=False, length=None)

    async def finish(self, conversation: Conversation, samples: int | None = None) -> Answer:
        """The rest, cut to an exact length in samples if it is a decoding of one."""
        shape = (
            conversation.codebooks if conversation.mode == "decode" else self.codec.channels,
            0,
        )
        kind = np.int64 if conversation.mode == "decode" else np.float32
        empty = np.zeros(shape, kind)
        return await self._enter(conversation, empty, last=True, length=samples)

    def stop(self) -> None:
        """End the thread, after the step that it is in."""
        with self._change:
            self._stopping = True
            self._change.notify()
        self._thread.join()

    async def _enter(
        self, conversation: Conversation, piece: np.ndarray, *, last: bool, length: int | None
    ) -> Answer:
        job = _Job(conversation, piece, last, length, self._loop.create_future())
        with self._change:
            if self._stopping or conversation not in self._open:
                raise EngineError("the engine has stopped")
            self._waiting.append(job)
            self._change.notify()
        return await job.done

    # -- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while self._turned():  # so that nothing of a step outlives it
            pass

    def _turned(self) -> bool:
        """One step; False if there is to be none."""
        jobs = self._next()
        if jobs is None:
            return False
        start = perf_counter()
        try:
            finished, failed = self._step(jobs), None
        except Exception as error:  # the state of these is lost; the others go on
            log.exception("a step of %d conversations failed", len(jobs))
            finished, failed = jobs, EngineError(f"a step failed: {type(error).__name__}")
        end = perf_counter()
        self._stepped(len(jobs), end - start)
        with self._change:
            over = {id(job) for job in finished}
            self._waiting = [job for job in self._waiting if id(job) not in over]
            self._turns.stepped(jobs, self._waiting, start, end)
        self._loop.call_soon_threadsafe(self._answer, finished, failed)
        return True

    def _next(self) -> list[_Job] | None:
        """What the next step is of, None when there is to be none."""
        with self._change:
            while not self._stopping:
                closed, self._closed = self._closed, []
                for conversation in closed:
                    if conversation.stream is not None:
                        self.steps.close(conversation.stream)
                        conversation.stream = None
                expected = sum(conversation.live for conversation in self._open)
                jobs, seconds = self._turns.choose(self._waiting, expected, perf_counter())
                if jobs:
                    return jobs
                self._change.wait(seconds)
        return None

    def _step(self, jobs: list[_Job]) -> list[_Job]:
        """One step of each; gives the jobs that are done."""
        pieces: dict[Any, np.ndarray] = {}
        codes: dict[Any, np.ndarray] = {}
        for job in jobs:
            talk = job.conversation
            if talk.stream is None:
                talk.stream = self.steps.open(talk.block)
            stream, frames = talk.stream, max(self.quantum, talk.block)
            most = frames * (1 if talk.mode == "decode" else self.codec.frame_size)
            now, job.rest = job.rest[:, :most], job.rest[:, most:]
            if now.shape[1]:
                (codes if talk.mode == "decode" else pieces)[stream] = now
        made = self.steps.encode(pieces) if pieces else {}
        for job in jobs:
            talk = job.conversation
            if talk.stream in made:
                talk.samples += pieces[talk.stream].shape[1]
                job.codes.append(made[talk.stream])
                if talk.mode == "both" and made[talk.stream].shape[1]:
                    codes[talk.stream] = made[talk.stream][: talk.decoded]
        heard = self.steps.decode(codes) if codes else {}
        done = []
        for job in jobs:
            if job.conversation.stream in heard:
                job.samples.append(heard[job.conversation.stream])
                job.conversation.heard += job.samples[-1].shape[1]
            if not job.rest.shape[1]:
                if job.last:
                    self._end(job)
                done.append(job)
        return done

    def _end(self, job: _Job) -> None:
        talk, stream, steps = job.conversation, job.conversation.stream, self.steps
        if talk.mode == "decode":
            rest = steps.finish_decode(stream)
            if job.length is not None:
                rest = rest[:, : max(0, job.length - talk.samples)]
            job.samples.append(rest)
            return
        codes = steps.finish_encode(stream)
        job.codes.append(codes)
        if talk.mode == "both":
            rest = []
            if codes.shape[1]:
                rest.append(steps.decode({stream: codes[: talk.decoded]})[stream])
            rest = np.concatenate([*rest, steps.finish_decode(stream)], 1)
            job.samples.append(rest[:, : talk.samples - talk.heard])

    # -- back in the event loop ------------------------------------------------------------------

    def _answer(self, jobs: list[_Job], failed: EngineError | None) -> None:
        now = perf_counter()
        for job in jobs:
            if job.done.done():  # the client has gone
                continue
            if failed is not None:
                job.done.set_exception(failed)
                continue
            talk = job.conversation
            codes = samples = None
            if talk.mode != "decode":
                none = np.zeros((self.codec.codebooks, 0), np.int64)
                codes = _joined(none, job.codes)[: talk.codebooks]
                talk.frames += codes.shape[1]
            if talk.mode != "encode":
                none = np.zeros((self.codec.channels, 0), np.float32)
                samples = _joined(none, job.samples)
                talk.samples += samples.shape[1] if talk.mode == "decode" else 0
            job.done.set_result(Answer(codes, samples, now - job.arrived))


def _joined(none: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate([none, *parts], 1)
