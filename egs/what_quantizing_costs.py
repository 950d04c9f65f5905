"""Measure whether the rate or the network limits a codec, by decoding its unquantized latents.

    python egs/what_quantizing_costs.py DATA [--codec speech] [--split test] [--limit 20]

DATA is a manifest or a folder. If unquantized latents sound no better, more bits would not help.
`lost` is the share of their power that codes do not restore; directions are principal components.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import torch
from torch.nn import functional as F

import audiotok
from audiotok import find
from audiotok.data import read_manifest
from audiotok.evaluation import Score
from audiotok.nn import Quantized


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--codec", default="speech")
    parser.add_argument("--split")
    parser.add_argument("--limit", type=int, default=20)
    given = parser.parse_args()
    codec = audiotok.load(given.codec)
    metrics = {name: find("metrics", name)() for name in ("pesq", "stoi")}
    totals, latents = defaultdict(lambda: Score(0, 0)), []
    recordings = read_manifest(given.data, split=given.split)
    for recording in recordings[:: max(1, len(recordings) // given.limit)][: given.limit]:
        audio = recording.load().mono().resample(codec.sample_rate)
        whole = F.pad(audio.samples[None], (0, -len(audio) % codec.frame_size))
        with torch.no_grad():
            decoded, quantized = codec(whole)
            hook = codec.quantizer.register_forward_hook(lambda _, x, y: Quantized(x[0], y.codes))
            as_it_is, unquantized = codec(whole)
            hook.remove()
        latents.append(unquantized.latent[0])
        error = (quantized.latent - unquantized.latent).square().sum().item()
        totals["lost, all codebooks"] += Score(error, unquantized.latent.square().sum().item())
        for name, wave in (("quantized", decoded), ("as it is", as_it_is)):
            output = audiotok.Audio(wave[0, :, : len(audio)], audio.rate)
            for key, metric in metrics.items():
                totals[f"{key}, {name}"] += metric.score(output, audio)
    for name, score in totals.items():
        print(f"{name}: {score.value:.3f}")
    variance = torch.linalg.eigvalsh(torch.cat(latents, 1).double().cov()).flip(0).cumsum(0)
    for share in (0.9, 0.99, 0.999):
        count = int((variance < share * variance[-1]).sum()) + 1
        print(f"directions that hold {share:.1%} of the variance: {count} of {len(variance)}")


if __name__ == "__main__":
    try:
        main()
    except (audiotok.Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
