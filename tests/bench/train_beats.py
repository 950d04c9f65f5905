"""Train a tokenizer of patches to tell another model's features, as BEATs' self-distilled one.

    python tests/bench/train_beats.py RECORDINGS beats.safetensors [STEPS]

Here the other model is what the shipped `units` make of Whisper's first blocks; BEATs has its own
encoder of the iteration before. From the codes of 4 s a small transformer predicts the teacher's
features; the loss is one less their cosine, and the commitment (arXiv:2212.09058, section 3.2.2).
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import audiotok
from audiotok.codecs import save
from audiotok.codecs.models.beats import Beats, Config
from audiotok.nn.layers.relative_transformer import RelativeTransformer
from audiotok.nn.linear import Linear

SIZES: Any = {"width": 96, "layers": 2, "heads": 4, "hidden": 192, "patch_width": 64, "kernel": 16}
FRAMES, BATCH = 25, 8  # of 160 ms, in which are 8 patches, and 8 of the teacher's features
SAMPLES = FRAMES * 2560 + 240


def targets_of(waves: torch.Tensor) -> torch.Tensor:
    """Return the teacher's features `[n frames d]` of waves, less their mean."""
    teacher: Any = audiotok.load("units")
    x = torch.cat([teacher.features(wave[None])[:, :, : 8 * FRAMES] for wave in waves])
    x = x.unflatten(2, (FRAMES, 8)).mean(3).transpose(1, 2)
    return x - x.mean((0, 1))


def train(waves: torch.Tensor, targets: torch.Tensor, steps: int) -> Beats:
    """Return a tokenizer trained on waves `[n 1 t]` and features `[n frames d]`."""
    torch.manual_seed(0)
    codec: Any = Beats(Config(**SIZES, code_width=32, size=256)).train()
    book = codec.quantizer.book
    book.entries.zero_()  # the first batch wakes them
    book.decay, book.revive = 0.9, 0.5  # of published ones 0.99, for as many more steps
    predictor, last = RelativeTransformer(32, blocks=1, heads=4, hidden=64), Linear(32, 512)
    parameters = [p for part in (codec, predictor, last) for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3)
    for step in range(steps):
        pick = torch.randint(len(waves), (BATCH,))
        quantized = codec.quantizer(codec.encoder.whole(waves[pick]))
        patches = quantized.latent.unflatten(1, (8, -1)).permute(0, 2, 3, 1).flatten(2)
        told = last(predictor(patches).transpose(1, 2)).unflatten(1, (FRAMES, 8)).mean(2)
        miss = 1 - F.cosine_similarity(told, targets[pick], dim=2).mean()
        optimizer.zero_grad()
        (miss + quantized.losses["commitment"]).backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(step, f"{miss:.3f}", f"{len(quantized.codes.unique())} entries in use")
    return codec.eval().requires_grad_(False)


if __name__ == "__main__":
    audios = [audiotok.Audio.load(file) for file in Path(sys.argv[1]).glob("*")]
    waves = [audio.mono().resample(16000).samples for audio in audios]
    long = [wave for wave in waves if wave.shape[1] >= SAMPLES]
    pieces = torch.cat([wave.unfold(1, SAMPLES, SAMPLES).transpose(0, 1) for wave in long])
    save(train(pieces, targets_of(pieces), int(*sys.argv[3:] or [300])), sys.argv[2])
