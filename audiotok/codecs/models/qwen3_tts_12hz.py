"""Qwen3-TTS-Tokenizer-12Hz: speech at 24 kHz, 12.5 frames/s, 16 codebooks, 2.2 kbps, causal.

    wave -> Mimi's encoder -> latent 512 -> (1 + 15) x 2048
         <- convolutions <- twice 2x <- transformer <- conv <- latent 512 <-/

The encoder is that of Mimi, with the first 16 of its 32 codebooks. The decoder is another network,
with codebooks of its own by which it reads the codes. All windows of attention are bounded, so a
stream of any length runs in constant memory and equals the whole.

Source: Qwen team 2026, arXiv:2601.15621; package qwen-tts 0.1.1. Its decoder takes pieces of 300
frames after 25 frames of context, so that a recording of more than 24 s differs from what its own
network makes of the whole, as here. Its encoder heeds the window of attention (10 s at each layer)
with Flash Attention only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from audiotok._platform.shapes import Latent
from audiotok.codecs.models import mimi
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.base import Layer, Mix, Pointwise
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.layers.rms_norm import RmsNorm
from audiotok.nn.layers.snake_beta import SnakeBeta
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.layers.window_transformer import WindowTransformer
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options, agreed
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    Weights,
    count,
    fair_share,
    squeeze,
    taps_first,
)
from audiotok.nn.quantizers.split_rvq import SplitRvq
from audiotok.nn.reread import Reread

HEAD = 64  # features of an attention head of the decoder, unless options tell another number


@dataclass(frozen=True)
class Config(mimi.Config):
    """Sizes of `Qwen3Tts12hz`; the defaults are the published ones, those of Mimi the encoder's."""

    codebooks: int = 16
    doublings: Sequence[int] = (2, 2)  # by which the decoder's frames multiply before convolutions
    decoder: int = 1536  # width of the decoder's convolutions at that rate; halves at every stride
    decoder_strides: Sequence[int] = (8, 5, 4, 3)
    decoder_latent: int = 1024  # width before and after the decoder's transformer
    decoder_width: int = 512  # width of the transformer
    decoder_blocks: int = 8  # blocks of attention and gated perceptron in it
    decoder_head: int = HEAD  # features of an attention head
    decoder_heads: int = 16
    decoder_key_heads: int = 16  # heads of keys and values
    decoder_window: int = 72  # frames in the window of attention
    decoder_hidden: int = 1024  # width inside a perceptron

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("doublings", "decoder_strides"):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))


def _transformer(config: Config) -> Chain:
    """Build the decoder's transformer, between two linear maps."""
    blocks = WindowTransformer(
        config.decoder_width,
        config.decoder_hidden,
        blocks=config.decoder_blocks,
        heads=config.decoder_heads,
        window=config.decoder_window,
        width=config.decoder_head,
        key_heads=config.decoder_key_heads,
        gated=True,
        norm=partial(nn.RMSNorm, eps=1e-5),
    )
    latent, width = config.decoder_latent, config.decoder_width
    return Chain([Mix(latent, width), blocks, RmsNorm(width), Mix(width, latent)])


def _multiplied(config: Config) -> Chain:
    """Build what multiplies the frames: transposed convolutions, each before a ConvNeXt block."""
    width = config.decoder_latent
    layers: list[Layer] = []
    for factor in config.doublings:
        layers += [
            TransposedConv(width, width, factor, stride=factor),
            Convnext(width, expansion=4, scale=1e-6, norm=partial(nn.LayerNorm, eps=1e-6)),
        ]
    return Chain(layers)


def _convolutions(config: Config) -> Chain:
    """Build the last part: conv, n x (SnakeBeta, transposed conv, 3 units), SnakeBeta, conv."""
    width = config.decoder
    layers: list[Layer] = [Conv(config.decoder_latent, width, 7)]
    for stride in config.decoder_strides:
        up = TransposedConv(width, width // 2, 2 * stride, stride=stride)
        width //= 2
        units = (
            ResidualUnit(width, kernel=7, dilation=dilation, activation=SnakeBeta)
            for dilation in (1, 3, 9)
        )
        layers += [SnakeBeta(2 * width), up, *units]
    return Chain([*layers, SnakeBeta(width), Conv(width, 1, 7), Pointwise(nn.Hardtanh())])


def _decoder(config: Config) -> Chain:
    """Build the decoder."""
    first = Conv(config.latent, config.decoder_latent, 3)
    return Chain([first, _transformer(config), _multiplied(config), _convolutions(config)])


# Of the package's Qwen3TTSTokenizerV2Config, and of its two parts.
_OPTIONS = Options(
    fields={"encoder_valid_num_quantizers": "codebooks"},
    fixed={"input_sample_rate": 24000, "output_sample_rate": 24000},
    derived=("decode_upsample_rate", "decoder_config", "encode_downsample_rate", "encoder_config"),
)
_DECODER_OPTIONS = Options(
    fields={
        "head_dim": "decoder_head",
        "num_attention_heads": "decoder_heads",
        "num_key_value_heads": "decoder_key_heads",
        "sliding_window": "decoder_window",
    },
    fixed={
        "attention_bias": False,
        "hidden_act": "silu",
        "num_semantic_quantizers": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 10000,
    },
    derived=(
        *("codebook_dim", "codebook_size", "decoder_dim", "hidden_size", "intermediate_size"),
        *("latent_dim", "layer_types", "num_hidden_layers", "num_quantizers"),
        *("semantic_codebook_size", "upsample_rates", "upsampling_ratios"),  # the first unused
        "vector_quantization_hidden_dimension",
    ),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    decoder, encoder = metadata.get("decoder_config", {}), metadata.get("encoder_config", {})
    options = {
        **mimi.OPTIONS.read(encoder, "encoder_config of config.json"),
        **_DECODER_OPTIONS.read(decoder, "decoder_config of config.json"),
        **_OPTIONS.read(metadata),
    }
    head = options.get("decoder_head", HEAD)
    block = "decoder.layers.1.layers.1.layers"
    doubled, ups = "decoder.layers.2.layers", "decoder.layers.3.layers"
    width, queries = weights[f"{block}.0.out.weight"].shape
    keys = (len(weights[f"{block}.0.qkv.weight"]) - queries) // 2
    strides = count(weights, r"decoder\.layers\.3\.layers\.\d+\.beta") - 1
    doublings = count(weights, r"decoder\.layers\.2\.layers\.\d+\.conv\.weight")
    sizes = {
        **mimi.sizes(weights, {}),
        "doublings": tuple(
            weights[f"{doubled}.{2 * i}.conv.weight"].shape[2] for i in range(doublings)
        ),
        "decoder": len(weights[f"{ups}.0.conv.bias"]),
        "decoder_strides": tuple(
            weights[f"{ups}.{5 * i + 2}.conv.weight"].shape[2] // 2 for i in range(strides)
        ),
        "decoder_latent": len(weights["decoder.layers.0.conv.bias"]),
        "decoder_width": width,
        "decoder_blocks": count(weights, rf"{re.escape(block)}\.\d+\.qkv\.weight"),
        "decoder_head": head,
        "decoder_heads": queries // head,
        "decoder_key_heads": keys // head,
        "decoder_hidden": len(weights[f"{block}.1.up.weight"]) // 2,
    }
    sizes["heads"] = options.get("heads", sizes["heads"])
    return agreed(sizes, options)


def _prepared(tensors: Weights) -> Weights:
    """Leave out the encoder's codebooks that the decoder cannot read; compute entries."""
    books = count(tensors, r"decoder\.quantizer\.rvq_rest\..*\.embedding_sum")
    pattern = r"encoder\.quantizer\.acoustic_residual_vector_quantizer\.layers\.(\d+)\."
    for name in list(tensors):
        match = re.match(pattern, name)
        if match and int(match[1]) >= books:
            del tensors[name]
    return mimi.entries(tensors)


_PARTS = {"first": "semantic", "rest": "acoustic"}
_LAYERS = {"self_attn": 0, "input_layernorm": 0, "mlp": 1, "post_attention_layernorm": 1}
_MAPS = {
    **{f"self_attn.{x}_proj": f"qkv.weight#{i}" for i, x in enumerate("qkv")},
    **{f"mlp.{x}_proj": f"up.weight#{i}" for i, x in enumerate(("gate", "up"))},
    "self_attn.o_proj": "out.weight",
    "mlp.down_proj": "down.weight",
    "input_layernorm": "norm.weight",
    "post_attention_layernorm": "norm.weight",
}
_CONVNEXT = {
    "gamma": "scale",
    "dwconv.conv": "depthwise",
    "norm": "norm",
    "pwconv1": "up",
    "pwconv2": "down",
}


def _block(match: re.Match[str]) -> str:
    """Return the name of a tensor in a block of the decoder's transformer."""
    block, name = int(match[1]), match[2]
    layer = _LAYERS.get(name.partition(".")[0], name.startswith("mlp"))
    ours = "scale" if name.endswith("scale") else _MAPS[name.removesuffix(".weight")]
    return f"decoder.layers.1.layers.1.layers.{2 * block + layer}.{ours}"


def _ending(match: re.Match[str]) -> str:
    """Return the name of a layer after n blocks 1 to n: activation n + 1, convolution n + 2."""
    number = int(match[1])
    if match[2] in ("alpha", "beta"):
        return f"decoder.layers.3.layers.{5 * number - 4}.{match[2]}"
    return f"decoder.layers.3.layers.{max(0, 5 * number - 8)}.{match[2]}"


def _unit(match: re.Match[str]) -> str:
    """Return the name of a tensor in a residual unit: two activations, two convolutions."""
    part = 2 * (match[3][-1] == "2") + match[3].startswith("conv")
    layer = 5 * int(match[1]) - 4 + int(match[2])
    return f"decoder.layers.3.layers.{layer}.body.layers.{part}."


_RULES: Sequence[Rule] = (
    (
        r"^decoder\.quantizer\.rvq_(first|rest)\.vq\.layers\.(\d+)\._codebook\.entries$",
        lambda m: f"quantizer.{_PARTS[m[1]]}.rvq.decoded.{m[2]}",
    ),
    (
        r"^decoder\.quantizer\.rvq_(first|rest)\.output_proj\.",
        lambda m: f"quantizer.{_PARTS[m[1]]}.up.",
    ),
    (r"^decoder\.pre_conv\.", "decoder.layers.0."),
    (r"^decoder\.pre_transformer\.input_proj\.", "decoder.layers.1.layers.0.linear."),
    (r"^decoder\.pre_transformer\.layers\.(\d+)\.(.*)", _block),
    (r"^decoder\.pre_transformer\.norm\.", "decoder.layers.1.layers.2.norm."),
    (r"^decoder\.pre_transformer\.output_proj\.", "decoder.layers.1.layers.3.linear."),
    (
        r"^decoder\.upsample\.(\d+)\.0\.",
        lambda m: f"decoder.layers.2.layers.{2 * int(m[1])}.",
    ),
    (
        rf"^decoder\.upsample\.(\d+)\.1\.({'|'.join(map(re.escape, _CONVNEXT))})(?=\.|$)",
        lambda m: f"decoder.layers.2.layers.{2 * int(m[1]) + 1}.{_CONVNEXT[m[2]]}",
    ),
    (r"^decoder\.decoder\.(\d+)\.block\.([234])\.(act[12]|conv[12])\.", _unit),
    (
        r"^decoder\.decoder\.(\d+)\.block\.([01])\.",
        lambda m: f"decoder.layers.3.layers.{5 * int(m[1]) - 4 + int(m[2])}.",
    ),
    (r"^decoder\.decoder\.(\d+)\.(alpha|beta|conv\..*)$", _ending),
    # The encoder is a MimiModel under this name.
    (r"^encoder\.(?=encoder\.|encoder_transformer\.|downsample\.|quantizer\.)", ""),
)


class Qwen3Tts12hz(Codec):
    """A codec of Mimi's encoder and a decoder of transformer, ConvNeXt blocks and convolutions."""

    name = "qwen3_tts_12hz"
    teacher_field = "teacher"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"qwen3_tts_12hz": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "qwen3_tts_12hz": Taxonomy(
            encoder="SEANet, transformer",
            decoder="transformer, DAC",
            quantizer="split RVQ",
            training="distilled",
            teacher="WavLM",
            licence="Apache-2.0",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "qwen3_tts_12hz": PublishedWeights(
            file="model.safetensors", repo="Qwen/Qwen3-TTS-Tokenizer-12Hz"
        )
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="qwen-tts 0.1.1, Qwen3TTSTokenizerV2Model",
            marks=(
                "encoder.encoder.layers.0.conv.weight",
                "encoder.quantizer.semantic_residual_vector_quantizer.input_proj.weight",
                "decoder.pre_transformer.input_proj.weight",
                "decoder.pre_conv.conv.weight",
            ),
            prepare=_prepared,
            ignored=(
                r"codebook\.initialized$",
                # Maps that nothing runs: back from the encoder's codes, and to the decoder's.
                r"^encoder\.quantizer\..*\.output_proj\.",
                r"^decoder\.quantizer\..*\.(input_proj\.|cluster_usage$)",
            ),
            rules=(*_RULES, *mimi.RULES),
            tensors=(
                (r"\.usage$", fair_share),
                (r"^quantizer\..*\.(down|up)\.weight$", squeeze),
                (r"\.depthwise\.weight$", taps_first),
            ),
            sizes=_sizes,
        ),
    )
    fills_up = False  # the package's convolutions fill up their own inputs

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides) * config.halving
        self.semantic_codebooks = config.semantic
        self.block = 64
        self.encoder = mimi.encoder(config)
        self.quantizer = SplitRvq(
            config.latent,
            codebooks=config.codebooks,
            size=config.size,
            width=config.code_width,
            semantic=config.semantic,
            part=Reread,
        )
        self.decoder = _decoder(config)
        self.taught = mimi.taught(config)

    def distilled(self, latent: Latent) -> Tensor:
        """See `Codec.distilled`."""
        return cast("nn.Linear", self.taught)(latent.transpose(1, 2))

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`.

        The package counts the decoder's entries as parameters, each as a sum and its weight, and
        four maps that nothing runs.
        """
        c = self.config
        return super().parameters_trained + c.codebooks * c.size + 4 * c.latent * c.code_width
