"""N-gram model of ids with interpolated Kneser-Ney smoothing (Ney et al. 1994), as a baseline."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from audiotok._platform.errors import InputError

Ids = Int[np.ndarray, " n"]


class Ngram:
    """N-gram model: the probability of an id after the n - 1 ids before it.

    For the longest context it counts occurrences of an id, for shorter contexts the number of
    different ids that preceded them.

    Args:
        vocabulary: number of ids.
        order: n.
        discount: amount subtracted from every count, for the distribution of shorter contexts.

    Raises:
        ValueError: the order is below 1, or the discount is not between 0 and 1.
    """

    def __init__(self, vocabulary: int, *, order: int = 3, discount: float = 0.75) -> None:
        if order < 1 or not 0 < discount < 1:
            raise InputError(f"order {order}, discount {discount}: order >= 1, 0 < discount < 1")
        self.vocabulary = vocabulary
        self.order = order
        self.discount = discount
        # context -> count of each id that followed it
        self.counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self.totals: dict[tuple[int, ...], int] = {}

    def fit(self, sequences: Iterable[Int[np.ndarray, " _"]]) -> Ngram:
        """Count the ids of sequences, each with its `begin` first, and return the model."""
        n = self.order
        for ids in sequences:
            history = ids.tolist()
            for i in range(1, len(history)):
                # Contexts shorter than n - 1 ids occur here only at the start of a sequence.
                self.counts[tuple(history[max(0, i - n + 1) : i])][history[i]] += 1
        longest = [(context, list(seen)) for context, seen in self.counts.items()]
        for context, seen in longest:
            for each in seen:
                self._count_continuation(context, each)
        self.totals = {context: sum(seen.values()) for context, seen in self.counts.items()}
        return self

    def _count_continuation(self, context: tuple[int, ...], each: int) -> None:
        """Count a new context of an id in each shorter context, up to one it was counted in."""
        while context:
            context = context[1:]
            known = self.counts[context]
            known[each] += 1
            if known[each] > 1:
                return

    def probability(self, context: Sequence[int], each: int) -> float:
        """Return the probability of an id after a context of any length."""
        probability = 1 / self.vocabulary
        context = tuple(context[-(self.order - 1) :]) if self.order > 1 else ()
        for start in range(len(context), -1, -1):
            seen = self.counts.get(context[start:])
            if not seen:
                break
            total = self.totals[context[start:]]
            discounted = max(0.0, seen.get(each, 0) - self.discount)
            probability = (discounted + self.discount * len(seen) * probability) / total
        return probability

    def bits(self, ids: Ids) -> float:
        """Return the number of bits that a sequence costs after its first id."""
        history, n = ids.tolist(), self.order
        return -sum(
            math.log2(self.probability(history[max(0, i - n + 1) : i], history[i]))
            for i in range(1, len(history))
        )
