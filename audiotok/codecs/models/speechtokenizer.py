"""SpeechTokenizer and DM-Codec: 16 kHz speech, 50 frames/s, 8 codebooks, up to 4 kbps.

    wave -> SEANet with BiLSTM -> latent 1024 -> 8 x 1024 -> SEANet with LSTM -> wave
                                                 \\-> any codebook -> semantic head 768

The first codebook is distilled from HuBERT, so that it holds the content of speech and the others
its sound. In DM-Codec, whose network is the same, a text model is a teacher too, and may teach
every codebook. Both need the whole recording (the encoder's LSTM runs both ways), so they cannot
stream.

Source: Zhang et al. 2023, arXiv:2308.16692, package speechtokenizer 1.0.1; Ahasan et al. 2024,
arXiv:2410.15017 (DM-Codec).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

from torch import Tensor, nn

from audiotok._platform.shapes import Latent
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.autoencoder import convolutions
from audiotok.nn.layers.seanet import Config as Sizes
from audiotok.nn.layers.seanet import Seanet
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import (
    AVERAGES,
    EUCLIDEAN,
    SEANET,
    StateDictAdapter,
    Weights,
    count,
    encoder_strides,
    fair_share,
    sample_rate,
)
from audiotok.nn.quantizer import build_quantizer


@dataclass(frozen=True)
class Config:
    """Sizes of `Speechtokenizer`; the defaults are the published ones."""

    sample_rate: int = 16000  # Hz
    width: int = 64  # width of the network at the audio rate; doubles at every stride
    strides: Sequence[int] = (2, 4, 5, 8)  # strides of the encoder; the frame is their product
    snake: bool = False  # whether activations are Snake rather than ELU
    lstm: int = 2  # layers of each LSTM; the encoder's run both ways
    latent: int = 1024  # width of the latent that is quantized
    codebooks: int = 8
    size: int = 1024  # entries in a codebook
    semantic: int = 768  # width of the teacher that codebooks are distilled from
    quantizer: str = "rvq"  # name of any quantizer of latents
    quantizer_options: dict[str, Any] = field(default_factory=dict)  # its options by name

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give a list


def _sizes(weights: Weights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a codec with these weights."""
    size, latent = weights["quantizer.stages.0.entries"].shape
    return {
        **sample_rate(metadata),
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
    """A codec of convolutions on the waveform, with a head by which codebooks are distilled."""

    name = "speechtokenizer"
    teacher_field = "semantic"
    config_type = Config
    semantic_codebooks = 1
    presets: ClassVar[Mapping[str, Config]] = {
        "speechtokenizer": Config(),
        "speechtokenizer_snake": Config(snake=True),
        "dm_codec": Config(),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "speechtokenizer": Taxonomy(
            encoder="SEANet, LSTM",
            decoder="SEANet, LSTM",
            quantizer="RVQ",
            training="distilled",
            teacher="HuBERT",
            licence="unstated; code Apache-2.0",
        ),
        "speechtokenizer_snake": Taxonomy(
            encoder="SEANet, LSTM",
            decoder="SEANet, LSTM",
            quantizer="RVQ",
            training="distilled",
            teacher="HuBERT",
            licence="unstated; code Apache-2.0",
        ),
        "dm_codec": Taxonomy(
            encoder="SEANet, LSTM",
            decoder="SEANet, LSTM",
            quantizer="RVQ",
            training="distilled",
            teacher="BERT, HuBERT",
            licence="unstated; code Apache-2.0",
        ),
    }
    sources: ClassVar[Mapping[str, PublishedWeights]] = {
        "speechtokenizer": PublishedWeights(
            repo="fnlp/SpeechTokenizer", file="speechtokenizer_hubert_avg/SpeechTokenizer.pt"
        ),
        "speechtokenizer_snake": PublishedWeights(
            repo="fnlp/AnyGPT-speech-modules", file="speechtokenizer/ckpt.dev"
        ),
        # The page named in its README; the file's name on it has not been verified.
        "dm_codec": PublishedWeights(
            file="DM-Codec_checkpoint_LM_SM.pt",
            page="https://drive.google.com/file/d/1pvrPcbUTUAlo2_iGLIIf7IFNJPfzmHbh/view",
        ),
    }
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = (
        StateDictAdapter(
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
        self.sample_rate = config.sample_rate
        self.block = 512
        self.frame_size = prod(config.strides)
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
        self.quantizer = build_quantizer(
            config.quantizer,
            config.latent,
            config.quantizer_options,
            usual={"codebooks": config.codebooks, "size": config.size},
        )
        self.semantic_codebooks = min(1, self.codebooks)
        if self.codebooks:  # latents that are kept have none to distil
            self.semantic = nn.Linear(config.latent, config.semantic)
        self.decoder = Seanet.decoder(sizes)

    def distilled(self, latent: Latent) -> Tensor:
        """See `Codec.distilled`."""
        return self.semantic(latent.transpose(1, 2))

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return all convolutions."""
        return convolutions(self)
