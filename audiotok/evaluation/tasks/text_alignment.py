"""Alignment of codes with the text: mutual information by a readout, and its word error rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok.evaluation.probes.readout import (
    Budget,
    Transcriber,
    characters,
    ctc_loss,
    fit,
    fits,
    log_likelihood,
    padded,
    read,
)
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task, split_by_group
from audiotok.tokens.statistics import distance


class TextAlignment(Task):
    """Text alignment, SLMTokBench's first axis (Zhang et al. 2023, arXiv:2308.16692, section 2).

    A readout q(text | codes), two BiLSTMs and CTC over characters, is trained on the recordings of
    some speakers. On the others, with log q over the text's length:

        information = mean_i [ log q(y_i | x_i) - mean_j log q(y_j | x_i) ]     vCLUB, in bits

    It is an upper bound only as far as q is accurate, so compare at equal q. WER* is that of q's
    most likely characters.

    Args:
        option: "small" (the default) or "paper", the size of q.
    """

    NEGATIVES = 16  # texts y_j that each recording is compared with
    BUDGETS: ClassVar[dict[str, Budget]] = {
        "small": Budget(width=128, hidden=256, steps=200, batch=8, rate=2e-3),
        "paper": Budget(width=1024, hidden=1024, steps=60000, batch=16, rate=2e-4),
    }

    def __init__(self, option: str = "") -> None:
        if option not in ("", *self.BUDGETS):
            raise InputError(f"text_alignment comes in {', '.join(self.BUDGETS)}, not {option!r}")
        self.budget = self.BUDGETS[option or "small"]
        self.protocol = (
            f"SLMTokBench ({option or 'small'}): embedding, 2 BiLSTMs, character CTC, "
            f"{self.budget}; learnt and tested on different speakers; vCLUB with up to "
            f"{self.NEGATIVES} other texts for each recording, log-likelihoods over the length of "
            "their text; texts longer than the codes left out of it; greedy characters, no "
            "language model"
        )

    def run(self, bench: Bench) -> list[Finding]:
        """Return information and WER* of codebook 1 and of all codebooks; see `Task.run`."""
        with_text = [(r, characters(r.text)) for r in bench.over(bench.recordings, "encode")]
        chosen = [(r, text) for r, text in with_text if text and bench.encode(r).frames]
        if not chosen:
            raise InputError("no recording has text: give a manifest with a `text` column")
        train, test = split_by_group([r.speaker for r, _ in chosen], bench.seed)
        alphabet = sorted({c for _, text in chosen for c in text})
        texts = [[alphabet.index(c) + 1 for c in text] for _, text in chosen]
        all_codes = [bench.encode(r).codes for r, _ in chosen]
        findings = []
        kinds = {"codebook 1": 1, f"codebooks 1 to {bench.codebooks}": bench.codebooks}
        for of, codebooks in kinds.items():
            if findings and codebooks == 1:
                break
            codes = [mine[:codebooks] for mine in all_codes]
            sizes = bench.codec.sizes[:codebooks]
            build = partial(Transcriber, sizes, len(alphabet), self.budget)
            learnable = [i for i in train if fits(texts[i], codes[i].shape[1])]
            if not learnable:
                raise InputError("every text is longer than its codes: CTC cannot learn from them")
            loss = partial(ctc_loss, [codes[i] for i in learnable], [texts[i] for i in learnable])
            model = fit(
                build,
                loss,
                len(learnable),
                self.budget,
                seed=bench.seed,
                device=bench.codec.device,
                over=bench.over,
            )
            of_test = [codes[i] for i in test], [texts[i] for i in test]
            speakers = len({chosen[i][0].speaker for i in test})
            note = f"{len(learnable)} recordings to learn from, {speakers} other speakers tested"
            findings += self._tested(bench, model, of, *of_test, ["", *alphabet], note)
        return findings

    def _tested(
        self,
        bench: Bench,
        model: nn.Module,
        of: str,
        codes: list[np.ndarray],
        texts: list[list[int]],
        alphabet: list[str],
        note: str,
    ) -> list[Finding]:
        """Return the findings of a trained readout on the test recordings."""
        random = np.random.default_rng(bench.seed)
        bits, errors, words, excluded, pairs, unfit = [], [], [], 0, 0, 0
        for i, text in enumerate(texts):
            frames = codes[i].shape[1]
            spoken = "".join(alphabet[c] for c in text).split()
            with torch.no_grad():
                log_probs, _ = model(*padded([codes[i]], bench.codec.device))
            transcript = read(log_probs[0])
            errors.append(distance(spoken, "".join(alphabet[c] for c in transcript).split()))
            words.append(len(spoken))
            excluded += not fits(text, frames)
            others = [other for other in texts if other != text]
            order = random.permutation(len(others))[: self.NEGATIVES]
            against = [others[j] for j in order if fits(others[j], frames)]
            pairs, unfit = pairs + len(order), unfit + len(order) - len(against)
            if fits(text, frames) and against:
                bits.append(_bits_per_character(log_probs, [text, *against]))
        wer = self.mean(
            f"WER* of {of}", errors, words, unit="%", better="lower", scale=100, note=note
        )
        name = f"information on the text of {of}"
        share = f"{excluded} of {len(texts)} texts and {unfit} of {pairs} negatives too long"
        if not bits:
            return [self.absent(name, f"nothing to hold against each other: {share}"), wer]
        error = np.std(bits, ddof=1) / math.sqrt(len(bits)) if len(bits) > 1 else math.nan
        return [
            self.mean(
                name,
                bits,
                [1.0] * len(bits),
                unit="bits a character",
                better="higher",
                note=f"standard error {error:.3f}; {share}; {note}",
            ),
            wer,
            self.finding(f"texts left out of {of}", 100 * excluded / len(texts), unit="%"),
        ]


def _bits_per_character(log_probs: Tensor, texts: Sequence[list[int]]) -> float:
    """Return the log-likelihood ratio of the first text to the mean of others, in bits a character.

    Args:
        log_probs: log probabilities `[1 f v]` of one recording.
        texts: its own text, then others; all fit.
    """
    n = len(texts)
    many = log_probs.expand(n, -1, -1)
    lengths = torch.full((n,), log_probs.shape[1], device=log_probs.device)
    sizes = torch.tensor([len(text) for text in texts], device=log_probs.device)
    each = log_likelihood(many, lengths, texts) / sizes / math.log(2)
    return float(each[0] - each[1:].mean())
