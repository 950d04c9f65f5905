"""X-Codec and Higgs Audio v2: what is said and how it sounds, in one residual quantizer.

    wave -> DAC's encoder ----------------------------> 256 -\\
         -> 16 kHz -> HuBERT, mean of states -> convs -> 768 -+-> 1024 -> 8 x 1024 -> DAC's decoder

X-Codec runs at 16 kHz and 50 frames/s (4 kbps); Higgs at 24 kHz and 25 frames/s (2 kbps), where
every second feature of HuBERT is left out and a codebook is searched in 64 features. HuBERT attends
to the whole recording, so neither can stream; the decoder sees a bounded span of codes.

Source: Ye et al. 2024, arXiv:2408.17175 (X-Codec); Boson AI 2025, Higgs Audio v2; names and sizes
of transformers 5.24.0. Of a recording that ends within a frame, that program shifts the sound by
half a frame against the features of HuBERT, or drops its end; here silence fills up the last frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Latent, Output
from audiotok.audio import _torchaudio
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.dac import HF_BLOCKS, dac_decoder, hf_ends
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features.hubert import Hubert
from audiotok.data.features.wav2vec2 import STRIDES
from audiotok.nn.layers.base import Layer, Mix, WholeClip
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.parallel import Parallel
from audiotok.nn.layers.residual_unit import ResidualUnit
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.strided_encoder import StridedEncoder
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.options import Options
from audiotok.nn.pretrained.state_dicts import (
    AVERAGES,
    Rule,
    StateDictAdapter,
    StateDictError,
    Weights,
    count,
    encoder_strides,
    fair_share,
)
from audiotok.nn.quantizers.projected_rvq import ProjectedRvq
from audiotok.nn.quantizers.rvq import Rvq

KERNELS = (10, 3, 3, 3, 3, 2, 2)  # of HuBERT's convolutions
HOP = prod(STRIDES)  # samples in a feature of HuBERT
MARGIN = HOP // 2  # silence before and after what HuBERT is given
BLOCKS = 2  # of the convolutions beside HuBERT
# Beginnings of the names of weights in the encoder.
ACOUSTIC = "encoder.layers.0.layers.0"
SEMANTIC = "encoder.layers.0.layers.1"
HUBERT = f"{SEMANTIC}.layers.0.hubert.network"


@dataclass(frozen=True)
class Config:
    """Sizes of `Xcodec`; the defaults are those of X-Codec."""

    sample_rate: int = 16000  # Hz
    encoder: int = 64  # width of the encoder at the audio rate; doubles at every stride
    decoder: int = 1024  # width of the decoder at the frame rate; halves at every stride
    strides: Sequence[int] = (8, 5, 4, 2)  # of encoder and decoder, each from its first layer
    acoustic: int = 256  # width of the latent that is decoded
    codebooks: int = 8
    size: int = 1024  # entries in a codebook
    code_width: int = 0  # features in which a codebook is searched; 0: all, without a projection
    semantic: int = 768  # width of HuBERT's features
    layers: int = 12  # transformer layers of HuBERT
    heads: int = 12  # their attention heads
    hidden: int = 3072  # width within their feed-forward parts
    extractor: int = 512  # width of HuBERT's convolutions
    positions: int = 128  # taps of its convolution that tells positions
    groups: int = 16  # groups of features in that

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list
        rate = Hubert.sample_rate
        if prod(self.strides) * rate % (HOP * self.sample_rate):
            raise InputError(
                f"a frame of {prod(self.strides)} samples at {self.sample_rate} Hz is no whole"
                f" number of HuBERT's features, of {HOP} samples at {rate} Hz"
            )


HIGGS = Config(sample_rate=24000, strides=(8, 5, 4, 2, 3), code_width=64)


def _hubert(config: Config) -> Hubert:
    """Return a HuBERT that no training changes, its weight normalisation folded."""
    convolutions = [(config.extractor, *taps) for taps in zip(KERNELS, STRIDES, strict=True)]
    options = {
        "extractor_mode": "group_norm",
        "extractor_conv_layer_config": convolutions,
        "extractor_conv_bias": False,
        "encoder_embed_dim": config.semantic,
        "encoder_pos_conv_kernel": config.positions,
        "encoder_pos_conv_groups": config.groups,
        "encoder_num_layers": config.layers,
        "encoder_num_heads": config.heads,
        "encoder_ff_interm_features": config.hidden,
        "encoder_layer_norm_first": False,
    }
    hubert = Hubert(options, normalise=False).requires_grad_(False)
    hubert.quicken()
    return hubert


def _conv(width: int, *, bias: bool = False) -> Layer:
    """Return a convolution of three taps."""
    return Conv(width, width, 3, bias=bias, causal=False)


def _units(width: int) -> list[Layer]:
    """Return the residual units of a block."""
    return [ResidualUnit(width, bias=False, causal=False) for _ in range(2)]


def _after_hubert(width: int) -> list[Layer]:
    """Return the convolutions between HuBERT and the latent: conv, n x (residual units, conv)."""
    blocks = (layer for _ in range(BLOCKS) for layer in [*_units(width), _conv(width, bias=True)])
    return [_conv(width), *blocks]


def _to_hubert(latent: int, width: int) -> Chain:
    """Build the way back, which training compares: linear, conv, n x (conv, units), conv."""
    blocks = (layer for _ in range(BLOCKS) for layer in [_conv(width, bias=True), *_units(width)])
    return Chain([Mix(latent, width), _conv(width), *blocks, _conv(width)])


class HubertFeatures(WholeClip):
    """Waves `[b 1 t]` of whole frames to the mean of HuBERT's states, one feature a frame."""

    def __init__(self, config: Config) -> None:
        super().__init__(1, config.semantic)
        self.consumes = prod(config.strides)
        self.sample_rate = config.sample_rate
        self.hubert = _hubert(config)
        samples = self.consumes * self.hubert.sample_rate // self.sample_rate
        self.every = samples // HOP  # features of HuBERT in a frame, of which the first is taken

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        states = self.hubert.states(F.pad(self.resampled(x[:, 0]), (MARGIN, MARGIN)))
        mean = self.hubert.choose(states, ["mean"])[0]
        return mean[:, :: self.every].transpose(1, 2)

    def resampled(self, wave: Tensor) -> Tensor:
        """Return waves `[b t]` at HuBERT's rate."""
        resample = _torchaudio.load().functional.resample
        return resample(wave, self.sample_rate, self.hubert.sample_rate)


def _encoder(config: Config) -> Chain:
    """Build the encoder: DAC's beside HuBERT and convolutions, then a linear map."""
    acoustic = StridedEncoder(
        config.encoder, config.acoustic, strides=config.strides, activation=Snake
    )
    semantic = Chain([HubertFeatures(config), *_after_hubert(config.semantic)])
    latent = config.acoustic + config.semantic
    return Chain([Parallel([acoustic, semantic]), Mix(latent, latent)])


# -- names and options of transformers -------------------------------------------------------------

_OPTIONS = Options(
    fields={"sample_rate": "sample_rate"},
    fixed={
        "kernel_size": 3,
        "unit_kernel_size": 3,
        "strides": [1] * BLOCKS,
        "channel_ratios": [1] * BLOCKS,
        "block_dilations": [1, 1],
        "semantic_sample_rate": Hubert.sample_rate,
        "downsample_factor": HOP,
    },
    derived=(
        *("acoustic_model_config", "semantic_model_config", "target_bandwidths"),
        *("codebook_size", "codebook_dim"),
    ),
)
_ACOUSTIC = Options(
    fixed={"model_type": "dac"},
    derived=(
        *("encoder_hidden_size", "downsampling_ratios", "hidden_size", "hop_length"),
        *("decoder_hidden_size", "upsampling_ratios", "sampling_rate"),
        # Of DAC's own quantizer, which is left out.
        *("n_codebooks", "codebook_size", "codebook_dim", "quantizer_dropout"),
        *("commitment_loss_weight", "codebook_loss_weight"),
    ),
)
_HUBERT = Options(
    fields={"num_attention_heads": "heads"},
    fixed={
        "model_type": "hubert",
        "conv_kernel": list(KERNELS),
        "conv_stride": list(STRIDES),
        "conv_bias": False,
        "conv_pos_batch_norm": False,
        "do_stable_layer_norm": False,
        "feat_extract_activation": "gelu",
        "feat_extract_norm": "group",
        "feat_proj_layer_norm": True,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    },
    derived=(
        *("hidden_size", "num_hidden_layers", "intermediate_size", "conv_dim", "vocab_size"),
        *("num_feat_extract_layers", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
        # Of its training, and of heads that are not here.
        *("activation_dropout", "hidden_dropout", "feat_proj_dropout", "final_dropout"),
        *("layerdrop", "apply_spec_augment", "mask_time_prob", "mask_time_length"),
        *("mask_time_min_masks", "mask_feature_prob", "mask_feature_length"),
        *("mask_feature_min_masks", "ctc_loss_reduction", "ctc_zero_infinity"),
        *("use_weighted_layer_sum", "classifier_proj_size", "_attn_implementation_autoset"),
    ),
)


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    options = _OPTIONS.read(metadata)
    for part, reader in (("acoustic_model_config", _ACOUSTIC), ("semantic_model_config", _HUBERT)):
        options |= reader.read(metadata.get(part, {}), part)
    layers = f"{HUBERT}.encoder.transformer.layers."
    positions = weights[f"{HUBERT}.encoder.transformer.pos_conv_embed.conv.weight"]
    projection = weights.get("quantizer.stages.0.down.bias")
    entries = "entries" if projection is None else "book.entries"
    semantic = len(positions)
    sizes = {
        "encoder": len(weights[f"{ACOUSTIC}.layers.0.conv.bias"]),
        "decoder": len(weights["decoder.layers.1.layers.0.conv.bias"]),
        "strides": encoder_strides(
            {name.replace(ACOUSTIC, "encoder"): value for name, value in weights.items()}
        ),
        "acoustic": len(weights["decoder.layers.0.linear.bias"]),
        "codebooks": count(weights, rf"quantizer\.stages\.\d+\.{re.escape(entries)}"),
        "size": len(weights[f"quantizer.stages.0.{entries}"]),
        "code_width": 0 if projection is None else len(projection),
        "semantic": semantic,
        "layers": count(weights, rf"{re.escape(layers)}\d+\.layer_norm\.bias"),
        "heads": semantic // 64,  # of every published HuBERT; not told by the weights
        "hidden": len(weights[f"{layers}0.feed_forward.intermediate_dense.bias"]),
        "extractor": len(weights[f"{HUBERT}.feature_extractor.conv_layers.0.conv.weight"]),
        "positions": positions.shape[2],
        "groups": semantic // positions.shape[1],
        **options,
    }
    try:
        Config(**sizes)
    except InputError as error:
        raise StateDictError(str(error)) from None
    return sizes


def _unit(match: re.Match[str]) -> str:
    """Return the name of a convolution in a residual unit beside HuBERT."""
    side, block, unit, number = match.groups()
    name, first = (SEMANTIC, 2) if side == "encoder" else ("semantic", 3)
    layer = f"{name}.layers.{first + 3 * int(block) + int(unit)}"
    return f"{layer}.body.layers.{2 * int(number) - 1}.conv."


_RULES: Sequence[Rule] = (
    *HF_BLOCKS,
    (r"^acoustic_encoder\.", f"{ACOUSTIC}."),
    (r"^acoustic_decoder\.", "decoder.layers.1."),
    (r"^fc\.", "encoder.layers.1.linear."),
    (r"^fc1\.", "semantic.layers.0.linear."),
    (r"^fc2\.", "decoder.layers.0.linear."),
    (
        r"^(encoder|decoder)_semantic\.conv_blocks\.(\d+)\.res_units\.(\d+)\.conv([12])\.",
        _unit,
    ),
    (r"^encoder_semantic\.conv\.", f"{SEMANTIC}.layers.1.conv."),
    (
        r"^encoder_semantic\.conv_blocks\.(\d+)\.",
        lambda match: f"{SEMANTIC}.layers.{4 + 3 * int(match[1])}.",
    ),
    (r"^decoder_semantic\.conv1\.", "semantic.layers.1.conv."),
    (
        r"^decoder_semantic\.conv_blocks\.(\d+)\.",
        lambda match: f"semantic.layers.{2 + 3 * int(match[1])}.",
    ),
    (r"^decoder_semantic\.conv2\.", f"semantic.layers.{2 + 3 * BLOCKS}.conv."),
    (r"^semantic_model\.encoder\.", f"{HUBERT}.encoder.transformer."),
    (
        r"^semantic_model\.feature_projection\.",
        f"{HUBERT}.encoder.feature_projection.",
    ),
    (r"^semantic_model\.", f"{HUBERT}."),
    (r"^quantizer\.quantizers\.", "quantizer.stages."),
    (r"\.codebook\.embed$", ".entries"),
    (r"\.codebook\.cluster_size$", ".usage"),
)
_PROJECTED: Sequence[Rule] = (
    (r"\.project_in\.", ".down."),
    (r"\.project_out\.", ".up."),
    (r"^(quantizer\.stages\.\d+)\.(entries|usage)$", r"\1.book.\2"),
)
_MARKS = (
    "acoustic_encoder.conv1.weight",
    "semantic_model.feature_projection.projection.weight",
    "quantizer.quantizers.0.codebook.embed",
)


def _adapter(model: str, marks: Sequence[str], rules: Sequence[Rule]) -> StateDictAdapter:
    """Return the naming of weights in one of the models."""
    return StateDictAdapter(
        source=f"transformers, {model}",
        marks=marks,
        prepare=partial(hf_ends, prefix="acoustic_"),
        ignored=(*AVERAGES, r"^semantic_model\.masked_spec_embed$"),  # both of training
        rules=rules,
        tensors=((r"\.usage$", fair_share),),
        sizes=_sizes,
    )


XCODEC = Taxonomy(
    encoder="DAC and HuBERT",
    decoder="DAC",
    quantizer="RVQ",
    training="distilled",
    teacher="HuBERT base",
    licence="unstated; a sister's, xcodec-wavlm-more-data, CC-BY-4.0",
)


class Xcodec(Codec):
    """A codec of DAC's convolutions and of HuBERT's features, quantized together."""

    name = "xcodec"
    config_type = Config
    teacher_field = "semantic"
    presets: ClassVar[Mapping[str, Config]] = {"xcodec": Config(), "higgs_v2": HIGGS}
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "xcodec": XCODEC,
        "higgs_v2": replace(
            XCODEC, domain="audio", licence="Boson Higgs Audio 2 Community License"
        ),
    }
    # Repositories of transformers' folders; the files in them have not been seen.
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "xcodec": PublishedWeights(
            repo="hf-audio/xcodec-hubert-librispeech", file="model.safetensors"
        ),
        "higgs_v2": PublishedWeights(
            repo="bosonai/higgs-audio-v2-tokenizer", file="model.safetensors"
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        _adapter("XcodecModel", _MARKS, _RULES),
        _adapter(
            "HiggsAudioV2TokenizerModel",
            (*_MARKS, "quantizer.quantizers.0.project_in.weight"),
            (*_RULES, *_PROJECTED),
        ),
    )
    causal = fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = self.end_unit = prod(config.strides)
        self.block = 40960 // self.frame_size
        self.encoder = _encoder(config)
        latent = config.acoustic + config.semantic
        books, size, width = config.codebooks, config.size, config.code_width
        self.quantizer = (
            ProjectedRvq(latent, codebooks=books, size=size, width=width)
            if width
            else Rvq(latent, codebooks=books, size=size)
        )
        self.semantic = _to_hubert(latent, config.semantic)
        decoder = dac_decoder(config.decoder, config.strides, config.acoustic)
        self.decoder = Chain([Mix(latent, config.acoustic), decoder])

    def distilled(self, latent: Latent) -> Tensor:
        """See `Codec.distilled`; the teacher is HuBERT, the mean of its states."""
        return self.semantic(latent).transpose(1, 2)

    @property
    def parameters_trained(self) -> int:
        """See `Codec.parameters_trained`; with lengths of a weight of HuBERT, and its mask."""
        masked = 0 if self.config.code_width else self.config.semantic
        return super().parameters_trained + self.config.positions + masked
