"""Options that commands have in common, and the report at the end of a batch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from audiotok._platform.errors import InputError
from audiotok.cli import console as show

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec
    from audiotok.runtime.batch.run import BatchReport

Kind = TypeVar("Kind")  # a codec in torch, or an exported one

Paths = Annotated[list[str], typer.Argument(help="Files, folders or glob patterns.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Output folder, or file for a single input. Default: beside the input."
    ),
]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="Output .safetensors file.")]
CodecName = Annotated[
    str,
    typer.Option(
        "--codec", help="Name of a codec, path of a checkpoint, or code: my_module:codec."
    ),
]
DecoderName = Annotated[
    str | None,
    typer.Option(
        "--decoder",
        help="Name or checkpoint of a decoder apart from the codec. Default: the codec's own.",
    ),
]
Prompt = Annotated[
    Path | None,
    typer.Option("--prompt", help="Recording that gives the --decoder a voice, if it takes one."),
]
Condition = Annotated[
    list[str] | None,
    typer.Option(
        "--condition", help="Condition of the --decoder, NAME=VALUE: steps=32, guidance=2."
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed of a decoder that draws numbers.")]
Codebooks = Annotated[
    int | None,
    typer.Option(
        "--codebooks", "-k", help="Number of codebooks to use, from the first. Default: all."
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="Device to compute on: cpu, cuda, cuda:1, mps ...")
]
Backend = Annotated[
    Literal["torch", "onnx", "openvino"] | None,
    typer.Option(
        help="Library that runs the codec. Default: the fastest with equal codes, measured once."
    ),
]
Precision = Annotated[
    Literal["float32", "int8"],
    typer.Option(help="Precision of the decoder; int8 is faster on many CPUs, and torch's."),
]
TorchOr = Annotated[
    Literal["torch", "onnx", "openvino"],
    typer.Option("--backend", help="Library that runs the codec."),
]
Context = Annotated[
    float | None,
    typer.Option(
        min=0.02,
        help="Seconds of context around a frame, for a codec that needs the whole recording.",
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of parallel processes.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Number of threads of a process. Default: the cores, shared."
    ),
]
Half = Annotated[
    bool,
    typer.Option("--half", help="Store latents in half precision: half the size, rounded."),
]
Search = Annotated[
    int | None,
    typer.Option(
        "--search",
        min=1,
        help="Choices of codes to keep for each frame: 8 sound better and take longer; torch.",
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def checked(codec: Kind, codebooks: int | None) -> Kind:
    """Return the codec; raise `UsageError` if it does not have so many codebooks."""
    model: Any = codec
    if codebooks is not None and not 1 <= codebooks <= model.codebooks:
        there = f"has 1 to {model.codebooks}" if model.codebooks else "gives latents, and has none"
        raise show.UsageError(f"--codebooks {codebooks}: {model.name} {there}")
    return codec


def limit_threads(threads: int | None) -> None:
    """Set the number of threads of this process and of those that it starts; None leaves it."""
    if threads is None:
        return
    from audiotok.runtime.backends.base import limit_threads as limit_process

    limit_process(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of torch, where it is not loaded yet


def live_codec(
    name: str, device: str, backend: str | None = None, *, threads: int | None = None
) -> RunnableCodec[Any]:
    """Load a codec to run frame by frame; a frame is too little work for several threads.

    Args:
        name: a codec or a checkpoint.
        device: where it runs.
        backend: what runs it; the fastest if None.
        threads: number of threads in this process; 1 if None.
    """
    from audiotok.codecs.load import load_in_backend

    limit_threads(threads or 1)
    return load_in_backend(name, device, backend)


def reported(report: BatchReport, past: str, as_json: bool) -> None:
    """Print the report of a batch, and exit with code 1 if a file failed.

    Args:
        report: of the batch.
        past: the verb, "encoded" or "decoded".
        as_json: whether to print it as JSON.
    """
    if as_json:
        show.as_json(report.rows())
    show.report(report.finished, len(report.skipped), len(report.errors), past, quiet=as_json)
    if report.errors:
        raise typer.Exit(1)


def options_of(texts: Sequence[str] | None, of: str = "--option") -> dict[str, Any]:
    """Return options NAME=VALUE by name; a value is read as JSON, else as text.

    Args:
        texts: what was given.
        of: option of the command line that they were given by, for the message.
    """
    values: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise show.UsageError(f"{of} {text}: give NAME=VALUE")
        if name in values:
            raise show.UsageError(f"{of} {name}: given twice")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def check_absent(out: Path, force: bool) -> None:
    """Raise if the output exists and may not be overwritten."""
    if os.path.lexists(out) and not force:
        raise InputError(f"{out}: exists already; --force overwrites it")


def check_out(out: Path, force: bool, suffix: str = ".safetensors") -> None:
    """Raise unless the output may be written."""
    if out.suffix != suffix:
        raise show.UsageError(f"{out}: not a {suffix} file")
    check_absent(out, force)
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; make it first")


def check_splits(split: str, held_out: str) -> None:
    """Raise if recordings would be measured on that a model has learnt from.

    Args:
        split: split to learn from; "" for all recordings.
        held_out: split to measure on; "" for none.
    """
    if held_out and split in ("", held_out):
        all_of = "all recordings are" if not split else f"split {split!r} is"
        raise show.UsageError(
            f"--held-out {held_out}: {all_of} learnt from; name another --split, or --held-out ''"
        )
