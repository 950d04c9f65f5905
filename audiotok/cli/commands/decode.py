"""`audiotok decode`: decoding of .tok files to audio files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Backend,
    Codebooks,
    Condition,
    DecoderName,
    Device,
    Force,
    Jobs,
    Json,
    Out,
    Paths,
    Precision,
    Prompt,
    Seed,
    Threads,
    checked,
    limit_threads,
    options_of,
    reported,
)

PANEL = "Tokens"


def decode(
    paths: Paths,
    out: Out = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Name of a codec, path of a checkpoint, or code: my_module:codec. "
            "Default: the tokens' own."
        ),
    ] = None,
    decoder: DecoderName = None,
    prompt: Prompt = None,
    seed: Seed = 0,
    condition: Condition = None,
    codebooks: Codebooks = None,
    rate: Annotated[
        Literal["codec", "original"],
        typer.Option(help="Sample rate of the output: the codec's, or the original recording's."),
    ] = "codec",
    suffix: Annotated[
        str, typer.Option("--format", help="Audio format of the output: wav, flac, ogg, mp3 ...")
    ] = "wav",
    precision: Precision = "float32",
    backend: Backend = None,
    device: Device = "cpu",
    jobs: Jobs = 1,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode .tok files to audio files of the original length.

    \b
    Examples:
      audiotok decode talk.tok -o talk.wav
      audiotok decode tokens/ -o decoded/ --format flac --codebooks 4
      audiotok decode talk.tok -o talk.wav --decoder griffin_lim
      audiotok decode talk.tok -o talk.wav --decoder voice.safetensors --prompt someone.wav
      audiotok decode talk.tok -o talk.wav --decoder flow.safetensors --condition steps=32
    """
    from audiotok.audio.writer import FORMATS
    from audiotok.cli import jobs as work
    from audiotok.codecs.load import choose_backend
    from audiotok.runtime.batch.plan import plan
    from audiotok.runtime.batch.processes import imports_of
    from audiotok.runtime.batch.run import run
    from audiotok.runtime.files import is_decoded

    suffix = f".{suffix.lower().lstrip('.')}"
    if suffix not in FORMATS:
        raise show.UsageError(f"--format {suffix[1:]}: not one of {' '.join(FORMATS)}")
    if codebooks is not None and codebooks < 1:
        raise show.UsageError(f"--codebooks {codebooks}: there is at least 1")
    limit_threads(threads)
    given = tuple(options_of(condition, "--condition").items())
    for name, value in given:
        if isinstance(value, list | dict):
            raise show.UsageError(f"--condition {name}: one value, not a list or a table")
        if name in ("seed", "prompt"):
            raise show.UsageError(f"--condition {name}: give --{name}")
    apart: dict[str, Any] = {"decoder": decoder, "seed": seed, "prompt": prompt, "given": given}
    if decoder is None and (prompt is not None or given):
        option = "--prompt" if prompt is not None else "--condition"
        raise show.UsageError(f"{option}: for a --decoder that takes one")
    if decoder is not None and (codec, backend, precision) != (None, None, "float32"):
        raise show.UsageError("--decoder is in the place of --codec, and runs in torch, in float32")
    engine: str | None = "torch" if decoder is not None else backend
    if engine is None and precision != "float32":
        engine = choose_backend(codec or "speech", device, precision)
    elif jobs > 1 and engine is None:  # here, and not in each worker
        choose_backend(codec or "speech", device)
    planned = plan(paths, out, suffixes=[".tok"], suffix=suffix, makes=FORMATS)
    options: dict[str, Any] = {"codebooks": codebooks, "original_rate": rate == "original"}

    # With several jobs the worker processes have the device; this one only checks files.
    own_device = device if jobs == 1 else "cpu"
    model_of = partial(
        work.codec_for, codec=codec, device=own_device, backend=engine, precision=precision, **apart
    )

    def done(source: Path, target: Path) -> bool:
        if force or not target.exists():
            return False
        return is_decoded(model_of(source), source, target, **options)

    if codec is not None:
        checked(work.tokenizer(codec, device, engine, jobs, precision), codebooks)
    build = partial(work.decoder, codec, device, engine, precision, **apart, force=force, **options)
    imports = imports_of(engine)
    report = run(build, planned, done=done, jobs=jobs, verb="decoding", imports=imports)
    reported(report, "decoded", as_json)
