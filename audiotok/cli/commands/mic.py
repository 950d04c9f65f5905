"""`audiotok mic`: microphone and loudspeaker through a codec, live."""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from audiotok._platform.errors import InputError
from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Backend,
    Codebooks,
    CodecName,
    Device,
    Force,
    Threads,
    checked,
    live_codec,
)

PANEL = "Live"


def mic(
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output .tok file for the tokens.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--input", help="Microphone: a number, or part of its name.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--output", help="Loudspeaker: a number, or part of its name.")
    ] = None,
    play: Annotated[bool, typer.Option(help="Play the decoded audio. Use headphones.")] = True,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Duration in seconds. Default: until Ctrl-C.")
    ] = math.inf,
    listed: Annotated[
        bool, typer.Option("--list", help="List the sound devices and exit.")
    ] = False,
    force: Force = False,
    backend: Backend = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Code the microphone live and play it back, with level, rate and latency. Ctrl-C ends it.

    \b
    Examples:
      audiotok mic --codebooks 2
      audiotok mic --no-play -o talk.tok
    """
    from audiotok.serving.live import meter, microphone

    if listed:
        for device in str(microphone.devices()).splitlines():
            show.line(device)
        return
    if out is not None and out.exists() and not force:
        raise InputError(f"{out}: exists already; --force overwrites it")
    microphone.library()
    model = checked(live_codec(codec, device, backend, threads=threads), codebooks)
    with meter.meter() as show_level, out.open("wb") if out else nullcontext() as file:
        last = None

        def update(level: microphone.Level) -> None:
            nonlocal last
            last = level
            show_level(level)

        with suppress(KeyboardInterrupt):  # the way to end it
            microphone.loopback(
                model,
                codebooks=codebooks,
                source=_device(source),
                target=_device(target),
                play=play,
                out=file,
                seconds=seconds,
                on_frame=update,
            )
    if last is not None:
        show.facts(meter.microphone_summary(last))


def _device(name: str | None) -> int | str | None:
    """Return a sound device's number, or part of its name."""
    return int(name) if name and name.isdigit() else name
