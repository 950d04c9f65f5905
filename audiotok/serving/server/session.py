"""Session of one client: its messages are processed in order, each after the last answer is sent.

So a client that sends faster than it is served, or reads nothing, delays itself alone, and has only
a message or two on the server. A long message is processed in pieces, each after the answer to the
last one has been read, and not at all when the client has gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from audiotok.serving.live.latency import Times
from audiotok.serving.server import protocol
from audiotok.serving.server.engine import Answer, EngineError, StreamSession
from audiotok.serving.server.protocol import Binary, ProtocolError, Start
from audiotok.serving.server.sessions import SessionManager

PIECE_SECONDS = 1.0  # part of a message that is processed at once; at least a recording's block
PART_SECONDS = 1.0  # time for a client to receive the reason for closing
log = logging.getLogger("audiotok")


@dataclass(frozen=True)
class _Ending:
    """Reason for which the server ends a session."""

    code: str
    close: int
    message: str
    flush: bool = False  # whether the client gets the rest of its conversation
    abort: bool = False  # whether to close the connection without a message


class Session:
    """Session of one client.

    Args:
        socket: the WebSocket, not yet accepted.
        manager: sessions of the server.
    """

    def __init__(self, socket: WebSocket, manager: SessionManager) -> None:
        self.socket = socket
        self.manager = manager
        self._widths = manager.hello.widths
        second = -(-manager.hello.sample_rate * PIECE_SECONDS // manager.hello.frame_size)
        self._piece_frames = max(int(second), manager.engine.executor.plan.block)
        self._task = asyncio.current_task()
        self._conversation: StreamSession | None = None
        self._start: Start | None = None
        self._times = Times(10_000)
        self._fed = False  # whether any input has come since the start
        self._ending: _Ending | None = None
        loop = asyncio.get_running_loop()
        self._now: Callable[[], float] = loop.time
        self._opened = loop.time()
        self._since = loop.time()  # start of the current activity
        self._activity = "waiting"  # for the client; or "working", "sending"

    async def run(self) -> None:
        """Run the session from the greeting to the end."""
        self.manager.enter(self)
        how = "left"
        try:
            how = await self._converse()
        except asyncio.CancelledError:
            if self._ending is None:
                raise
            how = self._ending.code
            await self._dismiss(self._ending)
        except ProtocolError as error:
            how = error.code
            await self._dismiss(_Ending(error.code, error.close, str(error)))
        except EngineError as error:
            how = "internal"
            await self._dismiss(_Ending("internal", 1011, str(error)))
        except (WebSocketDisconnect, OSError):
            pass
        except Exception as error:
            # starlette raises RuntimeError for a closed socket.
            connected = self.socket.application_state is WebSocketState.CONNECTED
            if connected or not isinstance(error, RuntimeError):
                log.exception("a session failed")
                how = "internal"
                await self._dismiss(_Ending("internal", 1011, "the server failed"))
        finally:
            self._forget()
            self.manager.leave(self)
            self.manager.metrics.sessions.labels(how).inc()

    # -- interface for `SessionManager` ------------------------------------------------------------

    def check(self, now: float) -> None:
        """See `sessions.ManagedSession`."""
        limits = self.manager.settings.limits
        if now - self._opened > limits.session_seconds:
            self._end(_Ending("session_time", 1008, f"{limits.session_seconds:g} s are over"))
        elif self._activity == "waiting" and now - self._since > limits.idle_seconds:
            self._end(_Ending("idle", 1008, f"nothing came for {limits.idle_seconds:g} s"))
        elif self._activity != "waiting" and self._link("gone", lambda: False)():
            self._end(_Ending("left", 1001, "the client has gone", abort=True))
        elif self._activity == "sending" and now - self._since > self.manager.settings.send_seconds:
            self._end(_Ending("too_slow", 1008, "answers are not read", abort=True))

    async def warn(self, seconds: float) -> None:
        """See `sessions.ManagedSession`."""
        with suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self.socket.send_text(protocol.dumps("draining", seconds=seconds))

    def dismiss(self) -> None:
        """See `sessions.ManagedSession`."""
        waiting = self._activity == "waiting"
        unread = self._activity == "sending" and self._now() - self._since > PART_SECONDS
        ending = _Ending("draining", 1001, "the server is going away", flush=waiting, abort=unread)
        self._end(ending)

    def _end(self, ending: _Ending) -> None:
        if self._ending is None and self._task is not None:
            self._ending = ending
            self._task.cancel()

    # -- the conversation -------------------------------------------------------------------------

    async def _converse(self) -> str:
        await self.socket.accept(
            subprotocol=protocol.SUBPROTOCOL
            if protocol.SUBPROTOCOL in self.socket.scope.get("subprotocols", [])
            else None
        )
        await self._say("hello", self.manager.hello)
        while True:
            self._set_activity("waiting")
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return "left"
            if (data := message.get("bytes")) is not None:
                await self._piece(data)
            else:
                await self._obey(protocol.text(message["text"]))

    async def _obey(self, message: dict[str, Any]) -> None:
        kind, hello = message["type"], self.manager.hello
        protocol.check(message, protocol.CLIENT, {"codebooks": hello.codebooks})
        if kind == "start":
            if self._conversation is not None:
                raise ProtocolError("start comes after end", code="out_of_order", close=1008)
            self._start = Start.read(message, hello)
            mode, codebooks = self._start.mode, self._start.codebooks
            self._conversation = self.manager.engine.open(mode, codebooks, live=self._start.live)
            self._times = Times(10_000)
            self._fed = False
        elif kind == "codebooks":
            conversation, start = self._started()
            if conversation.mode != "both":
                raise ProtocolError(f"codebooks are changed in both, not in {conversation.mode}")
            if self._fed and not (start.live and self.manager.engine.mixes):
                raise ProtocolError("here codebooks can be changed before the first audio only")
            conversation.decoded = message["codebooks"]
        elif kind == "colours":
            self._set_activity("sending")
            await self.socket.send_text(self.manager.colours)
        else:
            conversation, start = self._started()
            await self._finish(conversation, start, message.get("samples"))

    async def _piece(self, data: bytes) -> None:
        conversation, start = self._started()
        message = Binary.read(data, self.manager.hello, start.format)
        wanted = protocol.TOKENS if start.mode == "decode" else protocol.AUDIO
        if message.kind != wanted:
            raise ProtocolError(f"{start.mode} takes {('audio', 'tokens')[wanted - 1]}")
        if wanted == protocol.TOKENS:
            if message.rows != start.codebooks:
                raise ProtocolError(f"tokens of {message.rows} codebooks, not {start.codebooks}")
            conversation.frames += message.count
        self._fed = True
        seconds = 0.0
        for values in message.pieces(self._piece_frames):
            self._set_activity("working")
            answer = await self.manager.engine.push(conversation, values)
            seconds += answer.seconds
            self._count(wanted, values.shape[1], answer)
            await self._send(answer, start)
        self.manager.metrics.answers.observe(seconds)
        self._times.add(seconds)

    async def _finish(self, conversation: StreamSession, start: Start, samples: int | None) -> None:
        if samples is not None:
            most = conversation.frames * self.manager.hello.frame_size
            if start.mode != "decode" or samples > most:
                raise ProtocolError(f"samples is of a decoding, at most {most} of these frames")
        self._set_activity("working")
        answer = await self.manager.engine.finish(conversation, samples)
        await self._send(answer, start)
        await self._say(
            "end",
            samples=conversation.samples,
            frames=conversation.frames,
            **self._times.spread().row(),
        )
        self._forget()

    def _started(self) -> tuple[StreamSession, Start]:
        if self._conversation is None or self._start is None:
            raise ProtocolError("nothing was started", code="out_of_order", close=1008)
        return self._conversation, self._start

    def _forget(self) -> None:
        if self._conversation is not None:
            self.manager.engine.close(self._conversation)
        self._conversation = None
        self._start = None

    def _link(self, name: str, missing: Any = None) -> Any:
        """Return an object that `run` passes to sessions beside the socket."""
        return self.socket.scope.get("state", {}).get(name, missing)

    # -- sending ----------------------------------------------------------------------------------

    def _set_activity(self, activity: str) -> None:
        self._activity = activity
        self._since = self._now()

    async def _send(self, answer: Answer, start: Start) -> None:
        self._set_activity("sending")
        messages = []
        if answer.codes is not None and answer.codes.shape[1]:
            messages.append(protocol.tokens(answer.codes, self._widths))
        if answer.samples is not None and answer.samples.shape[1]:
            messages.append(protocol.audio(answer.samples, start.format))
        if messages:
            await self._link("send_bytes")(messages)

    async def _say(self, kind: str, value: Any = None, /, **more: Any) -> None:
        self._set_activity("sending")
        await self.socket.send_text(protocol.dumps(kind, value, **more))

    def _count(self, kind: int, size: int, answer: Answer) -> None:
        metrics = self.manager.metrics
        if kind == protocol.AUDIO:
            metrics.samples_in.inc(size)
        if answer.codes is not None:
            metrics.encoded.inc(answer.codes.shape[1])
        if answer.samples is not None:
            metrics.samples_out.inc(answer.samples.shape[1])

    async def _dismiss(self, ending: _Ending) -> None:
        """Send the reason and close the socket, or cut the connection after a second."""
        try:
            if not ending.abort:
                await asyncio.wait_for(self._say_goodbye(ending), PART_SECONDS)
                return
        except (WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError):
            pass  # EngineError is a RuntimeError
        if (abort := self._link("abort")) is not None:
            abort()

    async def _say_goodbye(self, ending: _Ending) -> None:
        if ending.flush and self._conversation is not None and self._start is not None:
            await self._finish(self._conversation, self._start, None)
        await self._say("error", code=ending.code, message=ending.message)
        await self.socket.close(ending.close, protocol.reason(ending.message))
