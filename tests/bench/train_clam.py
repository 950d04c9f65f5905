"""CLaM-TTS's Mel-VAE, small, trained with its probabilistic codebooks and with moving averages.

    python tests/bench/train_clam.py MANIFEST [--json docs/results/clam.json] [--out FILE]
    python tests/bench/train_clam.py MANIFEST --seeds 0 --sound docs/results/clam_sound.json

MANIFEST has a column `split`: it learns from `train` and is scored on `dev`. `in use` is the share
of a codebook's entries that codes of `dev` have, `difference` the mean absolute difference of
log-mel spectra after n codebooks, in decades. What is lowered is `Clam.loss`, without the paper's
adversarial part; in the first `--plain` steps latents are not quantized, so that codebooks begin
from an encoder that has learnt something. `--out` keeps the first probabilistic one.

`--sound` stores what is heard, as means over English recordings of `dev`: by Griffin-Lim of their
own spectra, and of those that latents and codes of the first seed decode to; and by a Vocos that
learns from the probabilistic codes of the same pieces, by recipes/vocoder_clam.toml in `--vocoder`
steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch
from clips import ROOT
from discretise import store
from torch import Tensor

from audiotok import Audio, Stream, load
from audiotok._platform.registry import find
from audiotok.codecs import draw_recordings, save
from audiotok.codecs.models.clam import Clam, Config
from audiotok.data import read_manifest
from audiotok.nn.cumulative import mismatch
from audiotok.nn.quantizers.base import Quantizer
from audiotok.nn.quantizers.probabilistic_rvq import ProbabilisticRvq
from audiotok.nn.quantizers.rvq import Rvq
from audiotok.training import read_recipe
from audiotok.training import train as train_recipe

SIZES: Any = {"width": 96, "blocks": 1, "latent": 64, "codebooks": 32, "size": 256}
FRAMES, BATCH = 32, 16  # of 93 ms, of a piece, and pieces of a step
CODEBOOKS, SIZE = SIZES["codebooks"], SIZES["size"]
VOCODER: Any = {"blocks": 4, "width": 192}
CONTEXT = 0.5  # seconds before and after what is decoded in windows
METRICS = {"mel": "mel, dB", "pesq": "PESQ", "stoi": "STOI"}


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


def with_vocoder(codec: Clam, waves: Tensor, held: Tensor, steps: int) -> Clam:
    """Return a codec with a vocoder that learnt from its codes of waves `[n 1 t]` in some steps."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        lines = ["path\tsplit"]
        for split, some in (("train", waves), ("dev", held[:16])):
            for i, wave in enumerate(some):
                Audio(wave, codec.sample_rate).save(path / f"{split}{i}.wav")
                lines.append(f"{split}{i}.wav\t{split}")
        (path / "m.tsv").write_text("\n".join(lines))
        start = codec.with_vocoder(**VOCODER)
        save(start, path / "start.safetensors", dtype=torch.float32)
        sizes = {**asdict(start.config), "strides": [*start.config.strides]}
        settings = {
            **{f"config.{name}": value for name, value in sizes.items()},
            "data.manifest": str(path / "m.tsv"),
            "data.cache": str(path / "cache"),
            "train.start_from": str(path / "start.safetensors"),
            "train.steps": steps,
            "train.cooldown": int(0.8 * steps),
            "train.every": steps,
        }
        given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        recipe = read_recipe(ROOT / "recipes/vocoder_clam.toml", given)
        trained = load(train_recipe(recipe, path / "run"))
        assert isinstance(trained, Clam)
        return trained


@torch.no_grad()
def heard(audios: list[Audio], decode: Callable[[Audio], Tensor]) -> dict[str, float]:
    """Return the mean scores of what recordings are decoded to, waves `[1 t]`."""
    decoded = [Audio(decode(audio), audio.rate)[: len(audio)] for audio in audios]
    return {
        head: sum(
            find("metrics", name)().score(made, audio).value
            for made, audio in zip(decoded, audios, strict=True)
        )
        / len(audios)
        for name, head in METRICS.items()
    }


def sounds(
    codecs: dict[str, Clam], trained: Clam | None, given: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return the scores of sound by Griffin-Lim of each codec, and of one with a vocoder."""
    first = codecs["probabilistic"]
    size = first.frame_size
    chosen = [
        one
        for one in read_manifest(given.manifest, split="dev")
        if one.fields.get("language") == "en" and 2 <= (one.seconds or 0) <= 6
    ]
    waves = [one.load() for one in draw_recordings(chosen, most=given.clips)]
    audios = [wave.mono().resample(first.sample_rate) for wave in waves]
    audios = [audio[: len(audio) // size * size] for audio in audios]

    def of_spectra(audio: Audio) -> Tensor:
        return first.sound(first.mels(audio.samples[None]))[0]

    def of_latents(codec: Clam, audio: Audio) -> Tensor:
        return codec.sound(codec.restored(codec.latents(audio.samples[None])))[0]

    def of_codes(codec: Clam, audio: Audio) -> Tensor:
        return codec.decode(codec.encode(audio)).samples

    def of_windows(codec: Clam, audio: Audio) -> Tensor:
        stream = Stream(codec, context=CONTEXT)
        codes = torch.from_numpy(codec.encode(audio).codes.copy())
        pieces = [stream.decode(piece) for piece in codes.split(1, 1)]
        return torch.cat([*pieces, stream.finish_decode()], 1)

    ways = {"spectra of the recordings, Griffin-Lim": of_spectra}
    for name, codec in codecs.items():
        ways[f"latents, {name}, Griffin-Lim"] = partial(of_latents, codec)
        ways[f"codes, {name}, Griffin-Lim"] = partial(of_codes, codec)
    ways[f"codes, probabilistic, Griffin-Lim, {CONTEXT:g} s of context"] = partial(
        of_windows, first
    )
    if trained:
        ways["codes, probabilistic, Vocos"] = partial(of_codes, trained)
    scores = {}
    for way, decode in ways.items():
        scores[way] = heard(audios, decode)
        print(way, scores[way], flush=True)
    return scores


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
    parser.add_argument("--sound", type=Path)
    parser.add_argument("--vocoder", type=int, default=0)
    parser.add_argument("--clips", type=int, default=20)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    plain = Clam(Config(**SIZES))
    waves = pieces(plain, given.manifest, "train", given.hours)
    held = pieces(plain, given.manifest, "dev", 0.2)
    results: dict[str, dict[str, float]] = {}
    uses: dict[str, str] = {}
    first: dict[str, Clam] = {}
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
            if seed == given.seeds[0]:
                first[name] = codec.requires_grad_(False)
            if given.out and name == "probabilistic" and seed == given.seeds[0]:
                save(codec, given.out)
    command = (
        f"python tests/bench/train_clam.py MANIFEST --hours {given.hours:g} "
        f"--steps {given.steps} --plain {given.plain} --rate {given.rate:g}"
    )
    if given.sound:
        trained, began = None, process_time()
        if given.vocoder:
            trained = with_vocoder(first["probabilistic"], waves, held, given.vocoder)
        facts = {
            "command": f"{command} --seeds {given.seeds[0]} --vocoder {given.vocoder} "
            f"--clips {given.clips} --sound FILE",
            "data": f"{len(waves)} pieces of {FRAMES} frames of train; {given.clips} English "
            "recordings of 2 to 6 s of dev",
            "sizes": f"{SIZES}, vocoder {VOCODER}",
            "CPU time of the vocoder, s": f"{process_time() - began:.0f}",
        }
        store(given.sound, facts, sounds(first, trained, given))
    if given.json:
        facts = {
            "command": command,
            "data": f"{len(waves)} pieces of {FRAMES} frames of train; {len(held)} of dev",
            "sizes": str(SIZES),
            **uses,
        }
        store(given.json, facts, results)


if __name__ == "__main__":
    main()
