"""A bounded cache of results per recording, and the fingerprint of a recording to key it by."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

from torch import Tensor

Value = TypeVar("Value")


def fingerprint(samples: Tensor, rate: int) -> bytes:
    """Return a 16-byte hash of a recording: its samples, their shape, and their rate.

    Args:
        samples: the recording, of any shape.
        rate: sample rate in Hz.
    """
    digest = hashlib.blake2b(f"{rate} {list(samples.shape)} ".encode(), digest_size=16)
    digest.update(samples.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


class BoundedCache(Generic[Value]):
    """A thread-safe cache of the last `size` values that were put in.

    The oldest entry is dropped first; reading an entry does not make it younger.

    Args:
        size: the most entries to keep.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: dict[Hashable, Value] = {}
        self._lock = Lock()

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key, or None if it was never put in or has been dropped."""
        return self._values.get(key)

    def put(self, key: Hashable, value: Value) -> Value:
        """Store a value under a key, drop the oldest entries beyond `size`; return the value."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > self.size:
                del self._values[next(iter(self._values))]
        return value
