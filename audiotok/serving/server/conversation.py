"""Client side of a conversation without the socket: messages to send, and messages received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from audiotok._platform.errors import Error
from audiotok._platform.optional import optional_import
from audiotok.audio.pcm import FORMATS
from audiotok.serving.server import protocol
from audiotok.serving.server.protocol import Hello, Limits, Mode, ProtocolError
from audiotok.tokens.tokens import Tokens

OPEN_SECONDS = 20.0
PONG_SECONDS = 300.0  # a busy server reads nothing, not even a ping


class ClientError(Error, ValueError):
    """Error of a server that refused, stopped or could not be reached; one line.

    Attributes:
        code: the server's code of the error, or "connection".
    """

    def __init__(self, message: str, *, code: str = "connection") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Received:
    """Answers of a server: codes `[k f]` and samples `[c t]`, empty where there are none."""

    codes: np.ndarray
    samples: np.ndarray


@dataclass
class ConversationState:
    """State of a client's conversation without the socket.

    Attributes:
        hello: the server's greeting.
        mode: "encode", "decode" or "both".
        codebooks: number of codebooks to return or to decode.
        format: format of audio on the wire.
        live: whether each frame is answered at once.
        summary: fields of the server's last message.
        draining: whether the server has announced that it will stop.
    """

    hello: Hello
    mode: Mode
    codebooks: int
    format: str
    live: bool = True
    summary: dict[str, Any] = field(default_factory=dict)
    draining: bool = False
    _codes: list[np.ndarray] = field(default_factory=list)
    _samples: list[np.ndarray] = field(default_factory=list)

    def start(self) -> str:
        """Return the message that starts the conversation."""
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
        """Yield messages with a piece, each short enough for the server."""
        limits, second = self.hello.limits, self.hello.sample_rate
        most = int(limits.get("message_bytes", Limits.message_bytes)) - protocol.HEAD.size
        if self.mode == "decode":
            step = most * 8 // max(1, sum(self.hello.widths[: self.codebooks])) - 8
            second = -(-second // self.hello.frame_size)
        else:
            step = most // (FORMATS[self.format].itemsize * self.hello.channels)
        step = max(1, min(step, second))  # at most a second, so that answers arrive meanwhile
        for first in range(0, piece.shape[1], step):
            part = piece[:, first : first + step]
            if self.mode == "decode":
                yield protocol.tokens(part, self.hello.widths)
            else:
                yield protocol.audio(np.asarray(part, np.float32), self.format)

    def take(self, message: str | bytes) -> bool:
        """Keep the content of a message, and return whether it ends the conversation.

        Raises:
            ClientError: the message is an error of the server.
            ProtocolError: the message is malformed.
        """
        if isinstance(message, bytes):
            kind, values = protocol.binary(message, self.hello, self.format)
            (self._codes if kind == protocol.TOKENS else self._samples).append(values)
            return False
        answer = protocol.text(message)
        protocol.check(answer, protocol.SERVER, {}, others=True)
        if answer["type"] == "error":
            raise ClientError(_line(answer["message"]), code=answer["code"])
        if answer["type"] == "end":
            self.summary = answer
        self.draining |= answer["type"] == "draining"
        return answer["type"] == "end"

    def received(self) -> Received:
        """Return all that has arrived since the last call."""
        codes = np.concatenate([np.zeros((self.codebooks, 0), np.int64), *self._codes], 1)
        none = np.zeros((self.hello.channels, 0), np.float32)
        samples = np.concatenate([none, *self._samples], 1)
        self._codes = []
        self._samples = []
        return Received(codes, samples)


def _line(text: str) -> str:
    """Return text of a server as one printable line."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:200]


def tokens_of(hello: Hello, codes: np.ndarray, samples: int) -> Tokens:
    """Return codes `[k f]` of a server as `Tokens`.

    Args:
        hello: the server's greeting.
        codes: codes `[k f]`.
        samples: number of samples that were encoded.
    """
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
    """Return the WebSocket address of a server; `http://host:port/` and `host:port` are accepted.

    Raises:
        ClientError: the address is not of a server.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ClientError(f"{url}: not the address of a server, like ws://127.0.0.1:8765")
    path = parts.path if parts.path not in ("", "/") else protocol.PATH
    return f"{scheme}://{parts.netloc}{path}"


def options(token: str | None) -> dict[str, Any]:
    """Return the connection options of both kinds of client."""
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
    """Turn errors of websockets into `ClientError`s of one line."""
    errors = optional_import("websockets.exceptions", "websockets", extra="serve")
    try:
        yield
    except errors.InvalidStatus as error:
        body = (error.response.body or b"").decode("utf-8", "replace").strip()
        text = _line(body) or error.response.reason_phrase
        status = error.response.status_code
        raise ClientError(f"{address}: refused ({status}): {text}", code=str(status)) from None
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


def begin(
    hello: Hello, mode: Mode, codebooks: int | None, encoding: str, live: bool
) -> ConversationState:
    """Return the client's state of a new conversation with the server that sent `hello`.

    Args:
        hello: the server's greeting.
        mode: "encode", "decode" or "both".
        codebooks: how many are used, from the first; None for all that the server has.
        encoding: format of audio on the wire, a key of `FORMATS`.
        live: whether it comes before recordings.

    Raises:
        ClientError: there is no such format.
    """
    if encoding not in FORMATS:
        raise ClientError(f"format {encoding!r}: there are {', '.join(FORMATS)}")
    return ConversationState(hello, mode, codebooks or hello.codebooks, encoding, live)


def checked(hello: Hello, tokens: Tokens) -> Tokens:
    """Return the tokens if this server can decode them.

    Raises:
        ClientError: the tokens are of another codec, or of channels that were coded apart.
    """
    if tokens.codec != hello.codec or not hello.has_codes_of(tokens.fingerprint):
        theirs, mine = f"{tokens.codec} {tokens.fingerprint}", f"{hello.codec} {hello.fingerprint}"
        raise ClientError(f"tokens of {theirs}; the server has {mine}", code="wrong_codec")
    if tokens.streams > 1:
        raise ClientError("channels that were coded apart: decode tokens.channel(i) of each")
    return tokens
