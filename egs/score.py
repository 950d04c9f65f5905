"""Scores a codec at several rates, beside codecs that everyone knows, on the same files.

    python egs/score.py DATA [--codec speech] [--codebooks 1 2 4 8] [--limit 100] [--split test]
                             [--beside opus:6 codec2:3200 lyra:3200]

DATA is a manifest or a folder of audio. Means over recordings; one that a metric cannot score is
counted and left out. Rates of others are those of the bytes they wrote.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import audiotok
from audiotok.manifest import read_manifest
from audiotok.metrics.base import Score
from audiotok.registry import find


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--codec", default="speech")
    options.add_argument("--codebooks", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8])
    options.add_argument("--limit", type=int, default=100)
    options.add_argument("--split")
    options.add_argument("--beside", nargs="*", default=[])
    chosen = options.parse_args()

    codec = audiotok.load(chosen.codec)
    metrics = {name: find("metrics", name)() for name in ("pesq", "stoi", "si_sdr", "mel")}
    totals, failed = defaultdict(lambda: Score(0, 0)), dict.fromkeys(metrics, 0)
    rates, used = defaultdict(lambda: Score(0, 0)), [set[int]() for _ in codec.sizes]
    recordings = read_manifest(chosen.data, split=chosen.split)[: chosen.limit]
    for recording in recordings:
        audio = audiotok.Audio.load(recording.path).mono().resample(codec.sample_rate)
        tokens = codec.encode(audio)
        for seen, codes in zip(used, tokens.codes, strict=True):
            seen.update(codes.tolist())
        made = {f"{codec.name} {k}": codec.decode(tokens.first(k)) for k in chosen.codebooks}
        bits = {n: codec.kbps * 1000 * int(n.split()[-1]) / codec.codebooks for n in made}
        for name in chosen.beside:
            kind, _, option = name.partition(":")
            made[name], size = find("anchors", kind)(option).through(audio)
            bits[name] = 8 * (size or 0) / audio.seconds
        for name, output in made.items():
            rates[name] += Score(bits[name] / 1000, 1)
            for key, metric in metrics.items():
                try:
                    totals[name, key] += metric.score(output, audio)
                except ValueError:
                    failed[key] += 1
    print(f"{codec.name} {codec.fingerprint}, {len(recordings)} recordings; not scored: {failed}")
    shares = [len(seen) / size for seen, size in zip(used, codec.sizes, strict=True)]
    print("codebooks in use:", " ".join(f"{share:.1%}" for share in shares))
    print("| | kbps | " + " | ".join(f"{n} ({m.better})" for n, m in metrics.items()) + " |")
    print("|---|---|" + "---|" * len(metrics))
    for name, rate in rates.items():
        scores = " | ".join(f"{totals[name, key].value:.3f}" for key in metrics)
        print(f"| {name} | {rate.value:.2f} | {scores} |")


if __name__ == "__main__":
    main()
