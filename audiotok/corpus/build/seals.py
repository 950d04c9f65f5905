"""Small things that a build keeps: seals of its shards, the ids it has seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiotok.corpus.base import Files
from audiotok.corpus.write import sha256

Bad = tuple[str, str, str]  # id, source, reason


@dataclass(frozen=True)
class Seal:
    """A shard that is complete; the last one may hold nothing but what failed."""

    files: Files | None
    next: int  # item of the listing that comes next
    chain: str  # of all items before that
    bad: tuple[Bad, ...]


def read_seal(path: Path) -> Seal | None:
    """The seal of a file; None: it is not there, or torn."""
    try:
        facts = json.loads(path.read_bytes())
        files = Files(**facts["files"]) if facts["files"] else None
        bad = tuple((a, b, c) for a, b, c in facts["bad"])
        return Seal(files, facts["next"], facts["chain"], bad)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_whole(folder: Path, files: Files, *, full: bool) -> bool:
    """Whether a shard's files are as they were written: their length, or every byte."""
    for suffix, length in files.bytes.items():
        path = folder / f"{files.name}{suffix}"
        if not path.is_file() or path.stat().st_size != length:
            return False
        if full and sha256(path) != files.sha256[suffix]:
            return False
    return True


class Seen:
    """A set of 64-bit hashes in about 8 bytes each."""

    def __init__(self) -> None:
        self._sorted = np.zeros(0, np.uint64)
        self._recent = set[int]()

    def has(self, value: int) -> bool:
        """Whether it is there."""
        if value in self._recent:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(value)))
        return at < len(self._sorted) and int(self._sorted[at]) == value

    def add(self, value: int) -> None:
        """Puts it in."""
        self._recent.add(value)
        if len(self._recent) > max(1 << 14, len(self._sorted) // 8):
            recent, self._recent = self._recent, set()
            self.extend(np.fromiter(recent, np.uint64, len(recent)))

    def extend(self, values: np.ndarray) -> None:
        """Puts many in."""
        self._sorted = np.sort(np.concatenate([self._sorted, values.astype(np.uint64)]))
