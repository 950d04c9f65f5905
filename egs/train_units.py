"""Train supervised units, as the shipped `units` were: Whisper's first blocks, adapters, a grid.

    python egs/train_units.py features LISTING WHISPER WORK
    python egs/train_units.py train WORK [STEPS]
    python egs/train_units.py write WORK units.safetensors

LISTING has recordings with transcripts (those in English are aligned and spelt; the others train
the rest);
WHISPER is a folder of Whisper base. `features` stores what the frozen blocks make of each recording
and of a noisy copy of it in the folder WORK; `train` learns from these alone, which is why one core
is enough; both go on where they were stopped. The loss has, for each frame rate,

- CTC of the transcript, read from the codes, as in CosyVoice (arXiv:2407.05407);
- the phone of each frame, told from its code by one linear layer, where pocketsphinx finds it;
- the error of Whisper's features of the clean recording, told from the codes by one linear layer;
- the distance of the latents of the noisy copy from the clean recording's latents and codes;
- the distance of the latents from the grid;
- what keeps the latents from using less of the grid than there is: their spread along each
  dimension, their mean, and their correlations (as VICReg, arXiv:2105.04906).
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import audiotok
from audiotok.codecs import Units, save
from audiotok.data import (
    Recording,
    TimedSpan,
    add_noise,
    align,
    coloured,
    frame_labels,
    low_pass,
    read_manifest,
)

RATE, CLIP, PAIRS = 16000, 600, 10  # Hz; frames of 20 ms and recordings in a batch, at most
FASTEST, WARM_UP = 1e-3, 200  # learning rate; steps until it
SPREAD = 0.75  # standard deviation of the latents in steps of the grid, at least
WEIGHTS = {
    "ctc": 0.5,
    "phone": 1.0,
    "features": 0.3,
    "noise": 2.5,
    "grid": 0.5,
    "spread": 2.0,
    "apart": 0.5,
}
PHONES = (  # noqa: SIM905
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W "
    "Y Z ZH"
).split()  # of pocketsphinx


START = "start.safetensors"


# -- features -------------------------------------------------------------------------------------


def begun(work: Path) -> Units:
    """Return the codec that training starts from, as stored: large matrices in 8 bits."""
    units = audiotok.load(work / START)
    assert isinstance(units, Units)
    return units


def noisy(wave: Tensor, seed: int) -> Tensor:
    """Return a recording `[1 t]` with noise, every other time white, and at times a narrower band.

    White noise is added where speech has least power, and changes most of the features.
    """
    draw = np.random.default_rng(seed)
    colour = float(draw.uniform(0, 2)) if seed % 2 else 0.0
    snr = float(draw.uniform(8, 30)) if seed % 2 else float(draw.uniform(12, 28))
    noise = coloured(wave.shape[1], colour, draw, rate=RATE)[None]
    wave = add_noise(wave, noise, snr)
    if seed % 2 and draw.random() < 0.3:
        wave = low_pass(wave, float(3400 * 2 ** draw.uniform(0, 1.2)), rate=RATE)
    return wave


def phones_of(recording: Recording) -> list[TimedSpan]:
    """Return the phones of a recording in English; none if its text cannot be aligned."""
    if recording.language != "en":
        return []
    try:
        return list(align(recording.load(), recording.text).phones)
    except ValueError:
        return []


@torch.no_grad()
def features(listing: str, whisper: str, work: Path) -> None:
    """Store the features of each recording and of its noisy copy, and what is said in it."""
    (work / "f").mkdir(parents=True, exist_ok=True)
    if not (work / START).exists():
        torch.manual_seed(0)
        save(Units.from_whisper(whisper), work / START, dtype=torch.int8)
    units = begun(work)
    recordings = [r for r in read_manifest(listing, split=None) if r.split != "test"]
    random.Random(0).shuffle(recordings)
    for number, recording in enumerate(recordings):
        path = work / "f" / f"{number:05d}.npy"
        if path.exists():
            continue
        wave = recording.load().mono().resample(RATE).samples
        if not 0.2 * RATE <= wave.shape[1] <= 28 * RATE:
            continue
        pair = [F.pad(x, (0, -x.shape[1] % 1280)) for x in (wave, noisy(wave, number))]
        part = path.with_suffix(".part.npy")
        np.save(part, np.stack([units.features(x[None])[0].T.half().numpy() for x in pair]))
        with (work / "meta.tsv").open("a") as meta:
            facts = (
                path.stem,
                recording.split,
                recording.language,
                " ".join(recording.text.split()),
            )
            print(*facts, sep="\t", file=meta)
        spans = [(span.label, span.start, span.end) for span in phones_of(recording)]
        path.with_suffix(".json").write_text(json.dumps(spans))
        part.replace(path)
        if number % 100 == 0:
            print(f"{number:,} of {len(recordings):,} recordings", flush=True)


# -- training -------------------------------------------------------------------------------------


class Sample:
    """Features of a recording and its noisy copy, its characters and its phones."""

    def __init__(self, work: Path, line: str) -> None:
        name, self.split, language, text = line.rstrip("\n").split("\t")
        self.path = work / "f" / f"{name}.npy"
        self.characters = Units.spell(text) if language == "en" else []
        spans = json.loads(self.path.with_suffix(".json").read_text())
        self.phones = [TimedSpan(*span) for span in spans]

    def clip(self, draw: random.Random) -> tuple[Tensor, list[int], list[TimedSpan]]:
        """Return features `[2 f d]`, characters and phones; of a long recording, a clip's.

        A clip has no characters, as where they lie is not known.
        """
        pair = np.load(self.path, mmap_mode="r")
        if pair.shape[1] <= CLIP:
            return torch.from_numpy(np.array(pair)).float(), self.characters, self.phones
        start = 4 * draw.randrange((pair.shape[1] - CLIP) // 4 + 1)
        phones = [
            replace(s, start=s.start - start / 50, end=s.end - start / 50) for s in self.phones
        ]
        kept = [span for span in phones if span.end > 0]
        return torch.from_numpy(np.array(pair[:, start : start + CLIP])).float(), [], kept


class Training(nn.Module):
    """The codec, and linear layers that tell Whisper's features and phones from its codes."""

    def __init__(self, work: Path) -> None:
        super().__init__()
        self.units = units = begun(work).train().requires_grad_(True)
        width = units.config.adapter
        self.tellers = nn.ModuleDict(
            {str(p): nn.Linear(width, units.config.width * p) for p in units.config.pools}
        )
        self.phones = nn.ModuleDict(
            {str(p): nn.Linear(width, len(PHONES)) for p in units.config.pools}
        )

    def losses(
        self,
        x: Tensor,
        lengths: Tensor,
        characters: list[list[int]],
        spans: list[list[TimedSpan]],
        pool: int,
    ) -> dict[str, Tensor]:
        """Return the parts of the loss at one frame rate, and the share of codes kept in noise.

        Args:
            x: features `[2b d f]`, each recording before its noisy copy.
            lengths: frames of each.
            characters: those of each; of some, none.
            spans: phones of each; of some, none.
            pool: frames of 20 ms in a frame.
        """
        adapter, grid, reader = self.units.parts(pool)
        there = torch.arange(x.shape[2] // pool) < (lengths // pool)[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            latents = adapter(x)
        bounded = grid.bound(grid.down(latents.float().transpose(1, 2)))
        on_grid = grid.value(grid.nearest(bounded.detach()))
        decoded = grid.up(bounded + (on_grid - bounded).detach())
        with torch.autocast("cpu", torch.bfloat16):
            logits = reader(decoded.transpose(1, 2)).float()
            told = self.tellers[str(pool)](decoded).float().reshape(len(x), x.shape[2], -1)
        labels = [frame_labels(each, PHONES, there.shape[1], 50 / pool) for each in spans]
        phone = F.cross_entropy(
            self.phones[str(pool)](decoded).transpose(1, 2),
            torch.from_numpy(np.stack(labels)),
            ignore_index=-1,
            reduction="sum",
        ) / max(1, sum(int((each >= 0).sum()) for each in labels))
        steps, scaled, nearest = grid.per_unit, bounded * grid.per_unit, on_grid * grid.per_unit
        codes = grid.join(grid.nearest(bounded.detach()))
        clean, copy, of_copy = scaled[0::2].detach(), scaled[1::2], there[1::2, :, None]
        flat = scaled[there]
        spread = ((flat - flat.mean(0)).square().mean(0) + 1e-4).sqrt()
        correlation = torch.corrcoef(flat.T)
        target = F.layer_norm(x[0::2].transpose(1, 2), x.shape[1:2]).repeat_interleave(2, 0)
        frames = torch.arange(x.shape[2]) < lengths[:, None]
        return {
            "ctc": spelling(logits, characters, lengths // pool * max(1, pool // 2)),
            "phone": phone,
            "features": (told - target).square().mean(2)[frames].mean(),
            "noise": mean_over(of_copy, (copy - clean).square())
            + mean_over(of_copy, (copy - nearest[0::2]).square()),
            "grid": mean_over(there[:, :, None], (scaled - nearest).square()),
            "spread": F.relu(SPREAD * steps - spread).mean()
            + F.relu(flat.mean(0).abs() - 0.2).mean(),
            "apart": (correlation - torch.diag(correlation.diagonal())).square().mean(),
            "kept": (codes[0::2] == codes[1::2])[there[1::2]].float().mean(),
        }


def mean_over(mask: Tensor, values: Tensor) -> Tensor:
    """Return the mean of values `[b f w]` over the frames that there are."""
    return (values * mask).sum() / mask.sum() / values.shape[2]


def spelling(logits: Tensor, characters: list[list[int]], steps: Tensor) -> Tensor:
    """Return the CTC loss of a character, over recordings with time for all of theirs."""
    needed = [len(c) + sum(a == b for a, b in pairwise(c)) for c in characters]
    rows = [i for i, n in enumerate(needed) if characters[i] and n <= steps[i]]
    if not rows:
        return torch.zeros(())
    lengths = torch.tensor([len(characters[i]) for i in rows])
    targets = torch.tensor([c for i in rows for c in characters[i]])
    chances = logits[rows].log_softmax(2).transpose(0, 1)
    loss = F.ctc_loss(chances, targets, steps[rows], lengths, reduction="sum")
    return loss / lengths.sum()


def batch(
    samples: list[Sample], draw: random.Random
) -> tuple[Tensor, Tensor, list[list[int]], list[list[TimedSpan]]]:
    """Return features `[2b d f]`, lengths `[2b]`, characters and phones of some samples."""
    clips = [sample.clip(draw) for sample in draw.sample(samples, min(PAIRS, len(samples)))]
    lengths = [pair.shape[1] for pair, _, _ in clips]
    pairs = [F.pad(pair.transpose(1, 2), (0, max(lengths) - pair.shape[1])) for pair, _, _ in clips]
    spelt = [characters for _, characters, _ in clips for _ in range(2)]
    spans = [phones for _, _, phones in clips for _ in range(2)]
    return torch.cat(pairs), torch.tensor(lengths).repeat_interleave(2), spelt, spans


def train(work: Path, steps: int) -> None:
    """Train the adapters, the readers and the tellers; the blocks of Whisper stay as they are."""
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    training, path, step = Training(work), work / "training.pt", 0
    learnt = [p for name, p in training.named_parameters() if "trunk" not in name]
    optimizer = torch.optim.AdamW(learnt, lr=FASTEST, betas=(0.9, 0.98), weight_decay=0.01)
    if path.exists():
        state = torch.load(path, weights_only=True)
        training.load_state_dict(state["training"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    lines = dict.fromkeys((work / "meta.tsv").read_text().splitlines())  # one twice, if killed
    samples = [Sample(work, line) for line in lines]
    samples, draw = [s for s in samples if s.split == "train"], random.Random(step)
    seen, start = defaultdict[str, list[float]](list), time.monotonic()
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = FASTEST * min((step + 1) / WARM_UP, 1, max(0.02, 2 - 2 * step / steps))
        pool = (2, 1, 2, 4)[step % 4]  # most often the rate that is the default
        losses = training.losses(*batch(samples, draw), pool)
        later = min(1.0, max(0.0, step / 1000 - 0.2))  # else all frames get one code
        ramps = {"ctc": min(1.0, step / 200), "noise": later, "grid": later}
        total = torch.stack([w * ramps.get(k, 1) * losses[k] for k, w in WEIGHTS.items()]).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        step += 1
        for name, value in losses.items():
            seen[f"{name} {pool}"].append(value.item())
        if step % 50 == 0:
            means = " ".join(f"{name} {np.mean(v):.3f}" for name, v in sorted(seen.items()))
            print(f"step {step} {time.monotonic() - start:.0f} s {means}", flush=True)
            seen.clear()
        if step % 200 == 0 or step == steps:
            kept = {k: v for k, v in training.state_dict().items() if "trunk" not in k}
            state = {"training": kept, "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)


def write(work: Path, out: str) -> None:
    """Write the codec to a file, large matrices in 8 bits."""
    training = Training(work)
    state = torch.load(work / "training.pt", weights_only=True)
    training.load_state_dict(state["training"], strict=False)
    save(training.units, out, card={"steps": state["step"]}, dtype=torch.int8)


if __name__ == "__main__":
    try:
        what, *rest = sys.argv[1:] or ["help"]
        if what == "features" and len(rest) == 3:
            features(rest[0], rest[1], Path(rest[2]))
        elif what == "train" and 1 <= len(rest) <= 2:
            train(Path(rest[0]), int(*rest[1:] or [5500]))
        elif what == "write" and len(rest) == 2:
            write(Path(rest[0]), rest[1])
        else:
            sys.exit(__doc__)
    except (audiotok.Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
