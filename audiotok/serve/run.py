"""Running the server: one process, which drains when it is told to end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from audiotok.serve.app import application
from audiotok.serve.room import Settings
from audiotok.serve.steps import steps_of

if TYPE_CHECKING:
    from audiotok.codecs.base import Codec
    from audiotok.exported import Exported

SEND_BUFFER = 1 << 16  # bytes: two seconds of audio
HEADER_SECONDS = 10.0  # that a request may take to arrive
log = logging.getLogger("audiotok")


class _Http(H11Protocol):
    """HTTP that cuts off whoever connects and asks for nothing."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._patience = self.loop.call_later(HEADER_SECONDS, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._patience.cancel()
        super().handle_websocket_upgrade(event)

    def _expire(self) -> None:
        if self.cycle is None:
            self.transport.abort()


class _WebSocket(WebSocketsSansIOProtocol):
    """WebSocket that can be cut off, whatever is still to be sent, and says several things at once.

    `scope["state"]` has both for the application: `abort()` and `await send_bytes(messages)`.
    """

    async def run_asgi(self) -> None:
        scope: Any = self.scope
        scope["state"] |= {"abort": self.transport.abort, "send_bytes": self._send_bytes}
        await super().run_asgi()

    async def _send_bytes(self, messages: Sequence[bytes]) -> None:
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        for message in messages:
            self.conn.send_binary(message)
        self.transport.write(b"".join(self.conn.data_to_send()))

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # a refusal is one; uvicorn would log it as an error


class Server(uvicorn.Server):
    """A server that ends in good order: the first signal drains it, the second ends it."""

    def __init__(self, config: uvicorn.Config, application: Any) -> None:
        super().__init__(config)
        self._application = application
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drained: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See `uvicorn.Server`; a signal that was obeyed is not raised again at the end."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.leave)

    def leave(self) -> None:
        """Drain, and then end; at once if it is draining already."""
        if self._drained is not None or not self.started:
            self.should_exit = self.force_exit = True
            return
        self._drained = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        room = self._application.state.room
        try:
            with suppress(OSError, SystemExit):  # rich ends a process whose words nobody reads
                if room.guests:
                    log.warning("draining %d clients; once more ends at once", len(room.guests))
            await room.drain()
        finally:
            self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: one line that says where it cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        door = socket.create_server((host, port), family=family, backlog=1024)
        # Of each connection: what is not read piles up no further.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        return door
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


def built(
    codec: Codec | Exported,
    settings: Settings,
    *,
    context: float | None = None,
    certificate: str | None = None,
    key: str | None = None,
) -> Server:
    """A server that is to be run with `run(sockets=[listen(...)])`.

    Raises:
        ValueError: the codec cannot stream.
    """
    app, limits = application(steps_of(codec, context), settings), settings.limits
    config = uvicorn.Config(
        app,
        http=_Http,
        ws=_WebSocket,
        ws_max_size=limits.message_bytes,
        ws_ping_interval=settings.ping_seconds,
        ws_ping_timeout=settings.ping_seconds,
        ws_per_message_deflate=False,  # tokens do not shrink
        limit_concurrency=2 * limits.clients + 64,
        timeout_graceful_shutdown=5,
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return Server(config, app)


def serve(
    codec: Codec | Exported,
    settings: Settings,
    *,
    context: float | None = None,
    certificate: str | None = None,
    key: str | None = None,
    ready: Callable[[str], None] = lambda _address: None,
) -> None:
    """Serve until told to end.

    Args:
        codec: that can stream.
        settings: where, to whom, and how.
        context: seconds around a frame that a codec may look at which needs the whole recording.
        certificate: a PEM file, for https and wss.
        key: of the certificate.
        ready: called with the address, once it listens.

    Raises:
        ValueError: the codec cannot stream.
        OSError: it cannot listen there.
    """
    server = built(codec, settings, context=context, certificate=certificate, key=key)
    with listen(settings.host, settings.port) as door:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        scheme = "https" if certificate else "http"
        ready(f"{scheme}://{host}:{door.getsockname()[1]}/")
        server.run(sockets=[door])
