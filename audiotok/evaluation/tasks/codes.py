"""Use of codebooks: entropy by codebook and position, dead and duplicate entries."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiotok.codecs.models.base import Codec
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task
from audiotok.nn.quantizers.base import Codebook
from audiotok.tokens.statistics import (
    FRAMES_AN_ENTRY,
    EntryUse,
    code_counts,
    entropy,
    entropy_bias,
)

FIRST = 10  # frames that count as the beginning of a recording
NEAR = 0.01  # duplicates are nearer than this share of the r.m.s. distance from the mean
LARGEST = 8192  # most entries for which all pairwise distances are computed


class Codes(Task):
    """Statistics of the codes of the corpus, pooled over all recordings."""

    protocol = (
        "plug-in entropies of single codes, in bits, over all frames of the corpus; by position "
        "on as many frames each, drawn at random, as few frames alone lower an entropy; an entry "
        f"is dead if none of {FRAMES_AN_ENTRY} frames or more for each entry has it, a duplicate "
        "if another lies within "
        f"{NEAR:.0%} of the entries' r.m.s. distance from their mean"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return entropies, usage, rates and repeats; see `Task.run`."""
        all_codes = bench.codes()
        whole = np.concatenate(all_codes, 1)
        sizes = bench.codec.sizes[: bench.codebooks]
        findings = []
        bits = []
        for k, size in enumerate(sizes):
            counts = code_counts(whole[k])
            bits.append(entropy(counts))
            findings += self._book(f"of codebook {k + 1}", counts, bits[-1], size)
        findings += self._duplicates(bench.codec, bench.codebooks)
        findings += self._rates(bench, sum(bits))
        findings += self._repeats(all_codes)
        return findings + self._positions(all_codes, bench.seed)

    def _book(self, of: str, counts: np.ndarray, bits: float, size: int) -> list[Finding]:
        """Return the entropy and usage of one codebook."""
        n = int(counts.sum())
        use = EntryUse(len(counts), size, n)
        most = f"of {math.log2(size):.2f}; the estimate is low by about {entropy_bias(counts):.3f}"
        return [
            self.finding(f"entropy {of}", bits, unit="bits", better="higher", n=n, note=most),
            self.finding(f"perplexity {of}", 2**bits, better="higher", n=n, note=f"of {size}"),
            self.finding(
                f"entries seen {of}",
                100 * use.seen / size,
                unit="%",
                better="higher",
                n=n,
                note=f"of {size}; used alike, {use.expected_unseen:.1f} would be unseen",
            ),
            self.finding(
                f"dead entries {of}",
                use.dead,
                better="lower",
                n=n,
                note=use.too_few or f"of {size}",
            ),
        ]

    def _duplicates(self, codec: Codec, codebooks: int) -> list[Finding]:
        """Return the number of duplicate entries of each codebook."""
        findings = []
        for k, entries in enumerate(tables(codec)[:codebooks]):
            name = f"duplicate entries of codebook {k + 1}"
            findings.append(self.finding(name, duplicates(entries), better="lower", n=len(entries)))
        if not findings:
            kind = type(codec.quantizer).__name__
            why = f"{kind} keeps no table of up to {LARGEST} entries for each codebook"
            return [self.absent("duplicate entries", why)]
        return findings

    def _rates(self, bench: Bench, bits: float) -> list[Finding]:
        """Return the rate of the entropies in kbps, and its share below the nominal rate."""
        rate = float(bench.codec.frame_rate) / 1000
        nominal = rate * sum(map(math.log2, bench.codec.sizes[: bench.codebooks]))
        note = f"of {nominal:.3f} nominal; each codebook by itself, its own neighbours unseen"
        share = "what an ideal coder of single codes would save"
        return [
            self.finding("entropy rate", rate * bits, unit="kbps", note=note),
            self.finding("entropy rate below nominal", _share(nominal, rate * bits), note=share),
        ]

    def _repeats(self, all_codes: list[np.ndarray]) -> list[Finding]:
        """Return the share of frames whose codes equal those of the frame before."""
        findings = []
        kinds = {"of codebook 1": slice(0, 1), "of all codebooks at once": slice(None)}
        for of, rows in kinds.items():
            same = [(c[rows, 1:] == c[rows, :-1]).all(0) for c in all_codes]
            totals, counts = [float(s.sum()) for s in same], [float(len(s)) for s in same]
            findings.append(
                self.mean(f"frames that repeat the last {of}", totals, counts, unit="%", scale=100)
            )
        return findings

    def _positions(self, all_codes: list[np.ndarray], seed: int) -> list[Finding]:
        """Return the entropies of beginning, rest and thirds, each on equally many frames."""
        parts = {
            f"first {FIRST} frames": [c[:, :FIRST] for c in all_codes],
            f"after {FIRST} frames": [c[:, FIRST:] for c in all_codes],
            **{
                f"{name} third": [
                    c[:, c.shape[1] * i // 3 : c.shape[1] * (i + 1) // 3] for c in all_codes
                ]
                for i, name in enumerate(("first", "second", "last"))
            },
        }
        joined = {name: np.concatenate(codes, 1) for name, codes in parts.items()}
        n = min(codes.shape[1] for codes in joined.values())
        if not n:
            return [self.absent("entropy by position", "no recording has enough frames")]
        random, findings = np.random.default_rng(seed), []
        for name, codes in joined.items():
            drawn = codes[:, random.choice(codes.shape[1], n, replace=False)]
            bits = [entropy(code_counts(row)) for row in drawn]
            note = f"on {n} frames: at most {math.log2(n):.2f}"
            for of, value in (("codebook 1", bits[0]), ("a codebook", float(np.mean(bits)))):
                findings.append(
                    self.finding(f"entropy of {of}, {name}", value, unit="bits", n=n, note=note)
                )
        return findings


def _share(nominal: float, real: float) -> float:
    return 1 - real / nominal if nominal else 0.0


@torch.no_grad()
def tables(codec: Codec) -> list[Float[Tensor, "size d"]]:
    """Return the entries `[size d]` of each codebook, in order; none if not all are tables."""
    books = [m for m in codec.quantizer.modules() if isinstance(m, Codebook)]
    if len(books) != codec.codebooks:
        return []
    entries = []
    for book, size in zip(books, codec.sizes, strict=True):
        if size > LARGEST:
            return []
        entries.append(book.look_up(torch.arange(size, device=codec.device)).float())
    return entries


def duplicates(entries: Float[Tensor, "size d"]) -> int:
    """Return the number of entries `[size d]` with another one nearer than `NEAR`."""
    spread = (entries - entries.mean(0)).square().sum(1).mean().sqrt()
    gaps = torch.cdist(entries, entries, compute_mode="donot_use_mm_for_euclid_dist")
    gaps.fill_diagonal_(float("inf"))
    return int((gaps.min(1).values <= NEAR * spread).sum())
