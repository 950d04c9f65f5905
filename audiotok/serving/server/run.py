"""Run of the server: one process, which drains when it is told to end."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from audiotok._platform.errors import Error
from audiotok.runtime.stream import StreamBatch
from audiotok.serving.server.app import application
from audiotok.serving.server.engine import warm_up
from audiotok.serving.server.sessions import Settings

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec

SEND_BUFFER = 1 << 16  # bytes: two seconds of audio
HEADER_SECONDS = 10.0  # time for a request to arrive
QUIET = 128  # number of connections without a request; the oldest is cut off
BACKLOG = 256  # number of connections that wait to be accepted
CLOSE_SECONDS = 2.0  # time for a client to answer a close
MESSAGE_BYTES = 512  # memory of a waiting message beside its content
log = logging.getLogger("audiotok")


class ListenError(Error, OSError):
    """Error of a host and port on which the server cannot listen; one line with both."""


class _Http(H11Protocol):
    """HTTP protocol that cuts off connections without a request, earlier when there are many.

    So silent connections, however many, keep no client out.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._cut_off = False
        self._await()
        quiet = [one for one in self.connections if isinstance(one, _Http) and one.quiet]
        if len(quiet) > QUIET:
            min(quiet, key=lambda one: one.since).cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._patience.cancel()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        self._patience.cancel()
        self._await()
        super().on_response_complete()

    @property
    def quiet(self) -> bool:
        """True if no request is being answered on the connection."""
        return not self._cut_off and (self.cycle is None or self.cycle.response_complete)

    def cut_off(self) -> None:
        """Cut the connection if no request is being answered."""
        if self.quiet:
            self._cut_off = True
            self.transport.abort()

    def _await(self) -> None:
        self.since = self.loop.time()
        self._patience = self.loop.call_later(HEADER_SECONDS, self.cut_off)


class _WebSocket(WebSocketsSansIOProtocol):
    """WebSocket protocol that can be cut off at any time, and sends several messages at once.

    `scope["state"]` offers the application `abort()`, `gone()` and `await send_bytes(messages)`.
    While a message is processed, reading goes on until the input buffer holds as much as a message
    may have: so it notices that a client closes. The answer to a ping may wait behind unread input.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.close_timeout = CLOSE_SECONDS
        self._buffered = 0  # bytes of waiting messages
        self._received = self.loop.time()  # time of the last input

    async def run_asgi(self) -> None:
        scope: Any = self.scope
        scope["state"] |= {
            "abort": self.transport.abort,
            "gone": self._gone,
            "send_bytes": self._send_bytes,
        }
        await super().run_asgi()

    def send_receive_event_to_app(self) -> None:
        size = sum(map(len, self.frames))
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self.conn.send_close(1007, "a text message is not UTF-8")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()
        self._buffered += size + MESSAGE_BYTES
        self._read_on()

    async def receive(self) -> Any:
        message: Any = await super().receive()
        if message["type"] == "websocket.receive":
            text, data = message.get("text"), message.get("bytes")
            size = len(text.encode()) if text is not None else len(data)
            self._buffered -= size + MESSAGE_BYTES
            self._read_on()
        return message

    def data_received(self, data: bytes) -> None:
        self._received = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        # The answer may be behind messages that wait, or that are just being read.
        patience = self.ping_timeout or 0.0
        if (self.read_paused or self.loop.time() - self._received < patience) and not self._gone():
            self.pong_timer = self.loop.call_later(patience, self.keepalive_timeout)
            return
        super().keepalive_timeout()

    def _read_on(self) -> None:
        if self.read_paused and self._buffered < self.config.ws_max_size:
            self.read_paused = False
            self.transport.resume_reading()

    def _gone(self) -> bool:
        """Return whether the client has gone, though there may be input left to read."""
        if self.disconnected or self.close_sent or self.transport.is_closing():
            return True
        return self.conn.close_rcvd is not None or _hung_up(self.transport)

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
            self.handshake_complete = True  # for a refusal, which uvicorn would log as an error


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _hung_up(transport: asyncio.Transport) -> bool:
    """Return whether the other side has ended the connection, even if input is still unread."""
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    poll.register(connection.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


class Server(uvicorn.Server):
    """Server that the first signal drains, and the second ends.

    Args:
        config: configuration of uvicorn.
        application: the application of `app.application`.
    """

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
        """See `uvicorn.Server`; a handled signal is not raised again at the end."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.leave)

    def leave(self) -> None:
        """Drain and then end, or end at once if the server is draining already."""
        if self._drained is not None or not self.started:
            self.should_exit = self.force_exit = True
            return
        self._drained = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        manager = self._application.state.manager
        try:
            with suppress(OSError, SystemExit):  # rich exits if its output is closed
                if manager.sessions:
                    log.warning(
                        "draining %d clients; once more ends at once", len(manager.sessions)
                    )
            await manager.drain()
        finally:
            self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a host and port.

    Raises:
        ListenError: it cannot listen there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Connections inherit it: so many bytes of unread answers are buffered at most.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        # So is this, without which an answer waits until the client acknowledges the last one, with
        # its next message: asyncio sets it for sockets that say they are TCP, which this does not.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        why = error.strerror or error
        raise ListenError(f"cannot listen on {host} port {port}: {why}") from None


def make_server(
    codec: RunnableCodec[Any],
    settings: Settings,
    *,
    context: float | None = None,
    certificate: str | None = None,
    key: str | None = None,
) -> Server:
    """Build a server, to be run with `run(sockets=[listen(...)])`.

    Args:
        codec: as for `serve`.
        settings: as for `serve`.
        context: as for `serve`.
        certificate: as for `serve`.
        key: as for `serve`.

    Raises:
        ValueError: the codec cannot stream, decodes to another rate than it encodes, or gives
            latents.
    """
    codec.check_one_rate()
    codec.needs_codes("a server, where streams through pipes take latents too")
    batch = StreamBatch(codec, context=context)
    warm_up(batch)
    app, limits = application(batch, settings), settings.limits
    config = uvicorn.Config(
        app,
        http=_Http,
        ws=_WebSocket,
        ws_max_size=limits.message_bytes,
        ws_ping_interval=settings.ping_seconds,
        ws_ping_timeout=settings.ping_seconds,
        ws_per_message_deflate=False,  # tokens do not shrink
        backlog=BACKLOG,
        timeout_graceful_shutdown=1,
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
    codec: RunnableCodec[Any],
    settings: Settings,
    *,
    context: float | None = None,
    certificate: str | None = None,
    key: str | None = None,
    ready: Callable[[str], None] = lambda _address: None,
) -> None:
    """Serve a codec until a signal ends the server.

    Args:
        codec: a codec that can stream.
        settings: settings of the server.
        context: seconds around a frame, for a codec that needs the whole recording.
        certificate: path of a PEM file, for https and wss.
        key: path of the key of the certificate.
        ready: function called with the address when the server listens.

    Raises:
        ValueError: the codec cannot stream.
        OSError: the server cannot listen on its host and port.
    """
    server = make_server(codec, settings, context=context, certificate=certificate, key=key)
    with listen(settings.host, settings.port) as listener:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        scheme = "https" if certificate else "http"
        ready(f"{scheme}://{host}:{listener.getsockname()[1]}/")
        server.run(sockets=[listener])
