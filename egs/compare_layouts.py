"""Bits a second that held-out recordings cost: language models over several layouts, and 3-grams.

python egs/compare_layouts.py CORPUS runs/*/best.safetensors     # a corpus with splits train, dev
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from audiotok.corpus import Corpus
from audiotok.lm.data import Recordings
from audiotok.lm.file import load_model
from audiotok.lm.loop import held_out
from audiotok.lm.ngram import Ngram
from audiotok.lm.recipe import LmData
from audiotok.lm.score import preferred

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("corpus")
parser.add_argument("models", nargs="+")
parser.add_argument("--frames", type=int, default=125, help="a recording is scored in stretches")
chosen = parser.parse_args()

corpus = Corpus(chosen.corpus)
data = LmData(corpus=chosen.corpus, frames=chosen.frames)
train, held = (Recordings(corpus, split, data) for split in ("train", "dev"))
names = ["layout", "ids", "steps a second", "bits a second", "3-gram"]
table = Table(*names, "over shuffled", "over spliced")
for path in chosen.models:
    model, layout = load_model(path)
    k = len(layout.sizes)
    parts = [codes[:k] for i in range(len(held)) for codes in held.stretches(i)]
    seconds = sum(codes.shape[1] for codes in parts) / corpus.frame_rate
    ids = [layout.encode(codes) for codes in parts]
    # In rows a 3-gram of each codebook by itself: what it is of, coarse first.
    rows = range(1 if layout.serial else k)
    every = [layout.encode(codes[:k]) for i in range(len(train)) for codes in train.stretches(i)]
    grams = [
        Ngram(n).fit(np.atleast_2d(e)[r] for e in every) for r, n in enumerate(layout.vocabulary)
    ]
    gram = sum(grams[r].bits(np.atleast_2d(e)[r]) for e in ids for r in rows) / seconds
    whole = [held.codes(i)[:k, :500] for i in range(len(held))]
    table.add_row(
        f"{layout.pattern} of {k}" + (", pieces" if layout.learned else ""),
        f"{sum(layout.vocabulary):,}",
        f"{sum(x.shape[-1] - 1 for x in ids) / seconds:.1f}",
        f"{held_out(model, layout, held)['held_bits_a_second']:.1f}",
        f"{gram:.1f}",
        f"{np.mean(preferred(model, layout, whole, 'shuffled')):.2f}",
        f"{np.mean(preferred(model, layout, whole, 'spliced')):.2f}",
    )
Console().print(table)
