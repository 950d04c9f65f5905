"""Commit records of a build's shards, and the set of ids so far."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from audiotok.corpus.base import ShardFiles

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
