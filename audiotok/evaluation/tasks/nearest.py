"""Label of the nearest other recording, by how often each code comes: nothing is trained."""

from __future__ import annotations

from collections import Counter

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task


class Nearest(Task):
    """Share of recordings whose nearest other recording has the same label.

    What codes say of the speaker without a readout, whose training would be in the number.

    Args:
        option: `speaker` (the default), or `classify=COLUMN`, another column of the manifest.

    Raises:
        ValueError: another option.
    """

    def __init__(self, option: str = "") -> None:
        kind, _, column = (option or "classify=speaker").partition("=")
        if option == "speaker":
            kind, column = "classify", option
        if kind != "classify" or not column:
            raise InputError(f"nearest reads speaker or classify=COLUMN; not {option!r}")
        self.column = column
        self.protocol = (
            f"{self.column} of the other recording that is nearest: the largest sum over codebooks "
            "and entries of sqrt(p q), p and q the entry's share in each (Bhattacharyya); "
            f"recordings whose {self.column} has another one"
        )

    def run(self, bench: Bench) -> list[Finding]:
        """Return the share of the nearest recordings with the same label; see `Task.run`."""
        all_codes = zip(bench.recordings, bench.codes(), strict=True)
        labelled = [(r.column(self.column), codes) for r, codes in all_codes if codes.shape[1]]
        many = Counter(label for label, _ in labelled if label)
        labels = np.array([label for label, _ in labelled])
        tested = np.array([many[label] > 1 for label in labels], bool)
        if len(set(labels[tested])) < 2:
            raise InputError(
                f"the manifest's {self.column!r} must name two or more, with two recordings each"
            )
        sizes = bench.codec.sizes[: bench.codebooks]
        shares = np.stack([_shares(codes, sizes) for _, codes in labelled])
        alike = np.sqrt(shares) @ np.sqrt(shares).T
        np.fill_diagonal(alike, -1)
        right = (labels[alike.argmax(1)] == labels)[tested]
        chance = 100 * float(np.mean([(many[x] - 1) / (len(labels) - 1) for x in labels[tested]]))
        note = f"{len(set(labels[tested]))} of them; chance {chance:.1f} %"
        fields = {"unit": "%", "scale": 100, "note": note}
        name = f"{self.column} of the nearest recording"
        return [self.mean(name, right.astype(float).tolist(), [1.0] * len(right), **fields)]


def _shares(codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return how often each entry of each codebook comes `[sum of sizes]`, as shares of frames."""
    rows = [np.bincount(row, minlength=n) for row, n in zip(codes, sizes, strict=True)]
    return np.concatenate(rows).astype(np.float32) / codes.shape[1]
