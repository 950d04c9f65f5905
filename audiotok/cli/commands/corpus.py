"""`audiotok corpus`: token corpora, built and looked after."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Codebooks, CodecName, Device, Force, Json

PANEL = "Corpora"

corpus = typer.Typer(no_args_is_help=True, help="Token corpora of any size: build, check, change.")
Folder = Annotated[Path, typer.Argument(help="A corpus: the folder that `build` made.")]
New = Annotated[Path, typer.Option("--out", "-o", help="A new folder.")]


@corpus.command()
def build(
    listing: Annotated[
        str,
        typer.Argument(help="A folder, manifest, archive or URL; see --kind.", metavar="LISTING"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder.")],
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    kind: Annotated[
        str,
        typer.Option(
            help="auto, or folder, table (tsv, csv, jsonl), kaldi, lhotse, webdataset, "
            "huggingface (hf:NAME@SPLIT), parquet."
        ),
    ] = "auto",
    audio: Annotated[
        str, typer.Option(help="Column, or extension of a sample's member, to take of several.")
    ] = "",
    device: Device = "cpu",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes; 0: one a core or GPU.")] = 0,
    readers: Annotated[
        int, typer.Option(help="Threads a process that read and resample; 0: as the device needs.")
    ] = 0,
    group: Annotated[
        int, typer.Option(help="Recordings side by side; 0: 1 on a CPU, 16 on a GPU.")
    ] = 0,
    part: Annotated[
        str,
        typer.Option("--shard", help="i/n: only this part, 0/n to (n-1)/n; `merge` joins them."),
    ] = "0/1",
    shard_mb: Annotated[
        float, typer.Option(min=1e-6, help="Megabytes of codes in a shard, or a little more.")
    ] = 256,
    most_bad: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share that may fail, of all or the first 200 or more."),
    ] = 0.1,
    engine: Annotated[str, typer.Option(help="local, or ray: a Ray cluster.")] = "local",
    commands: Annotated[
        bool, typer.Option("--commands", help="Let the listing run shell commands. Read it first.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would come to, and how long it takes.")
    ] = False,
    keep_changed: Annotated[
        bool, typer.Option("--keep-changed", help="Keep the codes of files that changed since.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode thousands of hours into a token corpus. Run again to go on, whatever ended it.

    Bad recordings go to quarantine.tsv, and the run goes on.

    \b
    Examples:
      audiotok corpus build recordings/ -o tokens
      audiotok corpus build s3://bucket/talks.jsonl -o tokens --dry-run
      audiotok corpus build data/train -o part-3 --shard 3/16
    """
    from audiotok.corpus.build import build as run
    from audiotok.corpus.build.forecast import forecast
    from audiotok.corpus.build.worker import Work

    work = Work(
        codec=codec,
        device=device,
        codebooks=codebooks,
        readers=readers or (1 if device == "cpu" else 8),
        group=group,
        commands=commands,
    )
    options: dict[str, Any] = {
        "kind": kind,
        "audio": audio,
        "part": _part(part),
        "limit": round(shard_mb * (1 << 20)),
    }
    if dry_run:
        foreseen = forecast(listing, work, workers=jobs, **options)
        show.as_json(asdict(foreseen)) if as_json else show.facts(foreseen.words())
        return
    made = run(
        listing,
        out,
        work,
        engine=engine,
        workers=jobs,
        most_bad=most_bad,
        force=force,
        keep_changed=keep_changed,
        **options,
    )
    if as_json:
        show.as_json({**asdict(made), "speed": round(made.speed, 2)})
    else:
        show.facts(made.words())


def _part(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise show.UsageError(f"--shard {text}: write it as 0/16 to 15/16")
    return int(i), int(n)


@corpus.command()
def info(folder: Folder, as_json: Json = False) -> None:
    """Say what a corpus holds."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.check import describe

    facts = describe(Corpus(folder))
    show.as_json(facts) if as_json else show.facts(facts)


@corpus.command()
def verify(
    folders: Annotated[list[Path], typer.Argument(help="Corpora.")], as_json: Json = False
) -> None:
    """Read every byte of corpora, and hold it against checksums, index and rows."""
    from audiotok.corpus.check import verify as check

    rows = []
    for folder in folders:
        for name, found in check(folder):
            rows.append({"corpus": str(folder), "shard": name, "ok": not found, "damage": found})
            for each in found:
                show.error(f"{folder}/{name}: {each}")
    shards = [row["ok"] for row in rows if row["shard"].startswith("shard-")]
    whole = f"{sum(shards)} of {len(shards)} shards are whole"
    show.as_json(rows) if as_json else show.line(whole)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


@corpus.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Corpora, in order.")],
    out: New,
    partial: Annotated[
        bool, typer.Option("--partial", help="Join them though parts of a listing are missing.")
    ] = False,
) -> None:
    """Join corpora, as of `build --shard 0/n` to `(n-1)/n`, into one."""
    from audiotok.corpus.change import merge as join

    made = join(folders, out, partial=partial)
    recordings = sum(files.recordings for files in made.shards)
    show.line(f"{out}: {recordings:,} recordings in {len(made.shards):,} shards")


@corpus.command()
def split(
    folder: Folder,
    out: New,
    share: Annotated[
        list[str] | None, typer.Option("--share", help="NAME=SHARE. Default: dev=0.05.")
    ] = None,
    by: Annotated[str, typer.Option(help="Field whose values are not torn apart.")] = "speaker",
) -> None:
    """Split a corpus into train, dev ... with whole speakers in each.

    \b
    Examples:
      audiotok corpus split tokens -o splits --share dev=0.02 --share test=0.02
    """
    from audiotok.audio.folder import shares
    from audiotok.corpus import Corpus
    from audiotok.corpus.change import split as divide

    made = divide(Corpus(folder), out, shares(share or ["dev=0.05"]), by=by)
    for name, about in made.items():
        recordings = sum(files.recordings for files in about.shards)
        hours = sum(files.samples for files in about.shards) / about.sample_rate / 3600
        show.line(f"{out}/{name}: {recordings:,} recordings, {hours:,.3f} h")


@corpus.command()
def sample(
    folder: Folder,
    out: New,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Recordings.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    codec: Annotated[
        str | None, typer.Option(help="A checkpoint, where the corpus's codec is not here by name.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Decode some recordings of a corpus, drawn at random, to listen to."""
    import random

    from audiotok.codecs.load import load_once
    from audiotok.corpus import Corpus

    tokens = Corpus(folder)
    model = load_once(codec or tokens.codec, device)
    drawn = random.Random(seed).sample(range(len(tokens)), min(count, len(tokens)))
    out.mkdir(parents=True, exist_ok=True)
    for i in sorted(drawn):
        entry = tokens[i]
        path = out / f"{i:06d}.wav"
        model.decode(entry.tokens).save(path)
        show.line("  ".join([str(path), entry.id, str(entry.row.get("text", ""))]).rstrip())


@corpus.command()
def dedup(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A new folder; without, they are listed.")
    ] = None,
) -> None:
    """Find recordings whose audio is the same to the last sample, and leave them out."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.change import dedup as thin
    from audiotok.corpus.change import duplicates

    tokens = Corpus(folder)
    if out is not None:
        made = thin(tokens, out)
        left = sum(files.recordings for files in made.shards)
        show.line(f"{out}: {left:,} of {len(tokens):,} recordings; see duplicates.tsv")
        return
    found = duplicates(tokens)
    for i, first in found:
        show.line(f"{tokens[i].id} is {tokens[first].id}")
    show.line(f"{len(found):,} of {len(tokens):,} recordings are there already")


@corpus.command()
def compress(folder: Folder, out: New, as_json: Json = False) -> None:
    """Entropy-code a corpus without loss; it reads the same, if more slowly."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.squeeze import compress as code

    saved = code(Corpus(folder), out)
    if as_json:
        show.as_json(asdict(saved))
        return
    share = 1 - saved.after / max(1, saved.before)
    show.line(f"{saved.kbps_before:.3f} to {saved.kbps_after:.3f} kbps, {share:.1%} saved")
    for k, (nominal, real) in enumerate(zip(saved.nominal, saved.real, strict=True), 1):
        show.line(
            f"codebook {k:2}: {real:.3f} of {nominal:.3f} bits, {1 - real / nominal:.1%} saved"
        )


@corpus.command()
def expand(folder: Folder, out: New) -> None:
    """Make a compressed corpus what it was, to the byte."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.squeeze import expand as back

    back(Corpus(folder), out)


@corpus.command()
def stats(folder: Folder, as_json: Json = False) -> None:
    """Say how a corpus uses its codebooks, and what its recordings are like."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.usage import usage

    found = usage(Corpus(folder))
    if as_json:
        show.as_json(asdict(found))
        return
    show.facts(
        {
            "frames": f"{found.frames:,}",
            "nominal": f"{found.kbps:.3f} kbps",
            "entropy of single codes": f"{found.entropy_kbps:.3f} kbps",
            "speakers": f"{found.speakers:,}",
            **{f"seconds, {name}": value for name, value in found.lengths.items()},
            **{f"with {name}": f"{count:,}" for name, count in found.fields.items()},
        }
    )
    for book in found.books:
        after = "" if book.given_last is None else f" ({book.given_last:.2f} after the last code)"
        show.line(
            f"codebook {book.codebook:2}: {book.used:,} of {book.size:,} entries used, "
            f"{book.entropy:.2f} bits{after}, "
            f"repeats {book.repeats:.1%}, commonest {book.most:.2%}"
        )
