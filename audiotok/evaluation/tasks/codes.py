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
from audiotok.tokens.statistics import entropy, shortfall, tally

FIRST = 10  # frames that count as the beginning of a recording
NEAR = 0.01  # duplicates are nearer than this share of the r.m.s. distance from the mean
LARGEST = 8192  # most entries for which all pairwise distances are computed


class Codes(Task):
    """Statistics of the codes of the corpus, pooled over all recordings."""

    protocol = (
        "plug-in entropies of single codes, in bits, over all frames of the corpus; by position "
        "on as many frames each, drawn at random, as few frames alone lower an entropy; an entry "
        "is dead if no frame has it, a duplicate if another lies within "
        f"{NEAR:.0%} of the entries' r.m.s. distance from their mean"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return entropies, usage, rates and repeats; see `Task.run`."""
        made = bench.codes()
        whole = np.concatenate(made, 1)
        sizes = bench.codec.sizes[: bench.codebooks]
        found = []
        bits = []
        for k, size in enumerate(sizes):
            counts = tally(whole[k])
            bits.append(entropy(counts))
            found += self._book(f"of codebook {k + 1}", counts, bits[-1], size)
        found += self._duplicates(bench.codec, bench.codebooks)
        found += self._rates(bench, sum(bits))
        found += self._repeats(made)
        return found + self._positions(made, bench.seed)

    def _book(self, of: str, counts: np.ndarray, bits: float, size: int) -> list[Finding]:
        """Return the entropy and usage of one codebook."""
        n, used = int(counts.sum()), len(counts)
        most = f"of {math.log2(size):.2f}; the estimate is low by about {shortfall(counts):.3f}"
        dead = f"of {size}" + (f"; only {n} frames were seen" if n < 20 * size else "")
        return [
            self.found(f"entropy {of}", bits, unit="bits", better="higher", n=n, note=most),
            self.found(f"perplexity {of}", 2**bits, better="higher", n=n, note=f"of {size}"),
            self.found(f"entries used {of}", 100 * used / size, unit="%", better="higher", n=n),
            self.found(f"dead entries {of}", size - used, better="lower", n=n, note=dead),
        ]

    def _duplicates(self, codec: Codec, codebooks: int) -> list[Finding]:
        """Return the number of duplicate entries of each codebook."""
        found = []
        for k, entries in enumerate(tables(codec)[:codebooks]):
            name = f"duplicate entries of codebook {k + 1}"
            found.append(self.found(name, duplicates(entries), better="lower", n=len(entries)))
        if not found:
            kind = type(codec.quantizer).__name__
            why = f"{kind} keeps no table of up to {LARGEST} entries for each codebook"
            return [self.absent("duplicate entries", why)]
        return found

    def _rates(self, bench: Bench, bits: float) -> list[Finding]:
        """Return the rate of the entropies in kbps, and its share below the nominal rate."""
        rate = float(bench.codec.frame_rate) / 1000
        nominal = rate * sum(map(math.log2, bench.codec.sizes[: bench.codebooks]))
        note = f"of {nominal:.3f} nominal; each codebook by itself, its own neighbours unseen"
        share = "what an ideal coder of single codes would save"
        return [
            self.found("entropy rate", rate * bits, unit="kbps", note=note),
            self.found("entropy rate below nominal", _share(nominal, rate * bits), note=share),
        ]

    def _repeats(self, made: list[np.ndarray]) -> list[Finding]:
        """Return the share of frames whose codes equal those of the frame before."""
        found = []
        kinds = {"of codebook 1": slice(0, 1), "of all codebooks at once": slice(None)}
        for of, rows in kinds.items():
            same = [(c[rows, 1:] == c[rows, :-1]).all(0) for c in made]
            totals, counts = [float(s.sum()) for s in same], [float(len(s)) for s in same]
            found.append(
                self.mean(f"frames that repeat the last {of}", totals, counts, unit="%", scale=100)
            )
        return found

    def _positions(self, made: list[np.ndarray], seed: int) -> list[Finding]:
        """Return the entropies of the beginning and the rest, and of thirds, on equally many
        frames."""
        parts = {
            f"first {FIRST} frames": [c[:, :FIRST] for c in made],
            f"after {FIRST} frames": [c[:, FIRST:] for c in made],
            **{
                f"{name} third": [
                    c[:, c.shape[1] * i // 3 : c.shape[1] * (i + 1) // 3] for c in made
                ]
                for i, name in enumerate(("first", "second", "last"))
            },
        }
        joined = {name: np.concatenate(codes, 1) for name, codes in parts.items()}
        n = min(codes.shape[1] for codes in joined.values())
        if not n:
            return [self.absent("entropy by position", "no recording has enough frames")]
        random, found = np.random.default_rng(seed), []
        for name, codes in joined.items():
            drawn = codes[:, random.choice(codes.shape[1], n, replace=False)]
            bits = [entropy(tally(row)) for row in drawn]
            note = f"on {n} frames: at most {math.log2(n):.2f}"
            for of, value in (("codebook 1", bits[0]), ("a codebook", float(np.mean(bits)))):
                found.append(
                    self.found(f"entropy of {of}, {name}", value, unit="bits", n=n, note=note)
                )
        return found


def _share(nominal: float, real: float) -> float:
    return 1 - real / nominal if nominal else 0.0


@torch.no_grad()
def tables(codec: Codec) -> list[Float[Tensor, "size d"]]:
    """Return the entries `[size d]` of each codebook, in order; none if not all are tables."""
    books = [m for m in codec.quantizer.modules() if isinstance(m, Codebook)]
    if len(books) != codec.codebooks:
        return []
    made = []
    for book, size in zip(books, codec.sizes, strict=True):
        if size > LARGEST:
            return []
        made.append(book.look_up(torch.arange(size, device=codec.device)).float())
    return made


def duplicates(entries: Float[Tensor, "size d"]) -> int:
    """Return the number of entries `[size d]` with another one nearer than `NEAR`."""
    spread = (entries - entries.mean(0)).square().sum(1).mean().sqrt()
    gaps = torch.cdist(entries, entries, compute_mode="donot_use_mm_for_euclid_dist")
    gaps.fill_diagonal_(float("inf"))
    return int((gaps.min(1).values <= NEAR * spread).sum())
