"""Engine of the server: one thread that steps all conversations together (continuous batching).

    clients   push --> waiting --+                                +--> answers
                                 |   at most one of each client   |
    thread                       +--> [ encode ] --> [ decode ] --+    one step
                                         all in one batch

A step takes waiting messages, at most `quantum` frames of each, so that a client that sends a
second at once delays no other; its message is stepped with the others until it is done. After a
step the engine waits at most `gather` seconds for more messages. Without that, clients who are
behind part into two halves that step by turns, each while the other gets its answers, and such
small batches never catch up; a long wait makes every answer later. Recordings,
unlike live speech, are stepped in blocks of many frames, which is faster, one at a time, in the
time that live conversations leave, or in a small share of it where they leave none (`turns`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from audiotok._platform.errors import Error
from audiotok.runtime.stream import Stream, StreamBatch
from audiotok.serving.server.protocol import Mode
from audiotok.serving.server.scheduling import Scheduler

log = logging.getLogger("audiotok")


class EngineError(Error, RuntimeError):
    """Error of a step that failed, or of an engine that has stopped."""


@dataclass(eq=False)
class StreamSession:
    """State of one client's conversation."""

    mode: Mode
    codebooks: int  # number of codebooks to return, and to decode in "decode"
    decoded: int  # number of codebooks to decode in "both"
    live: bool = True  # live speech, or else a recording
    block: int = 1  # frames per step
    stream: Stream[Any] | None = None  # used by the engine's thread alone
    samples: int = 0  # received, or returned in "decode"
    decoded_samples: int = 0  # in "both"
    frames: int = 0


@dataclass(frozen=True)
class Answer:
    """Codes and samples that a message completes; None where the mode has none."""

    codes: np.ndarray | None  # [k f]
    samples: np.ndarray | None  # [c t]
    seconds: float  # since the message's arrival


@dataclass(eq=False)
class _Job:
    """Message in progress: its remaining input, and its output so far."""

    conversation: StreamSession
    rest: np.ndarray  # [c t] samples or [k f] codes
    last: bool  # whether the input ends here
    length: int | None  # length in samples of a decoding that ends
    done: asyncio.Future[Answer]
    arrived: float = field(default_factory=perf_counter)
    stepped: float = field(default_factory=perf_counter)  # time of its last step
    codes: list[np.ndarray] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """True if the conversation is live speech, and not a recording."""
        return self.conversation.live


class Engine:
    """Engine that steps conversations with a codec; made and used in an event loop.

    Args:
        batch: streams of the codec, warmed up.
        gather: seconds that a message may wait for others in its step.
        quantum: frames of one client per step.
        stepped: function called after each step with its number of messages and its seconds.
    """

    def __init__(
        self,
        batch: StreamBatch[Any],
        *,
        gather: float = 0.001,
        quantum: int = 2,
        stepped: Callable[[int, float], None] = lambda _count, _seconds: None,
    ) -> None:
        self.batch = batch
        self.codec = batch.codec
        self.executor = batch.codec.executor
        self.quantum = quantum
        self._stepped = stepped
        self._open: set[StreamSession] = set()
        self._waiting: list[_Job] = []
        self._closed: list[StreamSession] = []  # to be released by the thread
        self._turns = Scheduler(gather, perf_counter())
        self._change = threading.Condition()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="audiotok-engine", daemon=True)
        self._thread.start()

    @property
    def conversations(self) -> int:
        """Number of open conversations."""
        return len(self._open)

    @property
    def mixes(self) -> bool:
        """True if the number of decoded codebooks may change within a conversation."""
        return self.executor.plan.first_frames == 1 and self.batch.context is None

    @property
    def idle(self) -> bool:
        """True if no message waits and all ended conversations are released."""
        with self._change:
            return not (self._waiting or self._closed)

    def open(self, mode: Mode, codebooks: int, *, live: bool = True) -> StreamSession:
        """Open a conversation.

        Args:
            mode: "encode", "decode" or "both".
            codebooks: number of codebooks to return or to decode.
            live: whether it is live speech, and not a recording.
        """
        block = 1 if live else self.executor.plan.block
        conversation = StreamSession(mode, codebooks, codebooks, live, block)
        with self._change:
            self._open.add(conversation)
        return conversation

    def close(self, conversation: StreamSession) -> None:
        """Release a conversation in any state; its waiting messages are cancelled."""
        with self._change:
            self._open.discard(conversation)
            self._closed.append(conversation)
            gone = [job for job in self._waiting if job.conversation is conversation]
            self._waiting = [job for job in self._waiting if job.conversation is not conversation]
            self._change.notify()
        for job in gone:
            job.done.cancel()

    async def push(self, conversation: StreamSession, piece: np.ndarray) -> Answer:
        """Step a piece through a conversation, one at a time, and return what it completes.

        Args:
            conversation: an open conversation.
            piece: samples `[c t]`, or codes `[k f]` to decode.

        Raises:
            EngineError: a step failed; the conversation is over.
        """
        return await self._enter(conversation, piece, last=False, length=None)

    async def finish(self, conversation: StreamSession, samples: int | None = None) -> Answer:
        """End a conversation and return the rest.

        Args:
            conversation: an open conversation.
            samples: length in samples to which a decoding is cut; None for all frames.

        Raises:
            EngineError: a step failed; the conversation is over.
        """
        shape = (
            conversation.codebooks if conversation.mode == "decode" else self.codec.channels,
            0,
        )
        kind = np.int64 if conversation.mode == "decode" else np.float32
        empty = np.zeros(shape, kind)
        return await self._enter(conversation, empty, last=True, length=samples)

    def stop(self) -> None:
        """Stop the thread after its current step."""
        with self._change:
            self._stopping = True
            self._change.notify()
        self._thread.join()

    async def _enter(
        self, conversation: StreamSession, piece: np.ndarray, *, last: bool, length: int | None
    ) -> Answer:
        job = _Job(conversation, piece, last, length, self._loop.create_future())
        with self._change:
            if self._stopping or conversation not in self._open:
                raise EngineError("the engine has stopped")
            self._waiting.append(job)
            self._change.notify()
        return await job.done

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while self._run_step():  # a method, so that nothing of a step stays in memory
            pass

    def _run_step(self) -> bool:
        """Run one step; return False if the engine is stopping."""
        jobs = self._next()
        if jobs is None:
            return False
        start = perf_counter()
        try:
            finished, failed = self._step(jobs), None
        except Exception as error:  # these conversations are lost; the others go on
            log.exception("a step of %d conversations failed", len(jobs))
            finished, failed = jobs, EngineError(f"a step failed: {type(error).__name__}")
        end = perf_counter()
        self._stepped(len(jobs), end - start)
        with self._change:
            done = {id(job) for job in finished}
            self._waiting = [job for job in self._waiting if id(job) not in done]
            self._turns.stepped(jobs, self._waiting, start, end)
        self._loop.call_soon_threadsafe(self._answer, finished, failed)
        return True

    def _next(self) -> list[_Job] | None:
        """Wait for the messages of the next step; None if the engine is stopping."""
        with self._change:
            while not self._stopping:
                closed = self._closed
                self._closed = []
                for conversation in closed:
                    conversation.stream = None
                expected = sum(conversation.live for conversation in self._open)
                jobs, seconds = self._turns.choose(self._waiting, expected, perf_counter())
                if jobs:
                    return jobs
                self._change.wait(seconds)
        return None

    def _step(self, jobs: list[_Job]) -> list[_Job]:
        """Step each message once, and return those that are done."""
        pieces: dict[Stream[Any], np.ndarray] = {}
        codes: dict[Stream[Any], np.ndarray] = {}
        for job in jobs:
            conversation = job.conversation
            if conversation.stream is None:
                conversation.stream = self.batch.open(block=conversation.block)
            stream, frames = conversation.stream, max(self.quantum, conversation.block)
            most = frames * (1 if conversation.mode == "decode" else self.codec.frame_size)
            now = job.rest[:, :most]
            job.rest = job.rest[:, most:]
            if now.shape[1]:
                (codes if conversation.mode == "decode" else pieces)[stream] = now
        encoded = self._arrays(self.batch.encode(pieces)) if pieces else {}
        for job in jobs:
            conversation, stream = job.conversation, job.conversation.stream
            if stream is not None and stream in encoded:
                conversation.samples += pieces[stream].shape[1]
                job.codes.append(encoded[stream])
                if conversation.mode == "both" and encoded[stream].shape[1]:
                    codes[stream] = encoded[stream][: conversation.decoded]
        decoded = self._arrays(self.batch.decode(codes)) if codes else {}
        done = []
        for job in jobs:
            if job.conversation.stream in decoded:
                job.samples.append(decoded[job.conversation.stream])
                job.conversation.decoded_samples += job.samples[-1].shape[1]
            if not job.rest.shape[1]:
                if job.last:
                    self._end(job)
                done.append(job)
        return done

    def _end(self, job: _Job) -> None:
        conversation, stream = job.conversation, job.conversation.stream
        assert stream is not None  # the step has opened it
        if conversation.mode == "decode":
            rest = self.executor.numpy(stream.finish_decode())
            if job.length is not None:
                rest = rest[:, : max(0, job.length - conversation.samples)]
            job.samples.append(rest)
            return
        codes = self.executor.numpy(stream.finish_encode())
        job.codes.append(codes)
        if conversation.mode == "both":
            decoded = conversation.decoded
            rest = [stream.decode(codes[:decoded])] if codes.shape[1] else []
            rest = self.executor.join([*rest, stream.finish_decode()], 1)
            left = conversation.samples - conversation.decoded_samples
            job.samples.append(self.executor.numpy(rest)[:, :left])

    def _arrays(self, outputs: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
        """Return the outputs of a step as arrays of numpy."""
        return {stream: self.executor.numpy(output) for stream, output in outputs.items()}

    # -- back in the event loop -------------------------------------------------------------------

    def _answer(self, jobs: list[_Job], failed: EngineError | None) -> None:
        now = perf_counter()
        for job in jobs:
            if job.done.done():  # the client has gone
                continue
            if failed is not None:
                job.done.set_exception(failed)
                continue
            conversation = job.conversation
            codes = samples = None
            if conversation.mode != "decode":
                none = np.zeros((self.codec.codebooks, 0), np.int64)
                codes = _joined(none, job.codes)[: conversation.codebooks]
                conversation.frames += codes.shape[1]
            if conversation.mode != "encode":
                none = np.zeros((self.codec.channels, 0), np.float32)
                samples = _joined(none, job.samples)
                conversation.samples += samples.shape[1] if conversation.mode == "decode" else 0
            job.done.set_result(Answer(codes, samples, now - job.arrived))


def warm_up(batch: StreamBatch[Any]) -> None:
    """Encode and decode silence once, so that the first client does not wait for the warm-up."""
    plan = batch.codec.executor.plan
    stream, frames = batch.open(), plan.first_frames + 2
    stream.decode(stream.encode(np.zeros((plan.channels, frames * plan.frame_size), np.float32)))
    stream.finish()


def _joined(none: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate([none, *parts], 1)
