"""Streaming in windows of codecs that need the whole recording, as an approximation.

    frames   |--- context ---|-- middle --|--- context ---|   a window is coded as a recording of
    kept                     |------------|                   its own; its middle is kept

Codes and samples differ from those of the whole recording; `loss` measures by how much. This is for
SpeechTokenizer (bidirectional LSTM), WavTokenizer, X-Codec and X-codec 2 (attention over the
clip).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, cast

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.runtime.base import A, Executor, RunnableCodec
from audiotok.runtime.buffer import ENDED, FAILED, InputBuffer
from audiotok.runtime.sessions import Decoding, Encoding

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio


class Windowed(Generic[A]):
    """Common part of encoding and decoding one signal in windows.

    Args:
        executor: executor of the codec that runs on each window.
        context: frames before and after the middle of a window, which has as many.
        unit: size of a frame of input: samples to encode, 1 to decode.
    """

    def __init__(self, executor: Executor[A], context: int, unit: int) -> None:
        if context < 1:
            raise InputError(f"a context of {context} frames: at least one is needed")
        self.executor = executor
        self.context = context
        self._unit = unit
        self._input = InputBuffer(executor)
        self._done = 0  # frames in the buffer that are already coded: context before the middle

    def push(self, x: A, /) -> A:
        """Return the outputs that a further piece `[1 d n]` completes; often none."""
        self._input.push(x)
        self._input.closed = FAILED
        outputs = []
        while self._input.size >= (self._done + 2 * self.context) * self._unit:
            window = self._input.peek((self._done + 2 * self.context) * self._unit)
            outputs.append(self._coded(window, self._done, self.context))
            done = self._done + self.context
            self._input.take((done - self.context) * self._unit)
            self._done = self.context
        self._input.closed = ""
        return self._joined(outputs)

    def finish(self) -> A:
        """Return the remaining outputs at the end of the signal; none the second time."""
        outputs = []
        if self._input.closed != ENDED:
            self._input.check_open()
            self._input.closed = FAILED
            if self._input.size > self._done * self._unit:
                window = self._input.peek(self._input.size)
                outputs.append(self._coded(window, self._done, None))
            self._input.closed = ENDED
        return self._joined(outputs)

    def _coded(self, window: A, begin: int, frames: int | None) -> A:
        """Code a whole window, and return `frames` frames of it from `begin` on (all if None)."""
        raise NotImplementedError

    def _joined(self, outputs: list[A]) -> A:
        raise NotImplementedError

    def dump(self, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
        """See `CodingSession.dump`."""
        content: dict[str, Any] = {"held": None, "done": self._done, "closed": self._input.closed}
        if self._input.width:
            content["held"] = name
            arrays[name] = self.executor.numpy(self._input.peek(self._input.size))
        return content

    def restore(self, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """See `CodingSession.restore`."""
        if content["held"]:
            self._input.push(self.executor.array(arrays[content["held"]]))
        self._done = content["done"]
        self._input.closed = content.get("closed", "")  # which older snapshots do not say


class WindowedEncoding(Windowed[A]):
    """Session from waves `[1 c t]` to codes `[1 k f]` in windows.

    Args:
        executor: executor of the codec that runs on each window.
        context: frames before and after the middle of a window.
        codebooks: number of codebooks to use, from the first (all if None).

    Attributes:
        samples: number of samples so far.
    """

    def __init__(
        self, executor: Executor[A], context: int, *, codebooks: int | None = None
    ) -> None:
        super().__init__(executor, context, executor.plan.frame_size)
        self.codebooks = codebooks or executor.plan.codebooks
        self.samples = 0

    def push(self, x: Any, /) -> A:
        """See `Windowed.push`."""
        self.samples += x.shape[2]
        return super().push(x)

    def _coded(self, window: A, begin: int, frames: int | None) -> A:
        encoding = Encoding(self.executor, codebooks=self.codebooks)
        codes: Any = self.executor.join([encoding.push(window), encoding.finish()], 2)
        return codes[:, :, begin:][:, :, :frames]

    def _joined(self, outputs: list[A]) -> A:
        return self.executor.join([self.executor.no_codes(1, self.codebooks), *outputs], 2)

    def dump(self, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
        """See `CodingSession.dump`."""
        return super().dump(arrays, name) | {"samples": self.samples}

    def restore(self, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """See `CodingSession.restore`."""
        super().restore(content, arrays)
        self.samples = content["samples"]


class WindowedDecoding(Windowed[A]):
    """Session from codes `[1 k f]` to waves `[1 c t]` in windows.

    Args:
        executor: executor of the codec that runs on each window.
        context: frames before and after the middle of a window.

    Attributes:
        samples: exact length of the recording, after which the output ends; None if unknown.
        given: number of samples returned so far.
    """

    def __init__(self, executor: Executor[A], context: int) -> None:
        super().__init__(executor, context, 1)
        self.samples: int | None = None
        self.given = 0

    def _coded(self, window: A, begin: int, frames: int | None) -> A:
        decoding, coded = Decoding(self.executor), cast("Any", window)
        wave: Any = self.executor.join([decoding.push(window), decoding.finish()], 2)
        size = wave.shape[2] // coded.shape[2]
        wave = wave[:, :, begin * size :]
        return wave if frames is None else wave[:, :, : frames * size]

    def _joined(self, outputs: list[A]) -> A:
        none = self.executor.zeros(1, self.executor.plan.channels, 0)
        wave: Any = self.executor.join([none, *outputs], 2)
        if self.samples is not None:
            wave = wave[:, :, : max(0, self.samples - self.given)]
        self.given += wave.shape[2]
        return wave

    def dump(self, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
        """See `CodingSession.dump`."""
        return super().dump(arrays, name) | {"given": self.given}

    def restore(self, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """See `CodingSession.restore`."""
        super().restore(content, arrays)
        self.given = content["given"]


@dataclass(frozen=True)
class Loss:
    """Difference between a recording coded in windows and coded as a whole.

    Attributes:
        codes: share of codes that differ.
        first: share of codes of the first codebook that differ.
        snr: ratio in dB of the power of the audio decoded as a whole to that of its difference
            from the audio coded in windows; inf if they are equal, None without a decoder.
    """

    codes: float
    first: float
    snr: float | None


def loss(codec: RunnableCodec, audio: Audio, context: float) -> Loss:
    """Compare a recording coded in windows with the same recording coded as a whole.

    Args:
        codec: any codec.
        audio: recording at the codec's sample rate.
        context: seconds before and after the middle of a window.

    Raises:
        ValueError: there are no samples, or the context is less than a frame.
    """
    if not len(audio):
        raise InputError("a recording without samples has no windows")
    whole, executor = codec.encode(audio), codec.executor
    frames = math.ceil(context * codec.frame_rate)
    encoding = WindowedEncoding(executor, frames)
    wave = executor.array(audio.samples[None])
    codes = executor.join([encoding.push(wave), encoding.finish()], 2)
    differs = whole.codes != executor.numpy(codes)[0]
    shares = float(differs.mean()), float(differs[0].mean())
    if not codec.decodes:
        return Loss(*shares, None)
    decoding = WindowedDecoding(executor, frames)
    decoding.samples = codec.decoded_samples(len(audio))
    windowed = executor.join([decoding.push(codes), decoding.finish()], 2)
    reference = codec.decode(whole).samples.numpy().astype(np.float64)
    power = float((reference**2).sum())
    error = float(((reference - executor.numpy(windowed)[0]) ** 2).sum())
    snr = 10 * math.log10(power / error) if error else math.inf
    return Loss(*shares, snr)
