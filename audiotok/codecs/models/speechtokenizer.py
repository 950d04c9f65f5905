"""SpeechTokenizer and DM-Codec: 16 kHz speech, 50 frames/s, 8 codebooks, up to 4 kbps.

    wave -> SEANet with BiLSTM -> latent 1024 -> 8 x 1024 -> SEANet with LSTM -> wave
                                                 \\-> any codebook -> semantic head 768

The first codebook is distilled from HuBERT, so that it says what is said and the others how. In
DM-Codec, whose network is the same, a text model teaches too, and may teach every codebook. Either
hears the whole recording (the encoder's LSTM runs both ways), so it cannot stream.

Source: Zhang et al. 2023, arXiv:2308.16692, package speechtokenizer 1.0.1; Ahasan et al. 2024,
arXiv:2410.15017 (DM-Codec).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from torch import Tensor, nn

from audiotok._platform.shapes import Latent
from audiotok.codecs.models.base import Codec
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.seanet import Config as Sizes
from audiotok.nn.layers.seanet import Seanet
from audiotok.nn.pretrained.hub import Source
from audiotok.nn.pretrained.state_dicts import (
    AVERAGES,
    EUCLIDEAN,
    SEANET,
    Dialect,
    Weights,
    count,
    encoder_strides,
    fair_share,
    sample_rate,
)
from audiotok.nn.quantizers.rvq import Rvq


@dataclass(frozen=True)
class Config:
    """Sizes of `Speechtokenizer`; the defaults are the published ones."""

    sample_rate: int = 16000  # Hz
    width: int = 64  # of the network at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 4, 5, 8)  # of the encoder; the frame is their product
    snake: bool = False  # activations are Snake, not ELU
    lstm: int = 2  # layers of it; the encoder's run both ways
    latent: int = 1024  # width of what is quantized
    codebooks: int = 8
    size: int = 1024  # entries in a codebook
    semantic: int = 768  # width of the teacher that codebooks are distilled from

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


def _sizes(weights: Weights, about: Mapping[str, Any]) -> dict[str, Any]:
    size, latent = weights["quantizer.stages.0.entries"].shape
    return {
        **sample_rate(about),
        "width": len(weights["encoder.layers.0.conv.bias"]),
        "strides": encoder_strides(weights),
        "snake": "encoder.layers.2.alpha" in weights,
        "lstm": count(weights, r"decoder\.layers\.1\.lstm\.weight_hh_l\d+"),
        "latent": latent,
        "codebooks": count(weights, r"quantizer\.stages\.\d+\.entries"),
        "size": size,
        "semantic": len(weights["semantic.bias"]),
    }


class Speechtokenizer(Codec):
    """Convolutions from the waveform and back, and a head to distil codebooks by."""

    name = "speechtokenizer"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "speechtokenizer": Config(),
        "speechtokenizer_snake": Config(snake=True),
        "dm_codec": Config(),
    }
    sources: ClassVar[Mapping[str, Source]] = {
        "speechtokenizer": Source(
            repo="fnlp/SpeechTokenizer", file="speechtokenizer_hubert_avg/SpeechTokenizer.pt"
        ),
        "speechtokenizer_snake": Source(
            repo="fnlp/AnyGPT-speech-modules", file="speechtokenizer/ckpt.dev"
        ),
        # Named by its README; the file's name there has not been seen.
        "dm_codec": Source(
            file="DM-Codec_checkpoint_LM_SM.pt",
            page="https://drive.google.com/file/d/1pvrPcbUTUAlo2_iGLIIf7IFNJPfzmHbh/view",
        ),
    }
    dialects: ClassVar[Sequence[Dialect]] = (
        Dialect(
            source="speechtokenizer 1.0.1",
            marks=(
                "encoder.model.0.conv.conv.weight",
                "quantizer.vq.layers.0._codebook.embed",
                "transform.weight",
            ),
            ignored=AVERAGES,
            rules=(*SEANET, *EUCLIDEAN, (r"^transform\.", "semantic.")),
            tensors=((r"\.usage$", fair_share),),
            sizes=_sizes,
        ),
    )
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate, self.frame_size = config.sample_rate, prod(config.strides)
        sizes = Sizes(
            latent=config.latent,
            width=config.width,
            strides=tuple(config.strides),
            lstm=config.lstm,
            bidirectional=True,
            snake=config.snake,
            causal=False,
        )
        self.encoder = Seanet.encoder(sizes)
        self.quantizer = Rvq(config.latent, codebooks=config.codebooks, size=config.size)
        self.semantic = nn.Linear(config.latent, config.semantic)
        self.decoder = Seanet.decoder(sizes)

    def distilled(self, stage: Latent) -> Tensor:
        """What a codebook says in the teacher's space: `[b d f]` to `[b f semantic]`.

        `stage` is `Quantized.first`, or any of `Quantized.stages` (DM-Codec).
        """
        return self.semantic(stage.transpose(1, 2))

    def weight_normed(self) -> Iterable[nn.Module]:
        """All convolutions."""
        return convolutions(self)
