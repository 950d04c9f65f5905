"""Compare the codebook usage of quantizers of one code per frame on the same latents of speech.

    python egs/compare_quantizers.py DATA PLOT.png

DATA is a manifest or a folder of audio; the latents are those of the shipped codec's encoder. Every
tenth recording is held out to measure `lost`, the share of the latents' variance that decoding does
not restore; entries in use and perplexity (2^entropy) are of the others. The codes of `equally
likely` are drawn at random.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import product
from random import Random

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import audiotok
from audiotok.codecs import QuantizerTraining, fit_quantizer, frames_of, lost_share
from audiotok.data import read_manifest
from audiotok.nn import Bsq, Fsq, OneCode, Quantizer, Rvq, Simvq, nearest

SECONDS, STEPS, BATCH = 900, 200, 512  # seconds of training audio; training steps; frames per step
GRIDS = {10: (8, 5, 5, 5), 13: (8, 8, 5, 5, 5), 16: (8, 8, 8, 5, 5, 5)}
KINDS: dict[str, Callable[[int, int], Quantizer]] = {
    "VQ, by gradient": lambda d, bits: Plain(d, 2**bits),
    # Faster decay than the usual 0.99, so that dead entries are detected in so few steps.
    "VQ, averages, revival": lambda d, bits: Rvq(d, codebooks=1, size=2**bits, decay=0.95),
    "factorised": lambda d, bits: Rvq(d, codebooks=1, size=2**bits, kind="factorised"),
    "SimVQ": lambda d, bits: Simvq(d, size=2**bits),
    "FSQ": lambda d, bits: Fsq(d, levels=GRIDS[bits]),
    "BSQ": lambda d, bits: Bsq(d, bits=bits),
}


class Plain(OneCode):
    """Quantizer trained by gradient alone (van den Oord et al. 2017, arXiv:1711.00937)."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__(features, features)
        self.sizes = (size,)
        self.entries = nn.Parameter(torch.empty(size, features).uniform_(-1 / size, 1 / size))

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = self.search(x)
        return x, index, (x - self.look_up(index)).square().mean()

    def search(self, x: Tensor) -> Tensor:
        return nearest(x[0], self.entries.detach())[None]

    def look_up(self, index: Tensor) -> Tensor:
        return self.entries[index]


def latents(data: str) -> tuple[Tensor, Tensor]:
    """Return the latents `[d f]` of the training recordings, and of the held-out ones."""
    codec, parts = audiotok.load("speech"), ([], [])
    recordings = read_manifest(data, split="train")
    for i, recording in enumerate(Random(0).sample(recordings, len(recordings))):
        parts[i % 10 == 9].append(frames_of(codec, [recording]))
        if sum(part.shape[1] for part in parts[0]) > SECONDS * codec.frame_rate:
            break
    return torch.cat(parts[0], 1), torch.cat(parts[1], 1)


def main(data: str, plot: str) -> None:
    x, test = latents(data)
    print(f"{x.shape[1]} frames to learn from, {test.shape[1]} held out, {STEPS} steps\n")
    print("| | entries | in use | perplexity | lost |\n|---|---|---|---|---|")
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
    results = {name: [] for name in [*KINDS, "equally likely"]}
    for bits, name in product(GRIDS, results):
        torch.manual_seed(0)
        size, codes, lost = 2**bits, torch.randint(2**bits, (x.shape[1],)), math.nan
        if name in KINDS:
            torch.manual_seed(0)
            quantizer = KINDS[name](len(x), bits)
            fit_quantizer(quantizer, x, QuantizerTraining(STEPS, BATCH))
            (size,) = quantizer.sizes
            codes = torch.cat([quantizer.encode(part)[0, 0] for part in x[None].split(BATCH, 2)])
            lost = lost_share(quantizer, test)
        share = torch.bincount(codes, minlength=size) / len(codes)
        used = float((share > 0).float().mean())
        perplexity = float(torch.special.entr(share).sum().exp())
        print(f"| {name} | {size:,} | {used:.1%} | {perplexity:,.0f} | {lost:.3f} |", flush=True)
        results[name].append((size, used, perplexity, lost))
    for column, title in enumerate(("in use", "perplexity", "lost")):
        for name, rows in results.items():
            style = "o-" if name in KINDS else "k:"
            values = [row[column + 1] for row in rows]
            panels[column].plot([row[0] for row in rows], values, style, label=name)
        panels[column].set(xscale="log", xlabel="entries", title=title)
    panels[1].set_yscale("log")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(plot, dpi=80)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (audiotok.Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
