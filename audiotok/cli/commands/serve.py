"""`audiotok serve`: a codec over WebSocket, with a page to try it."""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Backend, CodecName, Context, Device, live_codec

if TYPE_CHECKING:
    from audiotok.codecs.models.base import Codec
    from audiotok.runtime.exported import Exported

PANEL = "Live"
log = logging.getLogger("audiotok")


def serve(
    codec: CodecName = "speech",
    host: Annotated[
        str, typer.Option(help="To listen on: 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AUDIOTOK_TOKEN", help="That clients must bring. Better in the environment."
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="Of pages elsewhere that may connect. Repeatable."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another name of this server. Repeatable."),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, help="At once.")] = 64,
    message_kb: Annotated[int, typer.Option(min=1, help="Of one message.")] = 256,
    session: Annotated[float, typer.Option(min=1, help="Seconds of one client.")] = 3600,
    idle: Annotated[float, typer.Option(min=1, help="Seconds without a message.")] = 60,
    memory_mb: Annotated[
        int, typer.Option(min=0, help="Of the process: nobody more comes in above it. 0: any.")
    ] = 0,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds that conversations may go on after SIGTERM.")
    ] = 2,
    gather_ms: Annotated[
        float, typer.Option(min=0, help="That a message may wait to be stepped with others.")
    ] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of the model.")] = 1,
    context: Context = None,
    cert: Annotated[
        str | None, typer.Option(help="A PEM file: https, which browsers want for microphones.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="A PEM file: the certificate's key.")] = None,
    backend: Backend = None,
    device: Device = "cpu",
) -> None:
    """Serve a codec over WebSocket: audio to tokens and back, for many at once.

    The page at / records, shows and plays. `audiotok.serving.client` is a client; the protocol
    is in audiotok/serving/server/protocol.py. /healthz and /metrics (Prometheus) are for machines.
    SIGTERM and Ctrl-C let conversations end; a second one does not.

    --backend onnx holds more clients than torch. A codec that is not exported yet is,
    when the server first starts with it; that takes a minute.

    \b
    Examples:
      audiotok serve --backend onnx
      AUDIOTOK_TOKEN=... audiotok serve --host 0.0.0.0 --cert cert.pem --key key.pem
    """
    from audiotok._platform.optional import needed

    for library in ("fastapi", "uvicorn", "websockets", "prometheus_client"):
        needed(library, library.replace("_", "-"), extra="serve")
    from audiotok.serving.server.protocol import Limits
    from audiotok.serving.server.room import Settings, exposed
    from audiotok.serving.server.run import serve as run

    for file in (cert, key):
        if file is not None and not os.access(file, os.R_OK):
            raise ValueError(f"{file}: cannot read")
    model = _model(codec, device, backend, threads)
    settings = Settings(
        host=host,
        port=port,
        token=token,
        origins=tuple(origin or ()),
        hosts=tuple(name or ()),
        limits=Limits(
            message_bytes=message_kb << 10,
            session_seconds=session,
            idle_seconds=idle,
            clients=clients,
        ),
        memory_mb=memory_mb,
        drain_seconds=drain,
        gather_ms=gather_ms,
    )

    def ready(address: str) -> None:
        show.line(f"serving {model.name} ({model.fingerprint}) at {address}")
        sys.stdout.flush()  # into a pipe too
        if exposed([host]) and token is None:
            log.warning("anybody who reaches %s may use this: set a --token", host)

    run(model, settings, context=context, certificate=cert, key=key, ready=ready)
    gc.freeze()  # the process ends, and would look through all of torch once more for half a second


def _model(name: str, device: str, backend: str | None, threads: int) -> Codec | Exported:
    from audiotok.codecs.load import load
    from audiotok.runtime.backends.onnx import Onnx
    from audiotok.runtime.exported import is_exported

    backend = backend or ("onnx" if is_exported(name) else "torch")
    if backend == "torch":
        return live_codec(name, device, threads=threads)
    model = load(name, backend=backend, device=device, threads=threads)
    if isinstance(model.graphs, Onnx):
        model.graphs.spins = False  # the sockets want a core too
    return model
