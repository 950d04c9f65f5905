"""Remembers what was found out about a recording, so that it need not be worked out again."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

from torch import Tensor

Found = TypeVar("Found")


def fingerprint(samples: Tensor, rate: int) -> bytes:
    """Names a recording by what it holds: its samples, their shape, and their rate."""
    digest = hashlib.blake2b(f"{rate} {list(samples.shape)} ".encode(), digest_size=16)
    digest.update(samples.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


class Memory(Generic[Found]):
    """The last `size` things that were put in, by their keys; threads may share it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[Hashable, Found] = {}
        self._lock = Lock()

    def get(self, key: Hashable) -> Found | None:
        """What was put in under this key, or None: never, or too long ago."""
        return self._kept.get(key)

    def put(self, key: Hashable, found: Found) -> Found:
        """Keep it, and let go of the oldest where there are too many."""
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self.size:
                del self._kept[next(iter(self._kept))]
        return found
