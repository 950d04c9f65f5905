"""A model of sums of codebooks (`recipes/lm_sums.toml`) beside `delay`, on the same recordings.

    python tests/bench/lm_sums.py CORPUS RUN... [--json docs/results/lm_sums.json]

CORPUS has splits `train` and `dev`, and each RUN is a folder of `audiotok lm train` on it. Bits a
second of `dev` are exact for `delay`, and an estimate of an upper bound for sums, in which the
number of frames is known and `end` is not predicted (`audiotok.lm.masked`). Codes generated after
1 s of each segment of 2.5 s are scored by the first `delay` run of as many codebooks:
bits a second of the part generated, beside those of the recording's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time

import numpy as np
import torch
from discretise import store

from audiotok.corpus import Corpus
from audiotok.lm import (
    Layout,
    LmData,
    Recordings,
    Segment,
    Transformer,
    bits_of,
    held_out_bits,
    infill,
    load_model,
    ngram_bits,
)

FRAMES, PROMPT = 125, 50  # of a segment, and of the prompt, at 50 a second
RECORDINGS = 12  # that are continued
Model = tuple[Transformer, Layout]


def continuations(model: Model, judge: Model, dev: Recordings) -> dict[str, float]:
    """Return what continuations of recordings cost another model, and their own codes."""
    parts = [part for part in dev.all_segments() if part.codes.shape[1] == FRAMES][:RECORDINGS]
    parts = [Segment(part.codes[: len(model[1].sizes)], ends=False) for part in parts]
    known = [np.arange(FRAMES) < PROMPT] * len(parts)
    prompts = [part._replace(codes=part.codes[:, :PROMPT]) for part in parts]

    def cost(whole: list[Segment]) -> float:
        pairs = zip(bits_of(*judge, whole), bits_of(*judge, prompts), strict=True)
        return float(np.mean([a[0] - b[0] for a, b in pairs])) * 50 / (FRAMES - PROMPT)

    scores = {"own codes after 1 s, bits a second by delay": cost(parts)}
    for steps, temperature in ((1, 1.0), (8, 1.0), (16, 1.0), (16, 0.5)):
        began = process_time()
        filled = infill(
            *model, parts, known, steps=steps, temperature=temperature, seeds=range(len(parts))
        )
        seconds = process_time() - began
        name = f"{steps} steps, temperature {temperature:g}"
        made = [part._replace(codes=codes) for part, codes in zip(parts, filled, strict=True)]
        scores[f"{name}: bits a second by delay"] = cost(made)
        scores[f"{name}: CPU time, ms a recording"] = 1000 * seconds / len(parts)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    corpus = Corpus(given.corpus)
    data = LmData(corpus=given.corpus, frames=FRAMES)
    train, dev = (Recordings(corpus, split, data) for split in ("train", "dev"))
    frames = [sum(row["frames"] for row in each.rows) for each in (train, dev)]
    models = [load_model(run / "best.safetensors") for run in given.runs]
    judges = {len(m[1].sizes): m for m in reversed(models) if m[0].sums is None}
    scores: dict[str, dict[str, float]] = {}
    for run, (model, layout) in zip(given.runs, models, strict=True):
        torch.manual_seed(0)
        k = len(layout.sizes)
        held = held_out_bits(model, layout, dev)
        bits, _ = ngram_bits(layout, train.all_segments(), dev.all_segments())
        row = {
            "bits a second": held.pop("held_bits_a_second"),
            "3-gram": bits * 50 / frames[1],
            **{name.removeprefix("held_").replace("_", " "): held[name] for name in held},
        }
        if model.sums:
            row |= continuations((model, layout), judges[k], dev)
        name = "sums, at most" if model.sums else layout.pattern
        name = f"{name}, {k} codebooks"
        scores[f"{name}, {run.name}" if name in scores else name] = row
        print(name, row, flush=True)
    if given.json:
        names = " ".join(run.name for run in given.runs)
        facts = {
            "command": f"python tests/bench/lm_sums.py CORPUS {names}",
            "data": f"{len(train)} recordings of train, {frames[0]:,} frames; {len(dev)} of dev, "
            f"{frames[1]:,}",
            "weights": f"codes of {corpus.codec} {corpus.fingerprint}",
        }
        store(given.json, facts, scores)


if __name__ == "__main__":
    main()
