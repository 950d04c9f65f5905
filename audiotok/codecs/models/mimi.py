"""Mimi: speech at 24 kHz, 12.5 frames/s, up to 32 codebooks, 0.1 to 4.4 kbps, causal.

    wave -> SEANet -> transformer -> every 2nd -> latent 512 -> (1 + 31) x 2048
         <- SEANet <- transformer <- twice     <- latent 512 <-/

The first codebook is distilled from WavLM. The window of attention is bounded (10 s at each of its
layers), so a stream of any length runs in constant memory and equals the whole.

Source: Défossez et al. 2024, arXiv:2410.00037, section 3.3; package moshi 0.2.13. Codes and samples
are equal to the package's, which also fills up the last frame with silence. Its positions rotate
features in pairs (2i, 2i+1); here pairs are (i, i + half), the same network with rows of the query
and key maps in another order, as in transformers.
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
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.attention import Attention
from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.feed_forward import FeedForward
from audiotok.nn.layers.seanet import Config as Sizes
from audiotok.nn.layers.seanet import Seanet
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    Weights,
    apart,
    count,
    encoder_strides,
    fair_share,
    sample_rate,
    squeeze,
)
from audiotok.nn.quantizers.split_rvq import SplitRvq

HEAD = 64  # features of an attention head in every published Mimi; not told by the weights

# Of transformers' MimiConfig.
OPTIONS = Options(
    fields={
        "num_attention_heads": "heads",
        "sampling_rate": "sample_rate",
        "sliding_window": "window",
    },
    fixed={
        "attention_bias": False,
        "audio_channels": 1,
        "dilation_growth_rate": 2,
        "hidden_act": "gelu",
        "norm_eps": 1e-5,
        "normalize": False,
        "pad_mode": "constant",
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "trim_right_ratio": 1.0,
        "use_causal_conv": True,
    },
    derived=(
        *("_frame_rate", "codebook_dim", "codebook_size", "compress", "frame_rate", "head_dim"),
        *("hidden_size", "intermediate_size", "kernel_size", "last_kernel_size", "num_filters"),
        *("num_hidden_layers", "num_key_value_heads", "num_quantizers", "num_residual_layers"),
        *("num_semantic_quantizers", "residual_kernel_size", "upsample_groups"),
        *("upsampling_ratios", "use_conv_shortcut", "use_streaming"),
        "vector_quantization_hidden_dimension",
    ),
)


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of Mimi's network, whatever its latents become; the defaults are the published ones."""

    sample_rate: int = 24000  # Hz
    width: int = 64  # width of the network at the audio rate; doubles at every stride
    strides: Sequence[int] = (4, 5, 6, 8)  # strides of the encoder
    halving: int = 2  # latents in a frame, whose samples are the product of this and the strides
    latent: int = 512  # width of the transformers and of the latent that is quantized
    blocks: int = 8  # blocks of attention and perceptron in the encoder, and in the decoder
    heads: int = 8  # attention heads
    window: int = 250  # latents in the window of attention
    hidden: int = 2048  # width inside a perceptron

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


@dataclass(frozen=True)
class Config(NetworkConfig):
    """Sizes of `Mimi`; the defaults are the published ones."""

    codebooks: int = 32
    semantic: int = 1  # number of semantic codebooks among them
    size: int = 2048  # entries in a codebook
    code_width: int = 256  # width of the codebooks
    teacher: int = 0  # width of the teacher that the semantic codebooks are distilled from, if any


def _transformer(config: NetworkConfig, approximate: bool) -> Chain:
    """Build the transformer of the encoder or of the decoder."""
    layers: list[Layer] = []
    for _ in range(config.blocks):
        layers += [
            Attention(config.latent, heads=config.heads, window=config.window, scale=0.01),
            FeedForward(config.latent, config.hidden, scale=0.01, approximate=approximate),
        ]
    return Chain(layers)


def encoder(
    config: NetworkConfig, outputs: int | None = None, *, approximate: bool = False
) -> Chain:
    """Build the encoder: convolutions, transformer, and a convolution that leaves every 2nd.

    Args:
        config: sizes.
        outputs: features of its latents; as many as within if None.
        approximate: as of `FeedForward`.
    """
    width, stride = config.latent, config.halving
    down = Conv(width, outputs or width, 2 * stride, stride=stride, bias=False, pad="repeat")
    return Chain([Seanet.encoder(_seanet(config)), _transformer(config, approximate), down])


def decoder(config: NetworkConfig, *, approximate: bool = False) -> Chain:
    """Build the decoder: what makes two of a latent, transformer, convolutions; as `encoder`."""
    width, stride = config.latent, config.halving
    up = TransposedConv(width, width, 2 * stride, stride=stride, groups=width, bias=False)
    return Chain([up, _transformer(config, approximate), Seanet.decoder(_seanet(config))])


def taught(config: Config) -> nn.Linear | None:
    """Build the head by which codebooks learn from a teacher, which published weights lack."""
    return nn.Linear(config.latent, config.teacher) if config.teacher else None


def _seanet(config: NetworkConfig) -> Sizes:
    """Return the sizes of the convolutions of the encoder and of the decoder."""
    return Sizes(
        latent=config.latent,
        width=config.width,
        strides=tuple(config.strides),
        last_kernel=3,
        lstm=0,
        shortcut=False,
        pad="zeros",
    )


def network_sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `NetworkConfig` that weights tell."""
    begin = "encoder.layers.0."
    seanet = {f"encoder.{n[len(begin) :]}": w for n, w in weights.items() if n.startswith(begin)}
    down = weights["encoder.layers.2.conv.weight"]
    return {
        **sample_rate(metadata),
        "width": len(weights["encoder.layers.0.layers.0.conv.weight"]),
        "strides": encoder_strides(seanet),
        "halving": down.shape[2] // 2,
        "latent": down.shape[1],
        "blocks": count(weights, r"encoder\.layers\.1\.layers\.\d+\.qkv\.weight"),
        "heads": down.shape[1] // HEAD,
        "hidden": len(weights["encoder.layers.1.layers.1.up.weight"]),
    }


def sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    entries = weights["quantizer.semantic.rvq.stages.0.entries"]
    semantic = count(weights, r"quantizer\.semantic\..*\.entries")
    return {
        **network_sizes(weights, metadata),
        "codebooks": semantic + count(weights, r"quantizer\.acoustic\..*\.entries"),
        "semantic": semantic,
        "size": entries.shape[0],
        "code_width": entries.shape[1],
    }


def _hf_sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec in a folder of transformers."""
    return {**sizes(weights, metadata), **OPTIONS.read(metadata)}


def entries(tensors: Weights) -> Weights:
    """Compute the entries of codebooks from the sums and counts that checkpoints hold."""
    for name in [n for n in tensors if re.search(r"codebook\.embed(ding)?_sum$", n)]:
        book = name.rpartition(".")[0]
        usage = tensors.get(f"{book}.cluster_usage", tensors.get(f"{book}.cluster_size"))
        if usage is None:
            raise KeyError(f"{book}.cluster_usage")
        tensors[f"{book}.entries"] = tensors.pop(name) / usage.clamp(min=1e-5)[:, None]
    return tensors


def _part(match: re.Match[str]) -> str:
    """Return the name of a tensor of a transformer block, in the attention or in the perceptron."""
    side, block, name = match.groups()
    first = re.match(r"self_attn|norm1|layer_scale_1|input_layernorm", name)
    return f"{side}.layers.1.layers.{2 * int(block) + (not first)}.{name}"


DECODER: Sequence[Rule] = (
    (r"^decoder\.(model|layers|decoder_seanet\.layers)\.", "decoder.layers.2.layers."),
    (r"^(decoder\.)?upsample\.", "decoder.layers.0."),
)

# Of the encoder and the codebooks, and of layers that the decoder has too.
RULES: Sequence[Rule] = (
    # Convolutions, in moshi and in transformers.
    (r"^encoder\.(model|layers|encoder_seanet\.layers)\.", "encoder.layers.0.layers."),
    (r"^(encoder\.)?downsample\.", "encoder.layers.2."),
    (r"\.conv(tr)?(\.conv(tr)?)+\.", ".conv."),
    (r"\.block\.(\d+)\.", r".body.layers.\1."),
    # Transformers.
    (r"^(?:encoder\.|decoder\.)?(encoder|decoder)_transformer\.", r"\1_transformer."),
    (r"^(\w+)_transformer\.(?:transformer\.)?layers\.(\d+)\.(.*)", _part),
    (r"\.self_attn\.in_proj(s\.0\.|_|\.)weight$", ".qkv.weight"),
    (r"\.self_attn\.(out_projs\.0|out_proj|o_proj)\.", ".out."),
    (r"\.self_attn\.([qkv])_proj\.weight$", lambda m: f".qkv.weight#{'qkv'.index(m[1])}"),
    (r"\.(norm1|norm2|input_layernorm|post_attention_layernorm)\.", ".norm."),
    (r"\.(layer_scale_[12]|self_attn_layer_scale|mlp_layer_scale)\.scale$", ".scale"),
    (r"\.(linear1|mlp\.fc1)\.", ".up."),
    (r"\.(linear2|mlp\.fc2)\.", ".down."),
    # Codebooks.
    (r"^quantizer\.(rvq_first|semantic_residual_vector_quantizer)\.", "quantizer.semantic."),
    (r"^quantizer\.(rvq_rest|acoustic_residual_vector_quantizer)\.", "quantizer.acoustic."),
    (r"\.input_proj\.", ".down."),
    (r"\.output_proj\.", ".up."),
    (r"\.(?:vq\.)?layers\.(\d+)\._?codebook\.", r".rvq.stages.\1."),
    (r"\.(cluster_usage|cluster_size)$", ".usage"),
)


def _adapter(source: str, marks: Sequence[str], *, pairs: bool) -> StateDictAdapter:
    """Return the naming of weights in one of the programs, with or without rows to reorder."""
    return StateDictAdapter(
        source=source,
        marks=marks,
        prepare=entries,
        ignored=(r"codebook\.(_?initialized|inited)$",),
        rules=(*DECODER, *RULES),
        tensors=(
            (r"\.usage$", fair_share),
            (r"^quantizer\..*\.(down|up)\.weight$", squeeze),
            *(((r"\.qkv\.weight$", partial(apart, head=HEAD)),) if pairs else ()),
        ),
        sizes=sizes if pairs else _hf_sizes,
    )


class Mimi(Codec):
    """A codec of convolutions with a transformer on their latents, at half the latents' rate."""

    name = "mimi"
    teacher_field = "teacher"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"mimi": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "mimi": Taxonomy(
            encoder="SEANet, transformer",
            decoder="SEANet, transformer",
            quantizer="split RVQ",
            training="distilled",
            teacher="WavLM",
            licence="CC-BY-4.0",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "mimi": PublishedWeights(file="model.safetensors", repo="kyutai/mimi")
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        _adapter(
            "moshi 0.2.13",
            (
                "quantizer.rvq_first.input_proj.weight",
                "encoder_transformer.transformer.layers.0.self_attn.in_projs.0.weight",
            ),
            pairs=True,
        ),
        _adapter(
            "moshi's published Mimi",
            (
                "quantizer.rvq_first.input_proj.weight",
                "encoder_transformer.transformer.layers.0.self_attn.in_proj_weight",
            ),
            pairs=True,
        ),
        _adapter(
            "transformers, MimiModel",
            ("quantizer.semantic_residual_vector_quantizer.input_proj.weight",),
            pairs=False,
        ),
    )

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = prod(config.strides) * config.halving
        self.semantic_codebooks = config.semantic
        self.block = 64
        self.encoder = encoder(config)
        self.quantizer = SplitRvq(
            config.latent,
            codebooks=config.codebooks,
            size=config.size,
            width=config.code_width,
            semantic=config.semantic,
        )
        self.decoder = decoder(config)
        self.taught = taught(config)

    def distilled(self, latent: Latent) -> Tensor:
        """See `Codec.distilled`."""
        return cast("nn.Linear", self.taught)(latent.transpose(1, 2))
