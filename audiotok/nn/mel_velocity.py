"""Velocity of a flow from noise to mel spectra, told codes and text: TaDiCodec's decoder.

Source: Wang et al. 2025, arXiv:2508.16790; repository HeCheng0625/Diffusion-Speech-Tokenizer at
cc660a8, `llama_nar_prefix.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiotok._platform.shapes import Latent
from audiotok.nn.layers.ada_transformer import AdaTransformer, Perceptron
from audiotok.nn.linear import Linear


class MelVelocity(nn.Module):
    """Network from points `[b bands t]` to velocities, under time, codes and text.

    Args:
        bands: mel bands.
        width: width of the transformer.
        blocks: blocks of it.
        heads: attention heads.
    """

    rates: Tensor

    def __init__(self, bands: int, width: int, *, blocks: int, heads: int) -> None:
        super().__init__()
        self.into = Linear(bands, width)
        self.codes = Perceptron(width)
        self.text = Perceptron(width)
        self.time = Perceptron(width)
        self.transformer = AdaTransformer(width, blocks=blocks, heads=heads)
        self.out = Linear(width, bands)
        slowest = torch.arange(width // 2) / (width // 2 - 1)
        self.register_buffer("rates", 10000.0**-slowest, persistent=False)

    def forward(self, x: Latent, time: Tensor, codes: Tensor, text: Tensor | None = None) -> Latent:
        """Return velocities.

        Args:
            x: points `[b bands t]`.
            time: `[b]`, from 0, noise, to 1, data.
            codes: embeddings of codes at the rate of the spectrum, `[b width t]`; 0 for none.
            text: embeddings of text `[b n width]`; None for none.
        """
        angles = time[:, None] * self.rates
        condition = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        y = self.into(x.transpose(1, 2)) + self.codes(codes.transpose(1, 2))
        before = 0 if text is None else text.shape[1]
        if text is not None:
            y = torch.cat([self.text(text), y], 1)
        y = self.transformer(y.transpose(1, 2), condition)
        return self.out(y[:, :, before:].transpose(1, 2)).transpose(1, 2)
