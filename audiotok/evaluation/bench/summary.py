"""Summaries of scores: means, intervals, paired differences, usage of codebooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from audiotok.evaluation.probes.statistics import bootstrap, paired
from audiotok.evaluation.results import Mean, Pair, ScoreRow

DRAWS = 1000


def means(rows: Sequence[ScoreRow], *, draws: int = DRAWS, seed: int = 0) -> list[Mean]:
    """Return the pooled value and its interval for each subject and metric, over scored recordings.

    Infinite scores are counted apart, since no mean could hold them.

    Args:
        rows: scores.
        draws: draws of the bootstrap.
        seed: random seed of the bootstrap.
    """
    summaries = []
    for (subject, metric), mine in _by_subject(rows).items():
        scored = {clip: row for clip, row in mine.items() if _finite(row)}
        infinite = Counter(row.infinite for row in mine.values() if row.infinite)
        failed = Counter(row.error for row in mine.values() if row.value is None)
        value = low = high = None
        if scored:
            totals, counts = _columns(scored, list(scored))
            value = float(totals.sum() / counts.sum())
            low, high = bootstrap(totals, counts, draws=draws, seed=seed)
        summaries.append(
            Mean(subject, metric, value, low, high, len(scored), dict(failed), dict(infinite))
        )
    return summaries


def pairs(
    rows: Sequence[ScoreRow], among: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> list[Pair]:
    """Return the difference of every two subjects in every metric, on the recordings both have.

    Recordings on which either is infinite are left out.

    Args:
        rows: scores.
        among: names of the subjects.
        draws: draws of the bootstrap.
        seed: random seed of the bootstrap.
    """
    by_subject = _by_subject(rows)
    differences = []
    for metric in dict.fromkeys(row.metric for row in rows):
        for a, b in combinations(among, 2):
            ours, theirs = by_subject.get((a, metric), {}), by_subject.get((b, metric), {})
            both = [
                clip
                for clip, row in ours.items()
                if _finite(row) and clip in theirs and _finite(theirs[clip])
            ]
            if not both:
                continue
            columns = _columns(ours, both), _columns(theirs, both)
            differences.append(
                Pair(metric, a, b, *paired(*columns, draws=draws, seed=seed), n=len(both))
            )
    return differences


def usage(codes: Sequence[np.ndarray], sizes: Sequence[int]) -> list[list[int]]:
    """Return how often each entry of each codebook is used, most frequent first.

    Args:
        codes: codes `[k f]` of each recording; rows past `sizes` are left out.
        sizes: entries in each codebook.
    """
    sorted_counts = []
    for row, size in enumerate(sizes):
        counts = np.zeros(size, np.int64)
        for one in codes:
            counts += np.bincount(one[row], minlength=size)
        sorted_counts.append(np.sort(counts)[::-1].tolist())
    return sorted_counts


def _finite(row: ScoreRow) -> bool:
    """Return whether a row has a score that a mean can hold."""
    return row.value is not None and not row.infinite


def _by_subject(rows: Sequence[ScoreRow]) -> dict[tuple[str, str], dict[str, ScoreRow]]:
    """Return scores by subject and metric, then by recording."""
    grouped: dict[tuple[str, str], dict[str, ScoreRow]] = {}
    for row in rows:
        grouped.setdefault((row.subject, row.metric), {})[row.clip] = row
    return grouped


def _columns(rows: Mapping[str, ScoreRow], clips: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the totals and counts of recordings."""
    totals = [rows[clip].total for clip in clips]
    counts = [rows[clip].count for clip in clips]
    return np.array(totals, np.float64), np.array(counts, np.float64)
