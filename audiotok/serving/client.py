"""A client of `audiotok serve`: a codec that runs somewhere else, with numpy and websockets alone.

>>> with Client("ws://127.0.0.1:8765") as client:
...     tokens = client.encode(samples)          # samples [c t] float32 at client.hello.sample_rate
...     samples = client.decode(tokens.first(4))
...     with client.start("both", codebooks=4) as talk:
...         for piece in microphone:
...             heard = talk.push(piece)         # what has come back by now
...         heard = talk.finish()                # the rest

`AsyncClient` is the same with `await`. What goes wrong is a `ClientError` of one line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import numpy as np

from audiotok._platform.optional import needed
from audiotok.serving.server import protocol
from audiotok.serving.server.protocol import Hello, Mode
from audiotok.serving.server.talk import (
    OPEN_SECONDS,
    ClientError,
    Heard,
    Talk,
    address_of,
    begin,
    checked,
    explained,
    options,
    tokens_of,
)
from audiotok.tokens.tokens import Tokens

__all__ = ["AsyncClient", "AsyncConversation", "Client", "ClientError", "Conversation", "Heard"]


class Conversation:
    """A conversation that is going on; see `Client.start`."""

    def __init__(self, client: Client, talk: Talk) -> None:
        self._client, self._talk = client, talk

    @property
    def summary(self) -> dict[str, Any]:
        """What the server said at the end: samples, frames, p50_ms, p99_ms."""
        return self._talk.summary

    @property
    def draining(self) -> bool:
        """Whether the server said that it will go away."""
        return self._talk.draining

    def push(self, piece: np.ndarray) -> Heard:
        """Sends samples [c t], or codes [k f] to decode; gives what has come back by now.

        Raises:
            ClientError: the server ended it.
        """
        with explained(self._client.address):
            for message in self._talk.messages(piece):
                self._client.send(message)
                self._take_ready()
        return self._talk.heard()

    def decode_with(self, codebooks: int) -> None:
        """From here on decode with so many codebooks ("both" only)."""
        with explained(self._client.address):
            self._client.send(protocol.dumps("codebooks", codebooks=codebooks))

    def finish(self, samples: int | None = None) -> Heard:
        """Ends it; gives the rest, of a decoding cut to so many samples in all."""
        more = {} if samples is None else {"samples": samples}
        with explained(self._client.address):
            self._client.send(protocol.dumps("end", **more))
            while not self._talk.take(self._client.receive()):
                pass
        return self._talk.heard()

    def _take_ready(self) -> None:
        while True:
            try:
                self._talk.take(self._client.receive(timeout=0))
            except TimeoutError:
                return


class Client:
    """A connection to a server.

    Attributes:
        hello: what the server is: codec, fingerprint, sample_rate, codebooks ...

    Args:
        url: its address, such as ws://127.0.0.1:8765.
        token: the bearer token that it asks for.

    Raises:
        ClientError: it cannot be reached, refuses, or speaks another protocol.
        ImportError: the websockets package is not installed.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        connect = needed("websockets.sync.client", "websockets", extra="serve").connect
        self.address = address_of(url)
        self._open = ExitStack()
        with explained(self.address):
            # All that comes is kept until it is asked for: whoever sends does not read meanwhile.
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
        """One message, as in `serving.server.protocol`."""
        self._socket.send(message)

    def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message; TimeoutError if none came in so many seconds."""
        return self._socket.recv(timeout)

    @contextmanager
    def start(
        self,
        mode: Mode,
        *,
        codebooks: int | None = None,
        format: str = "f32le",
        live: bool = True,
    ) -> Iterator[Conversation]:
        """A conversation, piece by piece; the next one can start when it is finished.

        Args:
            mode: "encode", "decode" or "both".
            codebooks: that are given back, or will be decoded (all if None).
            format: of audio on the wire: "f32le" is exact, "s16le" half as long.
            live: whether each frame is answered at once; a recording goes faster in blocks.
        """
        talk = begin(self.hello, mode, codebooks, format, live)
        with explained(self.address):
            self.send(talk.start())
        yield Conversation(self, talk)

    def encode(self, samples: np.ndarray, *, codebooks: int | None = None) -> Tokens:
        """The tokens of a recording, samples [c t] float32 at `hello.sample_rate`."""
        with self.start("encode", codebooks=codebooks, live=False) as talk:
            first, rest = talk.push(samples), talk.finish()
        return tokens_of(self.hello, np.hstack([first.codes, rest.codes]), samples.shape[1])

    def decode(self, tokens: Tokens) -> np.ndarray:
        """The samples [c t] of a recording, exactly as many as were encoded."""
        checked(self.hello, tokens)
        with self.start("decode", codebooks=tokens.codebooks, live=False) as talk:
            first, rest = talk.push(tokens.codes), talk.finish(tokens.samples)
        return np.hstack([first.samples, rest.samples])[:, : tokens.samples]


class AsyncConversation:
    """`Conversation` with await: what comes back is read while pieces are sent."""

    def __init__(self, client: AsyncClient, talk: Talk) -> None:
        self._client, self._talk = client, talk

    @property
    def summary(self) -> dict[str, Any]:
        """What the server said at the end: samples, frames, p50_ms, p99_ms."""
        return self._talk.summary

    async def send(self, piece: np.ndarray) -> None:
        """Samples [c t], or codes [k f] to decode."""
        with explained(self._client.address):
            for message in self._talk.messages(piece):
                await self._client.send(message)

    async def end(self, samples: int | None = None) -> None:
        """That was all."""
        more = {} if samples is None else {"samples": samples}
        with explained(self._client.address):
            await self._client.send(protocol.dumps("end", **more))

    async def __aiter__(self) -> AsyncIterator[Heard]:
        """What comes back, as it comes, to the end."""
        with explained(self._client.address):
            over = False
            while not over:
                over = self._talk.take(await self._client.receive())
                yield self._talk.heard()


class AsyncClient:
    """`Client` with await, used in an `async with`."""

    hello: Hello

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.address, self._token = address_of(url), token

    async def __aenter__(self) -> AsyncClient:
        connect = needed("websockets.asyncio.client", "websockets", extra="serve").connect
        with explained(self.address):
            self._socket = await connect(self.address, **options(self._token))
            self.hello = Hello.read(protocol.text(await self._socket.recv()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()

    async def send(self, message: str | bytes) -> None:
        """One message, as in `serving.server.protocol`."""
        await self._socket.send(message)

    async def receive(self) -> str | bytes:
        """The next message."""
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
        talk = begin(self.hello, mode, codebooks, format, live)
        with explained(self.address):
            await self.send(talk.start())
        yield AsyncConversation(self, talk)
