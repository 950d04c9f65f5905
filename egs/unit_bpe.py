"""Measure how pieces of units change sequence length and bits per second, by vocabulary size.

python egs/unit_bpe.py CORPUS -o unit_bpe.png            # a corpus with a split column: train, dev
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from audiotok import Corpus, Error, Layout
from audiotok.lm import Ngram, learn_pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--codebooks", type=int, default=1)
    parser.add_argument("--runs", default="keep", choices=["keep", "drop", "durations"])
    parser.add_argument("--kind", default="bpe", choices=["bpe", "unigram"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("-o", "--out", help="a picture")
    chosen = parser.parse_args()

    corpus = Corpus(chosen.corpus)
    codes: dict[str, list[np.ndarray]] = {"train": [], "dev": []}
    for entry in corpus:
        if entry.row.get("split") in codes:
            codes[entry.row["split"]].append(entry.tokens.codes[: chosen.codebooks])
    plain = Layout(sizes=corpus.sizes[: chosen.codebooks], runs=chosen.runs)
    seconds = sum(c.shape[1] for c in codes["dev"]) / corpus.frame_rate
    units = sum(len(plain.encode(c)) - 1 for c in codes["dev"])

    names = ["ids", "units an id", "ids a second", "3-gram: perplexity of an id", "bits a second"]
    table, results = Table(*names), []
    for size in [plain.vocabulary[0], *chosen.sizes]:
        layout = plain
        if size > plain.vocabulary[0]:
            layout = learn_pieces(plain, codes["train"], size=size, kind=chosen.kind)
        model = Ngram(layout.vocabulary[0]).fit(layout.encode(c) for c in codes["train"])
        dev = [layout.encode(c) for c in codes["dev"]]
        ids, bits = sum(len(d) - 1 for d in dev), sum(map(model.bits, dev))
        row = (layout.vocabulary[0], units / ids, ids / seconds, 2 ** (bits / ids), bits / seconds)
        results.append(row)
        table.add_row(*(f"{x:,.0f}" if x > 1000 else f"{x:.2f}" for x in row))
    Console().print(table)

    if chosen.out:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 3, figsize=(10, 3), constrained_layout=True)
        for axis, column in zip(axes, (2, 3, 4), strict=True):
            axis.plot([row[0] for row in results], [row[column] for row in results], "o-")
            axis.set_xscale("log", base=2)
            axis.set(xlabel="ids in the vocabulary", title=names[column])
        figure.savefig(chosen.out, dpi=120)


if __name__ == "__main__":
    try:
        main()
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
