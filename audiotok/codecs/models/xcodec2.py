"""X-codec 2 and NeuCodec: speech at 16 kHz, 50 frames/s, 1 code of 65,536 a frame, 0.8 kbps.

    wave -> log-mel -> 16 blocks of w2v-BERT 2.0 -> convolutions \\
         -> convolutions and anti-aliased SnakeBeta ------------- -> latent 2048 -> FSQ of 4^8
         <- Fourier head <- residual units <- transformer <- residual units <-/

Both encoders see the whole recording, as does the decoder: it cannot stream. NeuCodec is the same
network, but its decoder gives 24 kHz, and its spectra begin with the recording, where X-codec 2's
begin with 10 ms of silence.

Codes are those of the programs, which fill a recording up with silence to a further frame. Where it
ends with a frame, X-codec 2's have one code more than here, of silence; of a last frame that is not
whole NeuCodec's have none, and here its semantic half is that of the frame before.

The program turns the decoder's queries and keys by the number of their head, not of their frame, as
published weights expect: the turns cancel each other, so there are no positions here.

Sources: Ye et al. 2025, arXiv:2502.04128 (X-codec 2, in Llasa); Julian et al. 2025,
arXiv:2509.09550 (NeuCodec); transformers 5.24.0, Xcodec2Model and NeuCodecModel.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features import w2v_bert
from audiotok.data.features.w2v_bert import W2vBert
from audiotok.nn.layers.anti_aliased import AntiAliased
from audiotok.nn.layers.base import Layer, Mix, Norm, Pointwise, Residual, WholeClip, keep_size
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.clip_transformer import ClipTransformer
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.fourier_head import FourierHead
from audiotok.nn.layers.resnet_block import ResnetBlock
from audiotok.nn.layers.rms_norm import RmsNorm
from audiotok.nn.layers.snake_beta import SnakeBeta
from audiotok.nn.layers.strided_encoder import StridedEncoder
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options, agreed
from audiotok.nn.pretrained.state_dicts import (
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    count,
)
from audiotok.nn.quantizers.fsq import Fsq

RATE = 16000  # Hz, of what is encoded
FRAME = 2 * w2v_bert.HOP  # samples
GROUPS = 32  # of the normalisations beside the transformer
EPS = 1e-6


@dataclass(frozen=True)
class Config:
    """Sizes of `Xcodec2`; the defaults are the published ones."""

    decoded_rate: int = RATE  # Hz, of what is decoded
    centred: bool = True  # whether a frame's spectra begin 10 ms before it
    encoder: int = 48  # width of the convolutions at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 2, 4, 4, 5)  # strides of the encoder; their product is a frame
    width: int = 1024  # width of the convolutions' output, and of the decoder
    semantic: int = 1024  # width of w2v-BERT
    semantic_blocks: int = 16  # its first blocks that are used
    semantic_heads: int = 16  # its attention heads
    semantic_hidden: int = 4096  # width inside a feed-forward module of it
    semantic_kernel: int = 31  # frames in a convolution of it
    semantic_before: int = 64  # frames back from which on all distances count as one
    semantic_after: int = 8  # frames ahead from which on all distances count as one
    levels: Sequence[int] = (4,) * 8  # values of each feature that is rounded
    blocks: int = 12  # blocks of attention and perceptron in the decoder
    heads: int = 16  # attention heads of the decoder
    hidden: int = 4096  # width inside a perceptron of the decoder
    dropout: float = 0.1  # dropout in the residual units of the decoder

    def __post_init__(self) -> None:
        for name in ("strides", "levels"):  # TOML and JSON give a list
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if prod(self.strides) != FRAME:
            raise InputError(f"strides={self.strides}: a frame of w2v-BERT has {FRAME} samples")
        if self.decoded_rate < 1 or FRAME * self.decoded_rate % (2 * RATE):
            raise InputError(
                f"decoded_rate={self.decoded_rate}: no even number of samples in a frame of 20 ms"
            )


def _adapter(width: int) -> Chain:
    """Build the convolutions after w2v-BERT."""

    def conv(*, bias: bool) -> Layer:
        return keep_size(Conv(width, width, 3, bias=bias, causal=False))

    inner = Residual(Chain([conv(bias=True), Pointwise(nn.ReLU()), conv(bias=True)]))
    return Chain([conv(bias=False), Pointwise(nn.ReLU()), inner, conv(bias=False)])


class _Encoder(WholeClip):
    """Waves `[b 1 t]` to latents, one for each frame begun."""

    def __init__(self, config: Config) -> None:
        super().__init__(1, config.semantic + config.width)
        self.consumes = FRAME
        self.centred = config.centred
        self.semantic = W2vBert(
            width=config.semantic,
            layers=config.semantic_blocks,
            heads=config.semantic_heads,
            hidden=config.semantic_hidden,
            kernel=config.semantic_kernel,
            before=config.semantic_before,
            after=config.semantic_after,
        )
        self.adapter = _adapter(config.semantic)
        snake, sizes = partial(AntiAliased, activation=SnakeBeta), (config.encoder, config.width)
        self.acoustic = StridedEncoder(*sizes, strides=config.strides, activation=snake)
        for layer in self.acoustic:
            if isinstance(layer, Conv):
                keep_size(layer)
        self.mix = keep_size(Mix(self.outputs, self.outputs))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; silence follows the end, for a frame where that is whole."""
        frames = -(-x.shape[2] // FRAME)
        x = F.pad(x, (0, FRAME - x.shape[2] % FRAME))
        acoustic = self.acoustic.finish(x, self.acoustic.start(len(x)))  # in pieces
        return self.mix(torch.cat([self._semantic(x)[:, :, :frames], acoustic[:, :, :frames]], 1))

    def _semantic(self, x: Features) -> Output:
        """Return features of what is said, one for each whole frame."""
        around = w2v_bert.HOP if self.centred else 0
        wave = F.pad(x[:, 0], (around, around))
        (last,) = deque(self.semantic.states(wave), maxlen=1)
        features = self.adapter(last.transpose(1, 2))
        short = x.shape[2] // FRAME - features.shape[2]
        return torch.cat([features, *[features[:, :, -1:]] * short], 2)


def _decoder(config: Config) -> Chain:
    """Build the decoder: maps, residual units around a transformer, Fourier head."""
    width, hop = config.width, FRAME * config.decoded_rate // RATE
    sizes: dict[str, Any] = {n: getattr(config, n) for n in ("blocks", "heads", "hidden")}
    units = [ResnetBlock(width, groups=GROUPS, dropout=config.dropout, eps=EPS) for _ in range(4)]
    return Chain(
        [
            Mix(config.semantic + width, width),
            Conv(width, width, 7, causal=False),
            *units[:2],
            ClipTransformer(width, **sizes, norm=partial(RmsNorm, eps=EPS)),
            *units[2:],
            Norm(width, eps=EPS),
            Mix(width, 4 * hop + 2),
            FourierHead(hop, 4 * hop),
        ]
    )


# Of transformers' Xcodec2Config and NeuCodecConfig.
_OPTIONS = Options(
    fields={
        "activation_dropout": "dropout",
        "downsampling_ratios": "strides",
        "num_attention_heads": "heads",
        "output_sampling_rate": "decoded_rate",
        "quantization_levels": "levels",
    },
    fixed={
        "attention_bias": False,
        "hidden_act": "silu",
        "input_sampling_rate": RATE,
        "rms_norm_eps": EPS,
        "sampling_rate": RATE,
    },
    derived=(
        *("encoder_hidden_size", "head_dim", "hidden_size", "intermediate_size"),
        *("num_hidden_layers", "num_key_value_heads", "quantization_dim", "semantic_model_config"),
        "rope_parameters",  # turns that cancel each other
    ),
)
CENTRED = {"xcodec2": True, "neucodec": False}  # by type of model


def _read(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of `Config` that a configuration tells."""
    fields, part = _OPTIONS.read(metadata), "semantic_model_config"
    semantic = w2v_bert.OPTIONS.read(metadata.get(part) or {}, f"{part} of config.json")
    fields |= {f"semantic_{name}": value for name, value in semantic.items()}
    heads = metadata.get("num_attention_heads")
    keys, turns = metadata.get("num_key_value_heads", heads), metadata.get("rope_parameters") or {}
    if keys != heads:
        raise StateDictError(f"config.json has {keys} heads of keys, and the network here {heads}")
    if turns.get("rope_type", "default") != "default":
        raise StateDictError(f"config.json has {turns}, which may scale attention")
    lists = {name: tuple(fields[name]) for name in ("strides", "levels") if name in fields}
    return fields | lists


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    units = count(weights, r"encoder\.acoustic\.layers\.\d+\.body\.layers\.1\.conv\.weight")
    strides = tuple(
        weights[f"encoder.acoustic.layers.{5 * i + 5}.conv.weight"].shape[2] // 2
        for i in range(units // 3)
    )
    width, latent = weights["decoder.layers.0.linear.weight"].shape
    rate = (len(weights["decoder.layers.8.linear.weight"]) - 2) // 4 * RATE // FRAME
    block = "encoder.semantic.blocks.0"
    distances, head = weights[f"{block}.attention.distances.weight"].shape
    options = _read(metadata)
    sizes = {
        "decoded_rate": rate,
        "encoder": len(weights["encoder.acoustic.layers.0.conv.weight"]),
        "strides": strides,
        "width": width,
        "semantic": latent - width,
        "semantic_blocks": count(weights, r"encoder\.semantic\.blocks\.\d+\.first\.up\.weight"),
        "semantic_heads": (latent - width) // head,
        "semantic_hidden": len(weights[f"{block}.first.up.weight"]),
        "semantic_kernel": weights[f"{block}.convolution.depthwise.weight"].shape[2],
        "semantic_after": distances - 1 - options.get("semantic_before", Config.semantic_before),
        "blocks": count(weights, r"decoder\.layers\.4\..*\.qkv\.weight"),
        "hidden": len(weights["decoder.layers.4.layers.1.body.layers.1.linear.weight"]),
    }
    kind = metadata.get("model_type", "xcodec2" if rate == RATE else "neucodec")
    if kind not in CENTRED:
        raise StateDictError(f"config.json has model_type {kind!r}, none of {', '.join(CENTRED)}")
    defaults = {
        "centred": CENTRED[kind],
        "heads": width // 64,
        "levels": (4,) * len(weights["quantizer.down.weight"]),
    }
    return {**defaults, **agreed(sizes, options)}


def _prepared(tensors: Weights) -> Weights:
    """Rename what is w2v-BERT's, and the last layers of the convolutions."""
    own = "semantic_encoder."
    known = (f"{own}encoder.layers.", f"{own}feature_projection.")
    semantic = {name: value for name, value in tensors.items() if name.startswith(known)}
    renamed = w2v_bert.renamed({n.removeprefix(own): value for n, value in semantic.items()})
    others = {name: value for name, value in tensors.items() if name not in semantic}
    strides = count(tensors, r"acoustic_encoder\.block\.\d+\.conv1\.weight")
    ends = {
        "acoustic_encoder.snake1.act.": f"encoder.acoustic.layers.{5 * strides + 1}.activation.",
        "acoustic_encoder.conv2.": f"encoder.acoustic.layers.{5 * strides + 2}.conv.",
    }
    for old, new in ends.items():
        others = {re.sub(f"^{re.escape(old)}", new, n): value for n, value in others.items()}
    return {**others, **{f"encoder.semantic.{name}": value for name, value in renamed.items()}}


_UNIT = {"snake1.act": "0.activation", "conv1": "1.conv", "snake2.act": "2.activation"}
_RESNET = {"norm1": "0.norm", "conv1": "2.conv", "norm2": "3.norm", "conv2": "6.conv"}
_BLOCK = {
    "input_layernorm": (0, "0.norm"),
    "self_attn.q_proj": (0, "1.qkv"),
    "self_attn.k_proj": (0, "1.qkv"),
    "self_attn.v_proj": (0, "1.qkv"),
    "self_attn.o_proj": (0, "1.out"),
    "post_attention_layernorm": (1, "0.norm"),
    "mlp.fc1": (1, "1.linear"),
    "mlp.fc2": (1, "3.linear"),
}
_ADAPTER = {"1": "0.conv", "2": "2.body.layers.0.conv", "3": "2.body.layers.2.conv", "4": "3.conv"}


def _in_unit(match: re.Match[str]) -> str:
    """Return the name of a tensor in a residual unit of the encoder."""
    layer = 5 * int(match[1]) + int(match[2])
    return f"encoder.acoustic.layers.{layer}.body.layers.{_UNIT.get(match[3], '3.conv')}."


def _in_block(match: re.Match[str]) -> str:
    """Return the name of a tensor in a block of the decoder."""
    first, name = _BLOCK[match[2]]
    part = f"#{'qkv'.index(match[2][-6])}" if name == "1.qkv" else ""
    layer = f"decoder.layers.4.layers.{2 * int(match[1]) + first}"
    return f"{layer}.body.layers.{name}.weight{part}"


def _in_resnet(match: re.Match[str]) -> str:
    """Return the name of a tensor in a residual unit of the decoder."""
    layer = {"prior": 2, "post": 5}[match[1]] + int(match[2])
    return f"decoder.layers.{layer}.body.layers.{_RESNET[match[3]]}."


_RULES: Sequence[Rule] = (
    (r"^fc_encoder\.", "encoder.mix.linear."),
    (r"^semantic_adapter\.conv(\d)\.", lambda m: f"encoder.adapter.layers.{_ADAPTER[m[1]]}."),
    (r"^acoustic_encoder\.conv1\.", "encoder.acoustic.layers.0.conv."),
    (r"^acoustic_encoder\.block\.(\d+)\.res_unit(\d)\.(snake[12]\.act|conv[12])\.", _in_unit),
    (
        r"^acoustic_encoder\.block\.(\d+)\.snake1\.act\.",
        lambda m: f"encoder.acoustic.layers.{5 * int(m[1]) + 4}.activation.",
    ),
    (
        r"^acoustic_encoder\.block\.(\d+)\.conv1\.",
        lambda m: f"encoder.acoustic.layers.{5 * int(m[1]) + 5}.conv.",
    ),
    (r"^quantizer\.project_in\.", "quantizer.down."),
    (r"^quantizer\.project_out\.", "quantizer.up."),
    (r"^acoustic_decoder\.fc\.", "decoder.layers.0.linear."),
    (r"^acoustic_decoder\.embed\.", "decoder.layers.1.conv."),
    (r"^acoustic_decoder\.norm\.", "decoder.layers.7.norm."),
    (r"^acoustic_decoder\.head\.linear\.", "decoder.layers.8.linear."),
    (r"^acoustic_decoder\.(prior|post)_net\.(\d)\.(norm[12]|conv[12])\.", _in_resnet),
    (rf"^acoustic_decoder\.layers\.(\d+)\.({'|'.join(_BLOCK)})\.weight$", _in_block),
)


class Xcodec2(Codec):
    """A codec of w2v-BERT and convolutions, one grid, and a transformer at the frame rate."""

    name = "xcodec2"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "xcodec2": Config(),
        "neucodec": Config(decoded_rate=24000, centred=False),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        name: Taxonomy(
            encoder="w2v-BERT 2.0 and BigCodec",
            decoder="Transformer and Vocos",
            quantizer="FSQ",
            training="distilled",
            teacher="w2v-BERT 2.0",
            licence=licence,
        )
        for name, licence in (("xcodec2", "CC-BY-NC-4.0"), ("neucodec", "Apache-2.0"))
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "xcodec2": PublishedWeights(file="model.safetensors", repo="HKUSTAudio/xcodec2-hf"),
        "neucodec": PublishedWeights(file="model.safetensors", repo="neuphonic/neucodec"),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
            source="transformers, Xcodec2Model or NeuCodecModel",
            marks=(
                "semantic_encoder.encoder.layers.0.self_attn.distance_embedding.weight",
                "acoustic_encoder.block.0.res_unit1.snake1.act.beta",
                "acoustic_decoder.prior_net.0.norm1.weight",
                "quantizer.project_in.weight",
            ),
            prepare=_prepared,
            ignored=(r"^semantic_encoder\.masked_spec_embed$",),  # in place of masked frames
            rules=_RULES,
            sizes=_sizes,
        ),
    )
    causal = False
    fills_up = False
    sample_rate = RATE
    frame_size = FRAME
    semantic_codebooks = 1
    block = 64

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.encoder = _Encoder(config)
        latent = config.semantic + config.width
        self.quantizer = keep_size(Fsq(latent, levels=config.levels, rule="original", bounds=2))
        self.decoder = _decoder(config)

    @property
    def decoded_rate(self) -> int:
        """See `Tokenizer.decoded_rate`."""
        return self.config.decoded_rate

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`; w2v-BERT's feature in place of masked frames counts."""
        return super().parameters_trained + self.config.semantic
