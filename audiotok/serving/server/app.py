"""Web application: the page, the WebSocket, health and metrics."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from audiotok.codecs.embeddings import entries_of
from audiotok.runtime.stream import StreamBatch
from audiotok.serving.server import protocol
from audiotok.serving.server.engine import Engine
from audiotok.serving.server.metrics import Metrics
from audiotok.serving.server.protocol import Hello
from audiotok.serving.server.session import Session
from audiotok.serving.server.sessions import Refusal, SessionManager, Settings
from audiotok.tokens.colours import code_colours, similarity_colours

PAGE = Path(__file__).parent / "page"
HEADERS = {
    # No content from other sites, and no page may frame this one.
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def _hello_of(batch: StreamBatch[Any], settings: Settings) -> Hello:
    """Return the greeting of clients."""
    codec, limits = batch.codec, settings.limits
    return Hello(
        codec=codec.name,
        fingerprint=codec.fingerprint,
        former_fingerprints=codec.former_fingerprints,
        sample_rate=codec.sample_rate,
        channels=codec.channels,
        frame_size=codec.frame_size,
        codebooks=codec.codebooks,
        sizes=codec.sizes,
        latency=batch.latency,
        limits={
            "message_bytes": limits.message_bytes,
            "session_seconds": limits.session_seconds,
            "idle_seconds": limits.idle_seconds,
        },
    )


def colours_of(batch: StreamBatch[Any]) -> str:
    """Return the message with the colours of tokens."""
    embeddings = entries_of(batch.codec)
    by, tables = "code", [code_colours()]
    if embeddings is not None:
        by, tables = "similarity", similarity_colours(embeddings)
    coded = [b64encode(table.tobytes()).decode() for table in tables]
    return protocol.dumps("colours", by=by, tables=coded)


def application(batch: StreamBatch[Any], settings: Settings) -> FastAPI:
    """Return the web application of one codec; `app.state.manager` exists while it runs."""
    colours = colours_of(batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        metrics = Metrics()
        engine = Engine(
            batch,
            gather=settings.gather_ms / 1000,
            quantum=settings.quantum,
            stepped=metrics.stepped,
        )
        manager = app.state.manager = SessionManager(
            settings, engine, _hello_of(batch, settings), metrics, colours
        )
        watch = asyncio.create_task(manager.watch())
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            await asyncio.to_thread(engine.stop)

    app = FastAPI(lifespan=lifespan, openapi_url=None, title="audiotok")
    app.add_middleware(_AccessControl, application=app)

    @app.get("/healthz")
    async def healthz(request: Request) -> Response:
        manager: SessionManager = request.app.state.manager
        status = "draining" if manager.draining else "ok"
        facts: dict[str, Any] = {"status": status, "codec": manager.hello.codec}
        facts |= {"fingerprint": manager.hello.fingerprint, "clients": len(manager.sessions)}
        return JSONResponse(facts, 503 if manager.draining else 200)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        manager: SessionManager = request.app.state.manager
        token = protocol.bearer([], request.headers.get("authorization"))
        if refusal := manager.unknown(token):
            return _refused(manager, refusal)
        return Response(manager.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.websocket(protocol.PATH)
    async def stream(socket: WebSocket) -> None:
        manager: SessionManager = socket.app.state.manager
        offered = socket.scope.get("subprotocols", [])
        token = protocol.bearer(offered, socket.headers.get("authorization"))
        if refusal := manager.unknown(token) or manager.full():
            await socket.send_denial_response(_refused(manager, refusal))
            return
        await Session(socket, manager).run()

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _refused(manager: SessionManager, refusal: Refusal) -> Response:
    manager.metrics.refused.labels(refusal.why).inc()
    headers = {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "10"}}
    return PlainTextResponse(refusal.message, refusal.status, headers.get(refusal.status))


class _AccessControl:
    """Middleware that refuses foreign hosts and origins, and adds headers to answers."""

    def __init__(self, app: ASGIApp, application: FastAPI) -> None:
        self._app = app
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers, manager = Headers(scope=scope), self._application.state.manager
        # A repeated header is joined, and so is no valid host or origin.
        host, origin = (", ".join(headers.getlist(name)) or None for name in ("host", "origin"))
        refusal = manager.stranger(host, origin)
        if refusal:
            await _refused(manager, refusal)(scope, receive, send)
            return

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(scope, receive, headed)
