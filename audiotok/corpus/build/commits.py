"""Commit records of a build's shards, and the set of ids so far."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from itertools import count, takewhile

import numpy as np

from audiotok.corpus.base import CorpusError, ShardFiles
from audiotok.corpus.inputs import FileStamps, inputs_bytes
from audiotok.corpus.storage import INNER, Storage
from audiotok.corpus.write import is_whole

log = logging.getLogger("audiotok")

CHECKED = 2  # number of last shards whose checksums are verified when a build resumes

Bad = tuple[str, str, str]  # id, source, reason


@dataclass(frozen=True)
class CommitRecord:
    """Commit record of a complete shard; the last one may hold failures alone."""

    files: ShardFiles | None  # None if no recording of it could be encoded
    next: int  # number of the next item of the listing
    chain: str  # hash of all items before that
    bad: tuple[Bad, ...]  # failures


def parse_commit(data: bytes) -> CommitRecord | None:
    """Return a commit record; None if it is torn."""
    try:
        facts = json.loads(data)
        files = ShardFiles(**facts["files"]) if facts["files"] else None
        bad = tuple((a, b, c) for a, b, c in facts["bad"])
        return CommitRecord(files, facts["next"], facts["chain"], bad)
    except (ValueError, KeyError, TypeError):
        return None


def build_file(number: int, kind: str) -> str:
    """Return the name of a file of the build that belongs to a shard: its log, inputs or seal."""
    return f"{INNER}/{number:06d}.{kind}"


def write_commit(storage: Storage, number: int, seal: CommitRecord, looks: FileStamps) -> None:
    """Write the commit record of a shard.

    Args:
        storage: place of the corpus.
        number: number of the shard.
        seal: its commit record.
        looks: stamp of each of its items' files.
    """
    storage.publish(build_file(number, "inputs"), inputs_bytes("", looks))
    storage.publish(build_file(number, "seal"), json.dumps(asdict(seal)).encode())


def read_commits(storage: Storage) -> list[CommitRecord]:
    """Return the commit records of all shards that are whole, and remove those after them.

    Raises:
        CorpusError: a shard is damaged that is not one of the last.
    """
    lengths = storage.lengths()
    numbers = (build_file(number, "seal") for number in count())
    names = list(takewhile(lengths.__contains__, numbers))
    content = storage.read_all(names)
    parsed = (parse_commit(content.get(name, b"")) for name in names)
    seals = [seal for seal in takewhile(lambda seal: seal is not None, parsed) if seal]
    for number, seal in enumerate(seals):
        recent = number >= len(seals) - CHECKED
        # The disk may have lost what was written last; an object is compared when it is stored.
        full = recent and not storage.remote
        if seal.files and not is_whole(storage, lengths, seal.files, full=full):
            name = f"{storage.name}/{seal.files.name}"
            if not recent:
                raise CorpusError(f"{name}: damaged; restore it, or force=True begins anew")
            log.warning("%s: not whole; made again", name)
            seals = seals[:number]
            break
    storage.delete(build_file(number, "seal") for number in range(len(seals), len(names) + 1))
    return seals


class HashSet:
    """Set of 64-bit hashes that takes about 8 bytes for each."""

    def __init__(self) -> None:
        self._sorted = np.zeros(0, np.uint64)
        self._recent = set[int]()

    def has(self, value: int) -> bool:
        """Return whether a hash is in the set."""
        if value in self._recent:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(value)))
        return at < len(self._sorted) and int(self._sorted[at]) == value

    def add(self, value: int) -> None:
        """Add a hash."""
        self._recent.add(value)
        if len(self._recent) > max(1 << 14, len(self._sorted) // 8):
            recent = self._recent
            self._recent = set()
            self.extend(np.fromiter(recent, np.uint64, len(recent)))

    def extend(self, values: np.ndarray) -> None:
        """Add many hashes."""
        self._sorted = np.sort(np.concatenate([self._sorted, values.astype(np.uint64)]))
