"""`audiotok export`: export of a codec as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Codebooks, Force, Json, Threads, limit_threads

PANEL = "Codecs and files"


def export(
    codec: Annotated[str, typer.Argument(help="Name of a codec, or path of a checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    form: Annotated[
        Literal["onnx"], typer.Option("--format", help="Format of the exported graphs.")
    ] = "onnx",
    codebooks: Codebooks = None,
    stepwise: Annotated[
        bool,
        typer.Option(help="Export streaming graphs too, whose state is an input and an output."),
    ] = False,
    rings: Annotated[
        bool,
        typer.Option(
            help="Export streaming graphs whose attention caches are written by the caller: 0.6 of"
            " the time for many sessions at once. `serve --backend onnx` exports these itself."
        ),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(help="Quantize weights to 8 bits: a quarter of the size, some codes differ."),
    ] = False,
    audio: Annotated[
        Path | None,
        typer.Option(help="Recording for the parity check. Default: a synthetic voice."),
    ] = None,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a codec as ONNX, to run without torch: encoder, decoder, and codec.json.

    The export is checked against torch: equal codes (or latents within 1e-4 of
    their size), samples within 1e-4, on several lengths and batches. If it
    fails, the differences are printed and nothing is written. A codec that ONNX
    cannot hold is refused at once, with the reason.

    \b
    Examples:
      audiotok export speech speech-onnx/ --stepwise
      audiotok encode talk.wav --codec speech-onnx/ --backend onnx
    """
    from audiotok.audio.audio import Audio
    from audiotok.codecs.checkpoint import load
    from audiotok.codecs.export.folder import export as work
    from audiotok.codecs.export.supported import check_preset

    limit_threads(threads)
    check_preset(codec, steps=stepwise or rings)
    recording = None if audio is None else Audio.load(audio, end=10.0).mono()
    options: dict[str, Any] = {"steps": stepwise, "rings": rings, "int8": int8}
    description = work(
        load(codec), out, codebooks=codebooks, audio=recording, force=force, **options
    )
    if as_json:
        show.as_json(description)
    else:
        show.facts(_facts(out, description))


def _facts(out: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Return the names and values of a codec.json that are printed."""
    sizes = {
        name: f"{graph['bytes'] / 1e6:.1f} MB" for name, graph in description["graphs"].items()
    }
    parity, int8, decodes = (description[key] for key in ("parity", "int8", "decodes"))
    facts = {
        "folder": out,
        "codec": f"{description['codec']} {description['fingerprint']}",
        "graphs": ", ".join(f"{name} {size}" for name, size in sizes.items()),
        "parity": _measured(parity, decodes=decodes),
    }
    return facts | ({} if int8 is None else {"in 8 bits": _measured(int8, decodes=decodes)})


def _measured(parity: dict[str, Any], *, decodes: bool) -> str:
    """Return the measures of a parity check as a sentence."""
    measured = f"latents within {parity['latents_apart']:.1e} of their size"
    if parity["codes"]:
        equal = f"{parity['codes_equal']:,} of {parity['codes']:,} codes equal"
        measured = f"{equal} ({parity['token_drift_percent']} % drift)"
    if not decodes:
        return measured
    below = f"{-parity['noise_db']:.0f} dB below the audio"
    return f"{measured}, samples within {parity['apart']:.1e} ({below})"
