"""Corpora made from other corpora: merged, split, or without duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.atomic import atomic_folder
from audiotok._platform.console import cell
from audiotok.audio.folder import draw_splits
from audiotok.corpus.base import CorpusError, CorpusInfo, ShardFiles, read_info
from audiotok.corpus.location import folder_of, storage_of
from audiotok.corpus.read import Corpus
from audiotok.corpus.shard import Shard
from audiotok.corpus.storage import link, publish
from audiotok.corpus.write import (
    QUARANTINE,
    SHARD_BYTES,
    is_whole,
    list_sums,
    quarantine_bytes,
    read_quarantine,
    shard_name,
    write_corpus,
    write_info,
    write_quarantine,
)
from audiotok.tokens.kinds import AnyTokens

Entries = Iterator[tuple[dict[str, Any], AnyTokens]]


def merge(paths: Sequence[str | Path], out: str | Path, *, partial: bool = False) -> CorpusInfo:
    """Merge corpora in the given order; shards are linked (or copied) and not rewritten.

    Args:
        paths: folders or URLs of the corpora.
        out: a new folder, or one that this merge has been written to already, which is left alone.
        partial: whether parts of a listing may be missing.

    Returns:
        The content of the new corpus.json.

    Raises:
        CorpusError: the corpora have different codecs or weights or a common id, a part of a
            listing is missing, or `out` holds something else.
    """
    corpora = [Corpus(path) for path in paths]
    if not corpora:
        raise CorpusError("nothing to merge: name at least one corpus")
    first = corpora[0].info
    for corpus in corpora[1:]:
        if corpus.info.header != first.header:
            one, other = asdict(corpus.info.header), asdict(first.header)
            differ = ", ".join(name for name in one if one[name] != other[name])
            what = f"made by {corpus.codec} {corpus.fingerprint}, not as {corpora[0].location} is"
            raise CorpusError(f"{corpus.location}: {what} (it differs in {differ})")
    _check_ids(corpora)
    missing = missing_parts([corpus.info.job for corpus in corpora])
    if missing and not partial:
        raise CorpusError(
            f"missing: {missing}; name their corpora too, or say that the merge is partial"
        )
    shards = [shard for corpus in corpora for shard in corpus.shards]
    failures = [bad for corpus in corpora for bad in read_quarantine(corpus.storage)]
    info = replace(
        first,
        shards=tuple(replace(s.files, name=shard_name(i)) for i, s in enumerate(shards)),
        quarantined=sum(corpus.info.quarantined for corpus in corpora),
        job={"merged": [corpus.info.job for corpus in corpora]},
        lists=list_sums({QUARANTINE: quarantine_bytes(failures)}),
    )
    out = folder_of(out)
    if _is_there(info, out):
        return info
    try:
        _write_merged(shards, failures, info, out)
    except OSError:  # another process may have written the same meanwhile
        if not _is_there(info, out):
            raise
    return info


def _write_merged(
    shards: Sequence[Shard], failures: Sequence[tuple[str, str, str]], info: CorpusInfo, out: Path
) -> None:
    with _new(out) as folder:
        for shard, files in zip(shards, info.shards, strict=True):
            for suffix in files.bytes:
                link(shard.path(suffix), folder / f"{files.name}{suffix}")
            shard.close()
        write_quarantine(folder, failures)
        write_info(folder, info)


def _is_there(info: CorpusInfo, out: Path) -> bool:
    """Return whether a folder holds exactly this corpus, as far as names and lengths tell."""
    storage = storage_of(out)
    if not storage.exists("corpus.json") or read_info(storage) != info:
        return False
    lengths = storage.lengths()
    return all(is_whole(storage, lengths, files, full=False) for files in info.shards)


def missing_parts(jobs: Sequence[dict[str, Any]]) -> str:
    """Return a description of the parts of listings that are missing among corpora.

    Args:
        jobs: `job` of each corpus.json, of merged corpora too.

    Returns:
        Missing parts by listing; "" if there are none, or no corpus is a part.
    """
    known_parts: dict[tuple[str, int], set[int]] = {}
    for job in _leaves(jobs):
        i, _, n = str(job.get("part", "")).partition("/")
        if i.isdecimal() and n.isdecimal():
            known_parts.setdefault((str(job.get("listing")), int(n)), set()).add(int(i))
    descriptions = []
    for (listing, n), parts in known_parts.items():
        missing = [f"{i}/{n}" for i in range(n) if i not in parts]
        if missing:
            more = f" and {len(missing) - 9} more" if len(missing) > 9 else ""
            descriptions.append(f"part {', '.join(missing[:9])}{more} of {listing}")
    return " and ".join(descriptions)


def _leaves(jobs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the jobs of builds, also those inside the jobs of merged corpora."""
    for job in jobs:
        inner = job.get("merged")
        if isinstance(inner, list):
            yield from _leaves([each for each in inner if isinstance(each, dict)])
        else:
            yield job


def _check_ids(corpora: Sequence[Corpus]) -> None:
    parts = [shard.index["id"] for corpus in corpora for shard in corpus.shards]
    hashes = np.sort(np.concatenate([np.zeros(0, np.uint64), *parts]))
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not twice:
        return
    seen: dict[str, str] = {}
    for corpus in corpora:
        for shard in corpus.shards:
            for i in np.flatnonzero(np.isin(shard.index["id"], list(twice))):
                name = shard.row(int(i))["id"]
                if name in seen:
                    raise CorpusError(f"{corpus.location}: {name!r} is in {seen[name]} too")
                seen[name] = corpus.location


def split(
    corpus: Corpus, out: str | Path, shares: Mapping[str, float], *, by: str = "speaker"
) -> dict[str, CorpusInfo]:
    """Split a corpus by speaker into several; the speakers that are left go to "train".

    The field `split` of each row becomes the name of its split, by which training selects rows of
    the `merge` of them; what a listing said there is replaced. Speakers are drawn by a hash of
    their name, so the split is the same everywhere, and new speakers do not move others.

    Args:
        corpus: the corpus to split.
        out: a new folder; each split becomes a folder in it.
        shares: name of a split -> share of the speakers.
        by: field of the rows whose values are kept together; recordings without it go by id.

    Returns:
        Name of a split -> content of its corpus.json.

    Raises:
        CorpusError: `out` exists.
    """
    groups = (_group(row, by) for shard in corpus.shards for row in shard.rows())
    chosen = draw_splits(set(groups), shares)
    splits = {}
    with _new(out) as folder:
        for name in ("train", *shares):
            kept = lambda shard, i, row, name=name: chosen[_group(row, by)] == name  # noqa: E731
            job = {"split": name, "by": by, "shares": dict(shares), "of": corpus.info.job}
            splits[name] = _kept(corpus, folder / name, kept, job, {"split": name})
    return splits


def _group(row: dict[str, Any], by: str) -> str:
    value = row.get(by)
    return f"{by} {value}" if value not in (None, "") else f"id {row['id']}"


def duplicates(corpus: Corpus) -> list[tuple[int, int]]:
    """Find recordings whose audio equals that of an earlier recording, sample for sample.

    Compared are the samples that the codec encoded, by a 64-bit hash, and the codes.

    Returns:
        Pairs (number of the recording, number of the first with the same audio), sorted.
    """
    fields = ("audio", "samples", "crc")
    parts = [np.stack([s.index[f].astype(np.uint64) for f in fields]) for s in corpus.shards]
    keys = np.concatenate([np.zeros((3, 0), np.uint64), *parts], 1)
    order = np.lexsort((np.arange(keys.shape[1]), *keys))
    pairs = []
    first = -1
    for before, i in zip(np.append(-1, order[:-1]), order, strict=False):
        if before >= 0 and (keys[:, before] == keys[:, i]).all():
            pairs.append((int(i), int(first)))
        else:
            first = i
    return sorted(pairs)


def dedup(corpus: Corpus, out: str | Path) -> CorpusInfo:
    """Write a corpus without its `duplicates`, keeping the first of each.

    duplicates.tsv in the new folder lists the removed ids, each with the id that it equals.

    Args:
        corpus: the corpus.
        out: a new folder.

    Returns:
        The content of the new corpus.json.

    Raises:
        CorpusError: `out` exists.
    """
    repeated = dict(duplicates(corpus))
    starts = dict(zip(map(id, corpus.shards), corpus._starts, strict=False))

    def kept(shard: Shard, i: int, row: dict[str, Any]) -> bool:
        return int(starts[id(shard)]) + i not in repeated

    with _new(out) as folder:
        info = _kept(corpus, folder, kept, {"dedup": corpus.info.job})
        lines = ["id\tsame_as"]
        for i, first in repeated.items():
            names = [str(corpus[number].id) for number in (i, first)]
            lines.append("\t".join(map(cell, names)))
        publish(folder / "duplicates.tsv", ("\n".join(lines) + "\n").encode())
        info = write_info(folder, info)
    return info


def _kept(
    corpus: Corpus,
    folder: Path,
    keep: Callable[[Shard, int, dict[str, Any]], bool],
    job: dict[str, Any],
    fields: Mapping[str, Any] | None = None,
) -> CorpusInfo:
    """Write a corpus of the kept recordings, in shards up to the size of the largest here.

    Args:
        corpus: the corpus.
        folder: a new folder.
        keep: whether a recording is kept, by its shard, its number there and its row.
        job: `job` of the new corpus.json.
        fields: fields that rows get, in the place of their own of that name.

    Returns:
        The content of the new corpus.json.
    """

    def entries() -> Entries:
        for shard in corpus.shards:
            for i, entry in enumerate(shard):
                if keep(shard, i, entry.row):
                    yield {**entry.row, **(fields or {})}, entry.tokens
            shard.close()

    most = max((_bytes(files) for files in corpus.info.shards), default=SHARD_BYTES)
    info = replace(corpus.info, shards=(), quarantined=0, job=job)
    return write_corpus(folder, info, entries(), limit=most)


def _bytes(files: ShardFiles) -> int:
    return files.bytes.get(".tok", files.bytes.get(".ans", 0))


@contextmanager
def _new(out: str | Path) -> Iterator[Path]:
    out = folder_of(out)
    if out.exists():
        raise CorpusError(f"{out}: exists already; name a new folder")
    with atomic_folder(out) as folder:
        yield folder
