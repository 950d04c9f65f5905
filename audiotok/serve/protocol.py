"""What client and server say to each other over one WebSocket, at `/v1/stream`.

Text messages are JSON objects with a `type`; binary ones are audio or tokens.

    server  hello     codec, fingerprint, sample_rate, channels, frame_size, codebooks, sizes,
                      latency (seconds), protocol (1), limits
    client  start     mode: "encode" (audio up, tokens down), "decode" (tokens up, audio down) or
                      "both" (audio up, tokens and decoded audio down); may name codebooks, format
                      ("s16le" or "f32le", of audio both ways), live (true: each frame is
                      answered at once; false: in blocks, of a recording, many times as fast),
                      codec and fingerprint. Whoever sends tokens must name the last two: other
                      weights' tokens are refused
    client  (binary)  audio or tokens, in messages of any length up to limits.message_bytes
    server  (binary)  what they complete, in order: the tokens of a message before its audio
    client  codebooks how many codebooks are decoded from here on ("both" only)
    client  end       that was all; of a decoding, samples: its exact length (all frames if absent);
                      of the last frame some samples may have come already: drop what is past it
    server  (binary)  the rest
    server  end       samples and frames of the whole, and the server's part of the latency:
                      p50_ms and p99_ms from a message's arrival to its answer
    ...               the client may start again, or close
    server  draining  the server will go away in so many seconds: end, and come back later
    server  error     code and message (one line); the socket is closed after it

A binary message is a header of 8 bytes, little-endian, and what it holds:

    kind 1 (1: audio, 2: tokens) | 0 | channels or codebooks 2 | samples or frames 4 | ...

Audio is interleaved PCM at the codec's rate. Tokens are packed as in a .tok file: frame after
frame, within a frame codebook after codebook, each in exactly ceil(log2 size) bits, lowest first.

A token in the header (`Authorization: Bearer TOKEN`) or, from browsers, which cannot set it, in
the subprotocol `bearer.` + base64url(TOKEN) beside `audiotok.v1` admits the client, if the server
asks for one. Close codes: 1000 done, 1001 server going away, 1003 and 1007 not this protocol, 1008
refused or too slow, 1009 message too big, 1011 internal, 1013 full: try again later.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from audiotok.live.pcm import FORMATS, PcmError, to_bytes, to_samples
from audiotok.tokfile import pack, unpack

VERSION = 1
PATH = "/v1/stream"
SUBPROTOCOL = "audiotok.v1"
HEAD = struct.Struct("<BBHI")
AUDIO, TOKENS = 1, 2
Mode = Literal["encode", "decode", "both"]


class ProtocolError(ValueError):
    """A message that is not of this protocol; one line.

    Attributes:
        code: a word for programs.
        close: what the socket is closed with.
    """

    def __init__(self, message: str, *, code: str = "malformed", close: int = 1007) -> None:
        super().__init__(message)
        self.code, self.close = code, close


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may take."""

    message_bytes: int = 1 << 18
    session_seconds: float = 3600.0
    idle_seconds: float = 60.0  # without a message
    clients: int = 64


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What the server is."""

    codec: str
    fingerprint: str
    sample_rate: int
    channels: int
    frame_size: int
    codebooks: int
    sizes: tuple[int, ...]
    latency: float  # seconds, algorithmic
    limits: dict[str, float]
    protocol: int = VERSION

    @property
    def widths(self) -> list[int]:
        """Bits in a code of each codebook."""
        return [(size - 1).bit_length() for size in self.sizes]

    @classmethod
    def read(cls, message: dict[str, Any]) -> Hello:
        """From what `text` gave.

        Raises:
            ProtocolError: it is not one, or of a later protocol.
        """
        if message.get("type") != "hello" or message.get("protocol") != VERSION:
            raise ProtocolError(f"the server speaks no audiotok protocol {VERSION}")
        try:
            values: dict[str, Any] = {f.name: message[f.name] for f in fields(cls)}
            values["sizes"] = tuple(map(int, values["sizes"]))
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the server's hello is malformed ({error!r})") from None


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a client wants."""

    mode: Mode
    codebooks: int
    format: str = "s16le"
    live: bool = True

    @classmethod
    def read(cls, message: dict[str, Any], hello: Hello) -> Start:
        """From what `text` gave.

        Raises:
            ProtocolError: it asks for what there is not, or for another codec.
        """
        mode, encoding = message.get("mode"), message.get("format", "s16le")
        if mode not in ("encode", "decode", "both"):
            raise ProtocolError(f"mode is {mode!r}; there are encode, decode, both")
        if encoding not in FORMATS:
            raise ProtocolError(f"format is {encoding!r}; there are {', '.join(FORMATS)}")
        for name in ("codec", "fingerprint"):
            mine, asked = getattr(hello, name), message.get(name)
            if asked is None and mode != "decode":
                continue
            if asked != mine:
                raise ProtocolError(
                    f"{name} is {asked!r}; this server has {mine!r}", code="wrong_codec", close=1008
                )
        live = message.get("live", True)
        if type(live) is not bool:
            raise ProtocolError(f"live is {live!r}; it is true or false")
        books = codebooks_of(message, hello)
        return cls(mode=mode, codebooks=books, format=encoding, live=live)


def codebooks_of(message: dict[str, Any], hello: Hello) -> int:
    """How many codebooks a message asks for (all if it does not say).

    Raises:
        ProtocolError: there are not so many.
    """
    asked = message.get("codebooks", hello.codebooks)
    if type(asked) is not int or not 1 <= asked <= hello.codebooks:
        raise ProtocolError(f"codebooks is {asked!r}; there are 1 to {hello.codebooks}")
    return asked


def dumps(kind: str, value: Any = None, /, **more: Any) -> str:
    """A text message; `value` is a dataclass of what it says."""
    return json.dumps({"type": kind, **(asdict(value) if value is not None else {}), **more})


def text(message: str) -> dict[str, Any]:
    """What a text message says.

    Raises:
        ProtocolError: no JSON object with a `type`.
    """
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        raise ProtocolError("a text message is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise ProtocolError("a text message is no JSON object with a type")
    return found


def audio(samples: np.ndarray, encoding: str) -> bytes:
    """The message that samples [c t] make."""
    return HEAD.pack(AUDIO, 0, *samples.shape) + to_bytes(samples, encoding)


def tokens(codes: np.ndarray, widths: Sequence[int]) -> bytes:
    """The message that codes [k f] make."""
    return HEAD.pack(TOKENS, 0, *codes.shape) + pack(codes, list(widths[: len(codes)]))


def binary(data: bytes, hello: Hello, encoding: str) -> tuple[int, np.ndarray]:
    """AUDIO and samples [c t], or TOKENS and codes [k f].

    Raises:
        ProtocolError: neither, or it is not as long as it says, or codes that there are not.
    """
    if len(data) < HEAD.size:
        raise ProtocolError(f"a binary message of {len(data)} bytes; its header alone has 8")
    kind, zero, rows, count = HEAD.unpack_from(data)
    body = data[HEAD.size :]
    if zero or kind not in (AUDIO, TOKENS):
        raise ProtocolError(f"a binary message of kind {kind}; there are 1 (audio) and 2 (tokens)")
    if kind == AUDIO:
        if rows != hello.channels or count * rows * FORMATS[encoding].itemsize != len(body):
            raise ProtocolError(
                f"{len(body)} bytes are not {count} samples of {rows} channels in {encoding}; this "
                f"codec has {hello.channels} channel{'s' if hello.channels > 1 else ''}"
            )
        try:
            return kind, to_samples(body, encoding, rows)
        except PcmError as error:
            raise ProtocolError(str(error)) from None
    if not 1 <= rows <= hello.codebooks:
        raise ProtocolError(f"tokens of {rows} codebooks; this codec has {hello.codebooks}")
    widths = hello.widths[:rows]
    if (count * sum(widths) + 7) // 8 != len(body):
        raise ProtocolError(f"{len(body)} bytes are not {count} frames of {rows} codebooks")
    codes = unpack(body, widths, count)
    if count and (over := codes.max(axis=1) >= np.array(hello.sizes[:rows])).any():
        row = int(over.argmax())
        raise ProtocolError(f"code {codes[row].max()} in codebook {row}, of {hello.sizes[row]}")
    return kind, codes


def bearer(offered: Sequence[str], header: str | None) -> str | None:
    """The token that a client brings, in the `Authorization` header or as a subprotocol."""
    if header and header.lower().startswith("bearer "):
        return header[7:].strip()
    for name in offered:
        if name.startswith("bearer."):
            coded = name.removeprefix("bearer.")
            try:
                padded = coded + "=" * (-len(coded) % 4)
                return base64.urlsafe_b64decode(padded).decode()
            except (binascii.Error, ValueError):
                return None
    return None
