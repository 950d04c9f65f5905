"""How much of a codebook trained codecs use, over hours of recordings, and what it came from.

    python tests/bench/codebook_use.py MANIFEST scaled=RUN/best.safetensors ... \
        [--split dev] [--hours 1] [--json docs/results/wavtokenizer_use.json]

A row is NAME=CHECKPOINT, of a run of `audiotok train` with one codebook; its log.csv lies beside
it. `likely, %` is what as many uniform draws would show. `<!-- results:
wavtokenizer_use -->` in a page of docs is the table of the JSON.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clips import ROOT, commit
from discretise import store

import audiotok
from audiotok.codecs import draw_recordings
from audiotok.codecs.checkpoint import read_card
from audiotok.data import Recording, read_manifest
from audiotok.tokens.statistics import EntryUse, code_counts, entropy


def used(codec: audiotok.Codec, recordings: list[Recording]) -> dict[str, float]:
    """Return what the codec uses of its codebook."""
    codes = []
    for one in recordings:
        tokens = codec.encode(one.load())
        assert isinstance(tokens, audiotok.Tokens)
        codes.append(tokens.codes[0])
    counts = code_counts(np.concatenate(codes))
    use = EntryUse(len(counts), codec.sizes[0], int(counts.sum()))
    return {
        "in use, %": 100 * use.seen / use.size,
        "likely, %": 100 * (1 - use.expected_unseen / use.size),
        "perplexity": 2 ** entropy(counts),
        "frames": use.frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    chosen = draw_recordings(read_manifest(given.manifest, split=given.split), hours=given.hours)
    scores: dict[str, dict[str, Any]] = {}
    trained: set[str] = set()
    for name, path in (run.split("=", 1) for run in given.runs):
        with (Path(path).parent / "log.csv").open(encoding="utf-8") as file:
            row = min(csv.DictReader(file), key=lambda row: float(row["validation"]))
        trained.add(read_card(path)["card"]["software"]["commit"])
        scores[name] = {
            "steps": int(row["step"]),
            "held_mel_vocos": float(row["held_mel_vocos"]),
            **used(audiotok.load(path), chosen),
        }
        print(name, scores[name], flush=True)
    if given.json:
        facts = {
            "command": f"python tests/bench/codebook_use.py MANIFEST NAME=CHECKPOINT ... "
            f"--split {given.split} --hours {given.hours:g}",
            "data": f"{len(chosen)} recordings of {given.split}",
            "trained": f"at {', '.join(sorted(trained))}; scored at {commit(ROOT)}",
        }
        store(given.json, facts, scores)


if __name__ == "__main__":
    main()
