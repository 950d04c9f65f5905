#!/usr/bin/env bash
# encodec 0.1.1: the first step of a training leaves a few of the codes that k-means has just chosen.
#
# Codebooks are set by k-means on the latents of the first batch, so that one expects an untrained
# codec to use most of its codes and lose them slowly, if at all. But with PyTorch's usual initial
# weights the SEANet encoder averages away, from layer to layer, what differs between moments, while
# the biases, the same at every moment, stay: the latents are one point with a tiny cloud around it,
# which k-means tiles. One step of Adam at a learning rate of 3e-4 moves the point by a hundred times
# the size of the cloud, and nearly all frames fall to the same code. So the use of codes at the start
# says nothing of the training; k-means some steps later meets other latents.
#
# Seen 2026-11-30, Linux x86-64, Python 3.11 (the figures vary a little with the machine):
#   deviation over time of the audio                    0.0839
#   ... after each strided layer                        0.0160 0.0054 0.0019 0.0007
#   deviation over time of the latents, and their size  0.0011 0.0302
#   how far one step moves them                         0.1140
#   codes of the first codebook in use, of 256          218, after the step 1
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.6 einops==0.8.1
"$work/venv/bin/pip" install --quiet --no-deps encodec==0.1.1
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import math
import sys
import types

import torch

sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # used to read files only

from encodec.modules import SEANetDecoder, SEANetEncoder
from encodec.quantization import ResidualVectorQuantizer

RATE, HOP, CODES = 24000, 320, 256


def voice():
    """Return a second of a gliding tone with harmonics, loud and soft by turns, and a little noise."""
    time = torch.arange(RATE) / RATE
    vibrato, beat, pitch = 2 + torch.rand(1), 3 + 2 * torch.rand(1), 80 + 160 * torch.rand(1)
    glide = pitch * (1 + 0.2 * torch.sin(2 * math.pi * vibrato * time))
    phase = 2 * math.pi * glide.cumsum(0) / RATE
    tone = sum(torch.sin(k * phase) / k for k in range(1, 12))
    return 0.15 * tone * (0.5 + 0.5 * torch.sin(2 * math.pi * beat * time)) + 0.005 * torch.randn(RATE)


def size(x):
    return float(x.detach().square().mean().sqrt())


def over_time(x):
    return size(x - x.mean(-1, keepdim=True))


def in_use():
    with torch.no_grad():
        return quantizer.encode(encoder(audio), RATE // HOP, 0.6)[0].unique().numel()


torch.manual_seed(0)
encoder, decoder = (kind(causal=True, norm="weight_norm") for kind in (SEANetEncoder, SEANetDecoder))
quantizer = ResidualVectorQuantizer(dimension=128, n_q=1, bins=CODES)
audio = torch.stack([voice() for _ in range(4)])[:, None]
strided, latents = [], audio
for layer in encoder.model:
    length = latents.shape[-1]
    latents = layer(latents)
    if latents.shape[-1] < length:
        strided.append(over_time(latents))
quantizer.train()
quantizer(latents, RATE // HOP)  # k-means
quantizer.eval()
before = in_use()
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-4, betas=(0.5, 0.9))
(decoder(latents) - audio).abs().mean().backward()
optimizer.step()
with torch.no_grad():
    moved = size(encoder(audio) - latents)
after, cloud = in_use(), over_time(latents)
print(f"deviation over time of the audio                    {over_time(audio):.4f}")
print(f"... after each strided layer                        {' '.join(f'{x:.4f}' for x in strided)}")
print(f"deviation over time of the latents, and their size  {cloud:.4f} {size(latents):.4f}")
print(f"how far one step moves them                         {moved:.4f}")
print(f"codes of the first codebook in use, of {CODES}          {before}, after the step {after}")
same = over_time(audio) > 50 * strided[-1] and strided == sorted(strided, reverse=True)
same &= moved > 30 * cloud and before > 60 and after < 10
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
