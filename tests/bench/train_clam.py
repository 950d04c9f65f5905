"""CLaM-TTS's Mel-VAE, small, trained with its probabilistic codebooks and with moving averages.

    python tests/bench/train_clam.py MANIFEST [--json docs/results/clam.json] [--out FILE]

MANIFEST has a column `split`: it learns from `train` and is scored on `dev`. `in use` is the share
of a codebook's entries that codes of `dev` have, `difference` the mean absolute difference of
log-mel spectra after n codebooks, in decades. What is lowered is `Clam.loss`, without the paper's
adversarial part; in the first `--plain` steps latents are not quantized, so that codebooks begin
from an encoder that has learnt something. `--out` keeps the first probabilistic one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time
from typing import Any

import torch
from discretise import store
from torch import Tensor

from audiotok.codecs import draw_recordings, save
from audiotok.codecs.models.clam import Clam, Config
from audiotok.data import read_manifest
from audiotok.nn.cumulative import mismatch
from audiotok.nn.quantizers.base import Quantizer
from audiotok.nn.quantizers.probabilistic_rvq import ProbabilisticRvq
from audiotok.nn.quantizers.rvq import Rvq

SIZES: Any = {"width": 96, "blocks": 1, "latent": 64, "codebooks": 32, "size": 256}
FRAMES, BATCH = 32, 16  # of 93 ms, of a piece, and pieces of a step
CODEBOOKS, SIZE = SIZES["codebooks"], SIZES["size"]


def quantizers(seed: int) -> dict[str, Quantizer]:
    """Return the quantizers that are compared, by their names."""
    sizes: Any = {"codebooks": CODEBOOKS, "size": SIZE, "seed": seed}
    return {
        "probabilistic": ProbabilisticRvq(SIZES["latent"], **sizes),
        "averages": Rvq(SIZES["latent"], **sizes),
    }


def pieces(codec: Clam, manifest: str, split: str, hours: float) -> Tensor:
    """Return recordings of a split in pieces `[n 1 t]` of whole frames."""
    waves = [
        one.load().mono().resample(codec.sample_rate).samples
        for one in draw_recordings(read_manifest(manifest, split=split), hours=hours)
    ]
    n = FRAMES * codec.frame_size
    return torch.cat([w.unfold(1, n, n).transpose(0, 1) for w in waves if w.shape[1] >= n])


def train(codec: Clam, waves: Tensor, steps: int, plain: int, rate: float) -> None:
    """Train a codec on waves `[n 1 t]`, in place; without its quantizer in the first steps."""
    groups = [p for p in codec.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(groups, rate, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, 0.05 + (steps - step) / (0.5 * steps))
        some = waves[torch.randint(len(waves), (BATCH,))]
        if step < plain:
            loss = (codec.restored(codec.encoder(some)) - codec.mels(some)).abs().mean()
        else:
            loss = codec.loss(some)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(groups, 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(step, f"{loss:.3f}", flush=True)


@torch.no_grad()
def scores(codec: Clam, waves: Tensor) -> tuple[dict[str, float], str]:
    """Return what a codec uses of its codebooks and loses, on waves `[n 1 t]`, and of each."""
    spectra = torch.cat([codec.mels(some) for some in waves.split(BATCH)])
    latents = torch.cat([codec.latents(some) for some in waves.split(BATCH)])
    codes = codec.quantizer.encode(latents)
    counts = torch.stack([row.flatten().bincount(minlength=SIZE) for row in codes.unbind(1)])
    used = 100 * (counts > 0).float().mean(1)
    entropy = torch.special.entr(counts / counts.sum(1, keepdim=True)).sum(1)

    def difference(latent: Tensor) -> float:
        return float((codec.restored(latent) - spectra).abs().mean())

    after = {n: codec.quantizer.decode(codes[:, :n]) for n in (1, 8, 16, CODEBOOKS)}
    return {
        "in use, %": float(used.mean()),
        "least of a codebook, %": float(used.min()),
        "perplexity": float(entropy.exp().mean()),
        "not given back by sums, %": 100 * float(mismatch(codec.quantizer, codes).mean()),
        **{f"difference after {n}": difference(latent) for n, latent in after.items()},
        "difference of latents": difference(latents),
    }, " ".join(f"{each:.0f}" for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--plain", type=int, default=100)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    plain = Clam(Config(**SIZES))
    waves = pieces(plain, given.manifest, "train", given.hours)
    held = pieces(plain, given.manifest, "dev", 0.2)
    results: dict[str, dict[str, float]] = {}
    uses: dict[str, str] = {}
    for seed in given.seeds:
        for name, quantizer in quantizers(seed).items():
            torch.manual_seed(seed)
            codec = Clam(Config(**SIZES)).train()
            codec.quantizer = quantizer
            began = process_time()
            train(codec, waves, given.steps, given.plain, given.rate)
            seconds = process_time() - began
            row, uses[f"in use of each codebook, %, {name}, seed {seed}"] = scores(
                codec.eval(), held
            )
            results[f"{name}, seed {seed}"] = row | {"CPU time, s": seconds}
            print(name, seed, row, *uses.values())
            if given.out and name == "probabilistic" and seed == given.seeds[0]:
                save(codec.requires_grad_(False), given.out)
    if given.json:
        facts = {
            "command": f"python tests/bench/train_clam.py MANIFEST --hours {given.hours:g} "
            f"--steps {given.steps} --plain {given.plain} --rate {given.rate:g}",
            "data": f"{len(waves)} pieces of {FRAMES} frames of train; {len(held)} of dev",
            "sizes": str(SIZES),
            **uses,
        }
        store(given.json, facts, results)


if __name__ == "__main__":
    main()
