"""HiFi-Codec in the sizes of InspireMusic: music at 48 kHz, 150 frames/s, four codes of 1024.

    wave -> strided convolutions and HiFi-GAN blocks, normalised over the clip -> latent 512
         -> 2 stages x 2 groups x 1024 -> HiFi-GAN -> wave

The normalisation needs the whole recording, so the codec cannot stream. Work grows with the length
alone, and so does memory: the encoder keeps features at a half of the audio rate.

InspireMusic makes latents of this codec, from the tokens of another (`inspiremusic`), by flow
matching; its own latents are sums of entries. `codecs.latents` reads those before the quantizer,
and `quantizer.decode` gives those of codes.

Source: Yang et al. 2023, arXiv:2305.02765; `music_tokenizer` of InspireMusic (Zhang et al. 2025,
arXiv:2503.00084), FunAudioLLM/InspireMusic at 0aefb55, which leaves out a last frame that is not
whole. Here it is filled up with silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import nn

from audiotok._platform.errors import InputError
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Layer, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.hifigan_block import HifiganBlock, NormedHifiganBlock
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.state_dicts import Rule, StateDictAdapter, Weights, count
from audiotok.nn.quantizers.grvq import Grvq

SLOPE = 0.1  # of the leaky ReLUs, all but the encoder's last
GROUP = 16  # features over which the encoder normalises
KERNELS = (3, 7, 11)  # of the residual units of a block; the encoder has them in reverse


@dataclass(frozen=True)
class Config:
    """Sizes of `Hificodec`; the defaults are those of HiFi-Codec 320d, at 48 kHz.

    The latent is as wide as the encoder at the frame rate.
    """

    sample_rate: int = 48000  # Hz
    encoder: int = 32  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 512  # width of the decoder at the frame rate; halves at every stride
    strides: Sequence[int] = (2, 4, 5, 8)  # strides of the encoder; the frame is their product
    groups: int = 2  # groups of features that are coded by themselves
    codebooks: int = 4  # in all, a multiple of the groups
    size: int = 1024  # entries in a codebook

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list
        if 2 * self.encoder % GROUP or self.encoder < 1:
            raise InputError(f"encoder {self.encoder}: a multiple of {GROUP // 2}")
        if not self.strides or min(self.strides) < 1 or self.groups < 1:
            raise InputError(f"strides {self.strides}, groups {self.groups}: from 1, one at least")
        halved = 2 ** len(self.strides)
        if self.decoder < 1 or self.decoder % halved:
            raise InputError(f"decoder {self.decoder}: a multiple of {halved}, halved at strides")

    @property
    def latent(self) -> int:
        """Width of the latent."""
        return self.encoder * 2 ** len(self.strides)


def _leaky(_: int = 0) -> Layer:
    """Return a leaky ReLU, for any number of features."""
    return Pointwise(nn.LeakyReLU(SLOPE))


def _kernel(stride: int) -> int:
    """Return the kernel of a strided convolution, of which padding takes as much on either side."""
    return 2 * stride + stride % 2


def _encoder(config: Config) -> Chain:
    """Build the encoder: conv, n x (leaky ReLU, strided conv, block), leaky ReLU, conv."""
    width = config.encoder
    layers: list[Layer] = [Conv(1, width, 7, causal=False)]
    for stride in config.strides:
        down = Conv(width, 2 * width, _kernel(stride), stride=stride, causal=False)
        width *= 2
        block = NormedHifiganBlock(
            width, activation=_leaky, kernels=KERNELS[::-1], groups=width // GROUP
        )
        layers += [_leaky(), down, block]
    last = Pointwise(nn.LeakyReLU())
    return Chain([*layers, last, Conv(width, width, 3, causal=False)])


def _decoder(config: Config) -> Chain:
    """Build the decoder: conv, n x (leaky ReLU, transposed conv, block), leaky ReLU, conv, tanh."""
    width = config.decoder
    layers: list[Layer] = [Conv(config.latent, width, 7, causal=False)]
    for stride in reversed(config.strides):
        half = width // 2
        up = TransposedConv(width, half, _kernel(stride), stride=stride, causal=False)
        layers += [
            _leaky(),
            up,
            HifiganBlock(half, activation=_leaky, kernels=KERNELS, causal=False),
        ]
        width = half
    return Chain([*layers, _leaky(), Conv(width, 1, 7, causal=False), Pointwise(nn.Tanh())])


# Of the config.json beside the weights: what the network here computes, and sizes that follow from
# the shapes; the others say how it was trained.
_OPTIONS = Options(
    fields={"sampling_rate": "sample_rate"},
    fixed={
        "resblock": "1",
        "resblock_kernel_sizes": list(KERNELS),
        "resblock_dilation_sizes": [[1, 3, 5]] * len(KERNELS),
    },
)
_READ = frozenset((*_OPTIONS.fields, *_OPTIONS.fixed))


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    strides = count(weights, r"encoder\.layers\.\d+\.norms\.0\.norm\.bias")
    entries = [w for name, w in weights.items() if name.endswith(".entries")]
    width = len(weights["encoder.layers.0.conv.bias"])
    latent = len(weights[f"encoder.layers.{3 * strides + 2}.conv.bias"])
    return {
        **_OPTIONS.read({name: metadata[name] for name in _READ & metadata.keys()}),
        "encoder": width,
        "decoder": len(weights["decoder.layers.0.conv.bias"]),
        "strides": tuple(
            weights[f"encoder.layers.{3 * i + 2}.conv.weight"].shape[2] // 2 for i in range(strides)
        ),
        "groups": latent // entries[0].shape[1],
        "codebooks": len(entries),
        "size": len(entries[0]),
    }


def _prepared(theirs: Weights) -> Weights:
    """Give the last layers and the codebooks their numbers here, and add the usage of the latter.

    The program's entries are learnt by gradient, and have none.
    """
    strides = count(theirs, r"encoder\.ups\.\d+\.weight")
    groups = count(theirs, r"quantizer\.quantizer_modules\.\d+\.embedding\.weight")
    kernels = len(KERNELS)
    block = re.compile(r"(encoder|generator)\.(resblocks|normalize)\.(\d+)\.(.*)")
    book = re.compile(r"quantizer\.quantizer_modules(2?)\.(\d+)\.embedding\.weight")
    ends = {
        "encoder.conv_post.": f"encoder.layers.{3 * strides + 2}.conv.",
        "generator.conv_post.": f"decoder.layers.{3 * strides + 2}.conv.",
    }

    def names() -> Iterator[tuple[str, str]]:
        """Yield names of theirs, and ours or what the rules make ours of."""
        for name in theirs:
            if match := block.fullmatch(name):
                side, kind, number, rest = match.groups()
                layer, chain = divmod(int(number), kernels)
                yield name, f"{side}.{kind}.{layer}.{chain}.{rest}"
            elif match := book.fullmatch(name):
                index = int(match[2]) + (groups if match[1] else 0)
                yield name, f"quantizer.stages.{index}.book.entries"
            else:
                end = next((end for end in ends if name.startswith(end)), None)
                yield name, ends[end] + name.removeprefix(end) if end else name

    ours = {new: theirs[name] for name, new in names()}
    for name in [name for name in ours if name.endswith(".entries")]:
        ours[name.replace(".entries", ".usage")] = torch.ones(len(ours[name]))
    return ours


def _in_block(match: re.Match[str]) -> str:
    """Return the name of a convolution in a block."""
    side, layer, chain, pair, unit = match.groups()
    first = f"encoder.layers.{3 * int(layer) + 3}.block"
    if side == "generator":
        first = f"decoder.layers.{3 * int(layer) + 3}"
    return f"{first}.chains.{chain}.layers.{unit}.body.layers.{2 * int(pair) - 1}.conv."


_RULES: Sequence[Rule] = (
    (r"^(encoder|generator)\.resblocks\.(\d+)\.(\d+)\.convs([12])\.(\d+)\.", _in_block),
    (
        r"^encoder\.normalize\.(\d+)\.(\d+)\.",
        lambda m: f"encoder.layers.{3 * int(m[1]) + 3}.norms.{m[2]}.norm.",
    ),
    (r"^encoder\.conv_pre\.", "encoder.layers.0.conv."),
    (r"^generator\.conv_pre\.", "decoder.layers.0.conv."),
    (r"^encoder\.ups\.(\d+)\.", lambda m: f"encoder.layers.{3 * int(m[1]) + 2}.conv."),
    (r"^generator\.ups\.(\d+)\.", lambda m: f"decoder.layers.{3 * int(m[1]) + 2}.conv."),
)


class Hificodec(Codec):
    """A codec of HiFi-GAN's blocks on both sides, its latent quantized in groups and stages."""

    name = "hificodec"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "hificodec_48khz": Config(),
        "hificodec_24khz": Config(sample_rate=24000),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="HiFi-GAN",
            decoder="HiFi-GAN",
            quantizer="group-residual VQ",
            training="joint",
            domain="music",
            licence="unstated; code Apache-2.0",
        ),
    )
    # Whether these files hold tensors alone, as reading them requires, has not been verified.
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "hificodec_48khz": PublishedWeights(
            repo="FunAudioLLM/InspireMusic-1.5B-Long", file="music_tokenizer/model.pt"
        ),
        "hificodec_24khz": PublishedWeights(
            repo="FunAudioLLM/InspireMusic-1.5B-24kHz", file="music_tokenizer/model.pt"
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="InspireMusic",
            marks=(
                "encoder.normalize.0.weight",
                "generator.conv_pre.weight",
                "quantizer.quantizer_modules2.0.embedding.weight",
            ),
            prepare=_prepared,
            rules=_RULES,
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
        self.encoder = _encoder(config)
        self.quantizer = Grvq(
            config.latent, groups=config.groups, codebooks=config.codebooks, size=config.size
        )
        self.decoder = _decoder(config)

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions but the encoder's last."""
        return [*convolutions(self.encoder)[:-1], *convolutions(self.decoder)]
