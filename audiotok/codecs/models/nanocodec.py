"""NanoCodec: speech at 22.05 kHz, 12.5 frames/s, 4 codes of 4032 a frame, 0.6 kbps.

    wave -> HiFi-GAN blocks and strided convolutions -> latent 16 -> 4 x FSQ of 9 x 8 x 8 x 7
         <- HiFi-GAN blocks and transposed convolutions <- latent 16 <-/

The encoder looks ahead by a bounded span, and the decoder is causal.

Source: Casanova et al. 2025, arXiv:2508.05835; package nanocodec-torch 1.0.0, which gives a last
frame that is not whole a code or none, by its length. Here it is filled up with silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from torch import Tensor, nn

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.base import Layer, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.half_snake import HalfSnake
from audiotok.nn.layers.hifigan_block import HifiganBlock
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    count,
)
from audiotok.nn.quantizers.product_fsq import ProductFsq


@dataclass(frozen=True)
class Config:
    """Sizes of `Nanocodec`; the defaults are those of 0.6 kbps."""

    sample_rate: int = 22050  # Hz
    encoder: int = 24  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 864  # width of the decoder at the frame rate; halves at every stride
    strides: Sequence[int] = (2, 3, 6, 7, 7)  # strides of the encoder; the frame is their product
    latent: int = 16  # width of the latent, a multiple of the number of levels
    levels: Sequence[int] = (9, 8, 8, 7)  # values of each feature of a group, which has one code

    def __post_init__(self) -> None:
        for name in ("strides", "levels"):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))


def _leaky(features: int) -> Layer:
    """Return a leaky ReLU, for any number of features."""
    return Pointwise(nn.LeakyReLU())


def _encoder(config: Config) -> Chain:
    """Build the encoder: conv, n x (block, leaky ReLU, strided conv), leaky ReLU, conv."""

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> Layer:
        layer = Conv(inputs, outputs, kernel, stride=stride, causal=False, pad="repeat")
        # Features keep their size, so that a new encoder reaches more than the middle of the grid.
        nn.init.kaiming_normal_(layer.conv.weight, nonlinearity="leaky_relu")
        return layer

    width = config.encoder
    layers: list[Layer] = [conv(1, width, 7)]
    for stride in config.strides:
        block = HifiganBlock(width, activation=_leaky, causal=False, pad="repeat")
        layers += [block, _leaky(width), conv(width, 2 * width, 2 * stride, stride)]
        width *= 2
    return Chain([*layers, _leaky(width), conv(width, config.latent, 7)])


def _decoder(config: Config) -> Chain:
    """Build the decoder: conv, n x (Half Snake, transposed conv, block), Half Snake, conv."""
    width = config.decoder
    layers: list[Layer] = [Conv(config.latent, width, 7)]
    for stride in reversed(config.strides):
        half = width // 2
        up = TransposedConv(width, half, 2 * stride, stride=stride, groups=half)
        layers += [HalfSnake(width), up, HifiganBlock(half, activation=HalfSnake)]
        width = half
    return Chain([*layers, HalfSnake(width), Conv(width, 1, 3), Pointwise(nn.Hardtanh())])


# Of a config.json beside published weights, as far as it says something of the network.
_OPTIONS = Options(
    fields={"sample_rate": "sample_rate"},
    fixed={"model_type": "nanocodec"},
    derived=("audio_decoder", "audio_encoder", "samples_per_frame", "vector_quantizer"),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    strides = count(weights, r"encoder\.layers\.\d+\.conv\.weight") - 2
    groups = [tuple(map(int, levels)) for levels in weights["quantizer.levels"].tolist()]
    if len(set(groups)) > 1:
        raise StateDictError(f"groups of other levels: {groups[0]} and {max(set(groups[1:]))}")
    return {
        **_OPTIONS.read(metadata),
        "encoder": len(weights["encoder.layers.0.conv.bias"]),
        "decoder": len(weights["decoder.layers.0.conv.bias"]),
        "strides": tuple(
            weights[f"encoder.layers.{3 * i + 3}.conv.weight"].shape[2] // 2 for i in range(strides)
        ),
        "latent": len(groups) * len(groups[0]),
        "levels": groups[0],
    }


def _prepared(tensors: Weights) -> Weights:
    """Rename the layers after the last stride, whose numbers depend on their count."""
    strides = count(tensors, r"audio_encoder\.down_sample_conv_layers\.\d+\.conv\.weight")
    ends = {
        "audio_encoder.post_conv.": f"encoder.layers.{3 * strides + 2}.",
        "audio_decoder.post_activation.": f"decoder.layers.{3 * strides + 1}.",
        "audio_decoder.post_conv.": f"decoder.layers.{3 * strides + 2}.",
    }
    for old, new in ends.items():
        tensors = {
            new + name.removeprefix(old) if name.startswith(old) else name: value
            for name, value in tensors.items()
        }
    return tensors


_UNIT = {"input_activation": 0, "input_conv": 1, "skip_activation": 2, "skip_conv": 3}


def _in_block(match: re.Match[str]) -> str:
    """Return the name of a layer in a residual unit of a HiFi-GAN block."""
    side, block, chain, unit, part = match.groups()
    layer = f"{side}.layers.{3 * int(block) + (1 if side == 'encoder' else 3)}"
    return f"{layer}.chains.{chain}.layers.{unit}.body.layers.{_UNIT[part]}."


_RULES: Sequence[Rule] = (
    (r"^vector_quantizer\.fsqs\.(\d+)\.num_levels$", r"quantizer.levels#\1"),
    (r"^audio_(encoder|decoder)\.pre_conv\.", r"\1.layers.0."),
    (
        r"^audio_encoder\.down_sample_conv_layers\.(\d+)\.",
        lambda m: f"encoder.layers.{3 * int(m[1]) + 3}.",
    ),
    (
        r"^audio_decoder\.up_sample_conv_layers\.(\d+)\.(?:conv\.)?",
        lambda m: f"decoder.layers.{3 * int(m[1]) + 2}.conv.",
    ),
    (
        r"^audio_decoder\.activations\.(\d+)\.",
        lambda m: f"decoder.layers.{3 * int(m[1]) + 1}.",
    ),
    (
        rf"^audio_(encoder|decoder)\.res_layers\.(\d+)\.res_blocks\.(\d+)\.res_blocks\.(\d+)\."
        rf"({'|'.join(_UNIT)})\.",
        _in_block,
    ),
    # NeMo nests the activations and the grids.
    (r"\.(?:activation\.snake_act\.)?alpha$", ".snake.alpha"),
)


def _upsampling(weight: Tensor) -> Tensor:
    """Return the weight of a transposed convolution as torch has it, `[inputs 1 taps]`."""
    return weight.transpose(1, 2) if weight.shape[2] == 1 else weight


def _row(levels: Tensor) -> Tensor:
    """Return the levels of one group as a row."""
    return levels.reshape(1, -1).long()


class Nanocodec(Codec):
    """A codec of HiFi-GAN blocks on the waveform, its latent rounded to grids in four groups."""

    name = "nanocodec"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"nanocodec": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "nanocodec": Taxonomy(
            encoder="HiFi-GAN",
            decoder="HiFi-GAN",
            quantizer="grouped FSQ",
            training="joint",
            licence="NVIDIA Open Model License",
            published="https://huggingface.co/nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="nanocodec-torch 1.0.0, or NeMo's AudioCodecModel",
            marks=(
                "audio_encoder.pre_conv.conv.weight",
                "audio_decoder.pre_conv.conv.weight",
                "vector_quantizer.fsqs.0.num_levels",
            ),
            prepare=_prepared,
            ignored=(
                # Discriminators and losses of NeMo; places of digits in a code.
                r"^(?!audio_encoder\.|audio_decoder\.|vector_quantizer\.|encoder\.l|decoder\.l)",
                r"\.dim_base_index$",
            ),
            rules=_RULES,
            tensors=(
                (r"^quantizer\.levels", _row),
                (r"^decoder\.layers\.\d+\.conv\.weight$", _upsampling),
            ),
            sizes=_sizes,
        ),
    )
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = self.end_unit = prod(config.strides)
        self.block = 64  # frames are long
        self.encoder = _encoder(config)
        self.quantizer = ProductFsq(config.latent, levels=config.levels)
        self.decoder = _decoder(config)
