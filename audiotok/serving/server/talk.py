"""The client's side of a conversation, without its socket: what is sent, and made of what comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from audiotok._platform.optional import needed
from audiotok.audio.pcm import FORMATS
from audiotok.serving.server import protocol
from audiotok.serving.server.protocol import Hello, Limits, Mode, ProtocolError
from audiotok.tokens.tokens import Tokens

OPEN_SECONDS = 20.0
PONG_SECONDS = 300.0  # a server reads no further, not even a ping, while it has enough to do


class ClientError(ValueError):
    """The server refused, went away, or is none; one line.

    Attributes:
        code: the server's word for it, or "connection".
    """

    def __init__(self, message: str, *, code: str = "connection") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Heard:
    """What has come back: codes [k f] and samples [c t], with no frames where there were none."""

    codes: np.ndarray
    samples: np.ndarray


@dataclass
class Talk:
    """One conversation, without the socket: what to send, and what is made of what comes."""

    hello: Hello
    mode: Mode
    codebooks: int
    format: str
    live: bool = True
    summary: dict[str, Any] = field(default_factory=dict)  # what the server said at the end
    draining: bool = False  # whether it said that it will go away
    _codes: list[np.ndarray] = field(default_factory=list)
    _samples: list[np.ndarray] = field(default_factory=list)

    def start(self) -> str:
        """The message that begins it."""
        return protocol.dumps(
            "start",
            mode=self.mode,
            codebooks=self.codebooks,
            format=self.format,
            live=self.live,
            codec=self.hello.codec,
            fingerprint=self.hello.fingerprint,
        )

    def messages(self, piece: np.ndarray) -> Iterator[bytes]:
        """A piece in messages that the server takes."""
        limits, second = self.hello.limits, self.hello.sample_rate
        most = int(limits.get("message_bytes", Limits.message_bytes)) - protocol.HEAD.size
        if self.mode == "decode":
            step = most * 8 // max(1, sum(self.hello.widths[: self.codebooks])) - 8
            second = -(-second // self.hello.frame_size)
        else:
            step = most // (FORMATS[self.format].itemsize * self.hello.channels)
        step = max(1, min(step, second))  # a second: answers come on the way
        for first in range(0, piece.shape[1], step):
            part = piece[:, first : first + step]
            if self.mode == "decode":
                yield protocol.tokens(part, self.hello.widths)
            else:
                yield protocol.audio(np.asarray(part, np.float32), self.format)

    def take(self, message: str | bytes) -> bool:
        """Keeps what a message brings; whether it was the end."""
        if isinstance(message, bytes):
            kind, values = protocol.binary(message, self.hello, self.format)
            (self._codes if kind == protocol.TOKENS else self._samples).append(values)
            return False
        said = protocol.text(message)
        protocol.check(said, protocol.SERVER, {}, others=True)
        if said["type"] == "error":
            raise ClientError(_line(said["message"]), code=said["code"])
        if said["type"] == "end":
            self.summary = said
        self.draining |= said["type"] == "draining"
        return said["type"] == "end"

    def heard(self) -> Heard:
        """What has come since it was asked last."""
        codes = np.concatenate([np.zeros((self.codebooks, 0), np.int64), *self._codes], 1)
        none = np.zeros((self.hello.channels, 0), np.float32)
        samples = np.concatenate([none, *self._samples], 1)
        self._codes, self._samples = [], []
        return Heard(codes, samples)


def _line(text: str) -> str:
    """Return what a server says in one line that can be shown."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:200]


def tokens_of(hello: Hello, codes: np.ndarray, samples: int) -> Tokens:
    """Codes [k f] that a server made, as Tokens: they can be saved, cut and decoded."""
    return Tokens(
        codes=codes,
        size=hello.sizes[: len(codes)],
        codec=hello.codec,
        fingerprint=hello.fingerprint,
        sample_rate=hello.sample_rate,
        frame_size=hello.frame_size,
        samples=samples,
        original_rate=hello.sample_rate,
        original_samples=samples,
        channels=hello.channels,
    )


def address_of(url: str) -> str:
    """The socket's address: `http://host:port/` and `host:port` will do."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ClientError(f"{url}: not the address of a server, like ws://127.0.0.1:8765")
    path = parts.path if parts.path not in ("", "/") else protocol.PATH
    return f"{scheme}://{parts.netloc}{path}"


def options(token: str | None) -> dict[str, Any]:
    """How both kinds of client connect."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {
        "additional_headers": headers,
        "subprotocols": [protocol.SUBPROTOCOL],
        "compression": None,
        "open_timeout": OPEN_SECONDS,
        "ping_timeout": PONG_SECONDS,
        "max_size": None,
        "proxy": None,
    }


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Turns what websockets raises into one line."""
    errors = needed("websockets.exceptions", "websockets", extra="serve")
    try:
        yield
    except errors.InvalidStatus as error:
        body = (error.response.body or b"").decode("utf-8", "replace").strip()
        said = _line(body) or error.response.reason_phrase
        status = error.response.status_code
        raise ClientError(f"{address}: refused ({status}): {said}", code=str(status)) from None
    except errors.ConnectionClosed as error:
        why = "no goodbye"
        if error.rcvd:
            why = _line(error.rcvd.reason) or f"code {error.rcvd.code}"
        raise ClientError(f"{address}: the server closed the connection ({why})") from None
    except (errors.WebSocketException, OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ClientError(f"{address}: {why}; is `audiotok serve` running there?") from None
    except ProtocolError as error:
        raise ClientError(f"{address}: {error}", code=error.code) from None


def begin(hello: Hello, mode: Mode, codebooks: int | None, encoding: str, live: bool) -> Talk:
    """A conversation that is to be; raises `ClientError` for a format that there is not."""
    if encoding not in FORMATS:
        raise ClientError(f"format {encoding!r}: there are {', '.join(FORMATS)}")
    return Talk(hello, mode, codebooks or hello.codebooks, encoding, live)


def checked(hello: Hello, tokens: Tokens) -> Tokens:
    """The tokens, if this server can decode them; else a `ClientError`."""
    if tokens.codec != hello.codec or not hello.has_codes_of(tokens.fingerprint):
        theirs, mine = f"{tokens.codec} {tokens.fingerprint}", f"{hello.codec} {hello.fingerprint}"
        raise ClientError(f"tokens of {theirs}; the server has {mine}", code="wrong_codec")
    if tokens.streams > 1:
        raise ClientError("channels that were coded apart: decode tokens.channel(i) of each")
    return tokens
