"""Statistics of a corpus: use of its codebooks, lengths and fields of its recordings."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from audiotok.corpus.read import Corpus
from audiotok.tokens.statistics import EntryUse, entropy


@dataclass(frozen=True)
class CodebookUsage:
    """Use of one codebook over the whole corpus."""

    codebook: int  # number, from 1
    size: int
    used: int  # entries that occur
    dead: int | None  # entries that do not; None: too few frames to call them dead
    entropy: float  # entropy of a code by itself, bits
    given_last: float | None  # entropy given the previous code, bits; None: too few frames
    most: float  # share of the commonest entry
    repeats: float  # share of frames with the code of the frame before
    frames: int

    @property
    def entries(self) -> EntryUse:
        """Entries that occur, and what that says of the others."""
        return EntryUse(self.used, self.size, self.frames)


@dataclass(frozen=True)
class Usage:
    """Statistics of a whole corpus."""

    frames: int
    books: list[CodebookUsage]
    kbps: float  # nominal bitrate
    entropy_kbps: float  # bitrate by the entropy of single codes
    lengths: dict[str, float]  # name of a percentile -> seconds
    fields: dict[str, int]  # field of the rows -> recordings that have it
    speakers: int


def usage(corpus: Corpus, *, pairs: int = 2048) -> Usage:
    """Count every code of a corpus.

    Args:
        corpus: the corpus.
        pairs: largest codebook of which pairs of codes are counted; tables of larger ones would not
            fit into memory.
    """
    corpus.needs_codes("statistics of codebooks")
    rows, sizes = corpus.codebooks, corpus.sizes
    singles = [np.zeros(size, np.int64) for size in sizes]
    doubles = [np.zeros(s * s if s <= pairs else 0, np.int64) for s in sizes]
    repeats = np.zeros(rows, np.int64)
    steps = 0
    fields, speakers = Counter[str](), set[str]()
    for shard in corpus.shards:
        for begin in range(0, len(shard), 1024):
            end = min(begin + 1024, len(shard))
            codes = shard.codes(begin, end)
            # Frames that are not the first of their recording.
            inner = np.ones(codes.shape[1], bool)
            starts = shard.bounds[begin:end] - shard.bounds[begin]
            inner[starts[starts < len(inner)]] = False
            steps += int(inner.sum())
            for k, size in enumerate(sizes):
                row = codes[k]
                singles[k] += np.bincount(row, minlength=size)
                before, after = row[:-1][inner[1:]], row[1:][inner[1:]]
                repeats[k] += int((before == after).sum())
                if len(doubles[k]):
                    doubles[k] += np.bincount(before * size + after, minlength=size * size)
        for row in shard.rows():
            fields.update(name for name, value in row.items() if value not in (None, ""))
            if row.get("speaker"):
                speakers.add(str(row["speaker"]))
        shard.close()
    books = []
    for k, size in enumerate(sizes):
        counts, pair = singles[k], doubles[k].reshape(-1, size) if len(doubles[k]) else None
        given = None
        # With fewer frames the estimate would be far too low.
        if pair is not None and steps >= pair.size:
            given = entropy(pair.ravel()) - entropy(pair.sum(1))
        n = int(counts.sum())
        use = EntryUse(int((counts > 0).sum()), size, n)
        books.append(
            CodebookUsage(
                codebook=k + 1,
                size=size,
                used=use.seen,
                dead=use.dead,
                entropy=entropy(counts) if counts.any() else 0.0,
                given_last=given,
                most=float(counts.max(initial=0)) / max(1, n),
                repeats=float(repeats[k]) / max(1, steps),
                frames=n,
            )
        )
    rate = corpus.frame_rate / 1000
    samples = np.concatenate([np.zeros(0), *(s.index["samples"] for s in corpus.shards)])
    marks = {"shortest": 0, "5 %": 5, "median": 50, "95 %": 95, "longest": 100}
    seconds = samples / corpus.sample_rate
    return Usage(
        frames=corpus.frames,
        books=books,
        kbps=rate * sum(map(math.log2, sizes)),
        entropy_kbps=rate * sum(book.entropy for book in books),
        lengths={k: round(float(np.percentile(seconds, p)), 3) for k, p in marks.items()}
        if len(seconds)
        else {},
        fields=dict(fields),
        speakers=len(speakers),
    )
