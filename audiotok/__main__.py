"""The command line: `audiotok COMMAND`, also `python -m audiotok`."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

if TYPE_CHECKING:
    from audiotok.codecs.base import Codec
    from audiotok.jobs import Job, Plan, Report

app = typer.Typer(
    name="audiotok",
    help="Audio to discrete tokens and back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
# Results go to stdout, everything said about them to stderr.
said, shown = Console(stderr=True), Console()

EPILOG = "[dim]Exit codes: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.[/]"

Paths = Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for stdin.")]
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


def _load(codec: str, device: str) -> Codec:
    from audiotok.checkpoint import load

    try:
        return load(codec, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's words for a device it has not
        raise ValueError(f"--device {device}: {str(error).splitlines()[0]}") from None


def _encoder(codec: str, device: str, **options: Any) -> Job:
    from audiotok.files import encode_file

    model = _load(codec, device)
    return lambda source, target: encode_file(model, source, target, **options).row()


def _decoder(codec: str | None, device: str, **options: Any) -> Job:
    from audiotok.files import decode_file
    from audiotok.tokfile import TokenReader

    models: dict[str, Codec] = {}

    def decode(source: Path, target: Path) -> dict[str, Any]:
        with TokenReader(source) as reader:
            name = codec or reader.header.codec
        if name not in models:
            models[name] = _load(name, device)
        return decode_file(models[name], source, target, **options).row()

    return decode


@app.command(epilog=EPILOG)
def encode(
    paths: Paths,
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

    Folders keep their tree; what is done already is skipped; a bad file is reported and the rest
    go on.

    Examples:
        audiotok encode talk.wav -o talk.tok
        audiotok encode recordings/ -o tokens/ --jobs 4
        ffmpeg -i film.mkv -f wav - | audiotok encode - -o film.tok
    """
    from audiotok.checkpoint import describe
    from audiotok.jobs import AUDIO, plan
    from audiotok.tokfile import TokenReader

    split = channels == "split"
    about = describe(codec)
    kept = about["codebooks"] if codebooks is None else codebooks
    if not 1 <= kept <= about["codebooks"]:
        raise ValueError(f"--codebooks {kept}: {codec} has 1 to {about['codebooks']}")
    planned = plan(paths, _out(out, paths), suffixes=AUDIO, suffix=".tok")

    def done(source: Path, target: Path) -> bool:
        if force or not target.exists():
            return False
        with TokenReader(target) as reader:
            header = reader.header
        same = (about["name"], about["fingerprint"], kept)
        if (header.codec, header.fingerprint, len(header.sizes)) == same:
            return True
        raise ValueError(
            f"{target}: exists already, made by {header.codec} {header.fingerprint} with "
            f"{len(header.sizes)} codebooks; --force overwrites it"
        )

    build = partial(_encoder, codec, device, codebooks=codebooks, split=split, force=force)
    _run(build, planned, done, jobs, as_json, "encoding", "encoded")


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

    Examples:
        audiotok decode talk.tok -o talk.wav
        audiotok decode tokens/ -o decoded/ --format flac --codebooks 4
    """
    from audiotok.jobs import plan
    from audiotok.tokfile import TokenReader

    planned = plan(paths, _out(out, paths), suffixes=[".tok"], suffix=f".{suffix.lstrip('.')}")
    back = rate == "original"

    def done(source: Path, target: Path) -> bool:
        if force or not target.exists():
            return False
        import soundfile

        with TokenReader(source) as reader:
            length = reader.original_samples if back else reader.samples
        newer = target.stat().st_mtime >= source.stat().st_mtime
        if newer and soundfile.info(str(target)).frames == length:
            return True
        raise ValueError(f"{target}: exists already; --force overwrites it")

    build = partial(_decoder, codec, device, codebooks=codebooks, original_rate=back, force=force)
    _run(build, planned, done, jobs, as_json, "decoding", "decoded")


def _out(out: Path | None, paths: list[str]) -> Path:
    if out is not None:
        return out
    if len(paths) == 1 and paths[0] != "-" and not Path(paths[0]).is_dir():
        return Path(paths[0]).parent
    raise ValueError("say where to with --out")


def _run(
    build: Callable[[], Job],
    planned: Plan,
    done: Callable[[Path, Path], bool],
    jobs: int,
    as_json: bool,
    verb: str,
    past: str,
) -> None:
    from audiotok.jobs import run

    report = run(build, planned, done=done, jobs=jobs, console=said, verb=verb)
    if as_json:
        failed = [{"source": source, "error": error} for source, error in report.errors]
        print(json.dumps([*report.made, *failed], indent=1))
    else:
        _summary(report, past)
    if report.errors:
        raise typer.Exit(1)


def _summary(report: Report, past: str) -> None:
    if len(report.made) == 1:
        shown.print(_facts(report.made[0]))
    elif report.made:
        seconds = sum(row["seconds"] for row in report.made)
        shown.print(f"{past} {len(report.made)} files, {seconds / 60:.1f} minutes of audio")
    if report.skipped:
        shown.print(f"{len(report.skipped)} done already, skipped")
    for _, error in report.errors:
        said.print(f"[red]error[/] {error}", highlight=False, soft_wrap=True)
    if report.errors:
        said.print(f"{len(report.errors)} failed")


def _facts(row: dict[str, Any]) -> Table:
    streams = f"{row['streams']} x " if row["streams"] > 1 else ""
    return _pairs(
        {
            "file": row["target"],
            "duration": f"{row['seconds']:.3f} s",
            "frames": f"{row['frames']}",
            "codebooks": f"{streams}{row['codebooks']}",
            "nominal rate": f"{row['nominal_kbps']:.3f} kbps",
            "real rate": f"{row['file_kbps']:.3f} kbps (the whole .tok file)",
            "time": f"{row['took']:.3f} s",
            "speed": f"{row['speed']:.1f}x real time (factor {1 / max(row['speed'], 1e-9):.4f})",
        }
    )


def _pairs(facts: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, str(value))
    return table


@app.command(epilog=EPILOG)
def info(
    what: Annotated[str, typer.Argument(help="A .tok file, an audio file, a codec, a checkpoint.")],
    as_json: Json = False,
) -> None:
    """Say what a file or a codec is, without decoding it.

    Examples:
        audiotok info talk.tok
        audiotok info speech --json
    """
    from audiotok.audio import open_audio
    from audiotok.checkpoint import describe
    from audiotok.registry import names
    from audiotok.tokens import Tokens

    path = Path(what)
    if what in names("codecs") or path.suffix == ".safetensors":
        facts = describe(what)
    elif path.suffix == ".tok":
        nothing, length = Tokens.load(path, start=0, end=0), _length(path)
        facts = {**asdict(nothing.header), **length, "nominal_kbps": round(nothing.kbps, 4)}
        kbps = path.stat().st_size * 8 / 1000 / max(length["seconds"], 1e-9)
        facts |= {"bytes": path.stat().st_size, "file_kbps": round(kbps, 4)}
    else:
        with open_audio(path) as audio:
            samples = audio.samples
            seconds = None if samples is None else samples / audio.rate
            facts = {"rate": audio.rate, "channels": audio.channels, "samples": samples}
            facts["seconds"] = seconds
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        shown.print(_pairs(facts))


def _length(path: Path) -> dict[str, Any]:
    from audiotok.tokfile import TokenReader

    with TokenReader(path) as reader:
        return {
            "frames": reader.frames,
            "samples": reader.samples,
            "original_samples": reader.original_samples,
            "seconds": reader.samples / reader.header.sample_rate,
        }


@app.command(epilog=EPILOG)
def codecs(as_json: Json = False) -> None:
    """List the codecs: rates, codebooks, size, and whether their weights are here."""
    from audiotok.checkpoint import describe
    from audiotok.registry import names

    rows = [describe(name) for name in names("codecs")]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    keys = [
        "name",
        "sample_rate",
        "frame_rate",
        "codebooks",
        "kbps",
        "parameters",
        "causal",
        "weights",
    ]
    table = Table(*keys)
    for row in rows:
        table.add_row(*(f"{row[key]:,}" if key == "parameters" else str(row[key]) for key in keys))
    shown.print(table)


@app.command(epilog=EPILOG)
def verify(paths: Paths, as_json: Json = False) -> None:
    """Check .tok files to the last byte, and say what is damaged and what can be recovered.

    Examples:
        audiotok verify tokens/
    """
    from audiotok.jobs import plan
    from audiotok.tokfile import TokenFileError
    from audiotok.tokfile import verify as check

    planned = plan(paths, Path(), suffixes=[".tok"], suffix=".tok")
    rows: list[dict[str, Any]] = [
        {"file": file, "ok": False, "damage": [error]} for file, error in planned.errors
    ]
    for source, _ in planned.pairs:
        try:
            rows.append({"file": str(source), **asdict(check(source))})
        except TokenFileError as error:
            rows.append({"file": str(source), "ok": False, "damage": [str(error)]})
    bad = [row for row in rows if not row["ok"]]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        for row in bad:
            left = row.get("recoverable_seconds", 0.0)
            said.print(
                f"[red]damaged[/] {row['file']}: {'; '.join(row['damage'])} "
                f"({left:.2f} s can be recovered)",
                highlight=False,
                soft_wrap=True,
            )
        shown.print(f"{len(rows) - len(bad)} of {len(rows)} files are whole")
    if bad:
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

    Examples:
        audiotok roundtrip talk.wav -o roundtrip/
    """
    from audiotok.roundtrip import roundtrip as work

    result = work(_load(codec, device), path, out, codebooks=codebooks, force=force)
    if as_json:
        print(json.dumps(result, indent=1))
        return
    shown.print(_facts(result["encode"]))
    shown.print(
        _pairs(
            {
                "decoded": f"{result['decode']['target']} "
                f"({result['decode']['speed']:.1f}x real time)",
                "picture": result["picture"],
                **result["scores"],
            }
        )
    )


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

    Examples:
        audiotok train recipes/speech.toml -o runs/speech --set data.batch=32
    """
    from audiotok.recipe import read_recipe
    from audiotok.train.loop import train as work

    weights = work(read_recipe(recipe, settings), out, device=device, minutes=minutes)
    shown.print(f"weights: {weights}")


def main() -> None:
    """Run the command line; errors are one line on stderr."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=said, show_time=False, show_path=False)],
    )
    # A pipe that closes early ends the program quietly, as it does other programs.
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        said.print("interrupted; nothing is half-written, run it again to go on")
        sys.exit(130)
    except (ValueError, OSError, ImportError) as error:
        said.print(f"[red]error[/] {' '.join(str(error).split())}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except Exception as error:
        from click import ClickException

        if isinstance(error, ClickException):
            error.show()
            sys.exit(error.exit_code)
        raise


if __name__ == "__main__":
    main()
