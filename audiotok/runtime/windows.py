"""A codec that needs the whole recording, in windows all the same: what it then hears is less.

    frames   |--- context ---|-- middle --|--- context ---|   a window is coded as a recording of
    kept                     |------------|                   its own; its middle is kept

Codes and samples are not those of the whole: `loss` measures by how much. For SpeechTokenizer (a
memory that runs from the end) and WavTokenizer (attention over the clip).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from audiotok._platform.shapes import Codes, Wave
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.buffer import Held
from audiotok.runtime.sessions import Decoding, Encoding

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio


class Windowed:
    """What coding and decoding in windows have in common.

    Args:
        codec: what codes.
        context: frames before and after the middle of a window, which is as long.
        unit: how much of what comes makes a frame: samples, or one.
    """

    def __init__(self, codec: RunnableCodec, context: int, unit: int) -> None:
        if context < 1:
            raise ValueError(f"a context of {context} frames: at least one is needed")
        self.codec, self.context, self._unit = codec, context, unit
        self._held = Held()
        self._done = 0  # frames that are held and coded: the context before the middle

    def push(self, x: Tensor, /) -> Tensor:
        """What a further piece `[1 d n]` completes; often nothing."""
        self._held.push(x)
        made = []
        while self._held.size >= (self._done + 2 * self.context) * self._unit:
            window = self._held.first((self._done + 2 * self.context) * self._unit)
            made.append(self._coded(window, self._done, self.context))
            done = self._done + self.context
            self._held.take((done - self.context) * self._unit)
            self._done = self.context
        return self._joined(made)

    def finish(self) -> Tensor:
        """The rest."""
        if self._held.size <= self._done * self._unit:
            return self._joined([])
        return self._joined([self._coded(self._held.first(self._held.size), self._done, None)])

    def _coded(self, window: Tensor, begin: int, frames: int | None) -> Tensor:
        """What becomes of some frames of a window that is coded as a whole; to its end if None."""
        raise NotImplementedError

    def _joined(self, made: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def kept(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """See `Passage.kept`."""
        said: dict[str, Any] = {"held": None, "done": self._done}
        if self._held.width:
            said["held"] = name
            tensors[name] = self._held.first(self._held.size)
        return said

    def regain(self, said: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `Passage.regain`."""
        if said["held"]:
            self._held.push(tensors[said["held"]])
        self._done = said["done"]


class WindowedEncoding(Windowed):
    """Waves `[1 c t]` in, codes `[1 k f]` out, a window at a time."""

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

    def _joined(self, made: list[Tensor]) -> Tensor:
        none = torch.zeros(1, self.codebooks, 0, dtype=torch.int64, device=self.codec.device)
        return torch.cat([none, *made], 2)

    def kept(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """See `Passage.kept`."""
        return super().kept(tensors, name) | {"samples": self.samples}

    def regain(self, said: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `Passage.regain`."""
        super().regain(said, tensors)
        self.samples = said["samples"]


class WindowedDecoding(Windowed):
    """Codes `[1 k f]` in, waves `[1 c t]` out, a window at a time."""

    def __init__(self, codec: RunnableCodec, context: int) -> None:
        super().__init__(codec, context, 1)
        self.samples: int | None = None  # of the recording, where that is known
        self.given = 0

    def _coded(self, window: Codes, begin: int, frames: int | None) -> Tensor:
        decoding, size = Decoding(self.codec), self.codec.frame_size
        wave = torch.cat([decoding.push(window), decoding.finish()], 2)[:, :, begin * size :]
        return wave if frames is None else wave[:, :, : frames * size]

    def _joined(self, made: list[Tensor]) -> Tensor:
        none = torch.zeros(1, self.codec.channels, 0, device=self.codec.device)
        wave = torch.cat([none, *made], 2)
        if self.samples is not None:
            wave = wave[:, :, : max(0, self.samples - self.given)]
        self.given += wave.shape[2]
        return wave

    def kept(self, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
        """See `Passage.kept`."""
        return super().kept(tensors, name) | {"given": self.given}

    def regain(self, said: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `Passage.regain`."""
        super().regain(said, tensors)
        self.given = said["given"]


@dataclass(frozen=True)
class Loss:
    """What windows cost a recording.

    Attributes:
        codes: share of the codes that are other than those of the whole.
        first: the same of the first codebook alone.
        snr: dB of what the whole decodes to over its difference from what windows encode and
            decode to; inf if there is none.
    """

    codes: float
    first: float
    snr: float


def loss(codec: RunnableCodec, audio: Audio, context: float) -> Loss:
    """Compare a recording in windows with itself as a whole.

    Args:
        codec: any.
        audio: at the codec's rate.
        context: seconds on either side.

    Raises:
        ValueError: no samples, or no context.
    """
    if not len(audio):
        raise ValueError("a recording without samples has no windows")
    whole = codec.encode(audio)
    frames = math.ceil(context * codec.frame_rate)
    encoding, decoding = WindowedEncoding(codec, frames), WindowedDecoding(codec, frames)
    decoding.samples = len(audio)
    wave = audio.samples[None].to(codec.device)
    codes = torch.cat([encoding.push(wave), encoding.finish()], 2)
    made = torch.cat([decoding.push(codes), decoding.finish()], 2)[0]
    other = torch.from_numpy(whole.codes.copy()) != codes[0].cpu()
    heard = codec.decode(whole).samples
    power = heard.square().sum().item()
    wrong = (heard - made.cpu()).square().sum().item()
    snr = 10 * math.log10(power / wrong) if wrong else math.inf
    return Loss(other.float().mean().item(), other[0].float().mean().item(), snr)
