"""Score twins at equal bit rates: fidelity, and the share of codes that survive gain, noise, phone.

python egs/score_twins.py MANIFEST OUT.json base=runs/base/best.safetensors@8,4 ...

The recordings are 12 English and 8 other ones of split `dev`, 3 to 9 s long, the same in each run.
"""

import json
import random
import sys
from pathlib import Path

import torch

from audiotok import Audio, Error, find, load
from audiotok.data import read_manifest

MU = 255


def noisy(audio: Audio) -> Audio:
    noise = torch.randn(audio.samples.shape, generator=torch.Generator().manual_seed(0))
    power = audio.samples.square().mean() / 100
    return Audio(audio.samples + noise * (power / noise.square().mean()).sqrt(), audio.rate)


def telephone(audio: Audio) -> Audio:
    x = audio.resample(8000).samples.clamp(-1, 1)
    law = x.sign() * torch.log1p(MU * x.abs()) / torch.log1p(torch.tensor(MU))
    law = ((law + 1) / 2 * 255).round() / 255 * 2 - 1
    return Audio(law.sign() * ((1 + MU) ** law.abs() - 1) / MU, 8000).resample(audio.rate)


CHANGES = {
    "-6 dB": lambda audio: Audio(audio.samples / 2, audio.rate),
    "-12 dB": lambda audio: Audio(audio.samples / 4, audio.rate),
    "noise 20 dB below": noisy,
    "telephone": telephone,
}


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    rows = [row for row in read_manifest(sys.argv[1]) if row.split == "dev"]
    rows = [row for row in rows if 3 < float(row.column("seconds")) < 9]
    random.Random(0).shuffle(rows)
    english = [row for row in rows if row.language == "en"][:12]
    others = [row for row in rows if row.language != "en"][:8]
    clips = [row.load().resample(16000) for row in (*english, *others)]
    results = {}
    for argument in sys.argv[3:]:
        name, _, rest = argument.partition("=")
        path, _, rates = rest.rpartition("@")
        codec = load(path)
        tokens = [codec.encode(clip) for clip in clips]
        row = results[name] = {}
        for k in map(int, rates.split(",")):
            decoded = [codec.decode(each.first(k)) for each in tokens]
            for metric in ("pesq", "stoi"):
                score = find("metrics", metric)().score
                scores = [score(*pair).value for pair in zip(decoded, clips, strict=True)]
                row[f"{metric} at {tokens[0].first(k).kbps:g} kbps"] = sum(scores) / len(scores)
        for change, apply in CHANGES.items():
            after = [codec.encode(apply(clip)).codes[0] for clip in clips]
            kept = [float((a == t.codes[0]).mean()) for a, t in zip(after, tokens, strict=True)]
            row[f"first codes kept, {change}"] = sum(kept) / len(kept)
        print(name, row, flush=True)
    Path(sys.argv[2]).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
