"""Pocket TTS's tokenizer: speech at 24 kHz as continuous latents of 32, 12.5 frames/s, causal.

    wave -> SEANet -> transformer -> every 16th -> latent 32
         <- SEANet <- transformer <- 16 times   <- linear map <-/

It is Mimi's network without the quantizer: its frames are the latents themselves, which a language
model predicts by a flow. The window of attention is bounded, so a stream of any length runs in
constant memory and equals the whole.

Source: Rouard et al. 2025, arXiv:2509.06926; transformers 5.24.0, PocketTTSAudioTokenizerModel,
whose feature extractor fills up the last frame with silence, as here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

from audiotok.codecs.models import mimi
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.continuous import Continuous
from audiotok.nn.layers.base import Mix
from audiotok.nn.layers.chain import Chain
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import StateDictAdapter, Weights, squeeze


@dataclass(frozen=True)
class Config(mimi.NetworkConfig):
    """Sizes of `PocketTts`; the defaults are the published ones."""

    strides: Sequence[int] = (4, 5, 6)
    halving: int = 16  # latents within that a frame has
    blocks: int = 2
    features: int = 32  # features of a frame


# Of transformers' PocketTTSAudioTokenizerConfig.
_OPTIONS = replace(
    mimi.OPTIONS,
    fixed={**mimi.OPTIONS.fixed, "hidden_act": "gelu_pytorch_tanh"},
    derived=(*mimi.OPTIONS.derived, "latent_dim", "latent_stride"),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    return {
        **mimi.network_sizes(weights, metadata),
        "features": len(weights["encoder.layers.2.conv.weight"]),
        **_OPTIONS.read(metadata),
    }


class PocketTts(Codec):
    """A codec of convolutions and transformers around continuous latents."""

    name = "pocket_tts"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"pocket_tts": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "pocket_tts": Taxonomy(
            encoder="Mimi",
            decoder="Mimi",
            quantizer="none",
            training="joint",
            licence="unstated",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "pocket_tts": PublishedWeights(
            file="model.safetensors", repo="eustlb/pocket-tts-audio-tokenizer"
        )
    }
    state_dict_adapters = (
        StateDictAdapter(
            source="transformers, PocketTTSAudioTokenizerModel",
            marks=("latent_proj.weight", "encoder.downsample.conv.weight"),
            rules=(
                *mimi.DECODER,
                *mimi.RULES,
                (r"^decoder\.layers\.", "decoder.layers.1.layers."),
                (r"^latent_proj\.", "decoder.layers.0.linear."),
            ),
            tensors=((r"\.0\.linear\.weight$", squeeze),),
            sizes=_sizes,
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides) * config.halving
        self.block = 16  # frames are long
        into = Mix(config.features, config.latent, bias=False)
        self.encoder = mimi.encoder(config, config.features, approximate=True)
        self.quantizer = Continuous(config.features)
        self.decoder = Chain([into, mimi.decoder(config, approximate=True)])
