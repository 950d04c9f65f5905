"""Compare codecs with and without distillation: phones and voices in codebook 1, and quality.

    python egs/distillation_twins.py MANIFEST DISTILLED PLAIN [DISTILLED PLAIN ...] \
        [--embedder resemblyzer --embedder wespeaker:MODEL.onnx]

Split `test` of MANIFEST has speakers outside the training data, and English text for pocketsphinx.
The weights of a pair share a seed. `audiotok/evaluation/disentanglement.py` explains the rows.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from rich.progress import track

import audiotok
from audiotok import find
from audiotok.data import align, read_manifest
from audiotok.evaluation import (
    LabelledRecording,
    comparison_table,
    measure_codec,
    measure_originals,
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest")
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--embedder", action="append", default=[])
    given = parser.parse_args()
    if len(given.weights) % 2:
        parser.error("weights come in pairs: DISTILLED PLAIN")
    spoken, reasons = [], Counter[str]()
    for recording in track(read_manifest(given.manifest, split="test"), "aligning"):
        audio = recording.load().mono().resample(16000)
        try:
            phones = align(audio, recording.text).phones
        except ValueError as error:  # its voice is evaluated all the same
            phones = []
            reasons[str(error).partition(":")[0]] += 1
        spoken.append(LabelledRecording(audio, recording.speaker, phones))
    for what, of in (("all", spoken), ("with phones", [s for s in spoken if s.phones])):
        print(f"{what}: {len(of)} recordings of {len({s.speaker for s in of})} speakers")
    for why, n in reasons.items():
        print(f"phones of {n} recordings are not known: {why}")
    for what, (totals, _) in measure_originals(spoken, given.embedder).items():
        print(f"nothing coded: {what} {totals.mean():.3f}")
    metrics = {name: find("metrics", name)() for name in ("pesq", "stoi", "mel")}
    sums = []
    for path in track(given.weights, "measuring"):
        codec = audiotok.load(path)
        sums.append(measure_codec(codec, spoken, embedders=given.embedder, metrics=metrics))
        print(f"{path}: {codec.fingerprint}")
    pairs = list(zip(sums[::2], sums[1::2], strict=True))
    print(*comparison_table(pairs, ("distilled", "plain")), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except (audiotok.Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
