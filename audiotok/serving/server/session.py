"""One client: what it says is done in order, and the next is read when the answer is sent.

So a client who sends faster than it is served, or reads nothing, holds up itself alone, and what
it has on the server is a message or two. A long one is worked off in pieces, each when the answer
to the one before it has been taken off, and not at all when the client has gone.
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
from audiotok.serving.server.engine import Answer, Conversation, EngineError
from audiotok.serving.server.protocol import Binary, ProtocolError, Start
from audiotok.serving.server.room import Room

PIECE_SECONDS = 1.0  # of a message, worked off at once; a recording's block if that is more
PART_SECONDS = 1.0  # that a client may take to hear why it is sent away
log = logging.getLogger("audiotok")


@dataclass(frozen=True)
class _Over:
    """Why a session is ended from outside."""

    code: str
    close: int
    message: str
    flush: bool = False  # whether it gets the rest of its conversation
    abort: bool = False  # whether there is no talking to it


class Session:
    """A client's time in the room.

    Args:
        socket: not yet accepted.
        room: where it is.
    """

    def __init__(self, socket: WebSocket, room: Room) -> None:
        self.socket, self.room = socket, room
        self._widths = room.hello.widths
        second = -(-room.hello.sample_rate * PIECE_SECONDS // room.hello.frame_size)
        self._piece_frames = max(int(second), room.engine.steps.block)
        self._task = asyncio.current_task()
        self._talk: Conversation | None = None
        self._start: Start | None = None
        self._times = Times(10_000)
        self._fed = False  # whether anything came since the start
        self._over: _Over | None = None
        loop = asyncio.get_running_loop()
        self._now: Callable[[], float] = loop.time
        self._came = self._since = loop.time()
        self._doing = "waiting"  # for the client; or "working", "sending"

    async def run(self) -> None:
        """From the greeting to the end, whoever makes it."""
        self.room.enter(self)
        how = "left"
        try:
            how = await self._stay()
        except asyncio.CancelledError:
            if self._over is None:
                raise
            how = self._over.code
            await self._see_out(self._over)
        except ProtocolError as error:
            how = error.code
            await self._see_out(_Over(error.code, error.close, str(error)))
        except EngineError as error:
            how = "internal"
            await self._see_out(_Over("internal", 1011, str(error)))
        except (WebSocketDisconnect, OSError):
            pass
        except Exception as error:
            # starlette raises RuntimeError for a socket that has gone.
            connected = self.socket.application_state is WebSocketState.CONNECTED
            if connected or not isinstance(error, RuntimeError):
                log.exception("a session failed")
                how = "internal"
                await self._see_out(_Over("internal", 1011, "the server failed"))
        finally:
            self._forget()
            self.room.leave(self)
            self.room.metrics.sessions.labels(how).inc()

    # -- what the room asks ----------------------------------------------------------------------

    def check(self, now: float) -> None:
        """See `room.Guest`."""
        limits = self.room.settings.limits
        if now - self._came > limits.session_seconds:
            self._end(_Over("session_time", 1008, f"{limits.session_seconds:g} s are over"))
        elif self._doing == "waiting" and now - self._since > limits.idle_seconds:
            self._end(_Over("idle", 1008, f"nothing came for {limits.idle_seconds:g} s"))
        elif self._doing != "waiting" and self._link("gone", lambda: False)():
            self._end(_Over("left", 1001, "the client has gone", abort=True))
        elif self._doing == "sending" and now - self._since > self.room.settings.send_seconds:
            self._end(_Over("too_slow", 1008, "answers are not read", abort=True))

    async def warn(self, seconds: float) -> None:
        """See `room.Guest`."""
        with suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self.socket.send_text(protocol.dumps("draining", seconds=seconds))

    def dismiss(self) -> None:
        """See `room.Guest`."""
        waiting = self._doing == "waiting"
        unread = self._doing == "sending" and self._now() - self._since > PART_SECONDS
        over = _Over("draining", 1001, "the server is going away", flush=waiting, abort=unread)
        self._end(over)

    def _end(self, over: _Over) -> None:
        if self._over is None and self._task is not None:
            self._over = over
            self._task.cancel()

    # -- the conversation ------------------------------------------------------------------------

    async def _stay(self) -> str:
        await self.socket.accept(
            subprotocol=protocol.SUBPROTOCOL
            if protocol.SUBPROTOCOL in self.socket.scope.get("subprotocols", [])
            else None
        )
        await self._say("hello", self.room.hello)
        while True:
            self._is("waiting")
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return "left"
            if (data := message.get("bytes")) is not None:
                await self._piece(data)
            else:
                await self._obey(protocol.text(message["text"]))

    async def _obey(self, message: dict[str, Any]) -> None:
        kind, hello = message["type"], self.room.hello
        protocol.check(message, protocol.CLIENT, {"codebooks": hello.codebooks})
        if kind == "start":
            if self._talk is not None:
                raise ProtocolError("start comes after end", code="out_of_order", close=1008)
            self._start = Start.read(message, hello)
            mode, codebooks = self._start.mode, self._start.codebooks
            self._talk = self.room.engine.open(mode, codebooks, live=self._start.live)
            self._times, self._fed = Times(10_000), False
        elif kind == "codebooks":
            talk, start = self._started()
            if talk.mode != "both":
                raise ProtocolError(f"codebooks are changed in both, not in {talk.mode}")
            mirrors = self.room.engine.steps.first_frames > 1
            if self._fed and (not start.live or mirrors):
                raise ProtocolError("here codebooks can be changed before the first audio only")
            talk.decoded = message["codebooks"]
        else:
            talk, start = self._started()
            await self._finish(talk, start, message.get("samples"))

    async def _piece(self, data: bytes) -> None:
        talk, start = self._started()
        message = Binary.read(data, self.room.hello, start.format)
        wanted = protocol.TOKENS if start.mode == "decode" else protocol.AUDIO
        if message.kind != wanted:
            raise ProtocolError(f"{start.mode} takes {('audio', 'tokens')[wanted - 1]}")
        if wanted == protocol.TOKENS:
            if message.rows != start.codebooks:
                raise ProtocolError(f"tokens of {message.rows} codebooks, not {start.codebooks}")
            talk.frames += message.count
        self._fed = True
        seconds = 0.0
        for values in message.pieces(self._piece_frames):
            self._is("working")
            answer = await self.room.engine.push(talk, values)
            seconds += answer.seconds
            self._count(wanted, values.shape[1], answer)
            await self._send(answer, start)
        self.room.metrics.answers.observe(seconds)
        self._times.add(seconds)

    async def _finish(self, talk: Conversation, start: Start, samples: int | None) -> None:
        if samples is not None:
            most = talk.frames * self.room.hello.frame_size
            if start.mode != "decode" or samples > most:
                raise ProtocolError(f"samples is of a decoding, at most {most} of these frames")
        self._is("working")
        answer = await self.room.engine.finish(talk, samples)
        await self._send(answer, start)
        await self._say(
            "end", samples=talk.samples, frames=talk.frames, **self._times.spread().row()
        )
        self._forget()

    def _started(self) -> tuple[Conversation, Start]:
        if self._talk is None or self._start is None:
            raise ProtocolError("nothing was started", code="out_of_order", close=1008)
        return self._talk, self._start

    def _forget(self) -> None:
        if self._talk is not None:
            self.room.engine.close(self._talk)
        self._talk = self._start = None

    def _link(self, name: str, missing: Any = None) -> Any:
        """Return what `run` gives a session beside the socket."""
        return self.socket.scope.get("state", {}).get(name, missing)

    # -- saying things ---------------------------------------------------------------------------

    def _is(self, doing: str) -> None:
        self._doing, self._since = doing, self._now()

    async def _send(self, answer: Answer, start: Start) -> None:
        self._is("sending")
        messages = []
        if answer.codes is not None and answer.codes.shape[1]:
            messages.append(protocol.tokens(answer.codes, self._widths))
        if answer.samples is not None and answer.samples.shape[1]:
            messages.append(protocol.audio(answer.samples, start.format))
        if messages:
            await self._link("send_bytes")(messages)

    async def _say(self, kind: str, value: Any = None, /, **more: Any) -> None:
        self._is("sending")
        await self.socket.send_text(protocol.dumps(kind, value, **more))

    def _count(self, kind: int, size: int, answer: Answer) -> None:
        metrics = self.room.metrics
        if kind == protocol.AUDIO:
            metrics.samples_in.inc(size)
        if answer.codes is not None:
            metrics.encoded.inc(answer.codes.shape[1])
        if answer.samples is not None:
            metrics.samples_out.inc(answer.samples.shape[1])

    async def _see_out(self, over: _Over) -> None:
        """Says why, and closes; whoever does not hear it within a second is cut off."""
        try:
            if not over.abort:
                await asyncio.wait_for(self._part(over), PART_SECONDS)
                return
        except (WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError):
            pass  # EngineError is a RuntimeError
        if (abort := self._link("abort")) is not None:
            abort()

    async def _part(self, over: _Over) -> None:
        if over.flush and self._talk is not None and self._start is not None:
            await self._finish(self._talk, self._start, None)
        await self._say("error", code=over.code, message=over.message)
        await self.socket.close(over.close, protocol.reason(over.message))
