"""Scores a codec on a folder or manifest at several rates: PESQ, STOI, mel distance, SI-SDR.

    python egs/score.py DATA [--codec speech] [--codebooks 1 2 4 8] [--limit 100] [--split test]

DATA is a folder of audio or a TSV manifest with a `path` column. Means over recordings; one that a
metric cannot score is counted and left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import audiotok
from audiotok.data import read_manifest
from audiotok.metrics.base import Score
from audiotok.plan import AUDIO
from audiotok.registry import find, names


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--codec", default="speech")
    options.add_argument("--codebooks", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8])
    options.add_argument("--limit", type=int, default=100)
    options.add_argument("--split")
    chosen = options.parse_args()

    if chosen.data.is_dir():
        paths = sorted(p for p in chosen.data.rglob("*") if p.suffix in AUDIO)
    else:
        paths = [r.path for r in read_manifest(chosen.data, split=chosen.split)]
    codec = audiotok.load(chosen.codec)
    metrics = {name: find("metrics", name)() for name in names("metrics")}
    totals = {(k, name): Score(0, 0) for k in chosen.codebooks for name in metrics}
    failed = dict.fromkeys(metrics, 0)
    paths = paths[: chosen.limit]
    for path in paths:
        audio = audiotok.Audio.load(path).mono().resample(codec.sample_rate)
        tokens = codec.encode(audio)
        for k in chosen.codebooks:
            decoded = codec.decode(tokens.first(k))
            for name, metric in metrics.items():
                try:
                    totals[k, name] += metric.score(decoded, audio)
                except ValueError:
                    failed[name] += 1
    print(f"{codec.name} {codec.fingerprint}, {len(paths)} recordings; not scored: {failed}")
    print(
        "| kbps | " + " | ".join(f"{n} ({m.better} is better)" for n, m in metrics.items()) + " |"
    )
    print("|---|" + "---|" * len(metrics))
    for k in chosen.codebooks:
        kbps = codec.kbps * k / codec.codebooks
        print(f"| {kbps:.1f} | " + " | ".join(f"{totals[k, n].value:.3f}" for n in metrics) + " |")


if __name__ == "__main__":
    main()
