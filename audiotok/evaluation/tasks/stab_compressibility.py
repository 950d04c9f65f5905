"""Compressibility of codes: Huffman codes, and byte-pair encoding."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np

from audiotok.evaluation.metrics.base import optional_import
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task
from audiotok.tokens.statistics import code_counts, entropy, huffman

MERGES = (100, 500, 1000)
# Codes are written as characters for the BPE: planes 1 to 14 have no surrogates and no spaces
# that a tokenizer would treat otherwise.
FIRST = 0x10000
LARGEST = 0xE0000 - FIRST


class StabCompressibility(Task):
    """STAB-inspired compressibility of codes (Vashishth et al. 2024, arXiv:2409.02384)."""

    protocol = (
        "STAB-inspired. Huffman: mean code length of single codes over the corpus that it was made "
        "for, against log2 of the entries (efficiency 1: nothing to gain) and the entropy. BPE: "
        "codebook 1 with its repeats, learnt by `tokenizers` on every other recording and applied "
        "to the rest: sequence length over codes, and the entropy of the merged codes a second"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return code lengths by Huffman coding and by BPE; see `Task.run`."""
        all_codes = bench.codes()
        whole = np.concatenate(all_codes, 1)
        sizes = bench.codec.sizes[: bench.codebooks]
        findings, lengths = [], []
        for k, size in enumerate(sizes):
            counts = code_counts(whole[k])
            lengths.append(huffman(counts))
            most = math.log2(size)
            note = f"{lengths[-1]:.3f} bits, of {most:.3f} nominal; entropy {entropy(counts):.3f}"
            name = f"Huffman efficiency of codebook {k + 1}"
            value = lengths[-1] / most if most else None
            findings.append(self.finding(name, value, n=whole.shape[1], note=note))
        rate = float(bench.codec.frame_rate)
        nominal = rate * sum(map(math.log2, sizes)) / 1000
        findings.append(
            self.finding(
                "Huffman rate",
                rate * sum(lengths) / 1000,
                unit="kbps",
                better="lower",
                note=f"of {nominal:.3f} nominal; without the table",
            )
        )
        try:
            return findings + self._bpe([codes[0] for codes in all_codes], rate, sizes[0])
        except ImportError as error:
            return [*findings, self.absent("BPE", f"not run: {error}")]

    def _bpe(self, rows: list[np.ndarray], rate: float, size: int) -> list[Finding]:
        """Return lengths and entropies of codebook 1 after BPE learnt on every other recording."""
        train, test = [r for r in rows[::2] if len(r)], [r for r in rows[1::2] if len(r)]
        if not train or not test:
            return [self.absent("BPE", "not run: fewer than two recordings")]
        if size > LARGEST:
            return [self.absent("BPE", f"not run: more than {LARGEST} entries")]
        seconds = sum(map(len, test)) / rate
        before = entropy(code_counts(np.concatenate(test))) * rate
        findings = [
            self.finding("entropy of codebook 1", before, unit="bit/s", note="held out, no merges")
        ]
        for merges in MERGES:
            merged_codes = apply_bpe(train, test, merges)
            name = f"after {merges} merges"
            fields = {"unit": "%", "better": "lower", "scale": 100}
            counts = [float(len(row)) for row in test]
            merged_lengths = [float(len(row)) for row in merged_codes]
            findings.append(self.mean(f"BPE length {name}", merged_lengths, counts, **fields))
            kinds = code_counts(np.asarray(list(chain.from_iterable(merged_codes))))
            bits = entropy(kinds) * sum(merged_lengths) / seconds
            n = int(sum(merged_lengths))
            note = f"{n} merged codes of {len(kinds)} kinds, whose entropy is low"
            findings.append(
                self.finding(f"BPE entropy {name}", bits, unit="bit/s", better="lower", note=note)
            )
        return findings


def apply_bpe(train: list[np.ndarray], test: list[np.ndarray], merges: int) -> list[list[int]]:
    """Return the ids of `test` by a BPE that was learnt on `train`.

    Args:
        train: codes `[f]` of the recordings to learn from.
        test: codes `[f]` of the recordings to encode.
        merges: number of merges.

    Raises:
        ImportError: `tokenizers` is not installed.
    """
    tokenizers = optional_import("tokenizers")
    alphabet = sorted({chr(FIRST + c) for row in chain(train, test) for c in row.tolist()})
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=len(alphabet) + merges,
        initial_alphabet=alphabet,
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(_as_text, train), trainer)
    return [tokenizer.encode(_as_text(row)).ids for row in test]


def _as_text(row: np.ndarray) -> str:
    """Return codes as a string of one character each."""
    return "".join(chr(FIRST + c) for c in row.tolist())
