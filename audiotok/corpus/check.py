"""Description and verification of a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.console import one_line
from audiotok.corpus.base import CODES, CorpusError, hashed
from audiotok.corpus.inputs import INPUTS, inputs_damage
from audiotok.corpus.location import storage_of
from audiotok.corpus.read import Corpus
from audiotok.corpus.shard import Entry, Shard
from audiotok.corpus.storage import Storage, StorageError, sha256
from audiotok.corpus.write import checksum


def describe(corpus: Corpus) -> dict[str, Any]:
    """Return a description of a corpus as plain data: codec, rates, lengths, sizes."""
    info = corpus.info
    size = sum(sum(files.bytes.values()) for files in info.shards)
    codes = sum(n for f in info.shards for suffix, n in f.bytes.items() if suffix in CODES)
    seconds = max(corpus.seconds, 1e-9)
    lengths = np.concatenate([np.zeros(0), *(s.index["samples"] for s in corpus.shards)])
    return {
        "corpus": corpus.location,
        "codec": info.codec,
        "fingerprint": info.fingerprint,
        "codebooks": corpus.codebooks,
        "sizes": list(info.sizes),
        **({"width": info.width, "dtype": info.dtype} if info.width else {}),
        "sample_rate": info.sample_rate,
        "frame_size": info.frame_size,
        "frame_rate": round(corpus.frame_rate, 4),
        "recordings": len(corpus),
        "hours": round(corpus.seconds / 3600, 4),
        "shortest": round(float(lengths.min(initial=np.inf)) / info.sample_rate, 3)
        if len(lengths)
        else 0.0,
        "longest": round(float(lengths.max(initial=0)) / info.sample_rate, 3),
        "frames": corpus.frames,
        "tokens": corpus.frames * (corpus.codebooks or 1),
        "shards": len(info.shards),
        "bytes": size,
        "kbps_of_codes": round(8 * codes / seconds / 1000, 4),
        "kbps_in_all": round(8 * size / seconds / 1000, 4),
        "quarantined": info.quarantined,
        "job": info.job,
    }


def verify(folder: str | Path | Storage) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of every shard and a list of its faults, reading every byte.

    Files are compared with the checksums of corpus.json, which has its own. Where they match, codes
    are compared with the checksums of their rows, and rows with the index. corpus.json and the
    lists are yielded only if they are damaged.
    """
    storage = storage_of(folder)
    try:
        corpus = Corpus(storage)
    except CorpusError as error:
        yield "corpus.json", [str(error).removeprefix(f"{storage.name}/corpus.json: ")]
        return
    for name, expected in corpus.info.lists.items():
        if wrong := _changed(storage, name, expected):
            yield name, [wrong]
    if wrong := inputs_damage(storage):
        yield INPUTS, [wrong]
    yield from damage(corpus)


def damage(corpus: Corpus) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of every shard and a list of its faults, as `verify` does."""
    for shard in corpus.shards:
        yield shard.name, list(_damage(shard))
        shard.close()


def _changed(storage: Storage, name: str, expected: str, length: int | None = None) -> str:
    """Return the fault of a file; "" if there is none."""
    try:
        path = storage.fetch(name)
        size = path.stat().st_size
        if length is not None and size != length:
            return f"{name}: {size} bytes, not {length}; restore it"
        return "" if sha256(path) == expected else f"{name}: its checksum is another"
    except FileNotFoundError:
        return f"{name}: missing; build it again, or restore it"
    except StorageError:  # nothing is known of the file
        raise
    except OSError as error:
        return f"{name}: cannot be read ({error.strerror or error})"


def _damage(shard: Shard) -> Iterator[str]:
    faults = [
        _changed(shard.storage, f"{shard.name}{suffix}", expected, shard.files.bytes[suffix])
        for suffix, expected in shard.files.sha256.items()
    ]
    if any(faults):
        yield from filter(None, faults)
        return
    try:
        wrong = [
            str(number) for number, entry in enumerate(shard) if not _agrees(shard, number, entry)
        ]
    except Exception as error:  # the checksums match, but audiotok did not write these files
        yield one_line(error) or type(error).__name__
        return
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        yield f"recordings {', '.join(wrong[:5])}{more}: codes, row and index do not agree"


def _agrees(shard: Shard, i: int, entry: Entry) -> bool:
    record, row = shard.index[i], entry.row
    return (
        int(record["crc"]) == checksum(entry.tokens) == int(row["checksum"], 16)
        and int(record["id"]) == hashed(entry.id)
        and (int(record["frames"]), int(record["samples"])) == (row["frames"], row["samples"])
        and entry.tokens.frames == row["frames"]
    )


def is_sound(path: str | Path | Storage) -> bool:
    """Return whether a corpus has no damage."""
    return not any(faults for _, faults in verify(path))
