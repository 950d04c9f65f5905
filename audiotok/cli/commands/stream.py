"""`audiotok stream`: encoding and decoding through pipes, frame by frame."""

from __future__ import annotations

import sys
from io import BufferedIOBase
from typing import Annotated, Any, Literal, cast

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Backend,
    Codebooks,
    CodecName,
    Context,
    Device,
    Half,
    Threads,
    checked,
    live_codec,
)

PANEL = "Live"
Format = Annotated[
    Literal["s16le", "f32le"], typer.Option("--format", help="Format of the PCM, by ffmpeg's name.")
]
Rate = Annotated[
    int | None, typer.Option(min=1, help="Sample rate of the PCM in Hz. Default: the codec's.")
]
Stats = Annotated[
    bool, typer.Option("--stats", help="Print the time that frames took at the end, on stderr.")
]
stream = typer.Typer(
    help="Encode and decode through pipes, frame by frame.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@stream.command()
def encode(
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    rate: Rate = None,
    encoding: Format = "s16le",
    block: Annotated[
        int,
        typer.Option(
            min=1, help="Frames in a block of output: more take fewer bytes, but add latency."
        ),
    ] = 1,
    half: Half = False,
    context: Context = None,
    backend: Backend = None,
    device: Device = "cpu",
    threads: Threads = None,
    stats: Stats = False,
) -> None:
    """Encode raw PCM from stdin to tokens on stdout, each frame as soon as it is complete.

    The output is a .tok file: `audiotok decode`, `info` and `verify` read it.
    Ctrl-C completes it.

    \b
    Examples:
      arecord -t raw -f S16_LE -r 16000 | audiotok stream encode > talk.tok
      ffmpeg -i talk.mp3 -f s16le -ac 1 -ar 16000 - | audiotok stream encode --stats > talk.tok
      rec -t raw -e signed -b 16 -c 1 -r 44100 - | audiotok stream encode --rate 44100 | nc host 9
    """
    source = _piped(sys.stdin, "stdin", "raw PCM")
    out = _piped(sys.stdout, "stdout", "tokens")
    from audiotok._platform.signals import DeferredInterrupts
    from audiotok.serving.live.meter import pipe_summary
    from audiotok.serving.live.pipe import encode_pcm

    model = checked(live_codec(codec, device, backend, threads=threads), codebooks)
    with DeferredInterrupts() as interrupts:
        done = encode_pcm(
            model,
            source,
            out,
            rate=rate,
            encoding=encoding,
            codebooks=codebooks,
            block=block,
            half=half,
            context=context,
            around=interrupts.allowed,
        )
    if stats:
        show.facts(pipe_summary(done), console=show.stderr_console)


@stream.command()
def decode(
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec", help="Name of a codec, or path of a checkpoint. Default: the tokens' own."
        ),
    ] = None,
    codebooks: Codebooks = None,
    rate: Rate = None,
    encoding: Format = "s16le",
    context: Context = None,
    backend: Backend = None,
    device: Device = "cpu",
    threads: Threads = None,
    stats: Stats = False,
) -> None:
    """Decode tokens from stdin to raw PCM on stdout, each frame as soon as it arrives.

    \b
    Examples:
      audiotok stream decode < talk.tok | aplay -t raw -f S16_LE -r 16000
      audiotok stream decode --codebooks 2 < talk.tok | ffplay -f s16le -ar 16000 -i -
      ... | audiotok stream encode | audiotok stream decode | play -t raw -e signed -b 16 -r 16000 -
    """
    stdin = _piped(sys.stdin, "stdin", "tokens")
    out = _piped(sys.stdout, "stdout", "raw PCM")
    from audiotok.serving.live.meter import pipe_summary
    from audiotok.serving.live.pipe import decode_pcm
    from audiotok.tokens import TokenSource

    source = TokenSource(stdin)
    available = len(source.header.sizes)
    if codebooks is not None and not 1 <= codebooks <= available:
        there = f"these tokens have 1 to {available}" if available else "latents have none"
        raise show.UsageError(f"--codebooks {codebooks}: {there}")
    done = decode_pcm(
        live_codec(codec or source.header.codec, device, backend, threads=threads),
        source,
        out,
        rate=rate,
        encoding=encoding,
        codebooks=codebooks,
        context=context,
    )
    if stats:
        show.facts(pipe_summary(done), console=show.stderr_console)


def _piped(file: Any, name: str, content: str) -> BufferedIOBase:
    """Return the binary file of stdin or stdout; raise `UsageError` if it is a terminal."""
    if file.isatty():
        raise show.UsageError(
            f"{name} is a terminal: {content} go through a pipe or a file; see --help"
        )
    return cast(BufferedIOBase, file.buffer)
