"""Statistics of code sequences: entropy, mutual information, edit distance, compressed length."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import

String = Int[np.ndarray, " n"]
Other = Int[np.ndarray, " m"]
Counts = Int[np.ndarray, " size"]


FRAMES_AN_ENTRY = 10  # frames for each entry, from which on one that was never seen is called dead


@dataclass(frozen=True)
class EntryUse:
    """Entries of a codebook that were seen in some frames, and what that says of the others.

    Of `size` entries used alike, `size * (1 - 1 / size) ** frames` are expected to be unseen in so
    many frames. At `FRAMES_AN_ENTRY` frames for each entry that is 1 in 22,000: from there on an
    entry that was not seen is called dead, and with fewer frames nothing is said of it.
    """

    seen: int
    size: int
    frames: int

    @property
    def frames_needed(self) -> int:
        """Frames from which on entries that were not seen are called dead."""
        return FRAMES_AN_ENTRY * self.size

    @property
    def expected_unseen(self) -> float:
        """Entries expected to be unseen if all are used alike, each frame by itself."""
        return self.size * (1 - 1 / self.size) ** self.frames

    @property
    def dead(self) -> int | None:
        """Entries that were never seen; None with too few frames to call them dead."""
        return self.size - self.seen if self.frames >= self.frames_needed else None

    @property
    def too_few(self) -> str:
        """Reason why no entry is called dead; "" where there are frames enough."""
        if self.dead is not None:
            return ""
        needed = f"{self.frames_needed:,} are needed for {self.size:,} entries"
        return f"{self.frames:,} frames are too few to call entries dead; {needed}"

    def __str__(self) -> str:
        seen = f"{self.seen:,} of {self.size:,} entries seen"
        if self.dead is None:
            return f"{seen}; {self.too_few}"
        return f"{seen} in {self.frames:,} frames, {self.dead:,} dead"


def code_counts(codes: String) -> Counts:
    """Return the number of occurrences of each code that occurs, in the order of codes."""
    return np.unique(codes, return_counts=True)[1]


def entropy(counts: Counts) -> float:
    """Return the entropy in bits of a distribution given by counts: the plug-in estimate.

    It is low by about (entries seen - 1) / (2 n ln 2) for n counted (Miller 1955).
    """
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def entropy_bias(counts: Counts) -> float:
    """Return the bits by which `entropy` is too low, to first order (Miller 1955)."""
    return float((np.count_nonzero(counts) - 1) / (2 * counts.sum() * np.log(2)))


def mutual_information(a: String, b: String) -> float:
    """Return the mutual information in bits of two labels of the same frames: the plug-in estimate.

    It is too high where labels are many and frames few; shuffling `b` shows by how much.
    """
    _, first = np.unique(a, return_inverse=True)
    names, second = np.unique(b, return_inverse=True)
    both = code_counts(first.astype(np.int64) * len(names) + second)
    return max(0.0, entropy(code_counts(a)) + entropy(code_counts(b)) - entropy(both))


def deduplicated(codes: String) -> np.ndarray:
    """Return the sequence with every run of equal codes replaced by one code."""
    keep = np.ones(len(codes), bool)
    keep[1:] = codes[1:] != codes[:-1]
    return codes[keep]


def distance(a: Sequence[object] | String, b: Sequence[object] | Other) -> int:
    """Return the edit distance of two sequences (Levenshtein 1966).

    It is the least number of insertions, deletions and substitutions.

    Raises:
        ImportError: rapidfuzz is not installed.
    """
    strings = (x.tolist() if isinstance(x, np.ndarray) else list(x) for x in (a, b))
    return optional_import("rapidfuzz.distance", "rapidfuzz").Levenshtein.distance(*strings)


def normalized_edit_distance(a: String, b: Other) -> float:
    """Return the edit distance of two deduplicated sequences over the length of the longer one.

    It is 0 for equal sequences, as two empty ones are, and 1 for sequences with nothing in common.
    """
    one, other = deduplicated(a), deduplicated(b)
    return distance(one, other) / max(1, len(one), len(other))


def huffman(counts: Counts) -> float:
    """Return the mean length in bits of the best prefix code (Huffman 1952): H <= length < H + 1.

    A sequence of one code that never changes takes no bits.
    """
    heap = [int(count) for count in counts if count > 0]
    heapq.heapify(heap)
    total, bits = sum(heap), 0
    while len(heap) > 1:  # each merge adds one bit to all codes in it
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        bits += merged
        heapq.heappush(heap, merged)
    return bits / total


def cross_entropy(train: Sequence[np.ndarray], test: Sequence[np.ndarray], order: int) -> float:
    """Return the bits a code of `test` under an n-gram model of `train`.

    Probabilities of longer contexts are interpolated with those of shorter ones by the number of
    different codes that followed (Witten and Bell 1991), down to the unigram, and that with a
    uniform distribution over the codes of both.

    Args:
        train: sequences of integer codes.
        test: sequences of integer codes.
        order: 1 for a unigram model, 2 for a bigram model ...

    Raises:
        ValueError: `train` or `test` has no codes.
    """
    if not sum(map(len, train)) or not sum(map(len, test)):
        raise InputError("an n-gram model needs strings to learn from and others to be tested on")
    size = len(np.unique(np.concatenate([*train, *test])))
    grams: dict[tuple[int, ...], int] = {}
    seen: dict[
        tuple[int, ...], list[int]
    ] = {}  # context -> occurrences, and different codes that followed
    for codes in (string.tolist() for string in train):
        for i in range(len(codes)):
            for n in range(min(order, i + 1)):
                gram = tuple(codes[i - n : i + 1])
                new = gram not in grams
                grams[gram] = grams.get(gram, 0) + 1
                context = seen.setdefault(gram[:-1], [0, 0])
                context[0] += 1
                context[1] += new
    bits, total = 0.0, 0
    for codes in (string.tolist() for string in test):
        for i in range(len(codes)):
            share = 1 / size
            for n in range(min(order, i + 1)):
                gram = tuple(codes[i - n : i + 1])
                often, kinds = seen.get(gram[:-1], (0, 0))
                if not often:
                    break
                share = (grams.get(gram, 0) + kinds * share) / (often + kinds)
            bits -= np.log2(share)
            total += 1
    return float(bits / total)
