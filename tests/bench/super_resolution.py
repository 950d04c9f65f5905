"""A flow from codes at a low rate to latents at twice the rate, beside linear upsampling.

    python tests/bench/super_resolution.py FOLDER [--json docs/results/super_resolution.json]

FOLDER holds recordings of music, a quarter of which are held out. The codes are those that the
codec `speech` gives means of two of its latents, at 25 frames/s; the latents are its own, at 50:
InspireMusic makes latents at 150 Hz of tokens at 75 so. Variants: `ideal`, the latents themselves;
`repeated` and `linear`, what the codes decode to, each twice or upsampled; and a flow with numbers
of Euler steps and seeds of training and of sampling, one step being near the mean of what is
possible. Quantities: `error`, the mean square over the variance of latents; `detail`, the deviation
of the difference between the two latents of a code as a share of the latents' own; and the mel
distance to what was encoded, in dB, after the codec's decoder.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from clips import ROOT, commit, machine
from torch import Tensor
from torch.nn.functional import interpolate

import audiotok
from audiotok._platform.atomic import atomic_file
from audiotok._platform.registry import find
from audiotok.codecs.decoders.flow import Config
from audiotok.codecs.flow_fit import FlowTraining, Pair, fit_flow, flow_loss
from audiotok.nn.flow import Sampling

BEGIN = 5.0  # seconds that are left out
SECONDS = 10  # of a held-out clip
SUFFIXES = (".ogg", ".opus", ".flac", ".wav")
STEPS = (1, 2, 4, 16)
TOLD = ("seconds", "most", "clips", "steps", "stretch", "rate", "width")  # options of a run


def excerpt(path: Path, seconds: float) -> audiotok.Audio:
    """Return seconds of a recording after its beginning, or fewer of a short one, at 16 kHz."""
    return audiotok.Audio.load(path, start=BEGIN, end=BEGIN + seconds).mono().resample(16000)


@torch.no_grad()
def pair_of(speech: Any, audio: audiotok.Audio) -> Pair:
    """Return codes of means of two latents, and the latents, as many as have a code."""
    latents = speech.latents(audio.samples[None])[0]
    latents = latents[:, : latents.shape[1] // 2 * 2]
    means = latents.unflatten(1, (-1, 2)).mean(2)
    return Pair(speech.quantizer.encode(means[None])[0], latents)


@torch.no_grad()
def scored(
    speech: Any, made: list[Tensor], pairs: list[Pair], audios: list[audiotok.Audio]
) -> dict[str, float]:
    """Return the quantities of latents made for held-out clips."""
    wanted, given = torch.cat([pair.latents for pair in pairs], 1), torch.cat(made, 1)
    mel = find("metrics", "mel")()

    def detail(latents: Tensor) -> Tensor:
        """Return the deviation of the difference between the latents of a code, `[d]`."""
        return (latents[:, 1::2] - latents[:, ::2]).square().mean(1).sqrt()

    total = 0.0
    for latents, audio in zip(made, audios, strict=True):
        wave = speech.waves(latents[None])[0, :, : len(audio)]
        total += mel.score(audiotok.Audio(wave, 16000), audio[: wave.shape[1]]).value
    return {
        "error": float((given - wanted).square().mean() / wanted.var(1).mean()),
        "detail": float((detail(given) / detail(wanted)).mean()),
        "mel, dB": total / len(made),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="seconds of each recording")
    parser.add_argument("--most", type=int, default=40, help="recordings to train on")
    parser.add_argument("--clips", type=int, default=20, help="held-out clips")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--stretch", type=float, default=1.0, help="seconds of a stretch")
    parser.add_argument("--rate", type=float, default=2e-3, help="largest learning rate")
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--random", action="store_true", help="embeddings begin at random")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data", default="music", help="what FOLDER holds")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in given.folder.rglob("*") if p.suffix in SUFFIXES)
    held, kept = paths[::4], [path for i, path in enumerate(paths) if i % 4]
    speech: Any = audiotok.load("speech")
    source: Any = SimpleNamespace(
        name="speech_25hz",
        sample_rate=16000,
        frame_size=2 * speech.frame_size,
        sizes=speech.sizes,
        fingerprint=speech.fingerprint,
        own_weights=False,
        codebook_embeddings=speech.codebook_embeddings,
    )
    kept = kept[:: max(1, len(kept) // given.most)][: given.most]
    held = held[:: max(1, len(held) // given.clips)][: given.clips]
    pairs = [pair_of(speech, excerpt(path, given.seconds)) for path in kept]
    audios = [excerpt(path, SECONDS) for path in held]
    tests = [pair_of(speech, audio) for audio in audios]
    decoded = [speech.quantizer.decode(pair.codes[None]) for pair in tests]
    variants = {
        "ideal": [pair.latents for pair in tests],
        "repeated": [x[0].repeat_interleave(2, 1) for x in decoded],
        "linear": [interpolate(x, scale_factor=2, mode="linear")[0] for x in decoded],
    }
    scores = {name: scored(speech, made, tests, audios) for name, made in variants.items()}
    print(json.dumps(scores, indent=1), flush=True)
    config = Config(width=given.width, reading=2, blocks=5)
    losses, spent = {}, 0.0
    for seed in given.seeds:
        before = time.process_time()
        training = FlowTraining(
            steps=given.steps,
            batch=12,
            seconds=given.stretch,
            rate=given.rate,
            whole=1.0,
            entries=not given.random,
            seed=seed,
        )
        flow = fit_flow(pairs, source, speech, config, training)
        spent += time.process_time() - before
        losses[f"seed {seed}"] = flow_loss(flow, tests, replace(training, seconds=8.0))
        with torch.no_grad():
            embedded = [flow.quantizer.decode(pair.codes[None]) for pair in tests]
            for steps in STEPS:
                sampling = Sampling(steps=steps, method="euler", seed=seed)
                made = [flow.sampler.sampled(x, sampling)[0] for x in embedded]
                row = f"flow, {steps} steps, seed {seed}"
                scores[row] = scored(speech, made, tests, audios)
                print(row, scores[row], flush=True)
        if not given.json:
            continue
        hours = sum(pair.latents.shape[1] for pair in pairs) / 50 / 3600
        content = {
            "command": " ".join(
                ["python tests/bench/super_resolution.py FOLDER"]
                + [f"--{name} {getattr(given, name)}" for name in TOLD]
                + ["--random"] * given.random
            ),
            "data": f"{given.data}: {len(pairs)} tracks ({hours:.2f} h), and {len(tests)} clips of "
            f"{SECONDS} s of others",
            "machine": f"{machine()}, one thread, shared with other work",
            "cpu_minutes": round(spent / 60, 1),
            "software": f"torch {torch.__version__}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(ROOT),
            "held_out_loss": losses,
            "scores": scores,
        }
        with atomic_file(given.json) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
