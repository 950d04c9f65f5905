"""Compare language models over several layouts, and 3-grams, by held-out bits per second of audio.

Of a model of sums of codebooks the bits are at most so many (see `audiotok.lm.masked`).

python egs/compare_layouts.py CORPUS runs/*/best.safetensors     # a corpus with splits train, dev
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from audiotok import Corpus, Error
from audiotok.lm import LmData, Recordings, held_out_bits, load_model, ngram_bits, prefers_original


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("models", nargs="+")
    parser.add_argument(
        "--frames", type=int, default=125, help="longest segment to score, in frames"
    )
    chosen = parser.parse_args()

    corpus = Corpus(chosen.corpus)
    data = LmData(corpus=chosen.corpus, frames=chosen.frames)
    train, validation = (Recordings(corpus, split, data) for split in ("train", "dev"))
    seconds = sum(row["frames"] for row in validation.rows) / corpus.frame_rate
    names = ["layout", "ids", "ids a second", "bits a second", "3-gram"]
    table = Table(*names, "over shuffled", "over spliced")
    for path in chosen.models:
        model, layout = load_model(path)
        gram, ids = ngram_bits(layout, train.all_segments(), validation.all_segments())
        whole = [validation.codes(i)[: len(layout.sizes), :500] for i in range(len(validation))]
        preferences = [
            f"{np.mean(prefers_original(model, layout, whole, kind)):.2f}"
            if not model.sums
            else "-"
            for kind in ("shuffled", "spliced")
        ]
        table.add_row(
            f"{layout.pattern} of {len(layout.sizes)}" + (", pieces" if layout.learned else ""),
            f"{sum(layout.vocabulary):,}",
            f"{ids / seconds:.1f}",
            ("at most " if model.sums else "")
            + f"{held_out_bits(model, layout, validation)['held_bits_a_second']:.1f}",
            f"{gram / seconds:.1f}",
            *preferences,
        )
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
