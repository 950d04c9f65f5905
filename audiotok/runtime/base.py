"""Protocols of the objects that the runtime runs: an executor of steps, and a whole codec."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from audiotok._platform.shapes import Latent, State, Wave

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio
    from audiotok.tokens.tokens import Header, Tokens


@runtime_checkable
class Executor(Protocol):
    """Executor of a codec in steps with a state; `nn.autoencoder.Network` is one in torch.

    Attributes:
        frame_size: samples per frame.
        channels: audio channels that are coded together.
        look_ahead: in samples, what the encoder sees past the end of a frame, and by how much
            the output of the decoder lags.
        causal: whether a frame depends on no sample later than `look_ahead` past its end.
        block: frames per step offline.
        first_frames: least number of frames in the first step.
        fills_up: whether silence may follow a recording without changing any of its codes.
        quantizer: quantizer from latents to codes and back (`encode`, `decode`, `check`).
    """

    frame_size: int
    channels: int
    look_ahead: int
    causal: bool
    block: int
    first_frames: int
    fills_up: bool
    quantizer: Any

    @property
    def start_padding(self) -> int:
        """Zeros that precede the first sample, so that each frame also contains its look-ahead."""
        ...

    @property
    def padding_frames(self) -> int:
        """Frames to drop at the start, which the zeros of `start_padding` produce."""
        ...

    def frames(self, samples: int, /) -> int:
        """Return the number of frames in `samples` samples; a frame begun counts as one."""
        ...

    def start_latent(self, batch: int, /) -> State:
        """Return the encoder's state before the first sample."""
        ...

    def step_latent(self, wave: Wave, state: State, /) -> tuple[Latent, State]:
        """Encode further whole frames of samples `[b c t]` to latents `[b d f]`."""
        ...

    def finish_latent(self, wave: Wave, state: State, /) -> Latent:
        """Return the latents `[b d f]` of the last samples `[b c t]`."""
        ...

    def start_wave(self, batch: int, /) -> State:
        """Return the decoder's state before the first frame."""
        ...

    def step_wave(self, latent: Latent, state: State, frames: int, /) -> tuple[Wave, State]:
        """Decode the first `frames` frames of `latent [b d f]` to samples; the rest is padding."""
        ...

    def finish_wave(self, latent: Latent, state: State, /) -> Wave:
        """Return the samples `[b c t]` of the last frames `[b d f]`."""
        ...

    def flush_wave(self, state: State, /) -> Wave:
        """Return the `look_ahead` samples that the decoder still holds after the last frame."""
        ...


@runtime_checkable
class RunnableCodec(Executor, Protocol):
    """Codec in torch, as streams, windows and file jobs use it; `codecs.base.Codec` is one."""

    name: str
    sample_rate: int

    @property
    def codebooks(self) -> int:
        """Codes per frame."""
        ...

    @property
    def frame_rate(self) -> Fraction:
        """Exact number of frames per second."""
        ...

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds; infinite if the codec needs the whole recording."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of 16 hexadecimal digits that identifies what determines the codes."""
        ...

    @property
    def decoder_fingerprint(self) -> str:
        """Hash of 16 hexadecimal digits that identifies what determines the decoded audio."""
        ...

    def encode(self, audio: Audio, /) -> Tokens:
        """Return the tokens of one recording."""
        ...

    def decode(self, tokens: Tokens, /) -> Audio:
        """Return the audio of one recording."""
        ...

    def kept(self, codebooks: int | None, /) -> int:
        """Return the number of codebooks to use (all if None); ValueError if there are fewer."""
        ...

    def streams(self, channels: int, /, *, split: bool = False) -> int:
        """Return the number of separately coded streams of a recording with these channels."""
        ...

    def header(self, original_rate: int, /, *, streams: int, codebooks: int) -> Header:
        """Return the header of the .tok file of a recording."""
        ...

    def check_tokens(self, tokens: Tokens | Header, /) -> None:
        """Raise WrongTokensError unless this codec can decode the tokens."""
        ...

    def has_codes_of(self, fingerprint: str, /) -> bool:
        """Return whether codes of a codec with this fingerprint have the same meaning here."""
        ...
