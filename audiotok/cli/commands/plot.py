"""`audiotok plot`: a picture of a recording, of tokens, or of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiotok._platform.errors import InputError
from audiotok.cli import console as show
from audiotok.cli.commands.base import Codebooks, Force, checked

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec

PANEL = "Codecs and files"


def plot(
    path: Annotated[str, typer.Argument(help="Audio file or .tok file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Picture to write: png, svg or pdf. Default: beside the input."
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            help="Name of a codec, or path of a checkpoint, whose tokens of an audio file are "
            "drawn. Default: none; for a .tok file its own.",
        ),
    ] = None,
    codebooks: Codebooks = None,
    start: Annotated[float, typer.Option(min=0, help="First second to draw.")] = 0,
    end: Annotated[
        float | None, typer.Option(min=0, help="Last second to draw. Default: 60 s later, or less.")
    ] = None,
    sound: Annotated[
        bool, typer.Option("--sound", help="Decode a .tok file, and draw what is heard.")
    ] = False,
    force: Force = False,
) -> None:
    """Draw a recording (waveform and spectrogram), or tokens (a row a codebook), or both.

    \b
    Examples:
      audiotok plot talk.wav
      audiotok plot talk.wav --codec speech --start 2 --end 5 -o talk.svg
      audiotok plot talk.tok --sound
    """
    from audiotok.audio.decoders import AUDIO
    from audiotok.evaluation.plot import FORMATS
    from audiotok.evaluation.plot_files import plot_audio, plot_tokens
    from audiotok.runtime.batch.plan import plan

    is_tokens = Path(path).suffix.lower() == ".tok"
    _check(path, codec, codebooks, start, end, sound=sound, is_tokens=is_tokens)
    planned = plan([path], out, suffixes=[*AUDIO, ".tok"], suffix=".png", makes=FORMATS)
    for _, problem in planned.errors:
        raise InputError(problem)
    source, target = planned.pairs[0]
    if target.exists() and not force:
        raise InputError(f"{target}: exists already; --force overwrites it")
    model = _codec(source, codec, needed=sound) if is_tokens or codec else None
    if model is not None:
        checked(model, codebooks)
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_tokens:
        span = {"start": start, "end": end}
        plot_tokens(source, target, model, codebooks=codebooks, sound=sound, **span)
    else:
        plot_audio(source, target, model, start=start, end=end, codebooks=codebooks)
    show.line(str(target))


def _check(
    path: str,
    codec: str | None,
    codebooks: int | None,
    start: float,
    end: float | None,
    *,
    sound: bool,
    is_tokens: bool,
) -> None:
    """Raise `UsageError` for options that do not go together."""
    if path == "-" or Path(path).is_dir():
        raise show.UsageError(f"{path}: not a file; give one audio file or .tok file")
    if end is not None and end <= start:
        raise show.UsageError(f"--end {end:g}: not after --start {start:g}")
    if codebooks is not None and codebooks < 1:
        raise show.UsageError(f"--codebooks {codebooks}: there is at least 1")
    if sound and not is_tokens:
        raise show.UsageError(f"--sound decodes a .tok file; {path} is none")
    if codebooks is not None and not is_tokens and codec is None:
        raise show.UsageError("--codebooks: whose? name a codec with --codec")


def _codec(source: Path, codec: str | None, *, needed: bool) -> RunnableCodec[Any] | None:
    """Return the named codec; or that of a .tok file, if needed or if its weights are here."""
    from audiotok.cli.jobs import codec_for
    from audiotok.codecs.load import load_in_backend

    if codec is not None:
        return load_in_backend(codec, "cpu", None)
    if needed:
        return codec_for(source, None, "cpu")
    return _local_codec(source)


def _local_codec(source: Path) -> RunnableCodec[Any] | None:
    """Return the codec of a .tok file if its weights are on this machine, else None."""
    from audiotok._platform.registry import presets
    from audiotok.codecs.checkpoint import weights_of
    from audiotok.codecs.load import load_once
    from audiotok.tokens import TokenReader

    with TokenReader(source) as reader:
        header = reader.header
    if header.codec not in presets("codecs") or weights_of(header.codec) is None:
        return None
    codec = load_once(header.codec, "cpu")
    return codec if codec.has_codes_of(header.fingerprint) else None
