"""Quantizers learnt on the latents of the shipped codec, its encoder and decoder as they are.

    python tests/bench/discretise.py MANIFEST [--json docs/results/discretise.json]
    python tests/bench/discretise.py MANIFEST --mels [--json docs/results/probabilistic_rvq.json]

MANIFEST has a column `split`: quantizers learn from `train`, `lost` is the share of the variance of
latents of `dev` that they do not restore, and PESQ and STOI are means over recordings of `test`,
decoded by the codec's own decoder. In each group all have as many bits a frame. `<!-- results:
discretise -->` in a page of docs is the table of the JSON.

With `--mels` residual quantizers learn from log-mel spectra (`dmel_40hz`), nothing is decoded, and
the entries in use of each codebook are counted on `dev`; `not given back by sums` is the share of
codes that differ when the sum of a frame's entries is quantized again.
"""

from __future__ import annotations

import argparse
import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from clips import ROOT, commit, machine
from torch import Tensor

import audiotok
from audiotok._platform.atomic import atomic_file
from audiotok._platform.registry import find
from audiotok.codecs import draw_recordings
from audiotok.codecs.quantizer_fit import (
    QuantizerTraining,
    discretise,
    fit_quantizer,
    frames_of,
    lost_share,
)
from audiotok.data import Recording, read_manifest
from audiotok.nn.cumulative import mismatch
from audiotok.nn.quantizer import build_quantizer

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("rvq", {"codebooks": 2, "size": 64}),
    ("fsq", {"levels": [4] * 6}),
    ("simvq", {"size": 4096}),
    ("rvq", {"codebooks": 12, "size": 256}),
    ("product_fsq", {"levels": [2] * 24, "rule": "symmetric"}),
    ("gaussian_bins", {"levels": 2}),
    ("rvq", {"codebooks": 24, "size": 256}),
    ("product_fsq", {"levels": [4] * 12, "rule": "symmetric"}),
    ("gaussian_bins", {"levels": 4}),
]
DEPTH = {"codebooks": 32, "size": 256}
RESIDUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "averages": ("rvq", {**DEPTH, "revive": 0.0}),
    "averages, revival": ("rvq", DEPTH),
    "probabilistic": ("probabilistic_rvq", DEPTH),
}


def depths(x: Tensor, dev: Tensor, training: QuantizerTraining) -> dict[str, dict[str, float]]:
    """Return what residual quantizers of spectra `[d n]` use and lose, by their names."""
    scores: dict[str, dict[str, float]] = {}
    for name, (kind, options) in RESIDUAL.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            seeded = {**options, "seed": training.seed}
            quantizer = build_quantizer(kind, len(x), seeded, usual={})
            fit_quantizer(quantizer, x, training)
        size = DEPTH["size"]
        codes = quantizer.encode(dev[None])[0]
        counts = torch.stack([row.bincount(minlength=size) for row in codes])
        used = 100 * (counts > 0).float().mean(1)
        entropy = torch.special.entr(counts / dev.shape[1]).sum(1)
        row = scores[f"{name}, seed {training.seed}"] = {
            "in use, %": float(used.mean()),
            "least of a codebook, %": float(used.min()),
            "perplexity": float(entropy.exp().mean()),
            "not given back by sums, %": 100 * float(mismatch(quantizer, codes[None]).mean()),
            **{f"lost by {n}, %": 100 * lost_share(quantizer, dev, n) for n in (1, 8, 16, 32)},
        }
        print(name, training.seed, row, flush=True)
    return scores


@torch.no_grad()
def sound(codec: audiotok.Codec, audios: list[audiotok.Audio], *, coded: bool) -> dict[str, float]:
    """Return mean scores of recordings that a codec decodes, from codes or from latents."""
    scores = {}
    decoded = []
    for audio in audios:
        if coded:
            decoded.append(codec.decode(codec.encode(audio)))
        else:
            wave = codec.waves(codec.latents(audio.samples[None]))[0, :, : len(audio)]
            decoded.append(audiotok.Audio(wave, audio.rate))
    for name in ("pesq", "stoi"):
        metric = find("metrics", name)()
        pairs = zip(decoded, audios, strict=True)
        scores[name.upper()] = math.fsum(metric.score(*pair).value for pair in pairs) / len(audios)
    return scores


def store_depths(
    given: argparse.Namespace, codec: audiotok.Codec, learnt: list[Recording], held: list[Recording]
) -> None:
    """Compare residual quantizers of spectra, and store what they use and lose."""
    x, dev = frames_of(codec, learnt), frames_of(codec, held)
    scores: dict[str, dict[str, float]] = {}
    for seed in given.seeds:
        # The learnt deviation starts at the spread of the spectra: at the usual 1e-2, steps at the
        # scale of deep residuals are too long. Averages have no learning rate.
        training = QuantizerTraining(steps=given.steps, rate=3e-3, seed=seed)
        scores |= depths(x, dev, training)
    if given.json:
        store(
            given.json,
            {
                "command": f"python tests/bench/discretise.py MANIFEST --mels --hours "
                f"{given.hours:g} --steps {given.steps}",
                "data": f"{len(learnt)} recordings of train, {x.shape[1]:,} frames; "
                f"{dev.shape[1]:,} frames of dev",
            },
            scores,
        )


def store(file: Path, facts: dict[str, str], scores: dict[str, dict[str, float]]) -> None:
    """Write scores with what is needed to make them again."""
    content = {
        **facts,
        "machine": f"{machine()}, shared with other work",
        "software": f"torch {torch.__version__}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit(ROOT),
        "scores": scores,
    }
    with atomic_file(file) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--mels", action="store_true")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    codec = audiotok.load("dmel_40hz" if given.mels else "speech")
    learnt, held, test = (
        draw_recordings(read_manifest(given.manifest, split=split), hours=hours, most=most)
        for split, hours, most in (
            ("train", given.hours, 0),
            ("dev", 0.2, 0),
            ("test", 0, given.clips),
        )
    )
    if given.mels:
        store_depths(given, codec, learnt, held)
        return
    audios = [one.load().mono().resample(codec.sample_rate) for one in test]
    x, dev = frames_of(codec, learnt), frames_of(codec, held)
    own = {"bits a frame": 80.0, "kbps": codec.kbps}
    scores: dict[str, dict[str, float]] = {
        "latents as they are": sound(codec, audios, coded=False),
        "the codec's own rvq": {
            **own,
            "lost, %": 100 * lost_share(codec.quantizer, dev),
            **sound(codec, audios, coded=True),
        },
    }
    for name, options in KINDS:
        for seed in given.seeds:
            training = QuantizerTraining(steps=given.steps, seed=seed)
            made = discretise(codec, x, name, options, training)
            bits = sum(map(math.log2, made.sizes))
            row = f"{name} {made.codebooks} x {made.sizes[0]}"
            row += "" if made.quantizer.one_pass else f", seed {seed}"
            scores[row] = {
                "bits a frame": bits,
                "kbps": made.kbps,
                "lost, %": 100 * lost_share(made.quantizer, dev),
                **sound(made, audios, coded=True),
            }
            print(row, scores[row], flush=True)
            if made.quantizer.one_pass:
                break  # a seed changes nothing
    if given.json:
        facts = {
            "command": f"python tests/bench/discretise.py MANIFEST --hours {given.hours:g} "
            f"--steps {given.steps} --clips {given.clips}",
            "data": f"{len(learnt)} recordings of train, {x.shape[1]:,} frames; {dev.shape[1]:,} "
            f"frames of dev; {len(test)} recordings of LibriSpeech test-other",
            "weights": f"speech {codec.fingerprint}, decoder {codec.decoder_fingerprint}",
        }
        store(given.json, facts, scores)


if __name__ == "__main__":
    main()
