"""VoxCPM's AudioVAE: speech at 16 kHz as continuous latents of 64, 25 frames/s, causal.

    wave -> conv -> 4 x (residual units -> strided conv) -> conv -> latent 64
         <- conv <- 4 x (residual units <- transposed conv) <- two convs <-/

It is a causal DAC whose dilated convolutions are depthwise, without a quantizer; latents are the
means of its Gaussians. A frame sees a bounded span before it, so a stream of any length runs in
constant memory and equals the whole. The last frame is filled up with silence.

A convolution of an odd stride is padded by one step more than it needs, as in the program: it sees
the last step of a stride with the next one.

Source: Zhou et al. 2025, arXiv:2509.24650 (VoxCPM); package voxcpm 2.0.3, AudioVAE. The AudioVAE
V2 of that package, of VoxCPM2 at 48 kHz, is another network and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

from torch import nn

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.continuous import Continuous
from audiotok.nn.layers.base import Layer, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options, agreed
from audiotok.nn.pretrained.state_dicts import (
    StateDictAdapter,
    StateDictError,
    Weights,
    count,
    encoder_strides,
    in_one_chain,
)


@dataclass(frozen=True)
class Config:
    """Sizes of `Voxcpm`; the defaults are the published ones of VoxCPM-0.5B."""

    sample_rate: int = 16000  # Hz
    encoder: int = 128  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1536  # width of the decoder at the frame rate; halves at every stride
    strides: Sequence[int] = (2, 5, 8, 8)  # strides of the encoder; the frame is their product
    features: int = 64  # features of a frame

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


def _units(width: int) -> list[Layer]:
    """Return the residual units of a block."""
    return [
        ResidualUnit(width, kernel=7, dilation=dilation, activation=Snake, depthwise=True)
        for dilation in (1, 3, 9)
    ]


def _encoder(config: Config) -> Chain:
    """Build the encoder: conv, n x (residual units, Snake, strided conv), conv."""
    width = config.encoder
    layers: list[Layer] = [Conv(1, width, 7)]
    for stride in config.strides:
        down = Conv(width, 2 * width, 2 * stride, stride=stride, lag=stride % 2)
        layers += [*_units(width), Snake(width), down]
        width *= 2
    return Chain([*layers, Conv(width, config.features, 3)])


def _decoder(config: Config) -> Chain:
    """Build the decoder: two convs, n x (Snake, transposed conv, residual units), Snake, conv."""
    width, features = config.decoder, config.features
    layers: list[Layer] = [Conv(features, features, 7, groups=features), Conv(features, width, 1)]
    for stride in config.strides[::-1]:
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride)
        layers += [Snake(width), up, *_units(width // 2)]
        width //= 2
    return Chain([*layers, Snake(width), Conv(width, 1, 7), Pointwise(nn.Tanh())])


# Of the package's AudioVAEConfig.
_OPTIONS = Options(
    fields={"sample_rate": "sample_rate", "encoder_rates": "strides"},
    fixed={"depthwise": True, "use_noise_block": False},
    derived=("encoder_dim", "latent_dim", "decoder_dim"),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights, which tell no rate."""
    strides = encoder_strides(weights)
    mirrored = replace(_OPTIONS, fixed={**_OPTIONS.fixed, "decoder_rates": [*strides[::-1]]})
    options = mirrored.read(metadata)
    if strides != Config.strides and "sample_rate" not in options:
        raise StateDictError(
            f"weights of strides {strides} tell no sample rate: give it as"
            ' "sample_rate" in config.json, beside model.safetensors'
        )
    if "strides" in options:
        options["strides"] = tuple(options["strides"])
    sizes = {
        "encoder": len(weights["encoder.layers.0.conv.bias"]),
        "decoder": len(weights["decoder.layers.1.conv.bias"]),
        "strides": strides,
        "features": len(weights["decoder.layers.0.conv.bias"]),
    }
    return agreed(sizes, options)


def _prepared(tensors: Weights) -> Weights:
    """Rename layers as those of one chain each, the map to means as the last of the encoder.

    Raises:
        StateDictError: weights of another version.
    """
    for pattern, version in (
        (r"decoder\.sr_.*", "AudioVAE V2 (VoxCPM2), whose decoder is told a rate"),
        (r"decoder\.model\.\d+\.block\.2\.linear\..*", "an AudioVAE with noise in its decoder"),
    ):
        if count(tensors, pattern):
            raise StateDictError(f"weights of {version}; the network here is that of VoxCPM-0.5B")
    last = 1 + count(tensors, r"encoder\.block\.\d+\.block\.3\.alpha")
    named = {name.replace(".fc_mu.", f".block.{last}."): value for name, value in tensors.items()}
    chains = {"encoder.block": ("encoder.layers", 0), "decoder.model": ("decoder.layers", 0)}
    return in_one_chain(named, chains=chains)


class Voxcpm(Codec):
    """A codec of causal convolutions with Snake around continuous latents."""

    name = "voxcpm"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"voxcpm": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "voxcpm": Taxonomy(
            encoder="DAC",
            decoder="DAC",
            quantizer="none",
            training="joint",
            licence="Apache-2.0",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "voxcpm": PublishedWeights(file="audiovae.pth", repo="openbmb/VoxCPM-0.5B")
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="voxcpm 2.0.3, AudioVAE",
            marks=("encoder.fc_mu.weight", "encoder.block.0.weight", "decoder.model.1.weight"),
            prepare=_prepared,
            ignored=(r"^encoder\.fc_logvar\.",),  # of training
            rules=(
                (r"\.block\.(\d+)\.", r".body.layers.\1."),
                (r"(layers\.\d+)\.(weight|bias)$", r"\1.conv.\2"),
            ),
            sizes=_sizes,
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides)
        self.block = 32
        self.encoder = _encoder(config)
        self.quantizer = Continuous(config.features)
        self.decoder = _decoder(config)

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions."""
        return convolutions(self)

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`; with the map to the deviations of its Gaussians."""
        width, features = self.config.encoder * 2 ** len(self.config.strides), self.config.features
        return super().parameters_trained + features * (3 * width + 2)
