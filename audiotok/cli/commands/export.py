"""`audiotok export`: a codec as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Codebooks, Force, Json

PANEL = "Looking"


def export(
    codec: Annotated[str, typer.Argument(help="A codec's name, or a checkpoint's path.")],
    out: Annotated[Path, typer.Argument(help="A folder to make.")],
    form: Annotated[Literal["onnx"], typer.Option("--format", help="Of the files.")] = "onnx",
    codebooks: Codebooks = None,
    stepwise: Annotated[
        bool, typer.Option(help="Also graphs that take and give their state, to stream with.")
    ] = False,
    rings: Annotated[
        bool,
        typer.Option(
            help="--stepwise, but what attention remembers is written into by the caller: 0.6 of"
            " the time for many at once. What `serve --backend onnx` makes for itself."
        ),
    ] = False,
    int8: Annotated[
        bool, typer.Option(help="Weights in 8 bits: a quarter of the size, somewhat other codes.")
    ] = False,
    audio: Annotated[
        Path | None, typer.Option(help="A recording to check it on. Default: a made-up voice.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a codec as ONNX, to run without torch: encoder, decoder, and codec.json.

    What is written must do what torch does: equal codes, samples within 1e-4, on
    several lengths and batches. Else nothing is written, and it says by how much.

    \b
    Examples:
      audiotok export speech speech-onnx/ --stepwise
      audiotok encode talk.wav --codec speech-onnx/ --backend onnx
    """
    from audiotok.audio.audio import Audio
    from audiotok.codecs.checkpoint import load
    from audiotok.codecs.export.folder import export as work

    heard = None if audio is None else Audio.load(audio, end=10.0).mono()
    options: dict[str, Any] = {"steps": stepwise, "rings": rings, "int8": int8}
    about = work(load(codec), out, codebooks=codebooks, audio=heard, force=force, **options)
    if as_json:
        show.as_json(about)
    else:
        show.facts(_facts(out, about))


def _facts(out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What to print of codec.json."""
    sizes = {name: f"{graph['bytes'] / 1e6:.1f} MB" for name, graph in about["graphs"].items()}
    parity, int8 = about["parity"], about["int8"]
    facts = {
        "folder": out,
        "codec": f"{about['codec']} {about['fingerprint']}",
        "graphs": ", ".join(f"{name} {size}" for name, size in sizes.items()),
        "parity": _measured(parity),
    }
    return facts | ({} if int8 is None else {"in 8 bits": _measured(int8)})


def _measured(found: dict[str, Any]) -> str:
    return (
        f"{found['codes_equal']:,} of {found['codes']:,} codes equal "
        f"({found['token_drift_percent']} % drift), samples within {found['apart']:.1e} "
        f"({-found['noise_db']:.0f} dB below the audio)"
    )
