"""`audiotok roundtrip`: encoding and decoding of a file, with scores and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Backend,
    Codebooks,
    CodecName,
    DecoderName,
    Device,
    Force,
    Json,
    Precision,
    Prompt,
    Search,
    Seed,
    Threads,
    checked,
    limit_threads,
)

PANEL = "Tokens"


def roundtrip(
    path: Annotated[str, typer.Argument(help="Audio file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("roundtrip"),
    codec: CodecName = "speech",
    decoder: DecoderName = None,
    prompt: Prompt = None,
    seed: Seed = 0,
    codebooks: Codebooks = None,
    precision: Precision = "float32",
    search: Search = None,
    backend: Backend = None,
    device: Device = "cpu",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode a file, decode it, score the decoded audio, and draw both.

    \b
    Examples:
      audiotok roundtrip talk.wav -o roundtrip/
      audiotok roundtrip talk.wav --codec dmel_40hz --decoder griffin_lim
    """
    from audiotok.cli.jobs import decoder_once, side_information_of
    from audiotok.codecs.load import load_in_backend
    from audiotok.evaluation.roundtrip import roundtrip as work

    if decoder is None and prompt is not None:
        raise show.UsageError("--prompt: for a --decoder that takes one")
    limit_threads(threads)
    model = load_in_backend(codec, device, backend, precision, search=search)
    model = checked(model, codebooks)
    apart = decoder_once(decoder, model.name, device, seed, prompt) if decoder else None
    result = work(model, path, out, decoder=apart, codebooks=codebooks, force=force)
    result["decode"] |= side_information_of(apart or model)
    if as_json:
        show.as_json(result)
    else:
        show.facts(show.roundtrip(result))
