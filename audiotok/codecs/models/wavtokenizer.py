"""WavTokenizer: speech and other audio at 24 kHz, one codebook, 75 or 40 frames/s, 0.9 or 0.5 kbps.

    wave -> SEANet with LSTM -> latent 512 -> 1 x 4096 -> attention, ConvNeXt, iSTFT -> wave

Attention in the decoder needs the whole recording, and so does the group normalisation beside it:
the codec cannot stream, and its work grows with the square of the length.

`inspiremusic` has the weights of InspireMusic, trained on music, whose program decodes its codes
here at 24 kHz, or makes latents of another codec at 48 kHz of them (`hificodec`). A decoder `flow`
does so here; its official weights of the flow are not read.

Source: Ji et al. 2024, arXiv:2408.16532; its repository, jishengpeng/WavTokenizer, at 5cf440d;
InspireMusic (Zhang et al. 2025, arXiv:2503.00084), FunAudioLLM/InspireMusic at 0aefb55. Published
checkpoints hold 8.8 M parameters more, an EnCodec decoder that is never used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, ClassVar

from torch import nn

from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.ada_norm import AdaLayerNorm, AdaNorm
from audiotok.nn.layers.base import Layer, Mix, Norm, Residual
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.clip_attention import ClipAttention
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.fourier_head import FourierHead
from audiotok.nn.layers.group_norm import GroupNorm
from audiotok.nn.layers.resnet_block import ResnetBlock
from audiotok.nn.layers.seanet import Config as Sizes
from audiotok.nn.layers.seanet import Seanet
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.state_dicts import (
    AVERAGES,
    EUCLIDEAN,
    SEANET,
    Rule,
    StateDictAdapter,
    Weights,
    count,
    encoder_strides,
    fair_share,
    squeeze,
    taps_first,
)
from audiotok.nn.quantizer import build_quantizer

EPS = 1e-6  # epsilon of every normalisation in the decoder


@dataclass(frozen=True)
class Config:
    """Sizes of `Wavtokenizer`; the defaults are WavTokenizer 75 Hz."""

    sample_rate: int = 24000  # Hz
    encoder: int = 32  # width of the encoder at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 4, 5, 8)  # strides of the encoder; the frame is their product
    lstm: int = 2  # layers of the encoder's LSTM
    latent: int = 512  # width of the latent that is quantized
    codebooks: int = 1
    size: int = 4096  # entries in a codebook
    decoder: int = 768  # width of the decoder
    blocks: int = 12  # ConvNeXt blocks in it
    expansion: int = 3  # hidden width of a block over its width
    groups: int = 32  # groups of the group normalisation beside the attention
    dropout: float = 0.1  # dropout in the residual units beside the attention
    conditions: int = 4  # rows of scales and shifts, of which the first is used
    window: int = 4  # window of the inverse Fourier transform, in frames
    quantizer: str = "rvq"  # name of any quantizer of latents
    quantizer_options: dict[str, Any] = field(default_factory=dict)  # its options by name

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


def _norm(config: Config) -> Layer:
    """Return a group normalisation of the decoder's width."""
    return GroupNorm(config.decoder, groups=config.groups, eps=EPS)


def _convnext(config: Config) -> Layer:
    """Return a ConvNeXt block with its initial weights."""
    block = Convnext(
        config.decoder,
        expansion=config.expansion,
        scale=1 / config.blocks,
        causal=False,
        norm=partial(AdaLayerNorm, conditions=config.conditions, eps=EPS),
    )
    for module in (block.up, block.down):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(block.depthwise.weight, std=0.02)
    return block


def _decoder(config: Config) -> Chain:
    """Build the decoder: conv, residual units around attention, ConvNeXt blocks, Fourier head."""
    width, hop = config.decoder, prod(config.strides)
    unit = partial(ResnetBlock, width, groups=config.groups, dropout=config.dropout, eps=EPS)
    attention = Residual(Chain([_norm(config), ClipAttention(width)]))
    return Chain(
        [
            Conv(config.latent, width, 7, causal=False),
            *(unit() for _ in range(2)),
            attention,
            *(unit() for _ in range(2)),
            _norm(config),
            AdaNorm(width, conditions=config.conditions, eps=EPS),
            *(_convnext(config) for _ in range(config.blocks)),
            Norm(width, eps=EPS),
            Mix(width, config.window * hop + 2),
            FourierHead(hop, config.window * hop),
        ]
    )


# Of transformers' WavTokenizerConfig.
_OPTIONS = Options(
    fields={"sampling_rate": "sample_rate", "decoder_attention_num_groups": "groups"},
    fixed={
        "audio_channels": 1,
        "dilation_growth_rate": 2,
        "norm_eps": EPS,
        "norm_type": "weight_norm",
        "pad_mode": "reflect",
        "use_causal_conv": False,
    },
    derived=(
        *("num_filters", "upsampling_ratios", "num_residual_layers", "compress"),
        *("use_conv_shortcut", "kernel_size", "last_kernel_size", "residual_kernel_size"),
        *("num_lstm_layers", "hidden_size", "codebook_size", "codebook_dim"),
        *("decoder_hidden_size", "decoder_intermediate_size", "decoder_num_layers"),
        "adanorm_num_embeddings",
    ),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    strides = encoder_strides(weights)
    size, latent = weights["quantizer.stages.0.entries"].shape
    conditions, width = weights["decoder.layers.7.norm.scale"].shape
    blocks = count(weights, r"decoder\.layers\.\d+\.depthwise\.bias")
    return {
        "encoder": len(weights["encoder.layers.0.conv.bias"]),
        "strides": strides,
        "lstm": count(weights, r"encoder\.layers\.\d+\.lstm\.weight_hh_l\d+"),
        "latent": latent,
        "codebooks": count(weights, r"quantizer\.stages\.\d+\.entries"),
        "size": size,
        "decoder": width,
        "blocks": blocks,
        "expansion": len(weights["decoder.layers.8.up.bias"]) // width,
        "conditions": conditions,
        "window": (len(weights[f"decoder.layers.{9 + blocks}.linear.bias"]) - 2) // prod(strides),
    }


def _hf_sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec in a folder of transformers."""
    return {**_sizes(weights, metadata), **_OPTIONS.read(metadata)}


_CONVNEXT = {
    "gamma": "scale",
    "dwconv.weight": "depthwise.weight",
    "dwconv.bias": "depthwise.bias",
    "norm.scale.weight": "norm.scale",
    "norm.shift.weight": "norm.shift",
    "pwconv1.weight": "up.weight",
    "pwconv1.bias": "up.bias",
    "pwconv2.weight": "down.weight",
    "pwconv2.bias": "down.bias",
}
_RESNET = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 6}  # position in a unit's chain
_ATTENTION = {"norm": "0.norm", "proj_out": "1.out", "q": "1.qkv", "k": "1.qkv", "v": "1.qkv"}


def _resnet(match: re.Match[str]) -> str:
    """Return the name of a tensor in a residual unit."""
    layer = f"decoder.layers.{int(match[1]) + 1}.body.layers.{_RESNET[match[2]]}"
    return f"{layer}.{match[2][:4]}."  # conv or norm


def _attention(match: re.Match[str]) -> str:
    """Return the name of a tensor in the attention."""
    number = {"q": "#0", "k": "#1", "v": "#2"}.get(match[1], "")
    return f"decoder.layers.3.body.layers.{_ATTENTION[match[1]]}.{match[2]}{number}"


_DECODER: Sequence[Rule] = (
    (r"^backbone\.embed\.", "decoder.layers.0.conv."),
    (r"^backbone\.pos_net\.([0134])\.(norm[12]|conv[12])\.", _resnet),
    (r"^backbone\.pos_net\.2\.(q|k|v|norm|proj_out)\.(weight|bias)$", _attention),
    (r"^backbone\.pos_net\.5\.", "decoder.layers.6.norm."),
    (r"^backbone\.norm\.(scale|shift)\.weight$", r"decoder.layers.7.norm.\1"),
    (
        rf"^backbone\.convnext\.(\d+)\.({'|'.join(map(re.escape, _CONVNEXT))})$",
        lambda match: f"decoder.layers.{8 + int(match[1])}.{_CONVNEXT[match[2]]}",
    ),
)


def _after_blocks(tensors: Weights) -> Weights:
    """Rename the layers after the ConvNeXt blocks, whose numbers depend on the blocks."""
    blocks = count(tensors, r"backbone\.convnext\.\d+\.gamma")
    ends = {
        "backbone.final_layer_norm.": f"decoder.layers.{8 + blocks}.norm.",
        "head.out.": f"decoder.layers.{9 + blocks}.linear.",
        "head.linear.": f"decoder.layers.{9 + blocks}.linear.",  # transformers
    }
    for old, new in ends.items():
        tensors = {
            re.sub(f"^{re.escape(old)}", new, name): value for name, value in tensors.items()
        }
    return tensors


def _adapter(
    source: str,
    marks: Sequence[str],
    *rules: Rule,
    sizes: Callable[[Weights, Mapping[str, Any]], dict[str, Any]],
) -> StateDictAdapter:
    """Return the naming of weights in one of the programs, whose own rules come first."""
    return StateDictAdapter(
        source=source,
        marks=marks,
        prepare=_after_blocks,
        ignored=(
            # Discriminators and losses; EnCodec's decoder, which is never used; the window.
            r"^(?!feature_extractor\.|encoder_model\.|backbone\.|decoder\.layers\.)",
            r"^feature_extractor\.encodec\.decoder\.",
            *AVERAGES,
        ),
        rules=(*rules, *SEANET, *EUCLIDEAN, *_DECODER),
        tensors=(
            (r"\.usage$", fair_share),
            (r"\.depthwise\.weight$", taps_first),
            (r"\.(qkv|out)\.weight", squeeze),
        ),
        sizes=sizes,
    )


def _taxonomy(domain: str, licence: str) -> Taxonomy:
    """Return what kind of codec weights of a domain are."""
    return Taxonomy(
        encoder="SEANet",
        decoder="Vocos",
        quantizer="VQ",
        training="joint",
        domain=domain,
        licence=licence,
    )


class Wavtokenizer(Codec):
    """A codec of convolutions on the waveform, one codebook, and a vocoder at the frame rate."""

    name = "wavtokenizer"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "wavtokenizer_75hz": Config(),
        "wavtokenizer_40hz": Config(strides=(4, 5, 5, 6)),
        "inspiremusic": Config(),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "wavtokenizer_75hz": _taxonomy("speech", "MIT"),
        "wavtokenizer_40hz": _taxonomy("speech", "MIT"),
        "inspiremusic": _taxonomy("music", "unstated; code Apache-2.0"),
    }
    # Lightning's own files, 1 GB and more with optimisers and discriminators in them. Whether they
    # hold tensors alone, as reading them requires, has not been verified.
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "wavtokenizer_75hz": PublishedWeights(
            repo="novateur/WavTokenizer", file="WavTokenizer_small_320_24k_4096.ckpt"
        ),
        "wavtokenizer_40hz": PublishedWeights(
            repo="novateur/WavTokenizer", file="WavTokenizer_small_600_24k_4096.ckpt"
        ),
        "inspiremusic": PublishedWeights(
            repo="FunAudioLLM/InspireMusic-1.5B-Long", file="wavtokenizer/model.pt"
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        _adapter(
            "WavTokenizer",
            (
                "feature_extractor.encodec.encoder.model.0.conv.conv.weight",
                "feature_extractor.encodec.quantizer.vq.layers.0._codebook.embed",
                "backbone.pos_net.2.q.weight",
            ),
            (r"^feature_extractor\.encodec\.", ""),
            sizes=_sizes,
        ),
        _adapter(
            "transformers, WavTokenizerModel",
            (
                "encoder_model.encoder.layers.0.conv.weight",
                "encoder_model.quantizer.codebook.embed",
                "backbone.pos_net.2.q.weight",
            ),
            (r"^encoder_model\.quantizer\.codebook\.", "quantizer.layers.0.codebook."),
            (r"^encoder_model\.", ""),
            sizes=_hf_sizes,
        ),
    )
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.block = 256
        self.frame_size = prod(config.strides)
        self.encoder = Seanet.encoder(
            Sizes(
                latent=config.latent,
                width=config.encoder,
                strides=tuple(config.strides),
                lstm=config.lstm,
                causal=False,
            )
        )
        self.quantizer = build_quantizer(
            config.quantizer,
            config.latent,
            config.quantizer_options,
            usual={"codebooks": config.codebooks, "size": config.size},
        )
        self.decoder = _decoder(config)

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return the convolutions of the encoder."""
        return convolutions(self.encoder)
