"""What a corpus holds, and whether every byte of it is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.console import one_line
from audiotok.corpus.base import CODES, CorpusError, hashed
from audiotok.corpus.inputs import INPUTS, inputs_damage
from audiotok.corpus.read import Corpus
from audiotok.corpus.shard import Shard
from audiotok.corpus.write import checksum, sha256


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


def verify(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every shard's name and what is wrong with it, a line a file; every byte is read.

    Files are held against the checksums of corpus.json, which is held against its own; where they
    are right, codes against those of their rows, and rows against the index. corpus.json and the
    lists are named only where they are damaged.
    """
    folder = Path(folder)
    try:
        corpus = Corpus(folder)
    except CorpusError as error:
        yield "corpus.json", [str(error).removeprefix(f"{folder / 'corpus.json'}: ")]
        return
    for name, expected in corpus.about.lists.items():
        if wrong := _changed(folder / name, expected):
            yield name, [wrong]
    if wrong := inputs_damage(folder):
        yield INPUTS, [wrong]
    yield from damage(corpus)


def damage(corpus: Corpus) -> Iterator[tuple[str, list[str]]]:
    """Yield what `verify` does of a corpus's shards."""
    for shard in corpus.shards:
        yield shard.name, list(_damage(shard))
        shard.close()


def _changed(path: Path, expected: str, length: int | None = None) -> str:
    """Say what is wrong with a file; "" if nothing."""
    try:
        size = path.stat().st_size
        if length is not None and size != length:
            return f"{path.name}: {size} bytes, not {length}; restore it"
        return "" if sha256(path) == expected else f"{path.name}: its checksum is another"
    except FileNotFoundError:
        return f"{path.name}: missing; build it again, or restore it"
    except OSError as error:
        return f"{path.name}: cannot be read ({error.strerror or error})"


def _damage(shard: Shard) -> Iterator[str]:
    found = [
        _changed(shard.path(suffix), expected, shard.files.bytes[suffix])
        for suffix, expected in shard.files.sha256.items()
    ]
    if any(found):
        yield from filter(None, found)
        return
    try:
        wrong = [
            str(number)
            for number, entry in enumerate(shard)
            if not _agrees(shard, number, entry.id, entry.row, entry.tokens.codes)
        ]
    except Exception as error:  # as they were written, but not as audiotok writes them
        yield one_line(error) or type(error).__name__
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
    return not any(found for _, found in verify(path))
