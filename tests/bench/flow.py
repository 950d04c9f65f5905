"""What more steps of a flow are worth: mel distance and scores of a decoder by steps and method.

    python tests/bench/flow.py FLOW MANIFEST [--json docs/results/flow.json]

FLOW is a file of `audiotok flow` from `units` to `speech`; recordings are of the split `dev` of
MANIFEST, none of which it learnt from. `mel` is the mel distance in dB, STOI that of the metric,
`spread` the deviation of latents over frames as a share of that of the codec's own: 1 is as lively
as speech is. `ideal` are the codec's latents. `<!-- results: flow -->` in a page of docs is the
table of the JSON.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from clips import ROOT, commit, machine

import audiotok
from audiotok._platform.atomic import atomic_file
from audiotok._platform.registry import find
from audiotok.codecs import draw_recordings, load_decoder
from audiotok.codecs.decoders.flow import Flow
from audiotok.data import read_manifest

WAYS = [("euler", n) for n in (1, 2, 4, 8, 16, 32)] + [("midpoint", n) for n in (4, 16)]


@torch.no_grad()
def scored(decoded: list[audiotok.Audio], audios: list[audiotok.Audio]) -> dict[str, float]:
    """Return mean scores of decoded recordings."""
    scores = {}
    for name in ("mel", "stoi"):
        metric = find("metrics", name)()
        scores[name] = sum(metric.score(*p).value for p in zip(decoded, audios, strict=True))
    return {"mel, dB": scores["mel"] / len(audios), "STOI": scores["stoi"] / len(audios)}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flow")
    parser.add_argument("manifest")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    flow: Any = load_decoder(given.flow)
    assert isinstance(flow, Flow)
    units, speech = audiotok.load(flow.source.codec), audiotok.load("speech")
    chosen = draw_recordings(read_manifest(given.manifest, split="dev"), most=given.clips)
    audios = [one.load().mono().resample(16000) for one in chosen]
    tokens = [units.encode(audio) for audio in audios]
    embedded = [
        flow.quantizer.decode(torch.from_numpy(units.to_tokens(t).numbers.copy())[None])
        for t in tokens
    ]
    own = [speech.latents(audio.samples[None])[0] for audio in audios]
    lively = torch.cat(own, 1).std(1)
    ideal = [
        audiotok.Audio(speech.waves(x[None])[0, :, : len(a)], a.rate)
        for x, a in zip(own, audios, strict=True)
    ]
    scores: dict[str, dict[str, float]] = {"ideal": {"spread": 1.0, **scored(ideal, audios)}}
    for method, steps in WAYS:
        for seed in given.seeds:
            decoder = flow.conditioned(seed=seed, steps=steps, method=method)
            latents = [flow.sampler.sampled(x, decoder.sampling)[0] for x in embedded]
            spread = float((torch.cat(latents, 1).std(1) / lively).mean())
            decoded = [decoder.decode(one) for one in tokens]
            row = f"{method}, {steps} steps, seed {seed}"
            scores[row] = {"spread": spread, **scored(decoded, audios)}
            print(row, scores[row], flush=True)
    if given.json:
        content = {
            "command": f"python tests/bench/flow.py FLOW MANIFEST --clips {given.clips}",
            "data": f"{len(audios)} recordings of dev",
            "machine": f"{machine()}, shared with other work",
            "software": f"torch {torch.__version__}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(ROOT),
            "decoder": json.dumps(flow.card["flow"]),
            "scores": scores,
        }
        with atomic_file(given.json) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
