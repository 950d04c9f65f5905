"""WavLM (Chen et al. 2022, arXiv:2110.13900): trained as HuBERT, on speech mixed with noise."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audiotok.audio import _torchaudio
from audiotok.data.features.wav2vec2 import NO_DROPOUT, Wav2vec2


class Wavlm(Wav2vec2):
    """WavLM: wav2vec 2.0's network with gated relative positions in its attention."""

    kind: ClassVar[str] = "wavlm"
    pipelines: ClassVar[str] = "WAVLM"

    @classmethod
    def options(cls, state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
        """See `Wav2vec2.options`."""
        positions = state["encoder.transformer.layers.0.attention.rel_attn_embed.weight"]
        return {
            **super().options(state, config),
            "encoder_num_heads": positions.shape[1],
            "encoder_num_buckets": positions.shape[0],
            "encoder_max_distance": config.get("max_bucket_distance", 800),
        }

    @staticmethod
    def build(options: dict[str, Any]) -> nn.Module:
        """Build the network of torchaudio."""
        return _torchaudio.load().models.wavlm_model(**NO_DROPOUT, **options)

    @staticmethod
    def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Wav2vec2.renamed`; torchaudio has query, key and value in one tensor."""
        ours = Wav2vec2.renamed(state)
        for key in [key for key in ours if key.endswith("attention.q_proj.weight")]:
            attention = key.removesuffix("q_proj.weight")
            for kind in ("weight", "bias"):
                parts = [ours.pop(f"{attention}{part}_proj.{kind}") for part in "qkv"]
                ours[f"{attention}attention.in_proj_{kind}"] = torch.cat(parts)
                out = ours.pop(f"{attention}out_proj.{kind}")
                ours[f"{attention}attention.out_proj.{kind}"] = out
        return ours
