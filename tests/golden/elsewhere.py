"""Writes an entropy-coded corpus on another kind of machine; `elsewhere/` is what it wrote.

    qemu-s390x -L ROOT -E PYTHONHOME=ROOT/usr -E PYTHONPATH=AUDIOTOK ROOT/usr/bin/python3 \\
        tests/golden/elsewhere.py tests/golden/elsewhere

ROOT is Debian's s390x (big-endian) with python3 and python3-numpy, as `debootstrap --foreign
--arch=s390x` fetches it and `dpkg -x` unpacks it: Python 3.11.2, numpy 1.24.2, qemu 7.2.
constriction has no build for such a machine, so its coder stands here anew, in Python's integers,
by Duda's paper (arXiv:1311.2540) and the width of words and state that constriction documents.
Everything else is audiotok's own code. tests/corpus/test_corpus_ans.py reads the files with
constriction itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

SIZES, LENGTHS = (1024, 64), (0, 1, 700, 9000)  # more than a page, in all


def codes(frames: int, seed: int) -> np.ndarray:
    """Codes [2 f] with favourites, the second codebook's often repeated; by integers alone."""
    state, rows = seed + 1, np.zeros((2, frames), np.int64)
    for t in range(frames):
        for k, size in enumerate(SIZES):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            draw = state >> 33
            rows[k, t] = (draw % size) * (draw // size % size) // size
            if k and t and draw % 7 < 4:
                rows[k, t] = rows[k, t - 1]
    return rows


class Categorical:
    """Frequencies that sum to 2^24, from whole numbers that sum to that less how many they are."""

    def __init__(self, weights: np.ndarray, *, perfect: bool) -> None:
        assert not perfect
        self.frequencies = [1 + int(weight) for weight in weights]
        assert sum(self.frequencies) == 1 << 24
        self.lows = [0]
        for frequency in self.frequencies:
            self.lows.append(self.lows[-1] + frequency)


class AnsCoder:
    """A state of 64 bits over a stack of words of 32."""

    def __init__(self, words: np.ndarray | None = None) -> None:
        self.words = [int(word) for word in words] if words is not None else []
        self.state = 0
        while self.words and self.state < 1 << 32:
            self.state = self.state << 32 | self.words.pop()

    def encode_reverse(self, symbols: np.ndarray, model: Categorical) -> None:
        for symbol in map(int, reversed(symbols)):
            frequency, low = model.frequencies[symbol], model.lows[symbol]
            if self.state >= frequency << 40:
                self.words.append(self.state & 0xFFFFFFFF)
                self.state >>= 32
            self.state = (self.state // frequency << 24) + self.state % frequency + low

    def decode(self, model: Categorical, count: int) -> np.ndarray:
        made = []
        for _ in range(count):
            quantile = self.state % (1 << 24)
            symbol = int(np.searchsorted(model.lows, quantile, side="right")) - 1
            frequency = model.frequencies[symbol]
            self.state = (self.state >> 24) * frequency + quantile - model.lows[symbol]
            if self.state < 1 << 32 and self.words:
                self.state = self.state << 32 | self.words.pop()
            made.append(symbol)
        return np.array(made, np.int32)

    def get_compressed(self) -> np.ndarray:
        rest = [self.state & 0xFFFFFFFF, self.state >> 32]
        while rest and not rest[-1]:
            rest.pop()
        return np.array([*self.words, *rest], np.uint32)


def main(out: Path) -> None:
    coder: Any = ModuleType("constriction")
    stack, model = SimpleNamespace(AnsCoder=AnsCoder), SimpleNamespace(Categorical=Categorical)
    coder.stream = SimpleNamespace(stack=stack, model=model)
    sys.modules["constriction"] = coder

    from audiotok.corpus import Corpus
    from audiotok.corpus.base import CorpusInfo
    from audiotok.corpus.check import damage
    from audiotok.corpus.compression import compress
    from audiotok.corpus.write import row_of, write_corpus
    from audiotok.tokens.tokens import Tokens

    entries = []
    for i, frames in enumerate(LENGTHS):
        tokens = Tokens(
            codes=codes(frames, i),
            size=SIZES,
            codec="toy",
            fingerprint="ab",
            sample_rate=16000,
            frame_size=320,
            samples=320 * frames,
            original_rate=16000,
            original_samples=320 * frames,
        )
        entries.append((row_of(f"r{i}", tokens, i, {"text": f"grün {i}"}), tokens))
    plain = out.with_name(out.name + ".plain")
    write_corpus(plain, CorpusInfo("toy", "ab", SIZES, 16000, 320, 1, ()), entries)
    print(compress(Corpus(plain), out))
    for folder in (plain, out):  # and read there
        corpus = Corpus(folder)
        assert not any(found for _, found in damage(corpus))
        assert all((corpus[i].tokens.codes == codes(n, i)).all() for i, n in enumerate(LENGTHS))
    print(f"written by a {sys.byteorder}-endian machine, numpy {np.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
