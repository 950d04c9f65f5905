"""Invariance of codes to the speaker and to the context."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np

from audiotok.audio.audio import Audio
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task
from audiotok.tokens.statistics import code_counts, normalized_edit_distance

PAIRS = 300  # of recordings, at most
BINS = (0, 1, 2, 4, 8, 16, 32, 64)  # frames from a cut
SHORTEST = 16  # frames of the shortest recording that is cut


class StabInvariance(Task):
    """STAB-inspired invariance of codes (Vashishth et al. 2024, arXiv:2409.02384).

    The paper's formulas were not at hand. A codec whose codes never change is perfectly invariant
    and of no use, so the similarity of unrelated codes is reported beside every invariance; compare
    by their difference.
    """

    protocol = (
        "STAB-inspired; codebook 1. Speaker: 1 - edit distance over the longer string, without "
        f"repeats, of recordings of one text by different speakers (up to {PAIRS} pairs), and of "
        "as many pairs with different texts and speakers. Context: share of equal codes when the "
        "middle half of a recording is coded alone and within it, by frames from the cut, and of "
        "frames that are equal by chance"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return speaker and context invariance; see `Task.run`."""
        all_codes = [codes[0] for codes in bench.codes()]
        return self._speaker(bench, all_codes) + self._context(bench, all_codes)

    def _speaker(self, bench: Bench, all_codes: list[np.ndarray]) -> list[Finding]:
        """Return the similarity of codes of one text by two speakers, and of unrelated codes."""
        name = "alike: same text, other speaker"
        random = np.random.default_rng(bench.seed)
        same, other = _pairs_of(bench, random)
        if not same:
            return [self.absent(name, "no text is said by two speakers in the manifest")]
        fields = {"unit": "%", "scale": 100}
        alike = [1 - normalized_edit_distance(all_codes[i], all_codes[j]) for i, j in same]
        chance = [1 - normalized_edit_distance(all_codes[i], all_codes[j]) for i, j in other]
        findings = [self.mean(name, alike, [1.0] * len(alike), better="higher", **fields)]
        if not chance:
            return [*findings, self.absent("alike: other text, other speaker", "no such pair")]
        findings.append(
            self.mean("alike: other text, other speaker", chance, [1.0] * len(chance), **fields)
        )
        gain = 100 * (np.mean(alike) - np.mean(chance))
        note = "0 for codes that say nothing, and for codes that say everything but the text"
        return [
            *findings,
            self.finding(
                "alike for the text's sake", gain, unit="points", better="higher", note=note
            ),
        ]

    def _context(self, bench: Bench, all_codes: list[np.ndarray]) -> list[Finding]:
        """Return the share of equal codes when a section is encoded alone and in context."""
        frame, bins = bench.codec.frame_size, len(BINS) - 1
        sides = ("after the cut's start", "before the cut's end")
        equal = np.zeros((2, bins, len(all_codes)))
        seen = np.zeros_like(equal)
        for i, recording in enumerate(bench.over(bench.recordings, "cut")):
            whole = all_codes[i]
            first, last = len(whole) // 4, len(whole) - len(whole) // 4
            if len(whole) < SHORTEST:
                continue
            audio = bench.audio(recording)
            alone = bench.encode_audio(
                Audio(audio.samples[:, first * frame : last * frame], audio.rate)
            )[0]
            same = (alone == whole[first:last]).astype(float)
            middle = len(same) // 2
            for side, near in enumerate((same[:middle], same[middle:][::-1])):
                for b, (low, high) in enumerate(pairwise(BINS)):
                    equal[side, b, i] = near[low:high].sum()
                    seen[side, b, i] = len(near[low:high])
        fields = {"unit": "%", "better": "higher", "scale": 100}
        findings = [
            self.mean(
                f"equal alone and in context, {_frames(b)} {name}",
                equal[side, b].tolist(),
                seen[side, b].tolist(),
                **fields,
            )
            for side, name in enumerate(sides)
            for b in range(bins)
        ]
        shares = code_counts(np.concatenate(all_codes)) / sum(map(len, all_codes))
        chance = 100 * float((shares**2).sum())
        note = "two frames of the corpus drawn at random"
        return [
            *findings,
            self.finding("equal by chance", chance, unit="%", better="lower", note=note),
        ]


def _pairs_of(
    bench: Bench, random: np.random.Generator
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return pairs of recordings by two speakers: of one text, and as many of two texts."""
    by_text = defaultdict(list)
    for i, recording in enumerate(bench.recordings):
        text = "".join(c for c in recording.text.lower() if c.isalnum())
        if text and recording.speaker:
            by_text[text].append(i)
    who = [recording.speaker for recording in bench.recordings]
    groups = list(by_text.values())
    same = [(i, j) for g in groups for i in g for j in g if i < j and who[i] != who[j]]
    if len(same) > PAIRS:
        same = [same[i] for i in random.choice(len(same), PAIRS, replace=False)]
    # These pairs use the same recordings as the others, so that lengths are distributed alike.
    one, two = [i for i, _ in same], [j for _, j in same]
    of = {i: g for g, members in enumerate(groups) for i in members}
    other = []
    for _ in range(20):
        drawn = zip(random.permutation(one).tolist(), random.permutation(two).tolist(), strict=True)
        other += [(i, j) for i, j in drawn if of[i] != of[j] and who[i] != who[j]]
        if len(other) >= len(same):
            break
    return same, other[: len(same)]


def _frames(b: int) -> str:
    """Return the label of a bin of distances."""
    low, high = BINS[b], BINS[b + 1] - 1
    return f"{low} to {high} frames" if high > low else f"{low} frame{'s' if low != 1 else ''}"
