"""DASB's protocol at small scale: a label or the text, read from frozen codes by a readout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.data.alignment import PROTOCOL
from audiotok.evaluation.probes.readout import (
    Budget,
    Classifier,
    Transcriber,
    characters,
    ctc_loss,
    fit,
    fits,
    padded,
    read,
)
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task, split_by_group
from audiotok.tokens.statistics import distance

HEADS = {"x-vector": False, "linear": True}
LETTERS = 3  # least letters of a keyword: shorter words are reduced in speech
RATES = ((0.0, 1.5, "low"), (2.9, 6.0, "medium"), (24.0, 24.5, "high"))  # kbps, DASB's classes


@dataclass(frozen=True)
class _Example:
    """Codes `[k f]` of a recording, or of a stretch of it, with a label."""

    codes: np.ndarray
    label: str
    speaker: str
    recording: int  # its number: an interval is over recordings


class Dasb(Task):
    """DASB-inspired readouts of frozen codes (Mousavi et al. 2024, arXiv:2406.14294).

    Args:
        option: label to read. `speaker` (the default); `keyword`: the column of that name, or else
            the most frequent words, cut out of the codes of English recordings by forced alignment;
            `phone`: phones, cut out in the same way (which DASB does not); `classify=COLUMN`: any
            column of the manifest, such as `emotion` or `language`; `asr`: characters by CTC. Then
            optionally the size, `=small` (the default) or `=paper`, as in `asr=paper`.
    """

    WORDS = 10  # keywords
    LEAST = 4  # least examples of a class
    BUDGETS: ClassVar[dict[str, tuple[Budget, Budget, int]]] = {  # of classes, of asr; seeds
        "small": (Budget(128, 128, 300, 16, 1e-3), Budget(128, 256, 200, 8, 2e-3), 1),
        "paper": (Budget(1024, 512, 20000, 4, 2e-4), Budget(1024, 1024, 140000, 4, 2e-4), 3),
    }
    PHONES: ClassVar[dict[str, Budget]] = {  # a phone is a few frames long
        "small": Budget(128, 128, 400, 64, 2e-3),
        "paper": Budget(1024, 512, 20000, 64, 2e-4),
    }

    def __init__(self, option: str = "") -> None:
        words = (option or "speaker").split("=")
        size = words.pop() if words[-1] in self.BUDGETS else "small"
        self.kind = words[0] if len(words) == 1 else ""
        if len(words) == 2 and words[0] == "classify" and words[1]:
            self.kind = words[1]
        elif self.kind not in ("speaker", "keyword", "phone", "asr"):
            kinds = "speaker, keyword, phone, asr or classify=COLUMN"
            raise InputError(f"dasb reads {kinds}, then perhaps =small or =paper; not {option!r}")
        of_class, of_text, self.seeds = self.BUDGETS[size]
        budgets = {"asr": of_text, "phone": self.PHONES[size]}
        self.budget = budgets.get(self.kind, of_class)
        head = "2 BiLSTMs and CTC" if self.kind == "asr" else f"heads {' and '.join(HEADS)}"
        test_set = "recordings of the same speakers" if self.kind == "speaker" else "other speakers"
        unless = ", unless there is a column `keyword`" if self.kind == "keyword" else ""
        cut = f"; {self.kind}s cut out of codes by {PROTOCOL}{unless}"
        cut = cut if self.kind in ("keyword", "phone") else ""
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        self.protocol = (
            f"DASB-inspired ({self.kind}, {size}): embeddings with an offset by codebook, softmax "
            f"attention over codebooks, {head}, {self.budget}, {seeds}, "
            f"constant rate; tested on {test_set}{cut}"
        )

    def run(self, bench: Bench) -> list[Finding]:
        """Return accuracies or error rates, chance, and the codebooks' weights; see `Task.run`."""
        kbps = float(bench.codec.frame_rate) * float(
            np.log2(bench.codec.sizes[: bench.codebooks]).sum() / 1000
        )
        findings = self._transcribe(bench) if self.kind == "asr" else self._classify(bench)
        classes = [name for low, high, name in RATES if low <= kbps <= high]
        note = f"DASB's class: {classes[0] if classes else 'between its classes'}"
        return [*findings, self.finding("nominal rate", kbps, unit="kbps", note=note)]

    # -- classes ----------------------------------------------------------------------------------

    def _classify(self, bench: Bench) -> list[Finding]:
        """Return the accuracy of each head on a label of whole recordings."""
        examples = self._examples(bench)
        many = Counter(example.label for example in examples)
        examples = [e for e in examples if many[e.label] >= self.LEAST]
        labels = sorted({e.label for e in examples})
        if len(labels) < 2:
            raise InputError(
                f"dasb:{self.kind} needs two classes with {self.LEAST} recordings each, and there "
                f"are {len(labels)} (all: {dict(many.most_common(5))}): give more recordings"
            )
        train, test = self._split(examples, bench.seed)
        codes = [e.codes for e in examples]
        targets = torch.tensor([labels.index(e.label) for e in examples], device=bench.codec.device)
        sizes = bench.codec.sizes[: bench.codebooks]
        often = Counter(examples[i].label for i in train).most_common(1)[0][0]
        chance = 100 * np.mean([examples[i].label == often for i in test])
        note = f"{len(labels)} classes, {len(train)} to learn from, chance {chance:.1f} %"
        findings = []
        for head, linear in HEADS.items():
            right, weights = np.zeros(len(test)), torch.zeros(len(sizes))
            for seed in range(bench.seed, bench.seed + self.seeds):
                model = fit(
                    partial(Classifier, sizes, len(labels), self.budget, linear=linear),
                    partial(_label_loss, [codes[i] for i in train], targets[train]),
                    len(train),
                    self.budget,
                    seed=seed,
                    device=bench.codec.device,
                    over=bench.over,
                )
                for n, i in enumerate(test):
                    with torch.no_grad():
                        scores, codebook_weights = model(*padded([codes[i]], bench.codec.device))
                    right[n] += int(scores.argmax()) == int(targets[i])
                    weights += codebook_weights.cpu() / self.seeds / len(test)
            name = f"{self.kind} right, {head} head"
            _, of = np.unique([examples[i].recording for i in test], return_inverse=True)
            totals, counts = np.bincount(of, right / self.seeds), np.bincount(of)
            fields = {"unit": "%", "better": "higher", "scale": 100, "note": note}
            findings.append(self.mean(name, totals.tolist(), counts.tolist(), **fields))
            findings += self._weights(weights, f", {head} head")
        return findings

    def _examples(self, bench: Bench) -> list[_Example]:
        """Return codes and labels of the recordings, or of words or phones cut out of them."""
        column = self.kind
        if column == "phone" or (
            column == "keyword" and not any(r.column("keyword") for r in bench.recordings)
        ):
            return self._cut_out(bench)
        labels = [recording.column(column) for recording in bench.recordings]
        if not any(labels):
            raise InputError(
                f"the manifest says nothing in a column {column!r}: give one that does, or read "
                "another label (dasb:classify=COLUMN)"
            )
        all_codes = bench.codes()
        rows = zip(all_codes, labels, bench.recordings, strict=True)
        return [
            _Example(codes, label, recording.speaker, number)
            for number, (codes, label, recording) in enumerate(rows)
            if label and codes.shape[1]
        ]

    def _cut_out(self, bench: Bench) -> list[_Example]:
        """Return the phones, or the most frequent words, cut out of the codes of recordings."""
        rate, examples = float(bench.codec.frame_rate), []
        numbered = list(enumerate(bench.recordings))
        for number, recording in bench.over(numbered, f"align {self.kind}s"):
            if not (recording.language or "en").startswith("en"):
                continue
            try:
                aligned = bench.align(recording)
            except ValueError:  # no text, or a word that the dictionary lacks
                continue
            codes = bench.encode(recording).codes
            for span in aligned.phones if self.kind == "phone" else aligned.words:
                first, last = (round(at * rate, 6) for at in (span.start, span.end))
                piece = codes[:, int(first) : int(np.ceil(last))]
                if piece.shape[1]:
                    examples.append(_Example(piece, span.label, recording.speaker, number))
        if self.kind == "phone":
            return examples
        words = Counter(e.label for e in examples if len(e.label) >= LETTERS)
        common = {word for word, _ in words.most_common(self.WORDS)}
        return [example for example in examples if example.label in common]

    def _split(self, examples: Sequence[_Example], seed: int) -> tuple[list[int], list[int]]:
        """Return indices to train and test on: by speaker, or a quarter of each class.

        Classes are split where the speaker is the label, or where there is only one speaker.
        """
        speakers = [e.speaker for e in examples]
        if self.kind != "speaker" and len(set(speakers)) > 1:
            return split_by_group(speakers, seed)
        random = np.random.default_rng(seed)
        split: tuple[list[int], list[int]] = ([], [])
        for label in sorted({e.label for e in examples}):
            mine = [i for i, e in enumerate(examples) if e.label == label]
            order = random.permutation(mine).tolist()
            n_test = max(1, round(len(order) / 4))
            split[1].extend(order[:n_test])
            split[0].extend(order[n_test:])
        return split

    def _weights(self, weights: Tensor, of: str) -> list[Finding]:
        """Return the attention weight of each codebook."""
        note = "attention over codebooks: they sum to 1"
        return [
            self.finding(f"weight of codebook {k + 1}{of}", weight, note=note)
            for k, weight in enumerate(weights.tolist())
        ]

    # -- text -------------------------------------------------------------------------------------

    def _transcribe(self, bench: Bench) -> list[Finding]:
        """Return word and character error rates of a CTC readout."""
        texted = [(r, characters(r.text)) for r in bench.over(bench.recordings, "encode")]
        transcribed = [(r, text) for r, text in texted if text and bench.encode(r).frames]
        if not transcribed:
            raise InputError("no recording has text: give a manifest with a `text` column")
        train, test = split_by_group([r.speaker for r, _ in transcribed], bench.seed)
        alphabet = ["", *sorted({c for _, text in transcribed for c in text})]
        texts = [[alphabet.index(c) for c in text] for _, text in transcribed]
        codes = [bench.encode(r).codes for r, _ in transcribed]
        learnable = [i for i in train if fits(texts[i], codes[i].shape[1])]
        if not learnable:
            raise InputError("every text is longer than its codes: CTC cannot learn from them")
        sizes = bench.codec.sizes[: bench.codebooks]
        errors, letters = np.zeros(len(test)), np.zeros(len(test))
        weights = torch.zeros(len(sizes))
        for seed in range(bench.seed, bench.seed + self.seeds):
            model = fit(
                partial(Transcriber, sizes, len(alphabet) - 1, self.budget),
                partial(ctc_loss, [codes[i] for i in learnable], [texts[i] for i in learnable]),
                len(learnable),
                self.budget,
                seed=seed,
                device=bench.codec.device,
                over=bench.over,
            )
            for n, i in enumerate(test):
                with torch.no_grad():
                    log_probs, codebook_weights = model(*padded([codes[i]], bench.codec.device))
                transcript = "".join(alphabet[c] for c in read(log_probs[0]))
                weights += codebook_weights.cpu() / self.seeds / len(test)
                errors[n] += distance(transcribed[i][1].split(), transcript.split()) / self.seeds
                letters[n] += distance(transcribed[i][1], transcript) / self.seeds
        words = [float(len(transcribed[i][1].split())) for i in test]
        sizes_of = [float(len(transcribed[i][1])) for i in test]
        note = f"{len(learnable)} recordings to learn from; greedy, no language model"
        fields = {"unit": "%", "better": "lower", "scale": 100, "note": note}
        return [
            self.mean("word error rate", errors.tolist(), words, **fields),
            self.mean("character error rate", letters.tolist(), sizes_of, **fields),
            *self._weights(weights, ""),
        ]


def _label_loss(
    codes: Sequence[np.ndarray], targets: Tensor, model: nn.Module, chosen: list[int]
) -> Tensor:
    """Return the cross entropy of the labels of some recordings."""
    batch, lengths = padded([codes[i] for i in chosen], targets.device)
    return F.cross_entropy(model(batch, lengths)[0], targets[chosen])
