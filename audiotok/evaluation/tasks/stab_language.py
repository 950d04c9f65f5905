"""Language-like statistics of codes: rank and frequency, predictability, dependence on language."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task, split_by_group
from audiotok.tokens.statistics import code_counts, cross_entropy, mutual_information

DRAWS = 20  # random permutations of the languages, whose mean is the chance level


class StabLanguage(Task):
    """STAB-inspired statistics of codes as a language (Vashishth et al. 2024, arXiv:2409.02384)."""

    protocol = (
        "STAB-inspired; codebook 1 with its repeats. Slope: least squares of log frequency on log "
        "rank, over codes seen twice or more (words: about -1; uniform codes: 0). Entropy rates: "
        "n-gram models with Witten-Bell interpolation, learnt on some speakers (recordings, where "
        "there is one speaker) and tested on others, and on the same codes in random order. "
        "Languages: how much the language tells of the code (the Jensen-Shannon divergence of the "
        f"languages' codes), less its mean over {DRAWS} deals of languages to recordings"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return slope, entropy rates and divergence; see `Task.run`."""
        all_codes = [codes[0] for codes in bench.codes()]
        counts = code_counts(np.concatenate(all_codes))
        slope = rank_slope(counts)
        n = int(counts.sum())
        findings = [
            self.absent("rank-frequency slope", "fewer than two codes were seen twice")
            if slope is None
            else self.finding(
                "rank-frequency slope", slope, n=n, note=f"{len(counts)} codes in use"
            )
        ]
        findings += self._rates(bench, all_codes)
        return [*findings, self._languages(bench, all_codes)]

    def _rates(self, bench: Bench, all_codes: list[np.ndarray]) -> list[Finding]:
        """Return the entropy rates of n-gram models on held-out speakers or recordings."""
        who = [recording.speaker for recording in bench.recordings]
        by = "speakers" if len(set(who)) > 1 else "recordings"
        groups = who if len(set(who)) > 1 else [str(i) for i in range(len(all_codes))]
        if len(groups) < 2:
            return [self.absent("entropy rates", "not run: fewer than two recordings")]
        parts = [
            [all_codes[i] for i in part if len(all_codes[i])]
            for part in split_by_group(groups, bench.seed)
        ]
        train, test = parts
        if not train or not test:
            return [self.absent("entropy rates", "not run: fewer than two recordings with frames")]
        random = np.random.default_rng(bench.seed)
        shuffled = [random.permutation(row) for row in test]
        n = sum(map(len, test))
        fields = {"unit": "bits a code", "better": "lower", "n": n}
        note = f"held-out {by}; {sum(map(len, train))} codes to learn from"
        names = ("unigram", "bigram", "trigram")
        findings = [
            self.finding(
                f"{name} entropy rate", cross_entropy(train, test, order), note=note, **fields
            )
            for order, name in enumerate(names, 1)
        ]
        value = cross_entropy(train, shuffled, 2)
        name = "bigram entropy rate in random order"
        return [*findings, self.finding(name, value, unit="bits a code", n=n, note=note)]

    def _languages(self, bench: Bench, all_codes: list[np.ndarray]) -> Finding:
        """Return the mutual information of language and codes, minus its value by chance."""
        name = "information of the language on codebook 1"
        spoken = [recording.language for recording in bench.recordings]
        chosen = [i for i, language in enumerate(spoken) if language]
        names = sorted({spoken[i] for i in chosen})
        if len(names) < 2:
            return self.absent(name, "fewer than two languages in the manifest's `language`")
        codes = np.concatenate([all_codes[i] for i in chosen])
        who = np.asarray([names.index(spoken[i]) for i in chosen])
        plain = mutual_information(codes, np.repeat(who, _lengths(all_codes, chosen)))
        random = np.random.default_rng(bench.seed)
        permuted = [
            np.repeat(random.permutation(who), _lengths(all_codes, chosen)) for _ in range(DRAWS)
        ]
        chance = float(np.mean([mutual_information(codes, other) for other in permuted]))
        note = f"{plain:.4f} less {chance:.4f} by chance; {len(names)} languages"
        fields = {"unit": "bits", "better": "lower", "n": len(codes), "note": note}
        return self.finding(name, plain - chance, **fields)


def _lengths(all_codes: Sequence[np.ndarray], chosen: Sequence[int]) -> list[int]:
    """Return the number of frames of the chosen recordings."""
    return [len(all_codes[i]) for i in chosen]


def rank_slope(counts: np.ndarray) -> float | None:
    """Return the slope of log count on log rank, over counts of 2 or more.

    It is None if there are fewer than two such counts.
    """
    ranked = np.sort(counts[counts > 1])[::-1]
    if len(ranked) < 2:
        return None
    return float(np.polyfit(np.log(np.arange(1, len(ranked) + 1)), np.log(ranked), 1)[0])
