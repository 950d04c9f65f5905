"""SNAC: speech at 24 kHz, 11.7 frames/s of 7 codes at three rates, 0.98 kbps.

    wave -> strided convolutions -> latent 768 -> 3 x 4096 -> transposed convolutions, noise -> wave
                                   4 a frame      1 + 2 + 4 codes a frame

A frame spans one code of the coarsest codebook. Its codes are that one, then the two of the
second codebook, then the four of the third, each in time order.

Source: Siuzdak et al. 2024, arXiv:2410.14411; package snac 1.2.1. Codes are equal to the package's,
which also fills up the last frame with silence. Its decoder draws noise on every call; here the
noise depends on the position in the recording (`nn.layers.noise_block`). Its 32 and 44 kHz forms,
with attention in windows and a fourth codebook, are not supported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from torch import nn
from torch.nn import functional as F

from audiotok._platform.shapes import Latent, Wave
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Chain, Layer, Pointwise, Residual, State
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.fold import Fold, Unfold
from audiotok.nn.layers.noise_block import NoiseBlock
from audiotok.nn.layers.snake import Snake
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
from audiotok.nn.quantizers.multi_scale_rvq import MultiScaleRvq
from audiotok.nn.quantizers.rvq import Factorised


@dataclass(frozen=True)
class Config:
    """Sizes of `Snac`; the defaults are SNAC 24 kHz."""

    sample_rate: int = 24000  # Hz
    encoder: int = 48  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1024  # width of the decoder at the latents' rate; halves at every stride
    strides: Sequence[int] = (2, 4, 8, 8)  # strides of the encoder; their product is a latent
    spans: Sequence[int] = (4, 2, 1)  # latents in a code of each codebook; the first is the frame
    size: int = 4096  # entries in a codebook
    code_width: int = 8  # number of features in which a codebook is searched
    noise: float = 1.0  # gain of the decoder's noise; 0 for none

    def __post_init__(self) -> None:
        for name in ("strides", "spans"):  # TOML and JSON give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))


def _units(width: int) -> list[Layer]:
    """Return residual units like DAC's, but with depthwise convolutions."""
    return [
        Residual(
            Chain(
                [
                    Snake(width),
                    Conv(width, width, 7, dilation=dilation, groups=width, causal=False),
                    Snake(width),
                    Conv(width, width, 1, causal=False),
                ]
            )
        )
        for dilation in (1, 3, 9)
    ]


def _encoder(config: Config) -> Chain:
    """Build the encoder: conv, n x (residual units, Snake, strided conv), conv."""
    width = config.encoder
    layers: list[Layer] = [Conv(1, width, 7, causal=False)]
    for stride in config.strides:
        layers += [*_units(width), Snake(width)]
        layers += [Conv(width, 2 * width, 2 * stride, stride=stride, causal=False)]
        width *= 2
    last = Conv(width, width, 7, groups=width, causal=False)
    return Chain([*layers, last, Fold(width, config.spans[0])])


def _decoder(config: Config, latent: int) -> Chain:
    """Build the decoder.

    It is 2 x conv, n x (Snake, transposed conv, noise, residual units), Snake, conv, tanh.
    """
    width = config.decoder
    layers: list[Layer] = [
        Unfold(config.spans[0]),
        Conv(latent, latent, 7, groups=latent, causal=False),
        Conv(latent, width, 1, causal=False),
    ]
    for number, stride in enumerate(reversed(config.strides)):
        trim = -(-stride // 2), stride // 2
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride, causal=False, trim=trim)
        layers += [Snake(width), up]
        width //= 2
        layers += [NoiseBlock(width, seed=number, gain=config.noise), *_units(width)]
    return Chain([*layers, Snake(width), Conv(width, 1, 7, causal=False), Pointwise(nn.Tanh())])


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    codebooks = count(weights, r"quantizer\.stages\.\d+\.entries")
    size, code_width = weights["quantizer.stages.0.entries"].shape
    return {
        **sample_rate(metadata),
        "encoder": len(weights["encoder.layers.0.conv.weight"]),
        "decoder": len(weights["decoder.layers.2.conv.weight"]),
        "strides": encoder_strides(weights),
        "spans": tuple(metadata.get("vq_strides", [2**i for i in reversed(range(codebooks))])),
        "size": size,
        "code_width": code_width,
    }


# A block is one module in the package; here its layers are in one chain: 5 in the encoder, 6 in
# the decoder, whose blocks begin after 3 layers.
_RULES: Sequence[Rule] = (
    (r"^quantizer\.quantizers\.", "quantizer.stages."),
    (r"\.in_proj\.", ".down."),
    (r"\.out_proj\.", ".up."),
    (r"\.codebook\.weight$", ".entries"),
    (r"^((?:en|de)coder\..*)\.(weight|bias)$", r"\1.conv.\2"),
    (r"\.linear\.", ".conv."),  # in a noise block, whose convolution is a layer
    (r"((?:block|model)\.\d+\.block\.\d+)\.block\.", r"\1.body.layers."),
    (
        r"^encoder\.block\.(\d+)\.block\.(\d+)\.",
        lambda m: f"encoder.layers.{5 * int(m[1]) - 4 + int(m[2])}.",
    ),
    (r"^encoder\.block\.(\d+)\.", lambda m: f"encoder.layers.{max(0, 5 * int(m[1]) - 4)}."),
    (
        r"^decoder\.model\.(\d+)\.block\.(\d+)\.",
        lambda m: f"decoder.layers.{6 * int(m[1]) - 9 + int(m[2])}.",
    ),
    (r"^decoder\.model\.([01])\.", lambda m: f"decoder.layers.{int(m[1]) + 1}."),
    (r"^decoder\.model\.(\d+)\.alpha", lambda m: f"decoder.layers.{6 * int(m[1]) - 9}.alpha"),
    (r"^decoder\.model\.(\d+)\.", lambda m: f"decoder.layers.{6 * int(m[1]) - 14}."),
)


class Snac(Codec):
    """A codec of depthwise convolutions with Snake, and codebooks at several rates."""

    name = "snac"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"snac_24khz": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "snac_24khz": Taxonomy(
            encoder="DAC",
            decoder="DAC",
            quantizer="multi-scale RVQ",
            training="joint",
            licence="MIT",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "snac_24khz": PublishedWeights(file="pytorch_model.bin", repo="hubertsiuzdak/snac_24khz")
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="snac 1.2.1",
            marks=(
                "encoder.block.0.weight",
                "decoder.model.0.weight",
                "decoder.model.2.block.2.linear.weight",
                "quantizer.quantizers.0.in_proj.weight",
            ),
            rules=_RULES,
            tensors=((r"\.(down|up)\.weight$", squeeze),),
            sizes=_sizes,
        ),
    )
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides) * config.spans[0]
        self.block = 16  # frames are long
        latent = config.encoder * 2 ** len(config.strides)
        self.encoder = _encoder(config)
        self.quantizer = MultiScaleRvq(
            latent * config.spans[0],
            spans=config.spans,
            size=config.size,
            width=config.code_width,
        )
        self.decoder = _decoder(config, latent)

    def finish_latent(self, wave: Wave, state: State) -> Latent:
        """See `Network.finish_latent`; the last frame is filled up with silence."""
        return super().finish_latent(F.pad(wave, (0, -wave.shape[2] % self.frame_size)), state)

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions, and the projections of the codebooks."""
        books = [m for m in self.quantizer.modules() if isinstance(m, Factorised)]
        return [*convolutions(self), *(p for book in books for p in (book.down, book.up))]
