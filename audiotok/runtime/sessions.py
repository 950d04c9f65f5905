"""Sessions that encode or decode in pieces: buffering, alignment, blocks of fixed size.

    pieces           |--|-------|----|-|----------|   of any sizes
    frames           |-----0-----|-----1-----|-----2---0000   the last one filled with silence
    blocks           |-----------------------|----------------0000   and to an eighth of a block

A codec always runs on the same blocks, so the arithmetic, and with it every code, is the same to
the bit however a recording is cut. The last block is only as long as it has to be, in eighths of a
block (`session.last_block`). For a codec that handles the end itself (`fills_up` is False) the last
block is not filled up. A codec with look-ahead lags: a block gives the outputs that are determined
by then. An exported codec without steps runs the whole recording at its end.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import Any

from audiotok.runtime.base import A, Executor
from audiotok.runtime.session import CodingSession


def code_together(session: CodingSession[A], signals: Sequence[Any]) -> list[A]:
    """Code signals of different lengths as one batch, and return the output of each.

    A signal leaves the batch at its end: nothing is padded, so that it ends as it does alone.

    Args:
        session: new session for as many signals.
        signals: one signal `[d n]` each, the shortest first.
    """
    outputs: list[list[Any]] = [[] for _ in signals]
    begin = done = 0
    join = session.executor.join
    for end, run in groupby(signals, key=lambda signal: signal.shape[1]):
        ended = len(list(run))
        batch = [x[None, :, begin:end] for x in signals[done:]]
        pieces: Any = session.push(join(batch, 0) if len(batch) > 1 else batch[0])
        rest: Any = session.select(slice(ended)).finish()
        for i, piece in enumerate(pieces):
            outputs[done + i] += [piece, rest[i]] if i < ended else [piece]
        session = session.select(slice(ended, None))
        begin, done = end, done + ended
    return [join(parts, 1) for parts in outputs]


def encode_together(executor: Executor[A], waves: Sequence[Any], codebooks: int) -> list[A]:
    """Encode waves of different lengths as one batch, and return the codes `[k f]` of each.

    Args:
        executor: executor of the codec's steps.
        waves: one wave `[c t]` each, the shortest first.
        codebooks: number of codebooks to use, from the first.
    """
    plan, ends = executor.plan, [wave.shape[1] for wave in waves]
    if plan.fills_up:  # silence after the end changes no code, and all signals end together
        waves = [_lengthened(executor, wave, ends[-1]) for wave in waves]
    codes: list[Any] = code_together(Encoding(executor, len(waves), codebooks=codebooks), waves)
    return [own[:, : plan.frames(end)] for own, end in zip(codes, ends, strict=True)]


def _lengthened(executor: Executor[Any], x: Any, size: int) -> Any:
    """Return a signal `[d n]` with zeros up to a length."""
    zeros = executor.zeros(1, len(x), size - x.shape[1], like=x)
    return executor.join([x, zeros[0]], 1) if x.shape[1] < size else x


class Encoding(CodingSession[A]):
    """Session from waves `[b c t]` to codes `[b k f]`, for recordings of the same length.

    Args:
        executor: executor of the codec's steps.
        batch: number of recordings.
        codebooks: number of codebooks to use, from the first (all if None).
        block: frames per step; those of the codec if None.

    Attributes:
        samples: number of samples so far.
        frames: number of frames returned so far.
    """

    counters = ("skip", "samples", "frames")

    def __init__(
        self,
        executor: Executor[A],
        batch: int = 1,
        *,
        codebooks: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(executor, batch, block, executor.plan.padding_frames)
        self.codebooks = codebooks or self.plan.codebooks
        self.samples = self.frames = 0

    def append(self, x: Any) -> None:
        """See `CodingSession.append`."""
        padding = self.plan.start_padding
        if not self.samples and padding and not self._input.size:
            zeros = self.executor.zeros(self._batch, self.plan.channels, padding, like=x)
            super().append(zeros)
        super().append(x)
        self.samples += x.shape[2]

    def rest(self) -> A:
        """Return the codes of the remaining samples; a frame begun counts as one."""
        outputs = []
        while left := self._left():
            self.left = left + self.skip
            outputs.append(self.step() if self.plan.fills_up else self._finish())
        return self.join(outputs)

    def step_size(self) -> int:
        """Return the number of samples in the next step."""
        return self._step_frames() * self.plan.frame_size

    @property
    def batch_key(self) -> Hashable:
        """Direction, samples of a step, and number of codebooks."""
        return "encode", self.step_size(), self.codebooks

    def run(self, x: Any, state: Any) -> tuple[A, Any]:
        """Encode whole frames of samples."""
        state = self.executor.start("encode", len(x)) if state is None else state
        return self.executor.encode(x, state, self.codebooks)

    def trim(self, output: Any) -> A:
        """Drop the frames of zeros before the signal, and those of padding at its end."""
        codes = output[:, :, self.skip :][:, :, : self._left()]
        self.skip = 0
        self.frames += codes.shape[2]
        return codes

    def join(self, outputs: list[A]) -> A:
        """See `CodingSession.join`."""
        executor = self.executor
        return executor.join([executor.no_codes(self._batch, self.codebooks), *outputs], 2)

    def _finish(self) -> A:
        x = self._input.take(self._input.size)
        return self.trim(self.executor.finish_encode(x, self.state, self.codebooks))

    def _left(self) -> int:
        return self.plan.frames(self.samples) - self.frames


class Decoding(CodingSession[A]):
    """Session from codes `[b k f]` to waves `[b c t]`.

    Args:
        executor: executor of the codec's steps.
        batch: number of recordings.
        samples: exact length of the recordings where it is known, after which the output ends.
        block: frames per step; those of the codec if None.

    Attributes:
        given: number of samples returned so far.
    """

    counters = ("skip", "samples", "given")

    def __init__(
        self,
        executor: Executor[A],
        batch: int = 1,
        *,
        samples: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(executor, batch, block, executor.plan.look_ahead)
        self.samples = samples
        self.given = 0

    def rest(self) -> A:
        """Return the remaining samples."""
        outputs = []
        self.left = self._input.size
        if self.left or (self.row is not None and self.plan.lags):
            outputs.append(self.step() if self.plan.fills_up else self._finish())
        if self.plan.look_ahead and self.row is not None:
            outputs.append(self.trim(self.executor.flush(self.state)))
        return self.join(outputs)

    def step_size(self) -> int:
        """Return the number of frames in the next step."""
        return self._step_frames()

    @property
    def batch_key(self) -> Hashable:
        """Direction, frames of a step, and number of codebooks."""
        return "decode", self.step_size(), self._input.width

    def run(self, x: Any, state: Any, frames: int | None = None) -> tuple[A, Any]:
        """Decode whole frames, of which the first `frames` are no padding (all if None)."""
        state = self.executor.start("decode", len(x)) if state is None else state
        return self.executor.decode(x, state, x.shape[2] if frames is None else frames)

    def trim(self, output: Any) -> A:
        """Drop the samples before the start, and those past the end where that is known."""
        wave = output[:, :, self.skip :]
        self.skip = 0
        if self.samples is not None:
            wave = wave[:, :, : max(0, self.samples - self.given)]
        self.given += wave.shape[2]
        return wave

    def join(self, outputs: list[A]) -> A:
        """See `CodingSession.join`."""
        executor = self.executor
        return executor.join([executor.zeros(self._batch, self.plan.channels, 0), *outputs], 2)

    def step(self) -> A:
        """See `CodingSession.step`."""
        frames = min(self._input.size, self.step_size())
        output, self.row = self.run(self.take_input(), self.state, frames)
        return self.trim(output)

    def _finish(self) -> A:
        x = self._input.take(self._input.size)
        return self.trim(self.executor.finish_decode(x, self.state))
