"""What commands share: the options that mean the same everywhere, and how a batch ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from audiotok.cli import console as show

if TYPE_CHECKING:
    from audiotok.codecs.models.base import Codec
    from audiotok.runtime.batch.run import Report

Kind = TypeVar("Kind")  # of codec: in torch, or exported

Paths = Annotated[list[str], typer.Argument(help="Files, folders or globs.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="A folder; a file, for a single input. Default: beside it."),
]
CodecName = Annotated[str, typer.Option("--codec", help="A codec's name, or a checkpoint's path.")]
Codebooks = Annotated[
    int | None, typer.Option("--codebooks", "-k", help="Use the first so many codebooks.")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps ...")]
Backend = Annotated[
    Literal["torch", "onnx", "openvino"] | None,
    typer.Option(help="What executes it. Default: torch; onnx for an exported codec."),
]
Context = Annotated[
    float | None,
    typer.Option(
        min=0.02, help="Seconds around a frame that a codec may look at which needs the whole."
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def checked(codec: Kind, codebooks: int | None) -> Kind:
    """The codec, if it has so many codebooks; else a `UsageError`."""
    it: Any = codec
    if codebooks is not None and not 1 <= codebooks <= it.codebooks:
        raise show.UsageError(f"--codebooks {codebooks}: {it.name} has 1 to {it.codebooks}")
    return codec


def live_codec(name: str, device: str, *, threads: int = 1) -> Codec:
    """The codec, to run frame by frame: one is too little work to share between cores."""
    import torch

    from audiotok.codecs.load import load_once

    torch.set_num_threads(threads)
    return load_once(name, device)


def reported(report: Report, past: str, as_json: bool) -> None:
    """Says what a batch came to; exit code 1 if something failed."""
    if as_json:
        show.as_json(report.rows())
    show.report(report.made, len(report.skipped), len(report.errors), past, quiet=as_json)
    if report.errors:
        raise typer.Exit(1)
