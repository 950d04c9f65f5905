"""Statistics of durations."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

KEPT = 100_000  # number of latest times to keep, half an hour of 20 ms frames


@dataclass(frozen=True)
class Spread:
    """Statistics of times in seconds: number, median, 99th percentile, maximum."""

    count: int
    p50: float
    p99: float
    worst: float

    def __str__(self) -> str:
        if not self.count:
            return "not measured"
        return f"p50 {self.p50 * 1e3:.1f} ms, p99 {self.p99 * 1e3:.1f} ms"

    def row(self) -> dict[str, float]:
        """Return the statistics in milliseconds, for JSON."""
        if not self.count:
            return {"count": 0}
        values = {"p50_ms": self.p50, "p99_ms": self.p99, "worst_ms": self.worst}
        return {"count": self.count} | {k: round(v * 1e3, 3) for k, v in values.items()}


class Times:
    """Collection of the latest times, summarized by `spread`.

    Args:
        kept: number of latest times to keep.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[float] = deque(maxlen=kept)

    def add(self, seconds: float) -> None:
        """Add a time in seconds."""
        self._kept.append(seconds)

    def spread(self) -> Spread:
        """Return the statistics of the times."""
        return spread(self._kept)


def spread(times: Iterable[float]) -> Spread:
    """Return statistics of times in seconds.

    A percentile is the least of the times that so many do not exceed.
    """
    ordered = sorted(times)
    if not ordered:
        return Spread(0, math.nan, math.nan, math.nan)
    p50, p99 = (ordered[max(0, math.ceil(q * len(ordered)) - 1)] for q in (0.5, 0.99))
    return Spread(len(ordered), p50, p99, ordered[-1])
