"""`audiotok convert`: a checkpoint of another program converted to ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Force, Json, check_out

PANEL = "Codecs and files"


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint, or its Hugging Face folder.")],
    out: Annotated[Path, typer.Argument(help="Output .safetensors file.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the codec, if the weights fit several.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Layout of the codes, if the weights have several.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16"],
        typer.Option(help="Type of the weights; float16 halves the size, and may change codes."),
    ] = "float32",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as safetensors with the codec's name and config inside.

    The program that wrote it is recognized by the names of its tensors, and the config
    read from them and from the config.json beside them is printed. Code in a file is
    never run. The card of a checkpoint of audiotok is kept.

    \b
    Examples:
      audiotok convert SpeechTokenizer.pt speechtokenizer.safetensors
      audiotok convert DM-Codec.pt dm_codec.safetensors --name dm_codec
      audiotok convert model.ckpt stable.safetensors --layout 4x729_1000bps
    """
    import torch

    from audiotok.codecs.checkpoint import describe, load, save

    check_out(out, force)
    codec = load(source, name=name, layout=layout)
    save(codec, out, dtype=getattr(torch, dtype))
    facts = {**describe(out), "config": dataclasses.asdict(codec.config)}
    if as_json:
        show.as_json(facts)
    else:
        show.facts(facts)
