"""Writing a corpus: recordings in, shards of bounded size out, each complete or not at all."""

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

from audiotok._platform.atomic import complete
from audiotok._platform.console import cell
from audiotok.corpus.base import (
    INDEX,
    About,
    CorpusError,
    Files,
    about_bytes,
    hashed,
    header_of,
)
from audiotok.tokens import Header, TokenWriter
from audiotok.tokens.format import explained
from audiotok.tokens.tokens import Tokens

SHARD_BYTES = 1 << 28  # of codes in a shard: 256 MiB
LISTS = ("quarantine.tsv", "duplicates.tsv")  # beside the shards
FACTS = ("id", "seconds", "samples", "frames", "rate", "audio", "checksum")  # ours in a row


def checksum(codes: np.ndarray) -> int:
    """CRC-32 of codes [k f], frame after frame, as little-endian 32-bit integers."""
    return zlib.crc32(codes.T.astype("<i4").tobytes())


def row_of(name: str, tokens: Tokens, audio: int, more: dict[str, Any]) -> dict[str, Any]:
    """The row of a recording: facts first, then what the manifest said.

    Args:
        name: the id.
        tokens: the codes.
        audio: 64-bit hash of the samples that the codec was given.
        more: further fields; those of the names in `FACTS` give way.
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


def tokens_of(about: About, codes: np.ndarray, samples: int, rate: int, original: int) -> Tokens:
    """Return codes as tokens of what made a corpus, which were so many samples at a rate."""
    return Tokens(
        codes=codes,
        size=about.sizes,
        codec=about.codec,
        fingerprint=about.fingerprint,
        sample_rate=about.sample_rate,
        frame_size=about.frame_size,
        samples=samples,
        original_rate=rate,
        original_samples=original,
        channels=about.channels,
    )


def write_shard(
    folder: Path, name: str, header: Header, entries: Iterable[tuple[dict[str, Any], Tokens]]
) -> Files:
    """Writes the files of a shard over whatever has these names; rows as `row_of` makes them.

    Raises:
        TokenFileError: the disk is full, or the folder cannot be written.
        ValueError: tokens of another codec.
    """
    header = header_of(header)
    paths = {suffix: folder / f"{name}{suffix}" for suffix in (".tok", ".jsonl", ".npy")}
    index, count = bytearray(), 0  # as written: a list of tuples would take ten times as much
    frames = samples = at = 0
    with explained(paths[".tok"], "write"), ExitStack() as stack:
        rows = stack.enter_context(_published(paths[".jsonl"]))
        writer = stack.enter_context(TokenWriter(paths[".tok"], header, force=True))
        for row, tokens in entries:
            if header_of(tokens.header) != header:
                raise CorpusError(f"{row['id']}: tokens of {tokens.codec} {tokens.fingerprint}")
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            where = (frames, tokens.frames, tokens.original_rate, tokens.samples)
            where += (tokens.original_samples, at, hashed(row["id"]))
            where += (int(row["audio"], 16), int(row["checksum"], 16))
            index += np.array([where], INDEX).tobytes()
            count += 1
            writer.append(tokens.codes)
            rows.write(line)
            frames, samples, at = frames + tokens.frames, samples + tokens.samples, at + len(line)
        with _published(paths[".npy"]) as file:
            records = np.frombuffer(bytes(index), INDEX)
            np.lib.format.write_array(file, records, (1, 0), allow_pickle=False)
    sync(folder)
    return Files(
        name=name,
        recordings=count,
        frames=frames,
        samples=samples,
        bytes={suffix: path.stat().st_size for suffix, path in paths.items()},
        sha256={suffix: sha256(path) for suffix, path in paths.items()},
    )


class Shards:
    """Cuts a sequence of recordings into shards by the size of their codes alone.

    Args:
        header: of the recordings.
        limit: bytes of codes that fill a shard; the recording that reaches it is its last.
    """

    def __init__(self, header: Header, limit: int = SHARD_BYTES) -> None:
        self.bits, self.limit, self.held = header.frame_bits, limit, 0

    def fills(self, frames: int) -> bool:
        """Counts a recording of so many frames; whether the shard ends with it."""
        self.held += frames * self.bits
        if self.held < 8 * self.limit:
            return False
        self.held = 0
        return True


def write_corpus(
    folder: Path,
    about: About,
    entries: Iterable[tuple[dict[str, Any], Tokens]],
    *,
    limit: int = SHARD_BYTES,
) -> About:
    """A whole corpus of rows and tokens in one go; see `write_shard` for what is raised.

    Args:
        folder: a new or empty folder.
        about: all but the shards.
        entries: in order.
        limit: bytes of codes in a shard.

    Raises:
        CorpusError: something is in the folder.
    """
    fresh(folder)
    header, rest, files = about.header, iter(entries), []
    ended = False

    def one(cut: Shards) -> Iterator[tuple[dict[str, Any], Tokens]]:
        nonlocal ended
        for row, tokens in rest:
            yield row, tokens
            if cut.fills(tokens.frames):
                return
        ended = True

    while not ended:
        name = shard_name(len(files))
        shard = write_shard(folder, name, header, one(Shards(header, limit)))
        if shard.recordings or not files:
            files.append(shard)
        else:  # the last recording filled the shard before
            for suffix in shard.bytes:
                (folder / f"{name}{suffix}").unlink()
    return write_about(folder, replace(about, shards=tuple(files)))


def shard_name(number: int) -> str:
    """What shard number `number` is called."""
    return f"shard-{number:06d}"


def write_about(folder: Path, about: About) -> About:
    """Writes corpus.json: from then on the corpus is complete.

    Returns:
        what it says: with the checksums of the lists that lie in the folder.
    """
    lists = {name: sha256(folder / name) for name in LISTS if (folder / name).is_file()}
    made = replace(about, lists=lists)
    publish(folder / "corpus.json", about_bytes(made))
    sync(folder)
    return made


def write_quarantine(folder: Path, failures: Iterable[tuple[str, str, str]]) -> None:
    """Writes quarantine.tsv: id, source and reason of what has no codes; none if nothing failed."""
    path = folder / "quarantine.tsv"
    lines = ["\t".join(cell(str(each)) for each in row) for row in failures]
    if lines:
        publish(path, "\n".join(["id\tsource\treason", *lines, ""]).encode("utf-8", "replace"))
    else:
        path.unlink(missing_ok=True)


def publish(path: Path, data: bytes) -> None:
    """A small file, complete and on the disk, or as it was."""
    with _published(path) as file:
        file.write(data)


def fresh(folder: Path) -> None:
    """Makes the folder.

    Raises:
        CorpusError: something is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise CorpusError(f"{folder}: not empty; give a new folder")


@contextmanager
def _published(path: Path) -> Iterator[Any]:
    """A file that appears when it is complete and on the disk."""
    with explained(path, "write"), complete(path) as part, part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Puts new names on the disk too, where a folder can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def link(source: Path, target: Path) -> None:
    """A file under another name too; a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
