"""`audiotok mic`: hear yourself through the codec."""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Codebooks, CodecName, Device, Force, checked, live_codec

PANEL = "Live"


def mic(
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .tok file for what is said.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--input", help="The microphone: a number, or part of its name.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--output", help="The loudspeaker, likewise.")
    ] = None,
    play: Annotated[bool, typer.Option(help="Play what is decoded. Use headphones.")] = True,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = math.inf,
    listed: Annotated[bool, typer.Option("--list", help="Show the sound devices.")] = False,
    force: Force = False,
    device: Device = "cpu",
) -> None:
    """Microphone to tokens to loudspeaker, with level, rate and latency. Ctrl-C ends it.

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
        raise ValueError(f"{out}: exists already; --force overwrites it")
    microphone.library()
    model = checked(live_codec(codec, device), codebooks)
    with meter.meter() as told, out.open("wb") if out else nullcontext() as file:
        last = None

        def kept(level: microphone.Level) -> None:
            nonlocal last
            last = level
            told(level)

        with suppress(KeyboardInterrupt):  # how one ends it
            microphone.talk(
                model,
                codebooks=codebooks,
                source=_device(source),
                target=_device(target),
                play=play,
                out=file,
                seconds=seconds,
                told=kept,
            )
    if last is not None:
        show.facts(meter.heard(last))


def _device(name: str | None) -> int | str | None:
    return int(name) if name and name.isdigit() else name
