"""Usage of a codec's codebooks: a strip of colour, the entries used and the perplexity of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from audiotok.evaluation.report.image import png
from audiotok.evaluation.results import Subject

COLUMNS = 128  # columns of a strip; a larger codebook has several entries in each


def strips(subject: Subject) -> list[dict[str, Any]]:
    """Return for each codebook `strip` (a PNG), `size`, `frames`, `used`, `share`, `perplexity`.

    A strip runs from the entry used most to the one used least; its colour is the logarithm of the
    count, on one scale for all codebooks of a subject. Entries past the given counts were never
    used. Perplexity is e to the entropy of use: the size, if all are used alike.
    """
    rows = []
    top = max((max(counts, default=0) for counts in subject.usage), default=0)
    for i, counts in enumerate(subject.usage):
        size = max(subject.sizes[i] if i < len(subject.sizes) else 0, len(counts))
        if not size:
            continue
        use = np.zeros(size)
        use[: len(counts)] = counts
        use = np.sort(use)[::-1]
        total = use.sum()
        share = use[use > 0] / total if total else np.zeros(0)
        binned = np.array([part.mean() for part in np.array_split(use, min(COLUMNS, size))])
        rows.append(
            {
                "codebook": i + 1,
                "strip": png(np.log1p(binned)[None], 0, float(np.log1p(max(top, 1)))),
                "size": size,
                "frames": int(total),
                "used": int((use > 0).sum()),
                "share": float((use > 0).mean()),
                "perplexity": float(np.exp(-(share * np.log(share)).sum())) if total else 0.0,
            }
        )
    return rows
