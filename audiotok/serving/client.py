"""Client of `audiotok serve`, a codec on another machine; it needs numpy and websockets alone.

>>> with Client("ws://127.0.0.1:8765") as client:
...     tokens = client.encode(samples)          # samples [c t] float32 at client.hello.sample_rate
...     samples = client.decode(tokens.first(4))
...     with client.start("both", codebooks=4) as conversation:
...         for piece in microphone:
...             received = conversation.push(piece)    # all that has arrived so far
...         received = conversation.finish()           # the rest

`AsyncClient` is the same with `await`. Errors are `ClientError`s of one line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import numpy as np

from audiotok._platform.optional import optional_import
from audiotok.serving.server import protocol
from audiotok.serving.server.conversation import (
    OPEN_SECONDS,
    ClientError,
    ConversationState,
    Received,
    address_of,
    begin,
    checked,
    explained,
    options,
    tokens_of,
)
from audiotok.serving.server.protocol import Hello, Mode
from audiotok.tokens.tokens import Tokens

__all__ = ["AsyncClient", "AsyncConversation", "Client", "ClientError", "ClientSession", "Received"]


class ClientSession:
    """Open conversation of a client; see `Client.start`."""

    def __init__(self, client: Client, state: ConversationState) -> None:
        self._client = client
        self._state = state

    @property
    def summary(self) -> dict[str, Any]:
        """Fields of the server's last message: samples, frames, p50_ms, p99_ms."""
        return self._state.summary

    @property
    def draining(self) -> bool:
        """True if the server has announced that it will stop."""
        return self._state.draining

    def push(self, piece: np.ndarray) -> Received:
        """Send samples or codes, and return what has arrived since the last call.

        Args:
            piece: samples `[c t]`, or codes `[k f]` to decode.

        Raises:
            ClientError: the server ended the conversation.
        """
        with explained(self._client.address):
            for message in self._state.messages(piece):
                self._say(message)
                self._take_ready()
        return self._state.received()

    def decode_with(self, codebooks: int) -> None:
        """Decode with so many codebooks from now on (mode "both" only)."""
        with explained(self._client.address):
            self._say(protocol.dumps("codebooks", codebooks=codebooks))

    def finish(self, samples: int | None = None) -> Received:
        """End the conversation, and return the rest.

        Args:
            samples: length in samples to which a decoding is cut; None for all frames.

        Raises:
            ClientError: the server ended the conversation.
        """
        more = {} if samples is None else {"samples": samples}
        with explained(self._client.address):
            self._say(protocol.dumps("end", **more))
            while not self._state.take(self._client.receive()):
                pass
        return self._state.received()

    def _say(self, message: str | bytes) -> None:
        """Send a message; where the server has hung up, raise what it said before it did."""
        errors = optional_import("websockets.exceptions", "websockets", extra="serve")
        try:
            self._client.send(message)
        except errors.ConnectionClosed:
            while True:  # until it is read, or the connection's own error is raised again
                self._state.take(self._client.receive())

    def _take_ready(self) -> None:
        while True:
            try:
                self._state.take(self._client.receive(timeout=0))
            except TimeoutError:
                return


class Client:
    """Connection to a server.

    Args:
        url: address of the server, such as ws://127.0.0.1:8765.
        token: bearer token, if the server requires one.

    Attributes:
        hello: the server's greeting: codec, fingerprint, sample_rate, codebooks ...

    Raises:
        ClientError: the server cannot be reached, refuses, or has another protocol.
        ImportError: the websockets package is not installed.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        connect = optional_import("websockets.sync.client", "websockets", extra="serve").connect
        self.address = address_of(url)
        self._open = ExitStack()
        with explained(self.address):
            # Messages are kept without limit until they are read: a sender does not read meanwhile.
            settings = {**options(token), "max_queue": None}
            self._socket = self._open.enter_context(connect(self.address, **settings))
            self.hello = Hello.read(protocol.text(self._socket.recv(OPEN_SECONDS)))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._open.close()

    def send(self, message: str | bytes) -> None:
        """Send a message of `serving.server.protocol`."""
        self._socket.send(message)

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Return the next message.

        Args:
            timeout: seconds to wait; None for no limit.

        Raises:
            TimeoutError: no message has arrived in that time.
        """
        return self._socket.recv(timeout)

    @contextmanager
    def start(
        self,
        mode: Mode,
        *,
        codebooks: int | None = None,
        format: str = "f32le",
        live: bool = True,
    ) -> Iterator[ClientSession]:
        """Start a conversation, piece by piece; the next can start when it has finished.

        Args:
            mode: "encode", "decode" or "both".
            codebooks: number of codebooks to return or to decode; all if None.
            format: format of audio on the wire, "f32le" (exact) or "s16le" (half the size).
            live: whether each frame is answered at once; a recording is faster in blocks.
        """
        state = begin(self.hello, mode, codebooks, format, live)
        with explained(self.address):
            self.send(state.start())
        yield ClientSession(self, state)

    def encode(self, samples: np.ndarray, *, codebooks: int | None = None) -> Tokens:
        """Encode a recording.

        Args:
            samples: samples `[c t]` float32 at `hello.sample_rate`.
            codebooks: number of codebooks to return; all if None.

        Raises:
            ClientError: the server ended the conversation.
        """
        with self.start("encode", codebooks=codebooks, live=False) as conversation:
            first, rest = conversation.push(samples), conversation.finish()
        return tokens_of(self.hello, np.hstack([first.codes, rest.codes]), samples.shape[1])

    def decode(self, tokens: Tokens) -> np.ndarray:
        """Decode a recording to samples `[c t]`, exactly as many as were encoded.

        Raises:
            ClientError: the tokens are of another codec, or the server ended the conversation.
        """
        checked(self.hello, tokens)
        with self.start("decode", codebooks=tokens.codebooks, live=False) as conversation:
            first, rest = conversation.push(tokens.codes), conversation.finish(tokens.samples)
        return np.hstack([first.samples, rest.samples])[:, : tokens.samples]


class AsyncConversation:
    """Asynchronous `ClientSession`, whose answers are read while pieces are sent."""

    def __init__(self, client: AsyncClient, state: ConversationState) -> None:
        self._client = client
        self._state = state

    @property
    def summary(self) -> dict[str, Any]:
        """Fields of the server's last message: samples, frames, p50_ms, p99_ms."""
        return self._state.summary

    async def send(self, piece: np.ndarray) -> None:
        """Send samples `[c t]`, or codes `[k f]` to decode.

        Raises:
            ClientError: the server ended the conversation.
        """
        with explained(self._client.address):
            for message in self._state.messages(piece):
                await self._say(message)

    async def end(self, samples: int | None = None) -> None:
        """End the conversation; answers still arrive.

        Args:
            samples: as for `ClientSession.finish`.

        Raises:
            ClientError: the server ended the conversation.
        """
        more = {} if samples is None else {"samples": samples}
        with explained(self._client.address):
            await self._say(protocol.dumps("end", **more))

    async def _say(self, message: str | bytes) -> None:
        """See `ClientSession._say`; whoever waits for answers meanwhile is told instead."""
        errors = optional_import("websockets.exceptions", "websockets", extra="serve")
        try:
            await self._client.send(message)
        except errors.ConnectionClosed:
            with suppress(errors.ConcurrencyError):
                while True:
                    self._state.take(await self._client.receive())
            raise

    async def __aiter__(self) -> AsyncIterator[Received]:
        """Yield codes and samples as they arrive, to the end."""
        with explained(self._client.address):
            over = False
            while not over:
                over = self._state.take(await self._client.receive())
                yield self._state.received()


class AsyncClient:
    """Asynchronous `Client`, used in an `async with`.

    Args:
        url: as for `Client`.
        token: as for `Client`.
    """

    hello: Hello

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.address = address_of(url)
        self._token = token

    async def __aenter__(self) -> AsyncClient:
        connect = optional_import("websockets.asyncio.client", "websockets", extra="serve").connect
        with explained(self.address):
            self._socket = await connect(self.address, **options(self._token))
            self.hello = Hello.read(protocol.text(await self._socket.recv()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()

    async def send(self, message: str | bytes) -> None:
        """Send a message of `serving.server.protocol`."""
        await self._socket.send(message)

    async def receive(self) -> str | bytes:
        """Return the next message."""
        return await self._socket.recv()

    @asynccontextmanager
    async def start(
        self,
        mode: Mode,
        *,
        codebooks: int | None = None,
        format: str = "f32le",
        live: bool = True,
    ) -> AsyncIterator[AsyncConversation]:
        """See `Client.start`."""
        state = begin(self.hello, mode, codebooks, format, live)
        with explained(self.address):
            await self.send(state.start())
        yield AsyncConversation(self, state)
