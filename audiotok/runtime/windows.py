"""Streaming in windows of codecs that need the whole recording, as an approximation.

    frames   |--- context ---|-- middle --|--- context ---|   a window is coded as a recording of
    kept                     |------------|                   its own; its middle is kept

Codes and samples differ from those of the whole recording; `loss` measures by how much. This is for
SpeechTokenizer (bidirectional LSTM) and WavTokenizer (attention over the clip).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Codes, Wave
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.buffer import InputBuffer
from audiotok.runtime.sessions import Decoding, Encoding

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio


class Windowed:
    """Common part of encoding and decoding one signal in windows.

    Args:
        codec: codec that runs on each window.
        context: frames before and after the middle of a window, which has as many.
        unit: size of a frame of input: samples to encode, 1 to decode.
    """

    def __init__(self, codec: RunnableCodec, context: int, unit: int) -> None:
        if context < 1:
            raise InputError(f"a context of {context} frames: at least one is needed")
        self.codec = codec
        self.context = context
        self._unit = unit
        self._input = InputBuffer()
        self._done = 0  # frames in the buffer that are already coded: context before the middle

    def push(self, x: Tensor, /) -> Tensor:
        """Return the outputs that a further piece `[1 d n]` completes; often none."""
        self._input.push(x)
        outputs = []
        while self._input.size >= (self._done + 2 * self.context) * self._unit:
            window = self._input.peek((self._done + 2 * self.context) * self._unit)
            outputs.append(self._coded(window, self._done, self.context))
            done = self._done + self.context
            self._input.take((done - self.context) * self._unit)
            self._done = self.context
        return self._joined(outputs)

    def finish(self) -> Tensor:
        """Return the remaining outputs at the end of the signal."""
        if self._input.size <= self._done * self._unit:
            return self._joined([])
        return self._joined([self._coded(self._input.peek(self._input.size), self._done, None)])

    def _coded(self, window: Tensor, begin: int, frames: int | None) -> Tensor:
        """Code a whole window, and return `frames` frames of it from `begin` on (all if None)."""
        raise NotImplementedError

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def dump(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """See `CodingSession.dump`."""
        content: dict[str, Any] = {"held": None, "done": self._done}
        if self._input.width:
            content["held"] = name
            tensors[name] = self._input.peek(self._input.size)
        return content

    def restore(self, content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `CodingSession.restore`."""
        if content["held"]:
            self._input.push(tensors[content["held"]])
        self._done = content["done"]


class WindowedEncoding(Windowed):
    """Session from waves `[1 c t]` to codes `[1 k f]` in windows.

    Args:
        codec: codec that runs on each window.
        context: frames before and after the middle of a window.
        codebooks: number of codebooks to use, from the first (all if None).

    Attributes:
        samples: number of samples so far.
    """

    def __init__(self, codec: RunnableCodec, context: int, *, codebooks: int | None = None) -> None:
        super().__init__(codec, context, codec.frame_size)
        self.codebooks = codec.quantizer.check(codebooks)
        self.samples = 0

    def push(self, x: Wave, /) -> Tensor:
        """See `Windowed.push`."""
        self.samples += x.shape[2]
        return super().push(x)

    def _coded(self, window: Wave, begin: int, frames: int | None) -> Tensor:
        encoding = Encoding(self.codec, codebooks=self.codebooks)
        codes = torch.cat([encoding.push(window), encoding.finish()], 2)[:, :, begin:]
        return codes[:, :, :frames]

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        none = torch.zeros(1, self.codebooks, 0, dtype=torch.int64, device=self.codec.device)
        return torch.cat([none, *outputs], 2)

    def dump(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """See `CodingSession.dump`."""
        return super().dump(tensors, name) | {"samples": self.samples}

    def restore(self, content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `CodingSession.restore`."""
        super().restore(content, tensors)
        self.samples = content["samples"]


class WindowedDecoding(Windowed):
    """Session from codes `[1 k f]` to waves `[1 c t]` in windows.

    Args:
        codec: codec that runs on each window.
        context: frames before and after the middle of a window.

    Attributes:
        samples: exact length of the recording, after which the output ends; None if unknown.
        given: number of samples returned so far.
    """

    def __init__(self, codec: RunnableCodec, context: int) -> None:
        super().__init__(codec, context, 1)
        self.samples: int | None = None
        self.given = 0

    def _coded(self, window: Codes, begin: int, frames: int | None) -> Tensor:
        decoding, size = Decoding(self.codec), self.codec.frame_size
        wave = torch.cat([decoding.push(window), decoding.finish()], 2)[:, :, begin * size :]
        return wave if frames is None else wave[:, :, : frames * size]

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        none = torch.zeros(1, self.codec.channels, 0, device=self.codec.device)
        wave = torch.cat([none, *outputs], 2)
        if self.samples is not None:
            wave = wave[:, :, : max(0, self.samples - self.given)]
        self.given += wave.shape[2]
        return wave

    def dump(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """See `CodingSession.dump`."""
        return super().dump(tensors, name) | {"given": self.given}

    def restore(self, content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `CodingSession.restore`."""
        super().restore(content, tensors)
        self.given = content["given"]


@dataclass(frozen=True)
class Loss:
    """Difference between a recording coded in windows and coded as a whole.

    Attributes:
        codes: share of codes that differ.
        first: share of codes of the first codebook that differ.
        snr: ratio in dB of the power of the audio decoded as a whole to that of its difference
            from the audio coded in windows; inf if they are equal.
    """

    codes: float
    first: float
    snr: float


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
    whole = codec.encode(audio)
    frames = math.ceil(context * codec.frame_rate)
    encoding, decoding = WindowedEncoding(codec, frames), WindowedDecoding(codec, frames)
    decoding.samples = len(audio)
    wave = audio.samples[None].to(codec.device)
    codes = torch.cat([encoding.push(wave), encoding.finish()], 2)
    windowed = torch.cat([decoding.push(codes), decoding.finish()], 2)[0]
    differs = torch.from_numpy(whole.codes.copy()) != codes[0].cpu()
    reference = codec.decode(whole).samples
    power = reference.square().sum().item()
    error = (reference - windowed.cpu()).square().sum().item()
    snr = 10 * math.log10(power / error) if error else math.inf
    return Loss(differs.float().mean().item(), differs[0].float().mean().item(), snr)
