"""An n-gram model of ids, interpolated Kneser-Ney (Ney et al. 1994): what a network has to beat."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

Ids = Int[np.ndarray, " n"]


class Ngram:
    """Probabilities of an id after the n - 1 before it.

    The longest context counts how often an id came, shorter ones after how many different ids.

    Args:
        vocabulary: how many ids there are.
        order: n.
        discount: taken from every count, and given to what a shorter context says.
    """

    def __init__(self, vocabulary: int, *, order: int = 3, discount: float = 0.75) -> None:
        if order < 1 or not 0 < discount < 1:
            raise ValueError(f"order {order}, discount {discount}: order >= 1, 0 < discount < 1")
        self.vocabulary, self.order, self.discount = vocabulary, order, discount
        # context -> how often each id followed it
        self.counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self.totals: dict[tuple[int, ...], int] = {}

    def fit(self, sequences: Iterable[Int[np.ndarray, " _"]]) -> Ngram:
        """Counts sequences, each with its `begin` first."""
        n = self.order
        for ids in sequences:
            told = ids.tolist()
            for i in range(1, len(told)):
                # After fewer ids than n - 1 only the start of a sequence is the longest context.
                self.counts[tuple(told[max(0, i - n + 1) : i])][told[i]] += 1
        longest = [(context, list(seen)) for context, seen in self.counts.items()]
        for context, seen in longest:
            for each in seen:
                self._continues(context, each)
        self.totals = {context: sum(seen.values()) for context, seen in self.counts.items()}
        return self

    def _continues(self, context: tuple[int, ...], each: int) -> None:
        """One more different id before each shorter context, as far as it is new."""
        while context:
            context = context[1:]
            known = self.counts[context]
            known[each] += 1
            if known[each] > 1:
                return

    def probability(self, context: Sequence[int], each: int) -> float:
        """Of an id after a context of any length."""
        made = 1 / self.vocabulary
        context = tuple(context[-(self.order - 1) :]) if self.order > 1 else ()
        for start in range(len(context), -1, -1):
            seen = self.counts.get(context[start:])
            if not seen:
                break
            total = self.totals[context[start:]]
            made = (
                max(0.0, seen.get(each, 0) - self.discount) + self.discount * len(seen) * made
            ) / total
        return made

    def bits(self, ids: Ids) -> float:
        """What a sequence costs after its first id."""
        told, n = ids.tolist(), self.order
        return -sum(
            math.log2(self.probability(told[max(0, i - n + 1) : i], told[i]))
            for i in range(1, len(told))
        )
