"""Stable Codec (TAAE): speech at 16 kHz, 25 frames/s, one grid read as 1, 2 or 4 codes a frame.

    wave -> patches of 320 -> transformer -> conv, / 2 -> transformer -> latent 6 -> tanh, grid
         <- patches of 320 <- transformer <- conv, x 2 <- transformer <- latent 6 <-/

    layout             codes a frame    bits/s
    1x46656_400bps     46,656           387.7
    2x15625_700bps     15,625 each      696.6
    4x729_1000bps      729 each         951.0

One checkpoint has all layouts: the grid that it was trained with, 17 levels for each feature, holds
exactly the values of the second and third (`nn.quantizers.residual_fsq`); the first is coarser.
Attention looks ahead by 64 steps at each of its many layers, so that a stream lags by two minutes.

Source: Parker et al. 2024, arXiv:2411.19842; packages stable-codec 0.1.2 and stable-audio-tools
0.0.17, which heed the window of attention with Flash Attention on a GPU only. They bring a file,
but no tensor, to -20 LUFS before encoding; here audio stays as loud as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, ClassVar

from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Layer, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.feed_forward import FeedForward
from audiotok.nn.layers.fold import Fold, Unfold
from audiotok.nn.layers.sliding_attention import SlidingAttention
from audiotok.nn.layers.snake_beta import SnakeBeta
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.options import Options, agreed
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    count,
)
from audiotok.nn.quantizers.residual_fsq import ResidualFsq
from audiotok.tokens.coded import Coded
from audiotok.tokens.format import Header

LAYOUTS = {  # levels of each feature, and grids
    "1x46656_400bps": (6, 1),
    "2x15625_700bps": (5, 2),
    "4x729_1000bps": (3, 4),
}
HEAD = 128  # features of an attention head, which no tensor tells; half of them are rotated


@dataclass(frozen=True)
class Config:
    """Sizes of `StableCodec`; the defaults are those of the paper."""

    sample_rate: int = 16000  # Hz
    patch: int = 320  # samples of a step of the first stage
    widths: Sequence[int] = (1024, 1024)  # of the stages
    strides: Sequence[int] = (1, 2)  # steps of the stage before in one of each stage
    depths: Sequence[int] = (8, 20)  # blocks of attention and perceptron in each stage
    latent: int = 6  # features that are quantized
    earlier: int = 63  # earlier steps that attention sees
    later: int = 64  # later steps that it sees
    snake: bool = False  # whether SnakeBeta precedes the convolutions
    layout: str = "2x15625_700bps"  # how the grid is read

    def __post_init__(self) -> None:
        for name in ("widths", "strides", "depths"):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.layout not in LAYOUTS:
            raise InputError(f"layout {self.layout!r}: it is one of {', '.join(LAYOUTS)}")


def _transformer(config: Config, width: int, depth: int) -> Chain:
    """Build blocks of attention and gated perceptron."""
    norm = partial(nn.LayerNorm, eps=1e-2, bias=False)
    head = min(HEAD, width)
    layers: list[Layer] = []
    for _ in range(depth):
        attention = SlidingAttention(
            width,
            heads=width // head,
            earlier=config.earlier,
            later=config.later,
            rotated=head // 2,
            norm=norm,
        )
        hidden = FeedForward(width, 4 * width, scale=0.01, gated=True, bias=True, norm=norm)
        layers += [attention, hidden]
    return Chain(layers)


def _activation(config: Config, width: int) -> Layer:
    """Return what precedes a convolution."""
    return SnakeBeta(width) if config.snake else Pointwise(nn.Identity())


def _encoder(config: Config) -> Chain:
    """Build the encoder: patches, conv, stages, conv."""
    width = config.widths[0]
    layers: list[Layer] = [Conv(config.patch, width, 7, causal=False)]
    for wide, stride, depth in zip(config.widths, config.strides, config.depths, strict=True):
        same = stride == 1 and wide == width
        down = Conv(width, wide, 2 * stride, stride=stride, causal=False)
        activation = _activation(config, width)
        conv = Pointwise(nn.Identity()) if same else down
        layers.append(Chain([activation, conv, _transformer(config, wide, depth)]))
        width = wide
    layers += [_activation(config, width), Conv(width, config.latent, 3, causal=False)]
    return Chain([Fold(1, config.patch), Chain(layers)])


def _decoder(config: Config) -> Chain:
    """Build the decoder: the stages in reverse, each with its transformer first."""
    layers: list[Layer] = [Conv(config.latent, config.widths[-1], 3, causal=False)]
    narrower = (config.widths[0], *config.widths)
    for i in reversed(range(len(config.widths))):
        width, narrow, stride = config.widths[i], narrower[i], config.strides[i]
        trim = -(-stride // 2), stride // 2
        up = TransposedConv(width, narrow, 2 * stride, stride=stride, causal=False, trim=trim)
        same = stride == 1 and width == narrow
        conv = Pointwise(nn.Identity()) if same else up
        transformer = _transformer(config, width, config.depths[i])
        layers.append(Chain([transformer, _activation(config, width), conv]))
    last = Conv(config.widths[0], config.patch, 7, bias=False, causal=False)
    layers += [_activation(config, config.widths[0]), last]
    return Chain([Chain(layers), Unfold(config.patch)])


# Of model_config.json, and of the parts of the model in it.
_OPTIONS = Options(
    fields={"sample_rate": "sample_rate"},
    fixed={"audio_channels": 1, "model_type": "autoencoder"},
    derived=("model", "sample_size", "training"),
)
_MODEL = Options(
    fixed={"io_channels": 1, "soft_clip": False},
    derived=(
        *("bottleneck", "decoder", "downsampling_ratio", "encoder", "latent_dim", "pretransform"),
        *("proj_head_dim", "use_proj_head"),
    ),
)
_SIDE = Options(
    fields={"sliding_window": "sliding_window", "strides": "strides"},
    fixed={"conformer": False, "layer_scale": True, "use_dilated_conv": False},
    derived=(
        *("c_mults", "channels", "checkpointing", "in_channels", "latent_dim", "out_channels"),
        *("transformer_depths", "use_snake"),
    ),
)


def _read_options(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of the configuration that a published one tells."""
    options = _OPTIONS.read(metadata, "model_config.json")
    model = metadata.get("model", {})
    _MODEL.read(model, "model of model_config.json")
    for side in ("encoder", "decoder"):
        where = f"{side} of model_config.json"
        known = _SIDE.read(model.get(side, {}).get("config", {}), where)
        if "sliding_window" in known:
            known["earlier"], known["later"] = known.pop("sliding_window")
        if "strides" in known:
            known["strides"] = tuple(known["strides"])
        for name in sorted(known.keys() & options.keys()):
            if known[name] != options[name]:
                raise StateDictError(
                    f"model_config.json tells of {name} {options[name]} in the encoder, and"
                    f" {known[name]} in the decoder"
                )
        options |= known
    return options


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights; the window of attention has no tensor."""
    chain = "encoder.layers.1.layers"
    stages = count(weights, rf"{re.escape(chain)}\.\d+\.layers\.2\.layers\.0\.qkv\.weight")
    blocks = [f"{chain}.{i + 1}.layers" for i in range(stages)]
    kernels = [weights.get(f"{block}.1.conv.weight") for block in blocks]
    sizes = {
        "patch": weights[f"{chain}.0.conv.weight"].shape[1],
        "widths": tuple(len(weights[f"{block}.2.layers.0.scale"]) for block in blocks),
        "strides": tuple(1 if k is None else k.shape[2] // 2 for k in kernels),
        "depths": tuple(
            count(weights, rf"{re.escape(block)}\.2\.layers\.\d+\.qkv\.weight") for block in blocks
        ),
        "latent": len(weights[f"{chain}.{stages + 2}.conv.weight"]),
        "snake": f"{chain}.1.layers.0.alpha" in weights,
    }
    return agreed(sizes, _read_options(metadata))


_LAYERS = {
    "pre_norm.gamma": (0, "norm.weight"),
    "self_attn.to_qkv.weight": (0, "qkv.weight"),
    "self_attn.to_out.weight": (0, "out.weight"),
    "self_attn.q_norm.weight": (0, "query_norm.weight"),
    "self_attn.q_norm.bias": (0, "query_norm.bias"),
    "self_attn.k_norm.weight": (0, "key_norm.weight"),
    "self_attn.k_norm.bias": (0, "key_norm.bias"),
    "self_attn_scale.scale": (0, "scale"),
    "ff_norm.gamma": (1, "norm.weight"),
    "ff.ff.0.proj.weight": (1, "up.weight"),
    "ff.ff.0.proj.bias": (1, "up.bias"),
    "ff.ff.2.weight": (1, "down.weight"),
    "ff.ff.2.bias": (1, "down.bias"),
    "ff_scale.scale": (1, "scale"),
}


_BLOCK = "|".join(map(re.escape, _LAYERS))


def _in_block(match: re.Match[str]) -> str:
    """Return the name of a tensor in a transformer's block, two layers of our chain.

    The package counts blocks from 1.
    """
    layer, name = _LAYERS[match[2]]
    return f".layers.{2 * int(match[1]) - 2 + layer}.{name}"


def _gate_first(up: Tensor) -> Tensor:
    """Return a map to values and gates as one to gates and values."""
    return up.roll(len(up) // 2, 0)


_RULES: Sequence[Rule] = (
    (r"^encoder\.", "encoder.layers.1."),
    (r"^decoder\.", "decoder.layers.0."),
    (rf"(?<=\.layers\.[02])\.(\d+)\.({_BLOCK})$", _in_block),
    (r"(\.layers\.\d+)\.(weight|bias)$", r"\1.conv.\2"),
)


def _in_layout(fingerprint: str, layout: str) -> str:
    """Return the fingerprint of weights in a layout."""
    return hashlib.sha256(f"{fingerprint} {layout}".encode()).hexdigest()[:16]


class StableCodec(Codec):
    """A codec of transformers on patches of the waveform, its latent rounded to a grid."""

    name = "stable_codec"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"stable_codec": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "stable_codec": Taxonomy(
            encoder="transformer",
            decoder="transformer",
            quantizer="FSQ",
            training="joint",
            licence="Stability AI Community License",
            published="https://huggingface.co/stabilityai/stable-codec-speech-16k",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="stable-audio-tools 0.0.17",
            marks=(
                "encoder.layers.0.weight",
                "encoder.layers.1.layers.2.1.self_attn.to_qkv.weight",
                "decoder.layers.1.layers.0.1.self_attn.to_qkv.weight",
            ),
            ignored=(
                r"\.rope\.inv_freq$",
                r"\.(pre_norm|ff_norm)\.beta$",  # zeros, and no parameters
                r"^(proj_head|discriminator|bottleneck|losses)",  # of training
            ),
            rules=_RULES,
            tensors=((r"\.up\.(weight|bias)$", _gate_first),),
            sizes=_sizes,
        ),
    )
    layouts: ClassVar[Sequence[str]] = tuple(LAYOUTS)
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = self.end_unit = config.patch * prod(config.strides)
        self.block = 50  # frames are long
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)
        self.set_layout(config.layout)

    def set_layout(self, layout: str) -> None:
        """See `Codec.set_layout`; the weights are the same in all."""
        self.config = replace(self.config, layout=layout)
        levels, grids = LAYOUTS[layout]
        width = self.config.latent
        quantizer = ResidualFsq(width, levels=(levels,) * width, codebooks=grids)
        self.quantizer = quantizer.train(self.training).to(next(self.parameters()).device)

    def _digests(self) -> tuple[str, str]:
        """Return the fingerprints; that of what makes codes tells the layout, too."""
        codes, sound = super()._digests()
        return _in_layout(codes, self.config.layout), sound

    def check_tokens(self, tokens: Coded | Header) -> None:
        """See `Tokenizer.check_tokens`; of tokens in another layout the message names that."""
        weights = super()._digests()[0]
        for layout in self.layouts if not self.has_codes_of(tokens.fingerprint) else ():
            if tokens.codec == self.name and tokens.fingerprint == _in_layout(weights, layout):
                raise WrongTokensError(
                    f"tokens in layout {layout!r} of {self.name!r}, and this codec is in "
                    f"{self.config.layout!r}: decode them with load(..., layout={layout!r})"
                )
        super().check_tokens(tokens)

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions."""
        return convolutions(self)
