"""Writer of a corpus in shards of bounded size, each complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.atomic import atomic_file
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
from audiotok.tokens import Header, TokenWriter
from audiotok.tokens.format import explained
from audiotok.tokens.tokens import Tokens

SHARD_BYTES = 1 << 28  # bytes of codes in a shard, 256 MiB
LISTS = ("quarantine.tsv", "duplicates.tsv")  # files beside the shards
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


def checksum(codes: np.ndarray) -> int:
    """Return the CRC-32 of codes `[k f]`, frame by frame, as little-endian 32-bit integers."""
    return zlib.crc32(codes.T.astype("<i4").tobytes())


def row_of(name: str, tokens: Tokens, audio: int, more: dict[str, Any]) -> dict[str, Any]:
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
        "checksum": f"{checksum(tokens.codes):08x}",
        **{key: value for key, value in more.items() if key not in FACTS},
    }


def tokens_of(
    info: CorpusInfo, codes: np.ndarray, samples: int, rate: int, original: int
) -> Tokens:
    """Return codes as tokens of a corpus's codec.

    Args:
        info: content of corpus.json.
        codes: codes `[k f]`.
        samples: length in samples at the codec's rate.
        rate: original sample rate in Hz.
        original: length in samples at the original rate.
    """
    return Tokens(
        codes=codes,
        size=info.sizes,
        codec=info.codec,
        fingerprint=info.fingerprint,
        sample_rate=info.sample_rate,
        frame_size=info.frame_size,
        samples=samples,
        original_rate=rate,
        original_samples=original,
        channels=info.channels,
        semantic_codebooks=info.semantic_codebooks,
    )


def write_shard(
    folder: Path, name: str, header: Header, entries: Iterable[tuple[dict[str, Any], Tokens]]
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
        rows = stack.enter_context(_published(paths[".jsonl"]))
        writer = stack.enter_context(TokenWriter(paths[".tok"], header, force=True))
        for row, tokens in entries:
            if header_of(tokens.header) != header:
                raise CorpusError(f"{row['id']}: tokens of {tokens.codec} {tokens.fingerprint}")
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            record = (frames, tokens.frames, tokens.original_rate, tokens.samples)
            record += (tokens.original_samples, at, hashed(row["id"]))
            record += (int(row["audio"], 16), int(row["checksum"], 16))
            index += np.array([record], INDEX).tobytes()
            count += 1
            writer.append(tokens.codes)
            rows.write(line)
            frames, samples, at = frames + tokens.frames, samples + tokens.samples, at + len(line)
        with _published(paths[".npy"]) as file:
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
    entries: Iterable[tuple[dict[str, Any], Tokens]],
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

    def one(cut: ShardCutter) -> Iterator[tuple[dict[str, Any], Tokens]]:
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


def write_info(folder: Path, info: CorpusInfo) -> CorpusInfo:
    """Write corpus.json, which makes the corpus complete.

    Returns:
        Its content, with checksums of the lists in the folder.
    """
    lists = {name: sha256(folder / name) for name in LISTS if (folder / name).is_file()}
    written = replace(info, lists=lists)
    publish(folder / "corpus.json", info_bytes(written))
    sync(folder)
    return written


def write_quarantine(folder: Path, failures: Iterable[tuple[str, str, str]]) -> None:
    """Write quarantine.tsv with id, source and reason of each failure; without any, remove it."""
    path = folder / "quarantine.tsv"
    lines = ["\t".join(cell(str(each)) for each in row) for row in failures]
    if lines:
        publish(path, "\n".join(["id\tsource\treason", *lines, ""]).encode("utf-8", "replace"))
    else:
        path.unlink(missing_ok=True)


def publish(path: Path, data: bytes) -> None:
    """Write a small file atomically, and flush it to the disk."""
    with _published(path) as file:
        file.write(data)


def fresh(folder: Path) -> None:
    """Make the folder.

    Raises:
        CorpusError: the folder is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise CorpusError(f"{folder}: not empty; give a new folder")


@contextmanager
def _published(path: Path) -> Iterator[Any]:
    """Open a file that appears under its name when it is complete and on the disk."""
    with explained(path, "write"), atomic_file(path) as part, part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Flush the names in a folder to the disk, where a folder can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def link(source: Path, target: Path) -> None:
    """Link a file under another name, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
