"""`audiotok encode`: encoding of audio files to .tok files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from audiotok.cli.commands.base import (
    Backend,
    Codebooks,
    CodecName,
    Device,
    Force,
    Half,
    Jobs,
    Json,
    Out,
    Search,
    Threads,
    checked,
    limit_threads,
    reported,
)

PANEL = "Tokens"


def encode(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders, glob patterns, or - for stdin.")
    ],
    out: Out = None,
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    channels: Annotated[
        Literal["mix", "split"],
        typer.Option(help="Coding of stereo by a mono codec: the mean, or each channel."),
    ] = "mix",
    half: Half = False,
    search: Search = None,
    backend: Backend = None,
    device: Device = "cpu",
    jobs: Jobs = 1,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode audio files to .tok files.

    Folders keep their tree; files that are up to date are skipped (of a --search
    they say nothing: --force encodes them again); a file that fails is reported,
    and the rest go on.

    \b
    Examples:
      audiotok encode talk.wav -o talk.tok
      audiotok encode recordings/ -o tokens/ --jobs 4
      ffmpeg -i film.mkv -f wav - | audiotok encode - -o film.tok
    """
    from audiotok.cli.jobs import encoder, tokenizer
    from audiotok.codecs.load import choose_backend
    from audiotok.runtime.batch.plan import AUDIO, plan
    from audiotok.runtime.batch.processes import imports_of
    from audiotok.runtime.batch.run import run
    from audiotok.runtime.files import is_encoded

    limit_threads(threads)
    planned = plan(paths, out, suffixes=AUDIO, suffix=".tok", makes=[".tok"])
    engine = backend or choose_backend(codec, device, search=search)
    model = checked(tokenizer(codec, device, engine, jobs, search=search), codebooks)
    options: dict[str, Any] = {"codebooks": codebooks, "split": channels == "split"}
    options["half"] = half

    def done(source: Path, target: Path) -> bool:
        return not force and is_encoded(model, source, target, **options)

    build = partial(encoder, codec, device, engine, search=search, force=force, **options)
    imports = imports_of(engine)
    report = run(build, planned, done=done, jobs=jobs, verb="encoding", imports=imports)
    reported(report, "encoded", as_json)
