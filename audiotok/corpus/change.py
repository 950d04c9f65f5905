"""New corpora out of old ones: joined, split, without what is there twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from audiotok.corpus.base import About, CorpusError, Files
from audiotok.corpus.read import Corpus
from audiotok.corpus.shard import Shard
from audiotok.corpus.write import (
    SHARD_BYTES,
    link,
    shard_name,
    write_about,
    write_corpus,
    write_quarantine,
)
from audiotok.io.folder import drawn
from audiotok.io.part import complete_folder
from audiotok.tokens import Tokens

Entries = Iterator[tuple[dict[str, Any], Tokens]]


def merge(paths: Sequence[str | Path], out: str | Path) -> About:
    """One corpus of several, in the order given; shards are linked, or else copied, not rewritten.

    Raises:
        CorpusError: they are of different codecs or weights, have an id in common, or `out` is
            there already.
    """
    corpora = [Corpus(path) for path in paths]
    if not corpora:
        raise CorpusError("nothing to merge: name at least one corpus")
    first = corpora[0].about
    for corpus in corpora[1:]:
        if corpus.about.header != first.header:
            what = f"{corpus.codec} {corpus.fingerprint} with {corpus.codebooks} codebooks"
            raise CorpusError(f"{corpus.path}: made by {what}, not as {corpora[0].path} is")
    _check_ids(corpora)
    shards: list[Files] = []
    failures: list[tuple[str, str, str]] = []
    with _new(out) as folder:
        for corpus in corpora:
            failures += _quarantined(corpus.path)
            for shard in corpus.shards:
                name = shard_name(len(shards))
                for suffix in shard.files.bytes:
                    link(shard.path(suffix), folder / f"{name}{suffix}")
                shards.append(replace(shard.files, name=name))
        write_quarantine(folder, failures)
        job = {"merged": [corpus.about.job for corpus in corpora]}
        quarantined = sum(corpus.about.quarantined for corpus in corpora)
        made = replace(first, shards=tuple(shards), quarantined=quarantined, job=job)
        write_about(folder, made)
    return made


def _check_ids(corpora: Sequence[Corpus]) -> None:
    parts = [shard.index["id"] for corpus in corpora for shard in corpus.shards]
    hashes = np.sort(np.concatenate([np.zeros(0, np.uint64), *parts]))
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not twice:
        return
    seen: dict[str, Path] = {}
    for corpus in corpora:
        for shard in corpus.shards:
            for i in np.flatnonzero(np.isin(shard.index["id"], list(twice))):
                name = shard.row(int(i))["id"]
                if name in seen:
                    raise CorpusError(f"{corpus.path}: {name!r} is in {seen[name]} too")
                seen[name] = corpus.path


def _quarantined(folder: Path) -> list[tuple[str, str, str]]:
    path = folder / "quarantine.tsv"
    lines = path.read_text("utf-8").splitlines()[1:] if path.is_file() else []
    rows = (line.split("\t") for line in lines)
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


def split(
    corpus: Corpus, out: str | Path, shares: Mapping[str, float], *, by: str = "speaker"
) -> dict[str, About]:
    """Several corpora, each with whole speakers; the rest is "train".

    Drawn by a hash of the speaker's name: the same everywhere, and new speakers move no others.

    Args:
        corpus: what to split.
        out: a new folder; each split becomes a folder in it.
        shares: name -> share of speakers.
        by: the field of the rows that is kept together; recordings without it go by their id.

    Raises:
        CorpusError: `out` is there already.
    """
    groups = (_group(row, by) for shard in corpus.shards for row in shard.rows())
    chosen = drawn(set(groups), shares)
    made = {}
    with _new(out) as folder:
        for name in ("train", *shares):
            kept = lambda shard, i, row, name=name: chosen[_group(row, by)] == name  # noqa: E731
            job = {"split": name, "by": by, "shares": dict(shares), "of": corpus.about.job}
            made[name] = _kept(corpus, folder / name, kept, job)
    return made


def _group(row: dict[str, Any], by: str) -> str:
    value = row.get(by)
    return f"{by} {value}" if value not in (None, "") else f"id {row['id']}"


def duplicates(corpus: Corpus) -> list[tuple[int, int]]:
    """Recordings whose audio is that of an earlier one to the last sample: (its place, the first).

    Compared are the samples that the codec was given, by a 64-bit hash, and the codes.
    """
    fields = ("audio", "samples", "crc")
    parts = [np.stack([s.index[f].astype(np.uint64) for f in fields]) for s in corpus.shards]
    keys = np.concatenate([np.zeros((3, 0), np.uint64), *parts], 1)
    order = np.lexsort((np.arange(keys.shape[1]), *keys))
    found = []
    first = -1
    for before, i in zip(np.append(-1, order[:-1]), order, strict=False):
        if before >= 0 and (keys[:, before] == keys[:, i]).all():
            found.append((int(i), int(first)))
        else:
            first = i
    return sorted(found)


def dedup(corpus: Corpus, out: str | Path) -> About:
    """The corpus without its `duplicates`; of each the first stays.

    duplicates.tsv in the new folder says what went, and what it was the same as.

    Raises:
        CorpusError: `out` is there already.
    """
    twice = dict(duplicates(corpus))
    starts = dict(zip(map(id, corpus.shards), corpus._starts, strict=False))

    def kept(shard: Shard, i: int, row: dict[str, Any]) -> bool:
        return int(starts[id(shard)]) + i not in twice

    with _new(out) as folder:
        made = _kept(corpus, folder, kept, {"dedup": corpus.about.job})
        lines = ["id\tsame_as"]
        for i, first in twice.items():
            names = [str(corpus[place].id) for place in (i, first)]
            lines.append("\t".join(" ".join(name.split()) for name in names))
        (folder / "duplicates.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return made


def _kept(
    corpus: Corpus,
    folder: Path,
    keep: Callable[[Shard, int, dict[str, Any]], bool],
    job: dict[str, Any],
) -> About:
    """A corpus of the recordings that are kept, in shards as large as the largest here."""

    def entries() -> Entries:
        for shard in corpus.shards:
            for i, entry in enumerate(shard):
                if keep(shard, i, entry.row):
                    yield entry.row, entry.tokens
            shard.close()

    most = max((_bytes(files) for files in corpus.about.shards), default=SHARD_BYTES)
    about = replace(corpus.about, shards=(), quarantined=0, job=job)
    return write_corpus(folder, about, entries(), limit=most)


def _bytes(files: Files) -> int:
    return files.bytes.get(".tok", files.bytes.get(".ans", 0))


@contextmanager
def _new(out: str | Path) -> Iterator[Path]:
    out = Path(out)
    if out.exists():
        raise CorpusError(f"{out}: exists already; name a new folder")
    with complete_folder(out) as folder:
        yield folder
