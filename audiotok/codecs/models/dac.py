"""Descript Audio Codec: general audio at 44.1 kHz (also 24 and 16), 9 codebooks, 8 kbps.

    wave -> strided convolutions -> latent 1024 -> 9 x 1024 -> transposed convolutions -> wave

It has no recurrence and no attention: a frame depends on a bounded span of samples on both sides.

Source: Kumar et al. 2023, arXiv:2306.06546; package descript-audio-codec 1.0.0. At an odd stride
that decoder cuts one output too many and a recording comes back short (16 and 24 kHz: stride 5, 8
samples). Here it cuts one less at the end, and the recording is complete; its last 1.5 frames
differ from the package's, which takes the missing output for silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

from torch import nn

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Layer, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.strided_encoder import StridedEncoder
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    Weights,
    count,
    encoder_strides,
    sample_rate,
    squeeze,
)
from audiotok.nn.quantizer import build_quantizer
from audiotok.nn.quantizers.rvq import Factorised


@dataclass(frozen=True)
class Config:
    """Sizes of `Dac`; the defaults are DAC 44.1 kHz."""

    sample_rate: int = 44100  # Hz
    encoder: int = 64  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1536  # width of the decoder at the frame rate; halves at every stride
    strides: Sequence[int] = (2, 4, 8, 8)  # strides of the encoder; the frame is their product
    latent: int = 1024  # width of the latent that is quantized
    codebooks: int = 9
    size: int = 1024  # entries in a codebook
    code_width: int = 8  # number of features in which a codebook is searched
    quantizer: str = "rvq"  # name of any quantizer of latents
    quantizer_options: dict[str, Any] = field(default_factory=dict)  # its options by name

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


def _units(width: int) -> list[Layer]:
    """Return the residual units of a block."""
    return [
        ResidualUnit(width, kernel=7, dilation=dilation, activation=Snake, causal=False)
        for dilation in (1, 3, 9)
    ]


def dac_decoder(width: int, strides: Sequence[int], latent: int) -> Chain:
    """Build DAC's decoder: conv, n x (Snake, transposed conv, residual units), Snake, conv.

    Args:
        width: width at the frame rate; it halves at every stride.
        strides: strides in the order of its layers.
        latent: width of its input.
    """
    layers: list[Layer] = [Conv(latent, width, 7, causal=False)]
    for stride in strides:
        trim = -(-stride // 2), stride // 2
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride, causal=False, trim=trim)
        layers += [Snake(width), up, *_units(width // 2)]
        width //= 2
    return Chain([*layers, Snake(width), Conv(width, 1, 7, causal=False)])


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    size, code_width = weights["quantizer.stages.0.entries"].shape
    return {
        **sample_rate(metadata),
        "encoder": len(weights["encoder.layers.0.conv.bias"]),
        "decoder": len(weights["decoder.layers.0.conv.bias"]),
        "strides": encoder_strides(weights),
        "latent": len(weights["quantizer.stages.0.up.bias"]),
        "codebooks": count(weights, r"quantizer\.stages\.\d+\.entries"),
        "size": size,
        "code_width": code_width,
    }


# Both programs nest modules where this codec has one chain: a convolution, five layers for each
# stride, an activation and a convolution.


def _in_block(match: re.Match[str]) -> str:
    """Return the name of a layer in a block: `encoder.block.2.block.1.` is layer 7.

    Blocks are counted from 1, their layers from 0.
    """
    return f"{match[1]}.layers.{5 * int(match[2]) - 4 + int(match[3])}."


def _last(match: re.Match[str]) -> str:
    """Return the name of a layer after n blocks 1 to n: activation n + 1, convolution n + 2."""
    number = int(match[2])
    if match[3] == "alpha":
        return f"{match[1]}.layers.{5 * number - 4}.alpha"
    return f"{match[1]}.layers.{max(0, 5 * number - 8)}.conv.{match[3]}"


PACKAGE: Sequence[Rule] = (
    (r"^(encoder)\.block\.(\d+)\.(alpha|weight|bias)$", _last),
    (r"^(decoder)\.model\.(\d+)\.(alpha|weight|bias)$", _last),
    (r"^(encoder)\.block\.(\d+)\.block\.(\d+)\.", _in_block),
    (r"^(decoder)\.model\.(\d+)\.block\.(\d+)\.", _in_block),
    (r"\.block\.(\d+)\.", r".body.layers.\1."),
    (r"(layers\.\d+)\.(weight|bias)$", r"\1.conv.\2"),
)

_QUANTIZER: Sequence[Rule] = (
    (r"^quantizer\.quantizers\.(\d+)\.codebook\.weight$", r"quantizer.stages.\1.entries"),
    (r"^quantizer\.quantizers\.(\d+)\.in_proj\.", r"quantizer.stages.\1.down."),
    (r"^quantizer\.quantizers\.(\d+)\.out_proj\.", r"quantizer.stages.\1.up."),
)

_HF_BLOCK = {
    "encoder": {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4},
    "decoder": {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4},
}


def _hf_block(match: re.Match[str]) -> str:
    """Return the name of a layer in a block of Hugging Face's checkpoint."""
    layer = f"{match[1]}.layers.{1 + 5 * int(match[2]) + _HF_BLOCK[match[1]][match[3]]}."
    return layer + "conv." if match[3] in ("conv1", "conv_t1") else layer


def hf_ends(tensors: Weights, prefix: str = "") -> Weights:
    """Rename Hugging Face's last activation and convolution, whose numbers depend on the blocks.

    Args:
        tensors: tensors under their names.
        prefix: beginning of the names "encoder" and "decoder".
    """
    for part in (f"{prefix}encoder", f"{prefix}decoder"):
        blocks = count(tensors, rf"{part}\.block\.\d+\.snake1\.alpha")
        ends = {
            f"{part}.conv1.": f"{part}.layers.0.conv.",
            f"{part}.snake1.": f"{part}.layers.{1 + 5 * blocks}.",
            f"{part}.conv2.": f"{part}.layers.{2 + 5 * blocks}.conv.",
        }
        for old, new in ends.items():
            tensors = {
                new + name.removeprefix(old) if name.startswith(old) else name: value
                for name, value in tensors.items()
            }
    return tensors


HF_BLOCKS: Sequence[Rule] = (
    (
        r"(encoder|decoder)\.block\.(\d+)\.(res_unit[123]|snake1|conv1|conv_t1)\.",
        _hf_block,
    ),
    (r"(layers\.\d+)\.snake1\.", r"\1.body.layers.0."),
    (r"(layers\.\d+)\.conv1\.", r"\1.body.layers.1.conv."),
    (r"(layers\.\d+)\.snake2\.", r"\1.body.layers.2."),
    (r"(layers\.\d+)\.conv2\.", r"\1.body.layers.3.conv."),
)

_PROJECTIONS = ((r"\.(down|up)\.weight$", squeeze),)
_RELEASES = "https://github.com/descriptinc/descript-audio-codec/releases/download"


class Dac(Codec):
    """A codec of convolutions with Snake on the waveform, and codebooks searched in 8 features."""

    name = "dac"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "dac_44khz": Config(),
        "dac_44khz_16kbps": Config(latent=128, codebooks=18),
        "dac_24khz": Config(sample_rate=24000, strides=(2, 4, 5, 8), codebooks=32),
        "dac_16khz": Config(sample_rate=16000, strides=(2, 4, 5, 8), codebooks=12),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="DAC",
            decoder="DAC",
            quantizer="RVQ",
            training="joint",
            domain="audio",
            licence="MIT",
        ),
    )
    # The package names these addresses, and no hashes.
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "dac_44khz": PublishedWeights(
            file="weights.pth", url=f"{_RELEASES}/0.0.1/weights.pth", copy="descript/dac_44khz"
        ),
        "dac_44khz_16kbps": PublishedWeights(
            file="weights_44khz_16kbps.pth", url=f"{_RELEASES}/1.0.0/weights_44khz_16kbps.pth"
        ),
        "dac_24khz": PublishedWeights(
            file="weights_24khz.pth",
            url=f"{_RELEASES}/0.0.4/weights_24khz.pth",
            copy="descript/dac_24khz",
        ),
        "dac_16khz": PublishedWeights(
            file="weights_16khz.pth",
            url=f"{_RELEASES}/0.0.5/weights_16khz.pth",
            copy="descript/dac_16khz",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="descript-audio-codec 1.0.0",
            marks=(
                "encoder.block.0.weight",
                "decoder.model.0.weight",
                "quantizer.quantizers.0.in_proj.weight",
            ),
            rules=(*PACKAGE, *_QUANTIZER),
            tensors=_PROJECTIONS,
            sizes=_sizes,
        ),
        StateDictAdapter(
            source="transformers 5 DacModel",
            marks=(
                "encoder.conv1.weight",
                "decoder.conv1.weight",
                "quantizer.quantizers.0.in_proj.weight",
            ),
            prepare=hf_ends,
            rules=(*HF_BLOCKS, *_QUANTIZER),
            tensors=_PROJECTIONS,
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
        self.encoder = StridedEncoder(
            config.encoder, config.latent, strides=config.strides, activation=Snake
        )
        self.quantizer = build_quantizer(
            config.quantizer,
            config.latent,
            config.quantizer_options,
            usual={
                "codebooks": config.codebooks,
                "size": config.size,
                "kind": "factorised",
                "width": config.code_width,
            },
        )
        decoder = dac_decoder(config.decoder, config.strides[::-1], config.latent)
        self.decoder = Chain([*decoder, Pointwise(nn.Tanh())])

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions, and the projections of the codebooks."""
        books = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        return [*convolutions(self), *(p for book in books for p in (book.down, book.up))]
