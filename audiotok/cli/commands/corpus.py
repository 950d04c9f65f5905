"""`audiotok corpus`: building, checking and changing token corpora."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audiotok._platform.errors import InputError
from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Backend,
    Codebooks,
    CodecName,
    Device,
    Force,
    Half,
    Json,
    Search,
    Threads,
    limit_threads,
)

PANEL = "Corpora"
MISSING = 3  # exit code of a build that is run again and still misses recordings

corpus = typer.Typer(no_args_is_help=True, help="Token corpora of any size: build, check, change.")
Folder = Annotated[str, typer.Argument(help="Folder or URL of a corpus, written by `build`.")]
New = Annotated[Path, typer.Option("--out", "-o", help="Output folder, which must be new.")]


@corpus.command()
def build(
    listing: Annotated[
        str,
        typer.Argument(
            help="Folder, manifest, archive or URL of recordings; see --kind.", metavar="LISTING"
        ),
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", help="Folder of the corpus, or its URL: s3://bucket/folder."),
    ],
    codec: CodecName = "speech",
    codebooks: Codebooks = None,
    half: Half = False,
    search: Search = None,
    kind: Annotated[
        str,
        typer.Option(
            help="Kind of listing: auto, folder, table (tsv, csv, jsonl), kaldi, lhotse, "
            "webdataset, huggingface (hf:NAME@SPLIT), parquet, shar."
        ),
    ] = "auto",
    audio: Annotated[
        str,
        typer.Option(
            help="Column, or extension of a sample's member, that holds the audio, if several do."
        ),
    ] = "",
    backend: Backend = None,
    device: Device = "cpu",
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", help="Number of parallel processes; 0: one a core or GPU."),
    ] = 0,
    threads: Threads = None,
    readers: Annotated[
        int,
        typer.Option(
            help="Threads in each process that read and resample; 0: as the device needs."
        ),
    ] = 0,
    group: Annotated[
        int, typer.Option(help="Recordings encoded together; 0: 1 on a CPU, 16 on a GPU.")
    ] = 0,
    part: Annotated[
        str,
        typer.Option(
            "--shard", help="Part i/n of the listing to encode, 0/n to (n-1)/n; `merge` joins them."
        ),
    ] = "0/1",
    shard_mb: Annotated[
        float,
        typer.Option(min=1e-6, help="Size of a shard in megabytes of codes, or a little more."),
    ] = 256,
    most_bad: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share that may fail, of all or of the first 200 or more."),
    ] = 0.1,
    engine: Annotated[
        str, typer.Option(help="Executor: local processes, or ray for a Ray cluster.")
    ] = "local",
    address: Annotated[
        str,
        typer.Option(
            help="Address of the Ray cluster, HOST:PORT or auto. Default: $RAY_ADDRESS, else the "
            "cluster of this machine, which is started if none runs."
        ),
    ] = "",
    commands: Annotated[
        bool, typer.Option("--commands", help="Allow shell commands in the listing. Read it first.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only estimate the size of the corpus and the time to build it."
        ),
    ] = False,
    keep_changed: Annotated[
        bool,
        typer.Option("--keep-changed", help="Keep the codes of files that have changed since."),
    ] = False,
    retry_quarantined: Annotated[
        bool,
        typer.Option(
            "--retry-quarantined",
            help="Encode anew the recordings that failed in earlier runs, and put them in place.",
        ),
    ] = False,
    accept_missing: Annotated[
        bool,
        typer.Option("--accept-missing", help="End well though recordings have failed."),
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode thousands of hours into a token corpus. Run again to resume after any interruption.

    Recordings that fail are listed in quarantine.tsv, and the run goes on; if they are not too many
    it ends with a warning and exit code 0. A run that finds the corpus done without them, or tries
    them again in vain, ends with exit code 3, unless they are accepted.

    \b
    Examples:
      audiotok corpus build recordings/ -o tokens
      audiotok corpus build s3://bucket/talks.jsonl -o tokens --dry-run
      audiotok corpus build data/train -o s3://bucket/part-3 --shard 3/16
    """
    from audiotok.corpus.build import build as run
    from audiotok.corpus.build.work import Work

    work = Work(
        codec=codec,
        backend=backend or "",
        device=device,
        codebooks=codebooks,
        half=half,
        search=search,
        readers=readers or (1 if device == "cpu" else 8),
        group=group,
        commands=commands,
        threads=threads or 1,
    )
    limit_threads(threads)
    options: dict[str, Any] = {"kind": kind, "audio": audio, "part": _part(part)}
    options["limit"] = round(shard_mb * (1 << 20))
    if dry_run:
        from audiotok.corpus.build.forecast import forecast  # imports torch

        estimate = forecast(listing, work, workers=jobs, **options)
        show.as_json(asdict(estimate)) if as_json else show.facts(estimate.words())
        return
    summary = run(
        listing,
        out,
        work,
        engine=engine,
        address=address,
        workers=jobs,
        most_bad=most_bad,
        force=force,
        keep_changed=keep_changed,
        retry_quarantined=retry_quarantined,
        **options,
    )
    if as_json:
        show.as_json({**asdict(summary), "speed": round(summary.speed, 2)})
    else:
        show.facts(summary.words())
    repeated = retry_quarantined or not summary.run_recordings
    if summary.quarantined and repeated and not accept_missing:
        show.error(f"{out}: recordings are still missing; --accept-missing does without them")
        raise typer.Exit(MISSING)


def _part(text: str) -> tuple[int, int]:
    """Return the part `i/n` of a listing as two numbers."""
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise show.UsageError(f"--shard {text}: write it as 0/16 to 15/16")
    return int(i), int(n)


@corpus.command()
def info(folder: Folder, as_json: Json = False) -> None:
    """Print the facts about a corpus: codec, recordings, hours ..."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.check import describe

    facts = describe(Corpus(folder))
    show.as_json(facts) if as_json else show.facts(facts)


@corpus.command()
def verify(
    folders: Annotated[list[str], typer.Argument(help="Folders or URLs of corpora.")],
    as_json: Json = False,
) -> None:
    """Check every byte of corpora against checksums, index and rows."""
    from audiotok.corpus.check import verify as check

    rows = []
    for folder in folders:
        for name, damage in check(folder):
            rows.append({"corpus": folder, "shard": name, "ok": not damage, "damage": damage})
            for each in damage:
                show.error(f"{folder}/{name}: {each}")
    shards = [row["ok"] for row in rows if row["shard"].startswith("shard-")]
    summary = f"{sum(shards)} of {len(shards)} shards are whole"
    show.as_json(rows) if as_json else show.line(summary)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


@corpus.command()
def merge(
    folders: Annotated[
        list[str],
        typer.Argument(help="Folders or URLs of corpora, in the order in which to join them."),
    ],
    out: New,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Join corpora even if parts of the listing are missing."),
    ] = False,
) -> None:
    """Join corpora into one, e.g. those of `build --shard 0/n` to `(n-1)/n`.

    Run again, it finds that it is done, and ends well.
    """
    from audiotok.corpus.change import merge as join

    there = out.exists()
    merged = join(folders, out, partial=partial)
    recordings = sum(files.recordings for files in merged.shards)
    done = "; nothing left to do" if there else ""
    show.line(f"{out}: {recordings:,} recordings in {len(merged.shards):,} shards{done}")


@corpus.command()
def split(
    folder: Folder,
    out: New,
    share: Annotated[
        list[str] | None,
        typer.Option(
            "--share", help="Split and its share, NAME=SHARE. Repeatable. Default: dev=0.05."
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Field of rows; recordings with the same value stay in one split.")
    ] = "speaker",
) -> None:
    """Split a corpus into train, dev ... with each speaker in one split only.

    \b
    Examples:
      audiotok corpus split tokens -o splits --share dev=0.02 --share test=0.02
    """
    from audiotok.audio.folder import shares
    from audiotok.corpus import Corpus
    from audiotok.corpus.change import split as divide

    splits = divide(Corpus(folder), out, shares(share or ["dev=0.05"]), by=by)
    for name, part in splits.items():
        recordings = sum(files.recordings for files in part.shards)
        hours = sum(files.samples for files in part.shards) / part.sample_rate / 3600
        show.line(f"{out}/{name}: {recordings:,} recordings, {hours:,.3f} h")


@corpus.command()
def sample(
    folder: Folder,
    out: New,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of recordings.")] = 10,
    seed: Annotated[int, typer.Option(help="Random seed for drawing recordings.")] = 0,
    codec: Annotated[
        str | None,
        typer.Option(help="Checkpoint to decode with. Default: the codec that the corpus names."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Decode recordings of a corpus, drawn at random, to listen to."""
    import random

    from audiotok.codecs.external import is_import
    from audiotok.codecs.load import load_once
    from audiotok.corpus import Corpus

    tokens = Corpus(folder)
    if codec is None and is_import(tokens.codec):
        raise InputError(f"{folder}: names code as its codec, {tokens.codec!r}; give --codec")
    model = load_once(codec or tokens.codec, device)
    drawn = random.Random(seed).sample(range(len(tokens)), min(count, len(tokens)))
    for i in sorted(drawn):
        entry = tokens[i]
        path = out / f"{i:06d}.wav"
        audio = model.decode(entry.tokens)  # which a tokenizer without a decoder refuses
        out.mkdir(parents=True, exist_ok=True)
        audio.save(path)
        show.line("  ".join([str(path), entry.id, str(entry.row.get("text", ""))]).rstrip())


@corpus.command()
def dedup(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Output folder, which must be new. Default: only list duplicates."
        ),
    ] = None,
) -> None:
    """Find recordings whose audio is equal to the last sample, and leave out all but one."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.change import dedup as without_duplicates
    from audiotok.corpus.change import duplicates

    tokens = Corpus(folder)
    if out is not None:
        deduplicated = without_duplicates(tokens, out)
        left = sum(files.recordings for files in deduplicated.shards)
        show.line(f"{out}: {left:,} of {len(tokens):,} recordings; see duplicates.tsv")
        return
    pairs = duplicates(tokens)
    for i, first in pairs:
        show.line(f"{tokens[i].id} is {tokens[first].id}")
    show.line(f"{len(pairs):,} of {len(tokens):,} recordings are there already")


@corpus.command()
def compress(folder: Folder, out: New, as_json: Json = False) -> None:
    """Compress a corpus losslessly by entropy coding; it reads the same, but more slowly."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.compression import compress as code

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
    """Restore a compressed corpus byte for byte."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.compression import expand as back

    back(Corpus(folder), out)


@corpus.command()
def stats(folder: Folder, as_json: Json = False) -> None:
    """Print statistics of a corpus: use of codebooks, lengths, speakers and fields."""
    from audiotok.corpus import Corpus
    from audiotok.corpus.usage import usage

    statistics = usage(Corpus(folder))
    if as_json:
        show.as_json(asdict(statistics))
        return
    show.facts(
        {
            "frames": f"{statistics.frames:,}",
            "nominal": f"{statistics.kbps:.3f} kbps",
            "entropy of single codes": f"{statistics.entropy_kbps:.3f} kbps",
            "speakers": f"{statistics.speakers:,}",
            **{f"seconds, {name}": value for name, value in statistics.lengths.items()},
            **{f"with {name}": f"{count:,}" for name, count in statistics.fields.items()},
        }
    )
    for book in statistics.books:
        after = "" if book.given_last is None else f" ({book.given_last:.2f} after the last code)"
        show.line(
            f"codebook {book.codebook:2}: {book.entries}; "
            f"{book.entropy:.2f} bits{after}, "
            f"repeats {book.repeats:.1%}, commonest {book.most:.2%}"
        )
