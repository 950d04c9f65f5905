"""Protocol of client and server over one WebSocket, at `/v1/stream`.

Text messages are JSON objects with a `type`; binary ones are audio or tokens.

    server  hello     codec, fingerprint, sample_rate, channels, frame_size, codebooks, sizes,
                      latency (seconds), protocol (1), limits
    client  start     mode: "encode" (audio up, tokens down), "decode" (tokens up, audio down) or
                      "both" (audio up, tokens and decoded audio down); may name codebooks, format
                      ("s16le" or "f32le", of audio both ways), live (true: each frame is
                      answered at once; false: in blocks, of a recording, many times as fast),
                      codec and fingerprint. A client that sends tokens must name the last two:
                      tokens of other weights are refused
    client  (binary)  audio or tokens, in messages of any length up to limits.message_bytes
    server  (binary)  the tokens and audio that they complete, in order: tokens before their audio,
                      in pieces of a few seconds, each computed when the last one has been read
    client  codebooks how many codebooks are decoded from here on ("both" only)
    client  colours   asks at any time for the colours in which tokens are drawn
    server  colours   by: "similarity" (similar entries of a codebook have similar colours) or
                      "code" (a colour for each number, where embeddings are not at hand);
                      tables: of each codebook, or one for all, in base64: red, green,
                      blue of code 0, code 1 ...; codes past a table's end begin at its start
    client  end       end of the input; for a decoding, samples: its exact length (all frames if
                      absent); samples of the last frame past it may have been sent: drop them
    server  (binary)  the rest
    server  end       samples and frames of the whole, and the server's part of the latency:
                      count of messages, p50_ms, p99_ms and worst_ms from a message's arrival to
                      its answer
    ...               the client may start again, or close
    server  draining  the server will go away in so many seconds: end, and come back later
    server  error     code and message (one line); the socket is closed after it

The fields of these messages and their values are declared in CLIENT and SERVER below. A client that
sends another field, or another value, gets an error that names it; a later server may send fields
that a client does not know.

A binary message is a header of 8 bytes, little-endian, and its content:

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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from audiotok.audio.pcm import FORMATS
from audiotok.serving.server.payload import AUDIO, HEAD, TOKENS, Binary, audio, binary, tokens
from audiotok.serving.server.schema import Field, ProtocolError, brief, fault

__all__ = [
    "AUDIO",
    "CLIENT",
    "HEAD",
    "PATH",
    "SERVER",
    "SUBPROTOCOL",
    "TOKENS",
    "VERSION",
    "Binary",
    "Hello",
    "Limits",
    "Mode",
    "ProtocolError",
    "Start",
    "audio",
    "bearer",
    "binary",
    "check",
    "dumps",
    "reason",
    "text",
    "tokens",
]
VERSION = 1
PATH = "/v1/stream"
SUBPROTOCOL = "audiotok.v1"
Mode = Literal["encode", "decode", "both"]
CLOSE_BYTES = 120  # length of the reason for closing a socket, which WebSocket limits to 123

_POSITIVE, _AMOUNT = (
    Field(kind="a whole number", required=True, low=1),
    Field(kind="a number", low=0),
)
_WORD = Field(kind="a string", required=True)
# Fields of the text messages beside `type`. The bound "codebooks" is the number of the codec.
CLIENT: Mapping[str, Mapping[str, Field]] = {
    "start": {
        "mode": Field(kind="a string", required=True, values=("encode", "decode", "both")),
        "codebooks": Field(kind="a whole number", low=1, high="codebooks"),
        "format": Field(kind="a string", values=tuple(FORMATS)),
        "live": Field(kind="true or false"),
        "codec": Field(kind="a string"),
        "fingerprint": Field(kind="a string"),
    },
    "codebooks": {
        "codebooks": Field(kind="a whole number", required=True, low=1, high="codebooks"),
    },
    "colours": {},
    "end": {"samples": Field(kind="a whole number", noun="samples", low=0)},
}
SERVER: Mapping[str, Mapping[str, Field]] = {
    "hello": {
        "codec": _WORD,
        "fingerprint": _WORD,
        "former_fingerprints": Field(kind="a list", items=Field(kind="a string")),
        "sample_rate": _POSITIVE,
        "channels": _POSITIVE,
        "frame_size": _POSITIVE,
        "codebooks": _POSITIVE,
        "sizes": Field(kind="a list", required=True, items=_POSITIVE),
        "latency": Field(kind="a number", required=True, low=0),
        "limits": Field(
            kind="an object",
            required=True,
            fields={
                "message_bytes": Field(kind="a whole number", low=HEAD.size + 1),
                "session_seconds": _AMOUNT,
                "idle_seconds": _AMOUNT,
            },
        ),
        "protocol": _POSITIVE,
    },
    "colours": {
        "by": Field(kind="a string", required=True, values=("similarity", "code")),
        "tables": Field(kind="a list", required=True, items=Field(kind="a string")),
    },
    "end": {
        "samples": Field(kind="a whole number", required=True, low=0),
        "frames": Field(kind="a whole number", required=True, low=0),
        "count": _AMOUNT,
        "p50_ms": _AMOUNT,
        "p99_ms": _AMOUNT,
        "worst_ms": _AMOUNT,
    },
    "draining": {"seconds": Field(kind="a number", required=True, low=0)},
    "error": {"code": _WORD, "message": _WORD},
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a client."""

    message_bytes: int = 1 << 18
    session_seconds: float = 3600.0  # length of a connection
    idle_seconds: float = 60.0  # time without a message
    clients: int = 64  # number of clients at a time


@dataclass(frozen=True, kw_only=True)
class Hello:
    """Greeting of a server: its codec and its limits.

    Attributes:
        fingerprint: fingerprint of the weights that determine codes.
        former_fingerprints: earlier fingerprints of weights with the same codes.
    """

    codec: str
    fingerprint: str
    sample_rate: int
    channels: int
    frame_size: int
    codebooks: int
    sizes: tuple[int, ...]
    latency: float  # seconds, algorithmic
    limits: dict[str, float]
    former_fingerprints: tuple[str, ...] = ()
    protocol: int = VERSION

    def has_codes_of(self, fingerprint: str) -> bool:
        """Return whether tokens with this fingerprint have the codes of this server."""
        return fingerprint in (self.fingerprint, *self.former_fingerprints)

    @property
    def widths(self) -> list[int]:
        """Bits of a code in each codebook."""
        return [(size - 1).bit_length() for size in self.sizes]

    @classmethod
    def read(cls, message: dict[str, Any]) -> Hello:
        """Read the greeting from a message of `text`.

        Raises:
            ProtocolError: the message is no greeting, or of a later protocol.
        """
        if message.get("type") != "hello" or message.get("protocol") != VERSION:
            raise ProtocolError(f"the server speaks no audiotok protocol {VERSION}")
        check(message, SERVER, {}, others=True)
        values: dict[str, Any] = {f.name: message[f.name] for f in fields(cls) if f.name in message}
        for name in ("sizes", "former_fingerprints"):
            values[name] = tuple(values.get(name, ()))
        if len(values["sizes"]) != values["codebooks"]:
            raise ProtocolError("the server's hello has not one size a codebook")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Request of a client to start a conversation."""

    mode: Mode
    codebooks: int
    format: str = "s16le"
    live: bool = True

    @classmethod
    def read(cls, message: dict[str, Any], hello: Hello) -> Start:
        """Read the request from a checked message.

        Args:
            message: a message that `check` has passed.
            hello: the greeting of this server.

        Raises:
            ProtocolError: the client asks for another codec.
        """
        asks = {name: message.get(name) for name in ("codec", "fingerprint")}
        same = {
            "codec": asks["codec"] == hello.codec,
            "fingerprint": asks["fingerprint"] is not None
            and hello.has_codes_of(asks["fingerprint"]),
        }
        for name, asked in asks.items():
            if not same[name] and (asked is not None or message["mode"] == "decode"):
                raise ProtocolError(
                    f"{name} is {brief(asked)}; this server has {getattr(hello, name)!r}",
                    code="wrong_codec",
                    close=1008,
                )
        chosen = {f.name: message[f.name] for f in fields(cls) if f.name in message}
        return cls(**{"codebooks": hello.codebooks, **chosen})


def dumps(kind: str, value: Any = None, /, **more: Any) -> str:
    """Return a text message.

    Args:
        kind: type of the message.
        value: dataclass with its fields, if any.
        **more: further fields.
    """
    return json.dumps({"type": kind, **(asdict(value) if value is not None else {}), **more})


def text(message: str) -> dict[str, Any]:
    """Parse a text message.

    Raises:
        ProtocolError: the message is no JSON object with a `type`.
    """
    try:
        values = json.loads(message)
    except (ValueError, RecursionError):
        raise ProtocolError("a text message is not JSON") from None
    if not isinstance(values, dict) or not isinstance(values.get("type"), str):
        raise ProtocolError("a text message is no JSON object with a type")
    return values


def check(
    message: Mapping[str, Any],
    schema: Mapping[str, Mapping[str, Field]],
    bounds: Mapping[str, float],
    *,
    others: bool = False,
) -> None:
    """Raise unless a message conforms to its declaration.

    Args:
        message: a message of `text`.
        schema: CLIENT or SERVER.
        bounds: values of the bounds that the schema names.
        others: whether undeclared types and fields are allowed.

    Raises:
        ProtocolError: the message does not conform; names the field and its allowed values.
    """
    kind = message["type"]
    if kind not in schema:
        if others:
            return
        raise ProtocolError(f"there is no message {brief(kind)}: {', '.join(schema)}")
    rest = {name: value for name, value in message.items() if name != "type"}
    if wrong := fault(kind, rest, schema[kind], bounds, others=others):
        raise ProtocolError(wrong)


def reason(message: str) -> str:
    """Return a message cut to the length that closing a socket allows."""
    return message.encode()[:CLOSE_BYTES].decode(errors="ignore")


def bearer(offered: Sequence[str], header: str | None) -> str | None:
    """Return the bearer token of a client, or None.

    Args:
        offered: subprotocols that the client offers.
        header: its `Authorization` header, if any.
    """
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
