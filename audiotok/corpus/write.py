"""Writer of a corpus in shards of bounded size, each complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.console import cell
from audiotok.corpus.base import (
    INDEX,
    CorpusError,
    CorpusInfo,
    ShardFiles,
    hashed,
    header_of,
    info_bytes,
)
from audiotok.corpus.location import storage_of
from audiotok.corpus.storage import Storage, published, sha256, sync
from audiotok.tokens import Header, TokenWriter
from audiotok.tokens.coded import Coded
from audiotok.tokens.errors import explained
from audiotok.tokens.kinds import AnyTokens

SHARD_BYTES = 1 << 28  # bytes of codes in a shard, 256 MiB
QUARANTINE = "quarantine.tsv"
LISTS = (QUARANTINE, "duplicates.tsv")  # files beside the shards
# Fields of a row that audiotok writes.
FACTS = (
    "id",
    "seconds",
    "samples",
    "frames",
    "rate",
    "audio",
    "checksum",
)


def checksum(tokens: Coded) -> int:
    """Return the CRC-32 of frames: codes as little-endian 32-bit integers, latents as stored."""
    return zlib.crc32(tokens.header.raw(tokens.numbers.T))


def row_of(name: str, tokens: AnyTokens, audio: int, more: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a recording: the fields of `FACTS`, then those of the manifest.

    Args:
        name: id of the recording.
        tokens: its tokens.
        audio: 64-bit hash of the samples that the codec encoded.
        more: fields of the manifest; those named in `FACTS` are left out.
    """
    return {
        "id": name,
        "seconds": round(tokens.seconds, 6),
        "samples": tokens.samples,
        "frames": tokens.frames,
        "rate": tokens.original_rate,
        "audio": f"{audio:016x}",
        "checksum": f"{checksum(tokens):08x}",
        **{key: value for key, value in more.items() if key not in FACTS},
    }


def write_shard(
    folder: Path, name: str, header: Header, entries: Iterable[tuple[dict[str, Any], AnyTokens]]
) -> ShardFiles:
    """Write the files of a shard, replacing files of these names.

    Args:
        folder: folder of the corpus.
        name: name of the shard.
        header: header of the recordings.
        entries: rows of `row_of` with their tokens, in order.

    Raises:
        TokenFileError: the disk is full, or the folder cannot be written.
        ValueError: tokens are of another codec.
    """
    header = header_of(header)
    paths = {suffix: folder / f"{name}{suffix}" for suffix in (".tok", ".jsonl", ".npy")}
    index, count = bytearray(), 0  # packed: a list of tuples would take ten times the memory
    frames = samples = at = 0
    with explained(paths[".tok"], "write"), ExitStack() as stack:
        rows = stack.enter_context(published(paths[".jsonl"]))
        writer = stack.enter_context(TokenWriter(paths[".tok"], header, force=True))
        for row, tokens in entries:
            if header_of(tokens.header) != header:
                raise CorpusError(
                    f"{row['id']}: the corpus holds {header}, and these tokens have {tokens.header}"
                )
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            record = (frames, tokens.frames, tokens.original_rate, tokens.samples)
            record += (tokens.original_samples, at, hashed(row["id"]))
            record += (int(row["audio"], 16), int(row["checksum"], 16))
            index += np.array([record], INDEX).tobytes()
            count += 1
            writer.append(tokens.numbers)
            rows.write(line)
            frames, samples, at = frames + tokens.frames, samples + tokens.samples, at + len(line)
        with published(paths[".npy"]) as file:
            records = np.frombuffer(bytes(index), INDEX)
            np.lib.format.write_array(file, records, (1, 0), allow_pickle=False)
    sync(folder)
    return ShardFiles(
        name=name,
        recordings=count,
        frames=frames,
        samples=samples,
        bytes={suffix: path.stat().st_size for suffix, path in paths.items()},
        sha256={suffix: sha256(path) for suffix, path in paths.items()},
    )


class ShardCutter:
    """Decides where shards end, by the size of the codes alone.

    Args:
        header: header of the recordings.
        limit: bytes of codes that fill a shard; the recording that reaches it is its last.
    """

    def __init__(self, header: Header, limit: int = SHARD_BYTES) -> None:
        self.bits = header.frame_bits
        self.limit = limit
        self.filled = 0

    def fills(self, frames: int) -> bool:
        """Add a recording of so many frames, and return whether the shard ends with it."""
        self.filled += frames * self.bits
        if self.filled < 8 * self.limit:
            return False
        self.filled = 0
        return True


def write_corpus(
    folder: Path,
    info: CorpusInfo,
    entries: Iterable[tuple[dict[str, Any], AnyTokens]],
    *,
    limit: int = SHARD_BYTES,
) -> CorpusInfo:
    """Write a whole corpus of rows and tokens.

    Args:
        folder: a new or empty folder.
        info: content of corpus.json without the shards.
        entries: rows of `row_of` with their tokens, in order.
        limit: bytes of codes in a shard.

    Returns:
        The content of corpus.json.

    Raises:
        CorpusError: the folder is not empty.
        TokenFileError: as `write_shard`.
        ValueError: as `write_shard`.
    """
    fresh(folder)
    header, rest, files = info.header, iter(entries), []
    ended = False

    def one(cut: ShardCutter) -> Iterator[tuple[dict[str, Any], AnyTokens]]:
        nonlocal ended
        for row, tokens in rest:
            yield row, tokens
            if cut.fills(tokens.frames):
                return
        ended = True

    while not ended:
        name = shard_name(len(files))
        shard = write_shard(folder, name, header, one(ShardCutter(header, limit)))
        if shard.recordings or not files:
            files.append(shard)
        else:  # the last recording filled the shard before
            for suffix in shard.bytes:
                (folder / f"{name}{suffix}").unlink()
    return write_info(folder, replace(info, shards=tuple(files)))


def shard_name(number: int) -> str:
    """Return the name of a shard."""
    return f"shard-{number:06d}"


def write_info(location: Path | Storage, info: CorpusInfo) -> CorpusInfo:
    """Write corpus.json, which makes the corpus complete.

    Returns:
        Its content, with checksums of the lists that are there.
    """
    storage = storage_of(location)
    written = replace(info, lists=list_sums(read_lists(storage)))
    storage.publish("corpus.json", info_bytes(written))
    return written


def list_sums(lists: Mapping[str, bytes]) -> dict[str, str]:
    """Return name and SHA-256 checksum of the files beside the shards; empty ones are none."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in lists.items() if data}


def read_lists(storage: Storage) -> dict[str, bytes]:
    """Return name and content of the files beside the shards."""
    return storage.read_all(LISTS)


def is_whole(
    storage: Storage, lengths: Mapping[str, int], files: ShardFiles, *, full: bool
) -> bool:
    """Return whether a shard's files are sound.

    Args:
        storage: place of the corpus.
        lengths: length of each file there.
        files: description of the shard's files.
        full: whether to compare checksums, not lengths alone.
    """
    for suffix, length in files.bytes.items():
        name = f"{files.name}{suffix}"
        if lengths.get(name) != length:
            return False
        if full and sha256(storage.fetch(name)) != files.sha256[suffix]:
            return False
    return True


def write_quarantine(location: Path | Storage, failures: Iterable[tuple[str, str, str]]) -> None:
    """Write quarantine.tsv with id, source and reason of each failure; without any, remove it."""
    data = quarantine_bytes(failures)
    storage = storage_of(location)
    storage.publish(QUARANTINE, data) if data else storage.delete([QUARANTINE])


def quarantine_bytes(failures: Iterable[tuple[str, str, str]]) -> bytes:
    """Return the content of quarantine.tsv; nothing without failures."""
    lines = ["\t".join(cell(str(each)) for each in row) for row in failures]
    text = "\n".join(["id\tsource\treason", *lines, ""]) if lines else ""
    return text.encode("utf-8", "replace")


def read_quarantine(storage: Storage) -> list[tuple[str, str, str]]:
    """Return id, source and reason of each failure that quarantine.tsv lists, as it spells them."""
    data = storage.read_all([QUARANTINE]).get(QUARANTINE, b"")
    rows = (line.split("\t") for line in data.decode("utf-8", "replace").splitlines()[1:])
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


def fresh(folder: Path) -> None:
    """Make the folder.

    Raises:
        CorpusError: the folder is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise CorpusError(f"{folder}: not empty; give a new folder")
