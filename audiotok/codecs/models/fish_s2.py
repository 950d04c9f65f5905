"""Fish Audio's codec of S2 and S1: speech at 44.1 kHz, 21.5 frames/s, 10 codebooks, 2.2 kbps.

    wave -> DAC's convolutions -> transformer -> conv -> twice / 2 -> transformer -> latent 1024
                                                                    4096 + 9 x 1024
         <- DAC's convolutions <-                       twice x 2 <- transformer <- latent 1024

It is causal. Each doubling or halving goes with a ConvNeXt block. All windows of attention are
bounded, so a stream of any length runs in constant memory and equals the whole.

Source: Fish Audio 2026, arXiv:2603.08823; the codec in package vllm-omni 0.30.0, which is that of
fish-speech 0.1.0. Cosines and sines of positions are rounded there to bfloat16, and so they are
here, since codes depend on it. Its tables of positions end at 190 s, where it fails; here they go
on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, cast

import torch
from torch import nn

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.attention import Attention
from audiotok.nn.layers.base import Layer, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.feed_forward import FeedForward
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.layers.rms_norm import RmsNorm
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    Weights,
    apart,
    count,
    in_one_chain,
    squeeze,
    taps_first,
)
from audiotok.nn.quantizers.rvq import Factorised, Rvq

HEAD = 64  # features of an attention head, which no tensor tells
EXPANSION = 3  # width inside a perceptron over that of its input


@dataclass(frozen=True)
class Config:
    """Sizes of `FishS2`; the defaults are the published ones."""

    sample_rate: int = 44100  # Hz
    encoder: int = 64  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1536  # width of the decoder after the doublings; halves at every stride
    strides: Sequence[int] = (2, 4, 8, 8)  # strides of the encoder's convolutions
    encoder_blocks: int = 4  # blocks of attention and perceptron after the last stride
    encoder_window: int = 512  # latents in the window of their attention
    latent: int = 1024  # width of the latent that is quantized
    halvings: Sequence[int] = (2, 2)  # strides after those; the frame is the product of all
    blocks: int = 8  # blocks of attention and perceptron on either side of the quantizer
    window: int = 128  # frames in the window of their attention
    codebooks: int = 10
    size: int = 1024  # entries in a codebook but the first
    semantic_size: int = 4096  # entries in the first codebook
    code_width: int = 8  # number of features in which a codebook is searched

    def __post_init__(self) -> None:
        for name in ("strides", "halvings"):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))


def _transformer(features: int, blocks: int, window: int) -> Chain:
    """Build blocks of attention and gated perceptron, and a norm after the last."""
    norm = partial(nn.RMSNorm, eps=1e-5)
    layers: list[Layer] = []
    for _ in range(blocks):
        attention = Attention(
            features,
            heads=max(1, features // HEAD),
            window=window,
            scale=0.01,
            norm=norm,
            rounding=torch.bfloat16,
        )
        hidden = EXPANSION * features
        layers += [attention, FeedForward(features, hidden, scale=0.01, gated=True, norm=norm)]
    return Chain([Chain(layers), RmsNorm(features)])


def _units(width: int) -> list[Layer]:
    """Return the residual units of a block."""
    return [
        ResidualUnit(width, kernel=7, dilation=dilation, activation=Snake) for dilation in (1, 3, 9)
    ]


def _mixed(width: int) -> Layer:
    """Return the ConvNeXt block after a halving or doubling."""
    return Convnext(width, expansion=4, scale=1e-6, norm=partial(nn.LayerNorm, eps=1e-6))


def _encoder(config: Config) -> Chain:
    """Build the encoder: convolutions with a transformer among them, halvings, transformer."""
    width = config.encoder
    layers: list[Layer] = [Conv(1, width, 7)]
    for stride in config.strides:
        down = Conv(width, 2 * width, 2 * stride, stride=stride)
        layers += [*_units(width), Snake(width), down]
        width *= 2
    layers += [_transformer(width, config.encoder_blocks, config.encoder_window)]
    layers += [Snake(width), Conv(width, config.latent, 3)]
    halvings: list[Layer] = []
    for stride in config.halvings:
        conv = Conv(config.latent, config.latent, stride, stride=stride)
        halvings += [conv, _mixed(config.latent)]
    transformer = _transformer(config.latent, config.blocks, config.window)
    return Chain([Chain(layers), Chain(halvings), transformer])


def _decoder(config: Config) -> Chain:
    """Build the decoder: transformer, doublings, convolutions as in DAC."""
    doublings: list[Layer] = []
    for stride in reversed(config.halvings):
        conv = TransposedConv(config.latent, config.latent, stride, stride=stride)
        doublings += [conv, _mixed(config.latent)]
    width = config.decoder
    layers: list[Layer] = [Conv(config.latent, width, 7)]
    for stride in reversed(config.strides):
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride)
        layers += [Snake(width), up, *_units(width // 2)]
        width //= 2
    layers += [Snake(width), Conv(width, 1, 7), Pointwise(nn.Tanh())]
    transformer = _transformer(config.latent, config.blocks, config.window)
    return Chain([transformer, Chain(doublings), Chain(layers)])


def _strides(weights: Weights, chain: str) -> tuple[int, ...]:
    """Return the sizes of the kernels in a chain's convolutions, in order."""
    names = (re.fullmatch(rf"{re.escape(chain)}\.(\d+)\.conv\.weight", name) for name in weights)
    in_order = sorted((m for m in names if m), key=lambda m: int(m[1]))
    return tuple(weights[match[0]].shape[2] for match in in_order)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights; windows and heads have no tensor."""
    ends, halvings = (f"encoder.layers.{i}.layers" for i in (0, 1))
    attention = r"layers\.0\.layers\.\d+\.qkv\.weight"
    return {
        "encoder": len(weights[f"{ends}.0.conv.bias"]),
        "decoder": len(weights["decoder.layers.2.layers.0.conv.bias"]),
        "strides": tuple(kernel // 2 for kernel in _strides(weights, ends)[1:-1]),
        "encoder_blocks": count(weights, rf"encoder\.layers\.0\.layers\.\d+\.{attention}"),
        "latent": weights["quantizer.stages.0.down.weight"].shape[1],
        "halvings": _strides(weights, halvings),
        "blocks": count(weights, rf"encoder\.layers\.2\.{attention}"),
        "codebooks": count(weights, r"quantizer\.stages\.\d+\.entries"),
        "size": len(weights["quantizer.stages.1.entries"]),
        "semantic_size": len(weights["quantizer.stages.0.entries"]),
        "code_width": weights["quantizer.stages.0.entries"].shape[1],
    }


_CHAINS = {
    "encoder.block": ("encoder.layers.0.layers", 0),
    "decoder.model": ("decoder.layers.2.layers", 0),
}
_SIDES = {"pre": "encoder.layers.2", "post": "decoder.layers.0"}
_LAYERS = {
    "attention.wqkv.weight": (0, "qkv.weight"),
    "attention.wo.weight": (0, "out.weight"),
    "attention_norm.weight": (0, "norm.weight"),
    "attention_layer_scale.gamma": (0, "scale"),
    "feed_forward.w1.weight": (1, "up.weight#0"),
    "feed_forward.w3.weight": (1, "up.weight#1"),
    "feed_forward.w2.weight": (1, "down.weight"),
    "ffn_norm.weight": (1, "norm.weight"),
    "ffn_layer_scale.gamma": (1, "scale"),
}
_CONVNEXT = {"gamma": "scale", "dwconv.conv": "depthwise", "pwconv1": "up", "pwconv2": "down"}


def _in_block(match: re.Match[str]) -> str:
    """Return the name of a tensor in a transformer's block, two layers of our chain."""
    layer, name = _LAYERS[match[2]]
    return f".layers.0.layers.{2 * int(match[1]) + layer}.{name}"


def _halving(match: re.Match[str]) -> str:
    """Return the name of a tensor of a halving or a doubling: a convolution, a ConvNeXt block."""
    side = {"down": "encoder", "up": "decoder"}[match[1]]
    layer, name = 2 * int(match[2]) + int(match[3]), match[4]
    for theirs, ours in _CONVNEXT.items() if match[3] == "1" else ():
        name = re.sub(rf"^{re.escape(theirs)}(?=\.|$)", ours, name)
    return f"{side}.layers.1.layers.{layer}.{name}"


_RULES: Sequence[Rule] = (
    (
        r"^quantizer\.(semantic_)?quantizer\.quantizers\.(\d+)\.",
        lambda m: f"quantizer.stages.{0 if m[1] else 1 + int(m[2])}.",
    ),
    (r"\.in_proj\.", ".down."),
    (r"\.out_proj\.", ".up."),
    (r"\.codebook\.weight$", ".entries"),
    (r"^quantizer\.(down|up)sample\.(\d+)\.([01])\.(.*)$", _halving),
    (r"^quantizer\.(pre|post)_module\.", lambda m: f"{_SIDES[m[1]]}."),
    (rf"\.layers\.(\d+)\.({'|'.join(map(re.escape, _LAYERS))})$", _in_block),
    (
        r"(^encoder\.layers\.0\.layers\.\d+|^(?:en|de)coder\.layers\.[02])\.norm\.",
        r"\1.layers.1.norm.",
    ),
    (r"\.block\.(\d+)\.", r".body.layers.\1."),
)


class FishS2(Codec):
    """A causal DAC with transformers around its quantizer and in its encoder."""

    name = "fish_s2"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"fish_s2": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "fish_s2": Taxonomy(
            encoder="DAC, transformer",
            decoder="transformer, DAC",
            quantizer="RVQ",
            training="distilled",
            teacher="w2v-BERT 2.0 (unverified)",
            licence="Fish Audio Research License",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "fish_s2": PublishedWeights(file="codec.pth", repo="fishaudio/s2-pro")
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="fish-speech 0.1.0, or vllm-omni 0.30.0",
            marks=(
                "encoder.block.0.conv.weight",
                "decoder.model.0.conv.weight",
                "quantizer.semantic_quantizer.quantizers.0.in_proj.weight",
                "quantizer.pre_module.norm.weight",
            ),
            prepare=partial(in_one_chain, chains=_CHAINS),
            ignored=(r"\.(freqs_cis|causal_mask)$",),  # tables, which are computed
            rules=_RULES,
            tensors=(
                (r"\.(down|up)\.weight$", squeeze),
                (r"\.depthwise\.weight$", taps_first),
                (r"\.qkv\.weight$", partial(apart, head=HEAD)),
            ),
            sizes=_sizes,
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides) * prod(config.halvings)
        self.semantic_codebooks = 1
        self.block = 32  # frames are long
        self.encoder = _encoder(config)
        self.quantizer = Rvq(
            config.latent,
            codebooks=config.codebooks,
            size=(config.semantic_size, *[config.size] * (config.codebooks - 1)),
            kind="factorised",
            width=config.code_width,
        )
        self.decoder = _decoder(config)

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return DAC's convolutions, and the projections of the codebooks."""
        parts = [*cast("Chain", self.encoder), *cast("Chain", self.decoder)]
        convs = (conv for part in (parts[0], parts[-1]) for conv in convolutions(part))
        books = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        return [*convs, *(p for book in books for p in (book.down, book.up))]
