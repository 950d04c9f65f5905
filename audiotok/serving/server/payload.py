"""Binary messages: samples or codes after a header of 8 bytes, as described in `protocol`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from audiotok.audio.pcm import FORMATS, PcmError, to_bytes, to_samples
from audiotok.serving.server.schema import ProtocolError
from audiotok.tokens import pack, unpack

HEAD = struct.Struct("<BBHI")
AUDIO, TOKENS = 1, 2
ALIGNED = 8  # so many frames of any codes fill whole bytes


@runtime_checkable
class Shape(Protocol):
    """Sizes by which a message is read, as `protocol.Hello` has them."""

    @property
    def channels(self) -> int:
        """Channels of the codec's audio."""
        ...

    @property
    def frame_size(self) -> int:
        """Samples per frame."""
        ...

    @property
    def codebooks(self) -> int:
        """Number of codebooks."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook."""
        ...

    @property
    def widths(self) -> list[int]:
        """Bits in a code of each codebook."""
        ...


def audio(samples: np.ndarray, encoding: str) -> bytes:
    """Return a message with samples `[c t]` in an encoding of `pcm.FORMATS`."""
    return HEAD.pack(AUDIO, 0, *samples.shape) + to_bytes(samples, encoding)


def tokens(codes: np.ndarray, widths: Sequence[int]) -> bytes:
    """Return a message with codes `[k f]`, given the bits of a code of each codebook."""
    return HEAD.pack(TOKENS, 0, *codes.shape) + pack(codes, list(widths[: len(codes)]))


@dataclass(frozen=True)
class Binary:
    """Binary message whose header fits its length.

    Its values are read piece by piece, so that a long message is never unpacked as a whole.

    Attributes:
        kind: AUDIO or TOKENS.
        rows: channels or codebooks.
        count: samples or frames.
    """

    kind: int
    rows: int
    count: int
    _body: memoryview
    _shape: Shape
    _encoding: str

    @classmethod
    def read(cls, data: bytes, shape: Shape, encoding: str) -> Binary:
        """Read the header of a message.

        Args:
            data: the message.
            shape: sizes of the codec.
            encoding: encoding of audio, a key of `pcm.FORMATS`.

        Raises:
            ProtocolError: the message is of neither kind, or its length differs from its header.
        """
        if len(data) < HEAD.size:
            raise ProtocolError(f"a binary message of {len(data)} bytes; its header alone has 8")
        kind, zero, rows, count = HEAD.unpack_from(data)
        body = memoryview(data)[HEAD.size :]
        if zero or kind not in (AUDIO, TOKENS):
            raise ProtocolError(
                f"a binary message of kind {kind}; there are 1 (audio) and 2 (tokens)"
            )
        if kind == AUDIO:
            if rows != shape.channels or count * rows * FORMATS[encoding].itemsize != len(body):
                raise ProtocolError(
                    f"{len(body)} bytes are not {count} samples of {rows} channels in {encoding}; "
                    f"this codec has {shape.channels} channel{'s' if shape.channels > 1 else ''}"
                )
        elif not 1 <= rows <= shape.codebooks:
            raise ProtocolError(f"tokens of {rows} codebooks; this codec has {shape.codebooks}")
        elif (count * sum(shape.widths[:rows]) + 7) // 8 != len(body):
            raise ProtocolError(f"{len(body)} bytes are not {count} frames of {rows} codebooks")
        return cls(kind, rows, count, body, shape, encoding)

    def pieces(self, frames: int) -> Iterator[np.ndarray]:
        """Yield samples [c t] or codes [k f] of about so many frames, to the end.

        Raises:
            ProtocolError: a sample is not a finite number, or there is no such code.
        """
        size = self._shape.frame_size if self.kind == AUDIO else 1
        step = -(-frames // ALIGNED) * ALIGNED * size
        for first in range(0, self.count, step):
            yield self.values(first, min(self.count, first + step))

    def values(self, first: int, last: int) -> np.ndarray:
        """Return samples [c t] or codes [k f] from `first`, a multiple of 8, up to `last`.

        Raises:
            ProtocolError: a sample is not a finite number, or there is no such code.
        """
        widths, rows = self._shape.widths[: self.rows], self.rows
        bits = 8 * FORMATS[self._encoding].itemsize * rows if self.kind == AUDIO else sum(widths)
        body = bytes(self._body[first * bits // 8 : -(-last * bits // 8)])
        if self.kind == AUDIO:
            try:
                return to_samples(body, self._encoding, rows)
            except PcmError as error:
                raise ProtocolError(str(error)) from None
        codes, sizes = unpack(body, widths, last - first), self._shape.sizes
        if last > first and (over := codes.max(axis=1) >= np.array(sizes[:rows])).any():
            row = int(over.argmax())
            raise ProtocolError(f"code {codes[row].max()} in codebook {row}, of {sizes[row]}")
        return codes


def binary(data: bytes, shape: Shape, encoding: str) -> tuple[int, np.ndarray]:
    """Return AUDIO and samples `[c t]`, or TOKENS and codes `[k f]`, of a whole message.

    Args:
        data: the message.
        shape: sizes of the codec.
        encoding: encoding of audio, a key of `pcm.FORMATS`.

    Raises:
        ProtocolError: the message is malformed, or there is no such code.
    """
    message = Binary.read(data, shape, encoding)
    return message.kind, message.values(0, message.count)
