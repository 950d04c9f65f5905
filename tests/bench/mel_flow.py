"""A small TaDiCodec on real speech: does its loss fall, and what are steps and text worth.

    python tests/bench/mel_flow.py MANIFEST [--steps 700] [--hours 0.6] [--seeds 0 1] [--json FILE]

Tokenizer and decoder learn together from English recordings with text of the split `train` of
MANIFEST, on one core, once for each seed, and are scored on recordings of `dev`, of other speakers.
A row is what the decoder was told beside the codes; its seed is that of training and of sampling.
`spectrum` is the mean distance of log-mel spectra in dB, `spread` the deviation of the spectra over
time as a share of that of the recordings' own; `mel` and STOI are those of the metrics, on waves of
Griffin-Lim. `ideal` has the recordings' own spectra. `codes of another` has the codes of another
recording, with the text of this one. `different codes` counts them over all clips.
"""

from __future__ import annotations

import argparse
import json
import math
import time
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
from audiotok.codecs.checkpoint import save
from audiotok.codecs.decoders.base import in_words
from audiotok.codecs.decoders.mel_flow import MelFlow
from audiotok.codecs.mel_flow_fit import (
    MelFlowTraining,
    fit_mel_flow,
    mel_flow_examples,
    mel_flow_loss,
    small_mel_flow,
)
from audiotok.codecs.models.tadicodec import DEVIATION
from audiotok.data import Recording, read_manifest

DB = 20 / math.log(10)
LONGEST = 4.0  # seconds of a recording
Rows = dict[str, dict[str, float]]  # scores by what the decoder was told
# Whether text and a prompt are told, and codes are of another recording; steps and guidance.
WAYS = [
    *((True, False, False, steps, 1.0) for steps in (1, 4, 32)),
    *((True, False, False, steps, 2.0) for steps in (4, 32)),
    (False, False, False, 32, 1.0),
    (True, True, False, 32, 1.0),
    (True, False, True, 32, 1.0),
]


def of_english(manifest: str, split: str) -> list[Recording]:
    """Return the English recordings of a split, with text, of 1 to 4 s."""
    chosen = read_manifest(manifest, split=split)
    return [
        one
        for one in chosen
        if one.fields.get("language") == "en"
        and one.text
        and 1 <= (one.seconds or 0) <= LONGEST - 0.1
    ]


def prompt_of(one: Recording, others: list[Recording]) -> Recording | None:
    """Return another recording of the same speaker."""
    return next((x for x in others if x.speaker == one.speaker and x.id != one.id), None)


def scores(
    model: MelFlow, mels: list[Tensor], own: list[Tensor], audios: list[audiotok.Audio]
) -> dict[str, float]:
    """Return the mean scores of normalised spectra `[bands t]`."""
    off = [float((a - b).abs().mean()) for a, b in zip(mels, own, strict=True)]
    lively = [float(a.std(1).mean() / b.std(1).mean()) for a, b in zip(mels, own, strict=True)]
    result = {
        "spectrum, dB": DB * DEVIATION * sum(off) / len(off),
        "spread": sum(lively) / len(lively),
    }
    waves = [model.sampler.sound(mel[None])[0] for mel in mels]
    pairs = zip(waves, audios, strict=True)
    made = [audiotok.Audio(w, model.sample_rate)[: len(a)] for w, a in pairs]
    for name, head in (("mel", "mel, dB"), ("stoi", "STOI")):
        metric = find("metrics", name)()
        values = [metric.score(m, a).value for m, a in zip(made, audios, strict=True)]
        result[head] = sum(values) / len(values)
    return result


@torch.no_grad()
def rows(model: MelFlow, clips: list[Recording], others: list[Recording], seed: int) -> Rows:
    """Return the scores of each of `WAYS` by what the decoder was told, and of ideal spectra."""
    size = model.frame_size
    examples = mel_flow_examples(model, clips, longest=LONGEST)
    audios = [one.load().mono().resample(model.sample_rate) for one in clips]
    audios = [audio[: len(audio) // size * size] for audio in audios]
    codes = [torch.from_numpy(model.own_tokenizer.encode(x).codes.copy()) for x in audios]
    used, of = len(torch.cat(codes, 1)[0].unique()), sum(x.shape[1] for x in codes)
    print(f"{used} different codes of {of}", flush=True)
    own = [example.spectrum for example in examples]
    result: Rows = {"ideal": scores(model, own, own, audios)}
    for text, prompted, foreign, steps, guidance in WAYS:
        mels = []
        for i, one in enumerate(clips):
            ways: dict[str, Any] = {"text": one.text} if text else {}
            near = prompt_of(one, others) if prompted else None
            if near is not None:
                ways |= {"prompt": near.load(), "prompt_text": near.text}
            told_to = model.conditioned(seed=seed, steps=steps, guidance=guidance, **ways)
            given = codes[i]
            if foreign:
                other = codes[i - 1]
                given = other.repeat(1, 1 + given.shape[1] // other.shape[1])[:, : given.shape[1]]
            mels.append(told_to.spectrum(model.quantizer.decode(given[None]))[0])
        known = {"text": "its own", "prompt": "one of its speaker"}
        side = {"text": text, "prompt": prompted}
        side = {name: known[name] if on else None for name, on in side.items()}
        row = in_words({**side, "steps": steps, "guidance": guidance, "seed": seed})
        row = f"codes of another; {row}" if foreign else row
        result[row] = scores(model, mels, own, audios) | {"different codes": float(used)}
        print(row, result[row], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--hours", type=float, default=0.6)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--save", type=Path, help="folder of the weights, SEED.safetensors")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = draw_recordings(of_english(given.manifest, "train"), hours=given.hours)
    held_out = of_english(given.manifest, "dev")
    clips = draw_recordings(held_out, most=given.clips)
    losses: dict[str, str] = {}
    cards: dict[str, Any] = {}
    told: Rows = {}
    spent = 0.0
    for seed in given.seeds:
        began = time.process_time()
        training = MelFlowTraining(steps=given.steps, longest=LONGEST, rate=2e-3, seed=seed)
        model = small_mel_flow(seed)
        tests = mel_flow_examples(model, clips, longest=LONGEST)
        found = {"before": mel_flow_loss(model, tests)}
        fit_mel_flow(mel_flow_examples(model, chosen, longest=LONGEST), model, training)
        found["after"] = mel_flow_loss(model, tests)
        found["after, without codes"] = mel_flow_loss(model, tests, codes=False)
        found["after, without text"] = mel_flow_loss(model, tests, text=False)
        spent += (time.process_time() - began) / 60
        losses[f"seed {seed}"] = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        cards[f"seed {seed}"] = model.card["mel_flow"]
        print(losses, f"{spent:.1f} min", flush=True)
        if given.save:
            given.save.mkdir(parents=True, exist_ok=True)
            save(model, given.save / f"{seed}.safetensors", dtype=torch.float32)
        told |= rows(model, clips, held_out, seed)
        if not given.json:
            continue
        seeds = " ".join(map(str, given.seeds))
        content = {
            "command": f"python tests/bench/mel_flow.py MANIFEST --steps {given.steps} "
            f"--hours {given.hours:g} --clips {given.clips} --seeds {seeds}",
            "data": f"{model.card['mel_flow']['recordings']} recordings to learn from, "
            f"{len(clips)} of dev",
            "machine": f"{machine()}, shared with other work; {spent:.1f} minutes of one core",
            "software": f"torch {torch.__version__}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(ROOT),
            "decoder": json.dumps(cards),
            "held-out loss": "; ".join(f"{name}: {value}" for name, value in losses.items()),
            "scores": told,
        }
        with atomic_file(given.json) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
