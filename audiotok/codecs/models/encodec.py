"""EnCodec: general audio at 24 kHz, 75 frames/s, up to 32 codebooks, 1.5 to 24 kbps, causal.

    wave -> SEANet with LSTM -> latent 128 -> 32 x 1024 -> SEANet with LSTM -> wave

Source: Défossez et al. 2022, arXiv:2210.13438; package encodec 0.1.1. Codes and samples are equal
to the package's, also at the ends of a recording, which are mirrored. `encodec_32khz` is MusicGen's
(Copet et al. 2023, arXiv:2306.05284), its sizes those of transformers' script that converts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

from torch import nn

from audiotok._platform.errors import InputError
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.base import Layer
from audiotok.nn.layers.seanet import Config as Sizes
from audiotok.nn.layers.seanet import Seanet
from audiotok.nn.layers.segments import Cut, Join
from audiotok.nn.pretrained.hub import PublishedWeights
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
    sample_rate,
)
from audiotok.nn.quantizer import USUAL, build_quantizer
from audiotok.nn.quantizers.segment_rvq import SegmentRvq


@dataclass(frozen=True)
class Config:
    """Sizes of `Encodec`; the defaults are EnCodec 24 kHz."""

    sample_rate: int = 24000  # Hz
    channels: int = 1  # channels of the audio
    width: int = 32  # width of the network at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 4, 5, 8)  # strides of the encoder; the frame is their product
    kernel: int = 7  # kernel of the first and the last convolution
    lstm: int = 2  # layers of each LSTM
    shortcut: bool = True  # whether the shortcut of a residual unit is a convolution
    latent: int = 128  # width of the latent that is quantized
    codebooks: int = 32
    size: int = 1024  # entries in a codebook
    causal: bool = True
    group_norm: bool = False  # normalise over the clip instead of the weights (48 kHz)
    segment: int = 0  # samples in a segment that is coded separately; 0 for no segments
    stride: int = 0  # samples from one segment's start to the next one's: then the frame
    quantizer: str = "rvq"  # name of any quantizer of latents
    quantizer_options: dict[str, Any] = field(default_factory=dict)  # its options by name

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    width, channels, kernel = weights["encoder.layers.0.conv.weight"].shape
    size, latent = weights["quantizer.stages.0.entries"].shape
    group_norm = "encoder.layers.1.norm.weight" in weights
    shortcut = any(".shortcut." in name for name in weights)
    # What weights do not say is as published: only EnCodec 48 kHz normalises over the clip, only
    # EnCodec 32 kHz has no convolution in its shortcuts, and neither is causal.
    return {
        **({"sample_rate": 48000} if group_norm else {}),
        **({} if shortcut else {"sample_rate": 32000}),
        **sample_rate(metadata),
        "channels": channels,
        "width": width,
        "strides": encoder_strides(weights),
        "kernel": kernel,
        "lstm": count(weights, r"encoder\.layers\.\d+\.lstm\.weight_hh_l\d+"),
        "latent": latent,
        "codebooks": count(weights, r"quantizer\.stages\.\d+\.entries"),
        "size": size,
        "shortcut": shortcut,
        "causal": shortcut and not group_norm,
        "group_norm": group_norm,
        **({"segment": 48000, "stride": 47520} if group_norm else {}),
    }


# transformers names the layers as this codec does; where they are normalised over the clip, a
# normalisation belongs to its convolution there, and is a layer of its own here.

_HF_NORMS: Sequence[Rule] = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.conv(?:tr)?\.(conv|norm)(?:tr)?\.", r".\1."),
    (r"\.block\.1\.conv\.", ".body.layers.1.conv."),
    (r"\.block\.1\.norm\.", ".body.layers.2.norm."),
    (r"\.block\.3\.conv\.", ".body.layers.4.conv."),
    (r"\.block\.3\.norm\.", ".body.layers.5.norm."),
    (r"\.shortcut\.conv\.", ".shortcut.layers.0.conv."),
    (r"\.shortcut\.norm\.", ".shortcut.layers.1.norm."),
    # In the encoder every third layer is a convolution. In the decoder transposed convolutions,
    # from layer 3 on, keep their norms to themselves.
    (
        r"^encoder\.layers\.(\d+)(\.norm)?",
        lambda m: f"encoder.layers.{(4 * int(m[1]) + 2) // 3 + bool(m[2])}{m[2] or ''}",
    ),
    (
        r"^decoder\.layers\.([1-9]\d*)(\.norm)?",
        lambda m: f"decoder.layers.{int(m[1]) + 1}{2 * (m[2] or '')}",
    ),
    (r"^decoder\.layers\.0\.norm", "decoder.layers.1.norm"),
    (r"^decoder\.last\.(\d+)", lambda m: f"decoder.layers.{int(m[1]) + 2}"),
)


def _last_norm(tensors: Weights) -> Weights:
    """Rename the norm after the decoder's last convolution, to tell it from other norms."""
    spelt = r"decoder\.(?:layers|model)\.(\d+)\."
    matches = (re.match(spelt, name) for name in tensors)
    last = max((int(match[1]) for match in matches if match), default=0)
    own = re.compile(rf"^decoder\.(?:layers|model)\.{last}\.(?:conv\.)?norm\.")
    return {own.sub(f"decoder.last.{last}.norm.", name): value for name, value in tensors.items()}


class Encodec(Codec):
    """A codec of convolutions on the waveform, with LSTMs at the frame rate.

    The first frames are mirrored before the start, so a stream begins when `first_frames` of them
    have arrived.

    EnCodec 48 kHz runs on segments of one second, 0.99 s apart, each scaled to loudness 1: here a
    frame is a segment, of 3 + 150 x 16 codes (`SegmentRvq`), and prefixes that end with a codebook
    are those of 3 + 150 n codes.
    """

    name = "encodec"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "encodec_24khz": Config(),
        "encodec_32khz": Config(
            sample_rate=32000,
            width=64,
            strides=(4, 4, 5, 8),
            codebooks=4,
            size=2048,
            causal=False,
            shortcut=False,
        ),
        "encodec_48khz": Config(
            sample_rate=48000,
            channels=2,
            codebooks=16,
            causal=False,
            group_norm=True,
            segment=48000,
            stride=47520,
        ),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="SEANet",
            decoder="SEANet",
            quantizer="RVQ",
            training="joint",
            domain="audio",
            licence="unstated; code MIT",
        ),
    )
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        # File names end in the first digits of their hashes.
        "encodec_24khz": PublishedWeights(
            file="encodec_24khz-d7cc33bc.th",
            url="https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th",
            sha256="d7cc33bc",
            copy="facebook/encodec_24khz",
        ),
        "encodec_32khz": PublishedWeights(
            file="pytorch_model.bin",
            repo="facebook/encodec_32khz",
        ),
        "encodec_48khz": PublishedWeights(
            file="encodec_48khz-7e698e3e.th",
            url="https://dl.fbaipublicfiles.com/encodec/v0/encodec_48khz-7e698e3e.th",
            sha256="7e698e3e",
            copy="facebook/encodec_48khz",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = tuple(
        StateDictAdapter(
            source=source,
            marks=(
                f"{conv}.conv.weight",
                f"{codebook}.embed",
                *((f"{conv}.norm.weight",) if norms else ()),
            ),
            prepare=_last_norm if norms else None,
            ignored=AVERAGES,
            rules=(*(_HF_NORMS if norms else SEANET), *EUCLIDEAN),
            tensors=((r"\.usage$", fair_share),),
            sizes=_sizes,
        )
        for source, conv, codebook in (
            ("encodec 0.1.1", "encoder.model.0.conv", "quantizer.vq.layers.0._codebook"),
            ("transformers 5 EncodecModel", "encoder.layers.0", "quantizer.layers.0.codebook"),
        )
        for norms in (False, True)
    )
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.channels = config.channels
        self.block = 256
        self.frame_size = prod(config.strides)
        self.causal = config.causal
        # The last convolution of the encoder and the first of the decoder run on frames.
        self.first_frames = config.kernel
        sizes = Sizes(
            channels=config.channels,
            latent=config.latent,
            width=config.width,
            strides=tuple(config.strides),
            kernel=config.kernel,
            last_kernel=config.kernel,
            lstm=config.lstm,
            shortcut=config.shortcut,
            group_norm=config.group_norm,
            causal=config.causal,
        )
        self.encoder = Seanet.encoder(sizes)
        self.decoder = Seanet.decoder(sizes)
        books: dict[str, Any] = {"codebooks": config.codebooks, "size": config.size}
        if not config.segment:
            self.quantizer = build_quantizer(
                config.quantizer, config.latent, config.quantizer_options, usual=books
            )
            return
        if config.quantizer != USUAL or config.quantizer_options:
            raise InputError(f"quantizer {config.quantizer!r}: segments have residual codebooks")
        hop = self.frame_size
        cuts = {"size": config.segment, "stride": config.stride, "hop": hop}
        self.cut = Cut(
            self.encoder.forward, channels=config.channels, features=config.latent, **cuts
        )
        self.join = Join(self.decoder.forward, channels=config.channels, **cuts)
        self.quantizer = SegmentRvq(config.latent, latents=-(-config.segment // hop), **books)
        self.frame_size = config.stride
        self.first_frames = 1
        self.block = 2

    def ends(self) -> tuple[Layer, Layer]:
        """See `Network.ends`."""
        return (self.cut, self.join) if self.config.segment else super().ends()

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions, or none where they are normalised over the clip."""
        return () if self.config.group_norm else convolutions(self)
