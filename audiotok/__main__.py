"""The command line: `audiotok COMMAND`, also `python -m audiotok`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from audiotok import show

if TYPE_CHECKING:
    from audiotok.codecs.base import Codec
    from audiotok.jobs import Report

app = typer.Typer(
    name="audiotok",
    help="Audio to discrete tokens and back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

EPILOG = "[dim]Exit codes: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.[/]"

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
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def _checked(codec: Codec, codebooks: int | None) -> Codec:
    if codebooks is not None and not 1 <= codebooks <= codec.codebooks:
        raise show.UsageError(f"--codebooks {codebooks}: {codec.name} has 1 to {codec.codebooks}")
    return codec


@app.command(epilog=EPILOG)
def encode(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for stdin.")],
    out: Out = None,
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    channels: Annotated[
        Literal["mix", "split"],
        typer.Option(help="A mono codec given stereo: code the mean, or each channel."),
    ] = "mix",
    device: Device = "cpu",
    jobs: Jobs = 1,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode audio files to .tok files.

    Folders keep their tree; what is done already is skipped; a bad file is
    reported and the rest go on.

    \b
    Examples:
      audiotok encode talk.wav -o talk.tok
      audiotok encode recordings/ -o tokens/ --jobs 4
      ffmpeg -i film.mkv -f wav - | audiotok encode - -o film.tok
    """
    from audiotok.files import is_encoded
    from audiotok.jobs import codec_on, encoder, run
    from audiotok.plan import AUDIO, plan

    planned = plan(paths, out, suffixes=AUDIO, suffix=".tok", makes=[".tok"])
    model = _checked(codec_on(codec, device if jobs == 1 else "cpu"), codebooks)
    options: dict[str, Any] = {"codebooks": codebooks, "split": channels == "split"}

    def done(source: Path, target: Path) -> bool:
        return not force and is_encoded(model, source, target, **options)

    build = partial(encoder, codec, device, force=force, **options)
    _report(run(build, planned, done=done, jobs=jobs, verb="encoding"), "encoded", as_json)


@app.command(epilog=EPILOG)
def decode(
    paths: Paths,
    out: Out = None,
    codec: Annotated[
        str | None, typer.Option(help="A checkpoint; default: the codec the tokens name.")
    ] = None,
    codebooks: Codebooks = None,
    rate: Annotated[
        Literal["codec", "original"],
        typer.Option(help="Sample rate: the codec's, or the original recording's."),
    ] = "codec",
    suffix: Annotated[str, typer.Option("--format", help="wav, flac, ogg, mp3 ...")] = "wav",
    device: Device = "cpu",
    jobs: Jobs = 1,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode .tok files to audio files of the original length.

    \b
    Examples:
      audiotok decode talk.tok -o talk.wav
      audiotok decode tokens/ -o decoded/ --format flac --codebooks 4
    """
    from audiotok.files import is_decoded
    from audiotok.jobs import codec_on, decoder, run
    from audiotok.plan import plan
    from audiotok.sink import FORMATS

    suffix = f".{suffix.lower().lstrip('.')}"
    if suffix not in FORMATS:
        raise show.UsageError(f"--format {suffix[1:]}: not one of {' '.join(FORMATS)}")
    if codebooks is not None and codebooks < 1:
        raise show.UsageError(f"--codebooks {codebooks}: there is at least 1")
    planned = plan(paths, out, suffixes=[".tok"], suffix=suffix, makes=FORMATS)
    options: dict[str, Any] = {"codebooks": codebooks, "original_rate": rate == "original"}

    def done(source: Path, target: Path) -> bool:
        return not force and is_decoded(source, target, **options)

    if codec is not None:
        _checked(codec_on(codec, device if jobs == 1 else "cpu"), codebooks)
    build = partial(decoder, codec, device, force=force, **options)
    _report(run(build, planned, done=done, jobs=jobs, verb="decoding"), "decoded", as_json)


def _report(report: Report, past: str, as_json: bool) -> None:
    if as_json:
        show.as_json(report.rows())
    show.report(report.made, len(report.skipped), len(report.errors), past, quiet=as_json)
    if report.errors:
        raise typer.Exit(1)


@app.command(epilog=EPILOG)
def info(
    what: Annotated[str, typer.Argument(help="A .tok file, an audio file, a codec, a checkpoint.")],
    as_json: Json = False,
) -> None:
    """Say what a file or a codec is, without decoding it.

    \b
    Examples:
      audiotok info talk.tok
      audiotok info speech --json
    """
    from audiotok.checkpoint import describe
    from audiotok.files import describe_audio, describe_tokens
    from audiotok.registry import names

    path = Path(what)
    if what in names("codecs") or path.suffix == ".safetensors":
        facts = describe(what)
    elif path.suffix == ".tok":
        facts = describe_tokens(path)
    elif not path.suffix and what != "-" and not os.path.lexists(path):
        raise ValueError(f"{what}: neither a file nor a codec ({' '.join(names('codecs'))})")
    else:
        facts = describe_audio(what)
    if as_json:
        show.as_json(facts)
    else:
        show.facts(facts)


@app.command(epilog=EPILOG)
def codecs(as_json: Json = False) -> None:
    """List the codecs: rates, codebooks, size, and whether their weights are here.

    \b
    Examples:
      audiotok codecs
      audiotok codecs --json
    """
    from audiotok.checkpoint import describe
    from audiotok.registry import names

    rows = [describe(name) for name in names("codecs")]
    if as_json:
        show.as_json(rows)
    else:
        show.codecs(rows)


@app.command(epilog=EPILOG)
def verify(paths: Paths, as_json: Json = False) -> None:
    """Check .tok files to the last byte, and say what is damaged and what can be recovered.

    \b
    Examples:
      audiotok verify talk.tok
      audiotok verify tokens/
    """
    from audiotok.plan import find
    from audiotok.tokfile import TokenFileError
    from audiotok.tokfile import verify as check

    found, missing = find(paths, [".tok"])
    lost = {"ok": False, "recoverable_seconds": 0.0}
    rows: list[dict[str, Any]] = [{"file": f, **lost, "damage": [line]} for f, line in missing]
    for file, _ in found:
        try:
            rows.append({"file": str(file), **asdict(check(file))})
        except TokenFileError as error:
            rows.append({"file": str(file), **lost, "damage": [str(error)]})
    for row in rows:
        if not row["ok"]:
            show.error(show.damaged(row))
    if as_json:
        show.as_json(rows)
    else:
        show.line(f"{sum(row['ok'] for row in rows)} of {len(rows)} files are whole")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


@app.command(epilog=EPILOG)
def roundtrip(
    path: Annotated[str, typer.Argument(help="An audio file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder.")] = Path("roundtrip"),
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    device: Device = "cpu",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode a file, decode it, score what came back, and draw both.

    \b
    Examples:
      audiotok roundtrip talk.wav -o roundtrip/
    """
    from audiotok.jobs import codec_on
    from audiotok.roundtrip import roundtrip as work

    model = _checked(codec_on(codec, device), codebooks)
    result = work(model, path, out, codebooks=codebooks, force=force)
    if as_json:
        show.as_json(result)
    else:
        show.facts(show.roundtrip(result))


@app.command(epilog=EPILOG)
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, recipes/NAME.toml.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder; run again to resume.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, over the recipe.")
    ] = None,
    device: Device = "cpu",
    minutes: Annotated[float, typer.Option(help="Stop after so many; 0: no limit.")] = 0,
) -> None:
    """Train a codec from a recipe.

    \b
    Examples:
      audiotok train recipes/speech.toml -o runs/speech --set data.batch=32
    """
    from audiotok.recipe import read_recipe
    from audiotok.train.loop import train as work

    weights = work(read_recipe(recipe, settings), out, device=device, minutes=minutes)
    show.line(f"weights: {weights}")


def main() -> None:
    """Run the command line; errors are one line on stderr."""
    show.log_to_stderr()
    # To be told to end is to be interrupted: nothing is left half-written then either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = show.outcome(app)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if code == 130:
        show.error("interrupted; nothing is half-written, run it again to go on")
    sys.exit(code)


if __name__ == "__main__":
    main()
