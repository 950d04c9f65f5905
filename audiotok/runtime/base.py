"""Protocols of what the runtime runs: the steps of a codec, and a codec as it is used by name."""

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
    """Runs a codec in steps with carried state; `nn.autoencoder.Network` does so in torch.

    Attributes:
        frame_size: samples a frame.
        channels: of the audio it codes.
        lead: samples that the encoder sees past the end of a frame, and the decoder lags.
        causal: whether a frame depends on nothing `lead` samples past its end.
        block: frames a step, offline.
        first_frames: frames that the first step needs at least.
        fills_up: whether silence may follow a recording and change none of its codes.
        quantizer: latents to codes and back (`encode`, `decode`, `check`).
    """

    frame_size: int
    channels: int
    lead: int
    causal: bool
    block: int
    first_frames: int
    fills_up: bool
    quantizer: Any

    @property
    def ahead(self) -> int:
        """Zeros before the first sample, so that a frame ends `lead` samples past its own end."""
        ...

    @property
    def early(self) -> int:
        """Frames that come of those zeros and are dropped."""
        ...

    def frames(self, samples: int, /) -> int:
        """Return the frames that so many samples take."""
        ...

    def start_latent(self, batch: int, /) -> State:
        """Return the encoder's state before the first sample."""
        ...

    def step_latent(self, wave: Wave, state: State, /) -> tuple[Latent, State]:
        """Continue encoding by whole frames of samples."""
        ...

    def finish_latent(self, wave: Wave, state: State, /) -> Latent:
        """Return the latents of the last samples."""
        ...

    def start_wave(self, batch: int, /) -> State:
        """Return the decoder's state before the first frame."""
        ...

    def step_wave(self, latent: Latent, state: State, frames: int, /) -> tuple[Wave, State]:
        """Continue decoding by the first `frames` frames of `latent`; the rest is padding."""
        ...

    def finish_wave(self, latent: Latent, state: State, /) -> Wave:
        """Return the samples of the last frames."""
        ...

    def flush_wave(self, state: State, /) -> Wave:
        """Return the `lead` samples that the decoder still holds after the last frame."""
        ...


@runtime_checkable
class RunnableCodec(Executor, Protocol):
    """A codec in torch, as streams, windows and file jobs use it; `codecs.base.Codec` is one."""

    name: str
    sample_rate: int

    @property
    def codebooks(self) -> int:
        """Codes in a frame."""
        ...

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second, exactly."""
        ...

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds; infinite if the first sample waits for the last."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name what makes its codes."""
        ...

    @property
    def decoder_fingerprint(self) -> str:
        """16 hexadecimal digits that name what makes sound of codes."""
        ...

    def encode(self, audio: Audio, /) -> Tokens:
        """Return the tokens of one recording."""
        ...

    def decode(self, tokens: Tokens, /) -> Audio:
        """Return the audio of one recording."""
        ...

    def kept(self, codebooks: int | None, /) -> int:
        """Return `codebooks`, all of them if None; ValueError if there are not so many."""
        ...

    def streams(self, channels: int, /, *, split: bool = False) -> int:
        """Return how many times a recording of so many channels is coded."""
        ...

    def header(self, original_rate: int, /, *, streams: int, codebooks: int) -> Header:
        """Return what the .tok file of a recording says before its codes."""
        ...

    def check_tokens(self, tokens: Tokens | Header, /) -> None:
        """Raise WrongTokensError unless this codec decodes them."""
        ...

    def has_codes_of(self, fingerprint: str, /) -> bool:
        """Return whether codes made by weights of this fingerprint mean the same here."""
        ...
