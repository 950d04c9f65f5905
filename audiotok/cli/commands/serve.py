"""`audiotok serve`: a server of a codec over WebSocket, with a demo page."""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import Annotated

import typer

from audiotok._platform.errors import InputError
from audiotok.cli import console as show
from audiotok.cli.commands.base import Backend, CodecName, Context, Device, live_codec

PANEL = "Live"
log = logging.getLogger("audiotok")


def serve(
    codec: CodecName = "speech",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AUDIOTOK_TOKEN",
            help="Token that clients must send. Better set in the environment.",
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", help="Origin of other web pages that may connect. Repeatable."
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Further host name of this server. Repeatable."),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, help="Maximum number of clients at a time.")] = 64,
    message_kb: Annotated[int, typer.Option(min=1, help="Maximum size of a message in KiB.")] = 256,
    session: Annotated[
        float, typer.Option(min=1, help="Maximum length of a session in seconds.")
    ] = 3600,
    idle: Annotated[
        float, typer.Option(min=1, help="Seconds without a message after which a session ends.")
    ] = 60,
    memory_mb: Annotated[
        int,
        typer.Option(
            min=0, help="Memory of the process in MB above which clients are refused; 0: no limit."
        ),
    ] = 0,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds for which sessions may go on after SIGTERM.")
    ] = 2,
    gather_ms: Annotated[
        float,
        typer.Option(
            min=0, help="Milliseconds that a message may wait for others to form a batch."
        ),
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of the model.")] = 1,
    context: Context = None,
    cert: Annotated[
        str | None,
        typer.Option(
            help="Certificate, a PEM file, for https; browsers require it for microphones."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Private key of the certificate, a PEM file.")
    ] = None,
    backend: Backend = None,
    device: Device = "cpu",
) -> None:
    """Serve a codec over WebSocket: audio to tokens and back, for many clients at once.

    The page at / records, shows and plays. `audiotok.serving.client` is a client;
    the protocol is in audiotok/serving/server/protocol.py. /healthz and /metrics
    (Prometheus) are for machines. SIGTERM and Ctrl-C let sessions end; a second
    one ends them at once.

    Where onnxruntime is installed it serves more clients than torch. A codec that
    is not exported yet is exported when --backend onnx is first given with it.

    \b
    Examples:
      audiotok serve --threads 2
      AUDIOTOK_TOKEN=... audiotok serve --host 0.0.0.0 --cert cert.pem --key key.pem
    """
    from audiotok._platform.optional import optional_import

    for file in (cert, key):
        if file is not None and not os.access(file, os.R_OK):
            raise InputError(f"{file}: cannot read")
    model = live_codec(codec, device, backend, threads=threads)
    for library in ("fastapi", "uvicorn", "websockets", "prometheus_client"):
        optional_import(library, library.replace("_", "-"), extra="serve")
    from audiotok.serving.server.protocol import Limits
    from audiotok.serving.server.run import serve as run
    from audiotok.serving.server.sessions import Settings, exposed

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
        sys.stdout.flush()  # a pipe is not flushed at each line
        if exposed([host]) and token is None:
            log.warning("anybody who reaches %s may use this: set a --token", host)

    run(model, settings, context=context, certificate=cert, key=key, ready=ready)
    gc.freeze()  # spares the last collection before exit half a second for torch's objects
