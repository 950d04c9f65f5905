"""VibeVoice's tokenizers: speech at 24 kHz as continuous latents, 7.5 frames/s, causal.

    wave -> conv -> blocks -> 6 x (strided conv -> blocks) -> conv -> latent 64
         <- conv <- 6 x (blocks <- transposed conv) <- blocks <- conv <-/

A block is a depthwise convolution and a perceptron. `vibevoice_semantic` is an encoder of the same
shape to latents of 128, without a decoder. The encoder sees 7.7 s back, so a stream of any length
runs in constant memory and equals the whole. The last frame is filled up with silence.

`Vibevoice.sampled` adds the noise of its sigma-VAE. transformers' `encode` adds such noise unless
it is told sample=False; here latents are without it.

Source: Peng et al. 2025, arXiv:2508.19205; transformers 5.24.0, VibeVoiceAcousticTokenizerModel;
names of microsoft/VibeVoice at e73d1e1 too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np
from torch import nn

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.continuous import Continuous
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.depthwise_mixer import DepthwiseMixer
from audiotok.nn.layers.feed_forward import FeedForward
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.state_dicts import Rule, StateDictAdapter, Weights, count, taps_first
from audiotok.tokens.latents import Latents

KERNEL = 7  # taps of all convolutions without a stride


@dataclass(frozen=True)
class Config:
    """Sizes of `Vibevoice`; the defaults are the published ones of the acoustic tokenizer."""

    sample_rate: int = 24000  # Hz
    width: int = 32  # width of the network at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 2, 4, 5, 5, 8)  # strides of the encoder
    depths: Sequence[int] = (3, 3, 3, 3, 3, 3, 8)  # blocks before the first stride, and after each
    expansion: int = 4  # width inside a perceptron over that outside
    features: int = 64  # features of a frame
    decodes: bool = True  # whether there is a decoder
    deviation: float = 0.625  # of the deviation of `sampled` noise, which differs by recording

    def __post_init__(self) -> None:
        for name in ("strides", "depths"):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))


def _blocks(config: Config, width: int, depth: int) -> list[Layer]:
    """Build blocks of one width."""
    norm = partial(nn.RMSNorm, eps=1e-5)
    layers: list[Layer] = []
    for _ in range(depth):
        layers += [
            DepthwiseMixer(width, kernel=KERNEL, scale=1e-6, norm=norm),
            FeedForward(width, config.expansion * width, scale=1e-6, bias=True, norm=norm),
        ]
    return layers


def _encoder(config: Config) -> Chain:
    """Build the encoder: levels of a convolution and blocks, and a convolution."""
    width = config.width
    levels: list[Layer] = [
        Chain([Conv(1, width, KERNEL), *_blocks(config, width, config.depths[0])])
    ]
    for stride, depth in zip(config.strides, config.depths[1:], strict=True):
        down = Conv(width, 2 * width, 2 * stride, stride=stride)
        width *= 2
        levels.append(Chain([down, *_blocks(config, width, depth)]))
    return Chain([*levels, Conv(width, config.features, KERNEL)])


def _decoder(config: Config) -> Chain:
    """Build the decoder, the encoder's mirror image."""
    width, depths = config.width * 2 ** len(config.strides), config.depths[::-1]
    first = Conv(config.features, width, KERNEL)
    levels: list[Layer] = [Chain([first, *_blocks(config, width, depths[0])])]
    for stride, depth in zip(config.strides[::-1], depths[1:], strict=True):
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride)
        width //= 2
        levels.append(Chain([up, *_blocks(config, width, depth)]))
    return Chain([*levels, Conv(width, 1, KERNEL)])


# Of transformers' VibeVoiceAcousticTokenizerConfig, and of the authors'.
_OPTIONS = Options(
    fields={"sampling_rate": "sample_rate", "vae_std": "deviation"},
    fixed={
        "causal": True,
        "channels": 1,
        "conv_bias": True,
        "conv_norm": "none",
        "disable_last_norm": True,
        "hidden_act": "gelu",
        "kernel_size": KERNEL,
        "layernorm": "RMSNorm",
        "layernorm_elementwise_affine": True,
        "layernorm_eps": 1e-5,
        "mixer_layer": "depthwise_conv",
        "pad_mode": "constant",
        "rms_norm_eps": 1e-5,
    },
    derived=(
        *("corpus_normalize", "decoder_depths", "decoder_n_filters", "decoder_ratios", "depths"),
        *("downsampling_ratios", "encoder_depths", "encoder_n_filters", "encoder_ratios"),
        *("ffn_expansion", "fix_std", "hidden_size", "layer_scale_init_value", "num_filters"),
        *("std_dist_type", "vae_dim", "weight_init_value"),
    ),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    levels = count(weights, r"encoder\.layers\.\d+\.layers\.0\.conv\.weight")
    first = weights["encoder.layers.0.layers.0.conv.weight"]
    block = r"encoder\.layers\.{}\.layers\.\d+\.depthwise\.weight"
    expanded = weights["encoder.layers.0.layers.2.up.weight"]
    sizes = {
        "width": len(first),
        "strides": tuple(
            weights[f"encoder.layers.{i}.layers.0.conv.weight"].shape[2] // 2
            for i in range(1, levels)
        ),
        "depths": tuple(count(weights, block.format(i)) for i in range(levels)),
        "expansion": len(expanded) // len(first),
        "features": len(weights[f"encoder.layers.{levels}.conv.weight"]),
        "decodes": any(name.startswith("decoder.") for name in weights),
        **_OPTIONS.read(metadata),
    }
    if "fix_std" in metadata:  # the authors divide by it
        sizes["deviation"] = metadata["fix_std"] / 0.8
    return sizes


_PARTS = {
    "gamma": "scale",
    "ffn_gamma": "scale",
    "norm": "norm",
    "ffn_norm": "norm",
    "mixer.conv": "depthwise",
    "ffn.linear1": "up",
    "ffn.linear2": "down",
}


def _block(match: re.Match[str]) -> str:
    """Return the name of a tensor in block j of a level: in layer 1 + 2j or 2 + 2j."""
    level, block, part = match.groups()
    layer = 1 + 2 * int(block) + part.startswith("ffn")
    return f"{level}.layers.{layer}.{_PARTS[part]}"


def _head(weights: Weights) -> Weights:
    """Give the last convolutions the number after those of all levels."""
    pattern = r"encoder\.(downsample_layers\.\d+|stem|conv_layers\.\d+)\.(0\.)?conv\.conv\.weight"
    levels = count(weights, pattern)
    return {re.sub(r"\.head\.", f".head{levels}.", name): w for name, w in weights.items()}


_RULES: Sequence[Rule] = (
    (r"\.conv(tr)?(\.conv(tr)?)+\.", ".conv."),
    # The authors' names of levels.
    (r"\.(down|up)sample_layers\.(\d+)\.0\.", r".layers.\2.layers.0."),
    (r"\.stages\.(\d+)\.(\d+)\.", r".layers.\1.stage.\2."),
    # transformers'.
    (r"\.stem\.", ".layers.0."),
    (r"\.conv_layers\.(\d+)\.", lambda m: f".layers.{int(m[1]) + 1}."),
    (r"^((?:en|de)coder\.layers\.\d+)\.conv(tr)?\.(?=weight|bias)", r"\1.layers.0.conv."),
    (
        rf"^(\w+\.layers\.\d+)\.stage\.(\d+)\.({'|'.join(map(re.escape, _PARTS))})(?=\.|$)",
        _block,
    ),
    (r"\.head(\d+)\.", r".layers.\1."),
)


def _adapter(source: str, *marks: str) -> StateDictAdapter:
    """Return the naming of weights in one of the programs."""
    return StateDictAdapter(
        source=source,
        marks=marks,
        prepare=_head,
        rules=_RULES,
        tensors=((r"\.depthwise\.weight$", taps_first),),
        sizes=_sizes,
    )


class Vibevoice(Codec):
    """A codec of causal convolutions and perceptrons around continuous latents."""

    name = "vibevoice"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "vibevoice_acoustic": Config(),
        "vibevoice_semantic": Config(features=128, decodes=False),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "vibevoice_acoustic": Taxonomy(
            encoder="ConvNeXt",
            decoder="ConvNeXt",
            quantizer="none",
            training="joint",
            licence="MIT",
            published="https://huggingface.co/microsoft/VibeVoice-1.5B",
        ),
        "vibevoice_semantic": Taxonomy(
            encoder="ConvNeXt",
            decoder="none",
            quantizer="none",
            training="supervised",
            licence="MIT",
            published="https://huggingface.co/microsoft/VibeVoice-1.5B",
        ),
    }
    state_dict_adapters = (
        _adapter(
            "VibeVoice, acoustic tokenizer",
            "encoder.downsample_layers.0.0.conv.conv.weight",
            "decoder.upsample_layers.0.0.conv.conv.weight",
        ),
        _adapter(
            "VibeVoice, semantic tokenizer",
            "encoder.downsample_layers.0.0.conv.conv.weight",
        ),
        _adapter(
            "transformers, VibeVoiceAcousticTokenizerModel",
            "encoder.stem.conv.conv.weight",
            "decoder.stem.conv.conv.weight",
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides)
        self.block = 8  # frames are long
        self.encoder = _encoder(config)
        self.quantizer = Continuous(config.features)
        self.decoder = _decoder(config) if config.decodes else Absent("decoder", self.frame_size)

    def sampled(self, latents: Latents, *, seed: int) -> Latents:
        """Return latents with the noise of the sigma-VAE, on which a language model is trained.

        The deviation of the noise is the same for all of a recording, and itself drawn from a
        normal distribution of deviation `config.deviation`. The same seed gives the same noise on
        any machine, and the first frames that of a longer recording.

        Args:
            latents: latents of this codec, in single precision.
            seed: random seed; a number for each recording.

        Raises:
            WrongTokensError: latents of another codec, or of other weights.
        """
        self.check_tokens(latents)
        random = np.random.default_rng(seed)
        deviation = self.config.deviation * random.standard_normal(dtype=np.float32)
        noise = random.standard_normal(latents.values.T.shape, dtype=np.float32).T
        return latents.holding(latents.values + np.float32(deviation) * noise)
