"""Voxtral's codec: speech at 24 kHz, 12.5 frames/s, a semantic code of 8,192 and 36 of 21 levels.

    wave -> patches of 240 -> conv -> transformer, conv of stride 2, three times, transformer, conv
         -> latent 256 -> 1 x 8192     semantic
         -> latent  36 -> 36 x 21      acoustic: each feature is rounded to 21 levels
         <- patches of 240 <- conv <- transformer, transposed conv, three times, transformer, conv

A frame sees 16 steps of 10 ms before it at the first transformer, 8 of 20 ms at the next, and so
on; scores of attention fall with the distance. All of it is causal, so that a stream of any length
runs in constant memory and equals the whole.

Source: Mistral AI 2026, Voxtral TTS; the network in the package vllm-omni 0.30.0, `voxtral_tts`,
computed in single precision. That package encodes and decodes in bfloat16, decodes pieces of 375
frames by themselves, and counts codes from 2, after two tokens of its own. The published weights
are of the decoder: such a file loads as a codec that decodes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar

import torch
from torch import nn

from audiotok._platform.errors import InputError
from audiotok.codecs.models import mimi
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.absent import MissingEncoder
from audiotok.nn.layers.alibi_attention import AlibiAttention
from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.fold import CausalFold, Unfold
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.layers.window_transformer import WindowTransformer
from audiotok.nn.pretrained.options import Options, agreed
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    Weights,
    count,
    fair_share,
)
from audiotok.nn.quantizers.base import SideBySide
from audiotok.nn.quantizers.product_fsq import ProductFsq
from audiotok.nn.quantizers.rvq import Rvq

WINDOW = 16  # steps before a step that it sees at the first transformer; the weights tell no number
HEAD = 128  # features of an attention head, unless options tell another number
LEVELS = 21  # of an acoustic feature in the published codec


@dataclass(frozen=True)
class Config:
    """Sizes of `Voxtral`; the defaults are the published ones."""

    sample_rate: int = 24000  # Hz
    patch: int = 240  # samples of a step of the first transformer
    patch_kernel: int = 7  # taps of the convolutions beside the patches
    width: int = 1024  # width of every transformer
    hidden: int = 4096  # width inside a perceptron
    head: int = HEAD  # features of an attention head
    heads: int = 8
    key_heads: int = 8  # heads of keys and values
    window: int = WINDOW  # steps before a step that it sees; halves at every stride of 2
    blocks: Sequence[int] = (2, 2, 2, 2)  # of the encoder's transformers
    kernels: Sequence[int] = (4, 4, 4, 3)  # of the convolution after each
    strides: Sequence[int] = (2, 2, 2, 1)
    decoder_blocks: Sequence[int] = (2, 2, 2, 2)
    decoder_kernels: Sequence[int] = (3, 4, 4, 4)  # of the convolution before each
    decoder_strides: Sequence[int] = (1, 2, 2, 2)
    semantic: int = 256  # features of the semantic code
    size: int = 8192  # entries of its codebook
    acoustic: int = 36  # features that are rounded, with a code each
    levels: int = LEVELS
    encodes: bool = True  # whether it has the encoder; the published file has none

    def __post_init__(self) -> None:
        lists = ("blocks", "kernels", "strides")
        for name in (*lists, *(f"decoder_{name}" for name in lists)):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if prod(self.strides) != prod(self.decoder_strides):
            raise InputError(
                f"strides {self.strides} and {self.decoder_strides}: one product for both"
            )


def _transformer(config: Config, blocks: int, window: int) -> Layer:
    """Build a transformer whose steps see so many before them."""
    return WindowTransformer(
        config.width,
        config.hidden,
        blocks=blocks,
        heads=config.heads,
        window=window + 1,
        scale=0.1,
        width=config.head,
        key_heads=config.key_heads,
        gated=True,
        norm=partial(nn.RMSNorm, eps=1e-2),
        attention=AlibiAttention,
    )


def _encoder(config: Config) -> Chain:
    """Build the encoder: patches, conv, n x (transformer, conv)."""
    width, window = config.width, config.window
    mirrored = Conv(config.patch, width, config.patch_kernel, bias=False, pad="reflect")
    layers: list[Layer] = [CausalFold(config.patch), mirrored]
    latent = config.semantic + config.acoustic
    widths = [width] * (len(config.blocks) - 1) + [latent]
    shapes = zip(config.blocks, config.kernels, config.strides, widths, strict=True)
    for blocks, kernel, stride, outputs in shapes:
        down = Conv(width, outputs, kernel, stride=stride, bias=False, pad="repeat")
        layers += [_transformer(config, blocks, window), down]
        window //= stride
    return Chain(layers)


def _decoder(config: Config) -> Chain:
    """Build the decoder: n x (conv, transformer), of which all but the first conv are transposed,
    conv, patches.
    """
    width, window = config.width, config.window // prod(config.strides)
    latent = config.semantic + config.acoustic
    shapes = list(
        zip(config.decoder_kernels, config.decoder_strides, config.decoder_blocks, strict=True)
    )
    first = Conv(latent, width, shapes[0][0], bias=False, pad="repeat")
    layers: list[Layer] = [first, _transformer(config, shapes[0][2], window)]
    for kernel, stride, blocks in shapes[1:]:
        window *= stride
        up = TransposedConv(width, width, kernel, stride=stride, bias=False)
        layers += [up, _transformer(config, blocks, window)]
    mirrored = Conv(width, config.patch, config.patch_kernel, bias=False, pad="reflect")
    return Chain([*layers, mirrored, Unfold(config.patch)])


# Of `audio_tokenizer_args` in the package, the sizes that no shape tells and the kinds of layers.
_OPTIONS = Options(
    fields={
        "attn_sliding_window_size": "window",
        "head_dim": "head",
        "n_heads": "heads",
        "n_kv_heads": "key_heads",
        "sampling_rate": "sample_rate",
    },
    fixed={
        "acoustic_codebook_size": LEVELS,
        "causal": True,
        "channels": 1,
        "conv_weight_norm": True,
        "half_attn_window_upon_downsampling": True,
        "layer_scale": True,
        "norm_eps": 1e-2,
        "qk_norm": True,
        "qk_norm_eps": 1e-6,
        "use_biases": False,
    },
    derived=(
        *("acoustic_dim", "dim", "hidden_dim", "layer_scale_init", "patch_proj_kernel_size"),
        *("pretransform_patch_size", "semantic_codebook_size", "semantic_dim", "voice"),
        *("decoder_convs_kernels_str", "decoder_convs_strides_str"),
        *("decoder_transformer_lengths_str", "encoder_convs_kernels_str"),
        *("encoder_convs_strides_str", "encoder_transformer_lengths_str"),
    ),
)


def _blocks(weights: Weights, side: str, stages: int) -> tuple[int, ...]:
    """Return the number of blocks of each transformer of the encoder or the decoder."""
    first = 2 if side == "encoder" else 1
    return tuple(
        count(weights, rf"{side}\.layers\.{2 * i + first}\.layers\.\d+\.qkv\.weight")
        for i in range(stages)
    )


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    options = _OPTIONS.read(metadata)
    head = options.get("head", HEAD)
    stages = count(weights, r"decoder\.layers\.\d+\.layers\.0\.out\.weight")
    encodes = "encoder.layers.1.conv.weight" in weights
    size, semantic = weights["quantizer.parts.0.stages.0.entries"].shape
    width, patch = weights["decoder.layers.0.conv.weight"].shape[0], f"decoder.layers.{2 * stages}"
    attention = weights["decoder.layers.1.layers.0.qkv.weight"]
    queries = weights["decoder.layers.1.layers.0.out.weight"].shape[1]
    kernels = [weights[f"decoder.layers.{2 * i}.conv.weight"].shape[2] for i in range(stages)]
    strides = [1, *(kernel // 2 for kernel in kernels[1:])]
    sizes = {
        "patch": len(weights[f"{patch}.conv.weight"]),
        "patch_kernel": weights[f"{patch}.conv.weight"].shape[2],
        "width": width,
        "hidden": len(weights["decoder.layers.1.layers.1.up.weight"]) // 2,
        "head": head,
        "heads": queries // head,
        "key_heads": (len(attention) - queries) // (2 * head),
        "decoder_blocks": _blocks(weights, "decoder", stages),
        "decoder_kernels": tuple(kernels),
        "decoder_strides": tuple(strides),
        "semantic": semantic,
        "size": size,
        "acoustic": weights["decoder.layers.0.conv.weight"].shape[1] - semantic,
        "encodes": encodes,
        "strides": tuple(reversed(strides)),  # as many samples a frame
    }
    if encodes:
        downs = [weights[f"encoder.layers.{2 * i + 3}.conv.weight"].shape[2] for i in range(stages)]
        sizes["kernels"] = tuple(downs)
        sizes["strides"] = tuple(kernel // 2 for kernel in downs)
        sizes["blocks"] = _blocks(weights, "encoder", stages)
    return agreed(sizes, options)


def _prepared(tensors: Weights) -> Weights:
    """Compute the entries of the semantic codebook, and add the grid of the acoustic codes."""
    tensors = mimi.entries(tensors)
    semantic = tensors["quantizer.semantic_codebook.entries"].shape[1]
    acoustic = tensors["decoder_blocks.0.conv.weight"].shape[1] - semantic
    return {**tensors, "quantizer.parts.1.levels": torch.full((acoustic, 1), LEVELS)}


_MAPS = {
    **{f"attention.w{x}": f"0.qkv.weight#{i}" for i, x in enumerate("qkv")},
    "attention.wo": "0.out.weight",
    "attention.q_norm": "0.query_norm.weight",
    "attention.k_norm": "0.key_norm.weight",
    "attention_norm": "0.norm.weight",
    "attention_scale": "0.scale",
    "feed_forward.w1": "1.up.weight#0",
    "feed_forward.w3": "1.up.weight#1",
    "feed_forward.w2": "1.down.weight",
    "ffn_norm": "1.norm.weight",
    "ffn_scale": "1.scale",
}


def _in_block(match: re.Match[str]) -> str:
    """Return the name of a tensor in a block of a transformer."""
    side, number, block, name = match.groups()
    half, _, tail = _MAPS[name].partition(".")
    layer = int(number) + 2 * (side == "encoder")
    return f"{side}.layers.{layer}.layers.{2 * int(block) + int(half)}.{tail}"


_RULES: Sequence[Rule] = (
    (
        rf"^(encoder|decoder)_blocks\.(\d+)\.layers\.(\d+)\.({'|'.join(map(re.escape, _MAPS))})"
        r"(?:\.weight)?$",
        _in_block,
    ),
    (r"^encoder_blocks\.(\d+)\.conv\.", lambda m: f"encoder.layers.{int(m[1]) + 2}.conv."),
    (r"^decoder_blocks\.(\d+)\.conv\.", r"decoder.layers.\1.conv."),
    (r"^input_proj\.conv\.", "encoder.layers.1.conv."),
    (r"^output_proj\.(\d+)\.conv\.", r"decoder.layers.\1.conv."),
    (r"^quantizer\.semantic_codebook\.entries$", "quantizer.parts.0.stages.0.entries"),
    (r"^quantizer\.semantic_codebook\.cluster_usage$", "quantizer.parts.0.stages.0.usage"),
)


def _ended(tensors: Weights) -> Weights:
    """Rename the last convolution, whose number depends on the transformers."""
    tensors = _prepared(tensors)
    stages = count(tensors, r"decoder_blocks\.\d+\.layers\.0\.attention\.wo\.weight")
    last = f"output_proj.{2 * stages}."
    return {re.sub(r"^output_proj\.", last, name): tensor for name, tensor in tensors.items()}


class Voxtral(Codec):
    """A codec of transformers of windows between convolutions, with a semantic code and grids."""

    name = "voxtral"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"voxtral": Config()}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "voxtral": Taxonomy(
            encoder="transformer",
            decoder="transformer",
            quantizer="VQ, FSQ",
            training="distilled",
            teacher="Whisper",
            licence="CC-BY-NC-4.0",
            published="https://huggingface.co/mistralai/Voxtral-4B-TTS-2603",
        )
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="vllm-omni 0.30.0, VoxtralTTSAudioTokenizer",
            marks=(
                "decoder_blocks.1.layers.0.attention.wq.weight",
                "output_proj.conv.weight",
                "quantizer.semantic_codebook.embedding_sum",
            ),
            prepare=_ended,
            ignored=(r"^audio_token_embedding\.",),  # of the language model
            rules=_RULES,
            tensors=((r"\.usage$", fair_share),),
            sizes=_sizes,
        ),
    )
    fills_up = False  # the convolutions repeat the last step
    semantic_codebooks = 1

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = config.patch * prod(config.strides)
        self.end_unit = config.patch
        self.block = 16  # frames are long
        why = "these weights of 'voxtral' only decode: its encoder is not published"
        self.encoder = _encoder(config) if config.encodes else MissingEncoder(self.frame_size, why)
        semantic = Rvq(config.semantic, codebooks=1, size=config.size)
        grid = ProductFsq(config.acoustic, levels=(config.levels,), rule="symmetric")
        self.quantizer = SideBySide([(config.semantic, semantic), (config.acoustic, grid)])
        self.decoder = _decoder(config)
        for conv in convolutions(self.encoder):  # features keep their size, and reach many levels
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")  # pyright: ignore

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions."""
        return convolutions(self)
