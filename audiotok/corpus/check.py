"""What a corpus holds, and whether every byte of it is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from audiotok.corpus.base import CorpusError, hashed
from audiotok.corpus.read import Corpus
from audiotok.corpus.shard import Shard
from audiotok.corpus.write import checksum, sha256

CODES = (".tok", ".ans")  # files of codes


def describe(corpus: Corpus) -> dict[str, Any]:
    """A corpus as plain data: codec, rates, lengths, sizes."""
    about = corpus.about
    size = sum(sum(files.bytes.values()) for files in about.shards)
    codes = sum(n for f in about.shards for suffix, n in f.bytes.items() if suffix in CODES)
    seconds = max(corpus.seconds, 1e-9)
    lengths = np.concatenate([np.zeros(0), *(s.index["samples"] for s in corpus.shards)])
    return {
        "corpus": str(corpus.path),
        "codec": about.codec,
        "fingerprint": about.fingerprint,
        "codebooks": corpus.codebooks,
        "sizes": list(about.sizes),
        "sample_rate": about.sample_rate,
        "frame_size": about.frame_size,
        "frame_rate": round(corpus.frame_rate, 4),
        "recordings": len(corpus),
        "hours": round(corpus.seconds / 3600, 4),
        "shortest": round(float(lengths.min(initial=np.inf)) / about.sample_rate, 3)
        if len(lengths)
        else 0.0,
        "longest": round(float(lengths.max(initial=0)) / about.sample_rate, 3),
        "frames": corpus.frames,
        "tokens": corpus.frames * corpus.codebooks,
        "shards": len(about.shards),
        "bytes": size,
        "kbps_of_codes": round(8 * codes / seconds / 1000, 4),
        "kbps_in_all": round(8 * size / seconds / 1000, 4),
        "quarantined": about.quarantined,
        "job": about.job,
    }


def damage(corpus: Corpus) -> Iterator[tuple[str, list[str]]]:
    """Of every shard its name and what is wrong with it; every byte is read.

    Files are held against the checksums of corpus.json, codes against those of their rows, and
    rows against the index.
    """
    for shard in corpus.shards:
        yield shard.name, list(_damage(shard))
        shard.close()


def _damage(shard: Shard) -> Iterator[str]:
    for suffix, expected in shard.files.sha256.items():
        path = shard.path(suffix)
        if not path.is_file():
            yield f"{path.name}: missing; build it again, or restore it"
            return
        length = path.stat().st_size
        if length != shard.files.bytes[suffix]:
            yield f"{path.name}: {length} bytes, not {shard.files.bytes[suffix]}"
        elif sha256(path) != expected:
            yield f"{path.name}: its checksum is another"
    try:
        wrong = [
            str(number)
            for number, entry in enumerate(shard)
            if not _agrees(shard, number, entry.id, entry.row, entry.tokens.codes)
        ]
    except (CorpusError, ValueError, KeyError, IndexError, StopIteration) as error:
        yield str(error)
        return
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        yield f"recordings {', '.join(wrong[:5])}{more}: codes, row and index do not agree"


def _agrees(shard: Shard, i: int, name: str, row: dict[str, Any], codes: np.ndarray) -> bool:
    at = shard.index[i]
    return (
        int(at["crc"]) == checksum(codes) == int(row["checksum"], 16)
        and int(at["id"]) == hashed(name)
        and (int(at["frames"]), int(at["samples"])) == (row["frames"], row["samples"])
        and codes.shape[1] == row["frames"]
    )


def whole(path: str | Path) -> bool:
    """Whether a corpus has no damage at all."""
    return not any(found for _, found in damage(Corpus(path)))
