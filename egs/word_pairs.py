"""Measure how often a model prefers a word to a pseudo-word in the same voice (sWUGGY).

The words are from the corpus's texts. In a pseudo-word one phone, not the first, is changed so that
it is not in pocketsphinx's dictionary. Any program that takes phones can speak them:

python egs/word_pairs.py MODEL CORPUS --say 'flite -voice slt -p "{phones}" -o {out}'
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from audiotok import Audio, Corpus, Error, load
from audiotok.data import words_of
from audiotok.evaluation import bootstrap
from audiotok.lm import Segment, bits_of, load_model

ALIKE = ("P T K", "B D G", "F TH S SH HH", "V DH Z", "M N", "L R W Y", "IH EH AE AH UH AA", "IY EY")


def main() -> None:
    from pocketsphinx import get_model_path  # pyright: ignore[reportMissingImports] - an extra

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--say", required=True, help="a command with {phones} and {out}")
    parser.add_argument("--count", type=int, default=200, help="number of words")
    chosen = parser.parse_args()
    lines = Path(get_model_path("en-us/cmudict-en-us.dict")).read_text().splitlines()
    book = {line.split()[0]: line.split()[1:] for line in lines}
    known = {tuple(phones) for phones in book.values()}
    texts = (str(each.row.get("text", "")) for each in Corpus(chosen.corpus))
    often = Counter(word for text in texts for word in words_of(text))
    words = [word for word, _ in often.most_common() if len(book.get(word, ())) >= 4]
    random, pairs = np.random.default_rng(0), []
    for word in words[: chosen.count]:
        phones = book[word]
        alike = [(i, group.split()) for i, phone in enumerate(phones) if i for group in ALIKE]
        changes = [
            [*phones[:i], p, *phones[i + 1 :]] for i, g in alike if phones[i] in g for p in g
        ]
        if changes := [each for each in changes if tuple(each) not in known]:
            pairs.append((word, phones, changes[int(random.integers(len(changes)))]))

    model, layout = load_model(chosen.model)
    codec, codes = load(layout.codec), []
    for word, *both in pairs:
        for kind, phones in zip(("word", "pseudo"), both, strict=True):
            path = Path(f"{word}_{kind}.wav")
            spoken = " ".join(["pau", *phones, "pau"]).lower()
            command = [part.format(phones=spoken, out=path) for part in shlex.split(chosen.say)]
            subprocess.run(command, check=True)
            codes.append(codec.encode(Audio.load(path)).codes[: len(layout.sizes)])
    bits = bits_of(model, layout, [Segment(each) for each in codes])
    good = [a[0] / a[1] < b[0] / b[1] for a, b in zip(bits[::2], bits[1::2], strict=True)]
    low, high = bootstrap(np.array(good, float), np.ones(len(good)))
    share = f"{np.mean(good):.3f} of {len(good)} words likelier"
    print(f"{share} ({low:.3f} to {high:.3f}; chance is 0.5)")


if __name__ == "__main__":
    try:
        main()
    except (Error, ImportError, OSError, ValueError) as error:
        sys.exit(f"error {error}")
