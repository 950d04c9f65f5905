"""Protocols of the objects that the runtime runs: an executor of steps, and a whole codec."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from audiotok.tokens.kinds import AnyTokens
from audiotok.tokens.tokenizer import Tokenizer, TokensLike

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio
    from audiotok.audio.coerce import Recording

A = TypeVar("A")  # arrays of an executor: tensors of torch, or arrays of numpy
Way = Literal["encode", "decode"]


@dataclass(frozen=True)
class Plan:
    """Alignment of a codec's frames in time, and how it is run in steps (see `Network`).

    Attributes:
        frame_size: samples per frame.
        channels: audio channels that are coded together.
        codebooks: codes per frame, or numbers of its latents.
        look_ahead: in samples, what the encoder sees past the end of a frame, and by how much
            the output of the decoder lags.
        fills_up: whether silence may follow a recording without changing any of its codes.
        first_frames: least number of frames in the first step.
        block: frames per step offline.
        steps: whether there are steps; without them a recording runs as a whole, at its end.
        lags: whether a step may return fewer frames than it is given, since later ones matter.
    """

    frame_size: int
    channels: int
    codebooks: int
    look_ahead: int
    fills_up: bool
    first_frames: int
    block: int
    steps: bool = True
    lags: bool = False

    def frames(self, samples: int) -> int:
        """Return the number of frames in `samples` samples; a frame begun counts as one."""
        return -(-samples // self.frame_size)

    @property
    def start_padding(self) -> int:
        """Zeros that precede the first sample, so that each frame also contains its look-ahead."""
        return self.frame_size - self.look_ahead if self.look_ahead else 0

    @property
    def padding_frames(self) -> int:
        """Frames to drop at the start, which the zeros of `start_padding` produce."""
        return 1 if self.look_ahead else 0


@runtime_checkable
class Executor(Protocol[A]):
    """Executor of the steps of a codec, in torch (`network_executor`) or by graphs.

    States are objects of the executor, which may change them in place: only what a method returns
    is used afterwards.

    Attributes:
        plan: alignment of the frames, and sizes of the steps.
        kind: text that two executors share where the states of one fit the other.
    """

    @property
    def plan(self) -> Plan: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102

    # -- steps ------------------------------------------------------------------------------------

    def start(self, way: Way, batch: int, /) -> Any:
        """Return the state before the first step of `batch` signals."""
        ...

    def encode(self, wave: A, state: Any, codebooks: int, /) -> tuple[A, Any]:
        """Encode further whole frames of samples `[b c t]` to codes `[b k f]`."""
        ...

    def decode(self, codes: A, state: Any, frames: int, /) -> tuple[A, Any]:
        """Decode the first `frames` frames of codes `[b k f]` to samples; the rest is padding."""
        ...

    def finish_encode(self, wave: A, state: Any, codebooks: int, /) -> A:
        """Return the codes `[b k f]` of the last samples; of all if the state is None."""
        ...

    def finish_decode(self, codes: A, state: Any, /) -> A:
        """Return the samples `[b c t]` of the last frames; of all if the state is None."""
        ...

    def flush(self, state: Any, /) -> A:
        """Return the `look_ahead` samples that the decoder still holds after the last frame."""
        ...

    # -- states of many signals --------------------------------------------------------------------

    def form(self, state: Any, /) -> Hashable:
        """Return what the states of two signals must share to be gathered; None of no state."""
        ...

    def gather(self, states: Sequence[Any], /) -> Any:
        """Return the state of signals that step together, from those of the signals."""
        ...

    def scatter(self, state: Any, count: int, /) -> Sequence[Any]:
        """Return the state of each of `count` signals, from that of all, which stepped together."""
        ...

    def select(self, state: Any, members: slice, /) -> Any:
        """Return a state of its own of some signals."""
        ...

    def dump(self, state: Any, arrays: dict[str, np.ndarray], name: str, /) -> Any:
        """Return a state as JSON, with its arrays added to `arrays` by names that begin so."""
        ...

    def restore(self, content: Any, arrays: dict[str, np.ndarray], /) -> Any:
        """Return the state that `dump` converted."""
        ...

    # -- arrays -----------------------------------------------------------------------------------

    def array(self, x: Any, /) -> A:
        """Return an array of numpy, or a tensor, as an array of this executor."""
        ...

    def numpy(self, x: A, /) -> np.ndarray:
        """Return an array of this executor as an array of numpy."""
        ...

    def zeros(self, batch: int, width: int, size: int, /, *, like: A | None = None) -> A:
        """Return zeros `[batch width size]` of float32, or of the type of another array."""
        ...

    def no_codes(self, batch: int, codebooks: int, /) -> A:
        """Return codes `[batch codebooks 0]` of no frames."""
        ...

    def join(self, parts: Sequence[A], axis: int, /) -> A:
        """Return arrays concatenated along an axis."""
        ...


class RunnableCodec(Tokenizer, Generic[A]):
    """Codec as streams, windows, file jobs and the server use it, whatever runs it."""

    @property
    def executor(self) -> Executor[A]:
        """Executor of the codec's steps."""
        raise NotImplementedError

    @property
    def constant_memory(self) -> bool:
        """True if long audio takes no more memory than short audio."""
        raise NotImplementedError

    def encode(
        self,
        recording: Recording,
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        split: bool = False,
    ) -> AnyTokens:
        """Return the tokens of one recording; see `Codec.encode`."""
        raise NotImplementedError

    def encode_batch(
        self,
        recordings: Sequence[Recording],
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        group: int | None = None,
    ) -> list[AnyTokens]:
        """Return the tokens of each recording; see `Codec.encode_batch`."""
        raise NotImplementedError

    def decode_batch(self, batch: Sequence[TokensLike], *, group: int | None = None) -> list[Audio]:
        """Return the audio of each recording; see `Codec.decode_batch`."""
        raise NotImplementedError

    def decode(
        self, tokens: TokensLike, *, samples: int | None = None, original_rate: bool = False
    ) -> Audio:
        """Return the audio of one recording; see `Codec.decode`."""
        raise NotImplementedError
