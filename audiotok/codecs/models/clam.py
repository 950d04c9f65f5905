"""CLaM-TTS's Mel-VAE: log-mel spectra at 10.8 Hz as 32 codes a frame, with probabilistic codebooks.

    wave at 22.05 kHz -> log-mel, 86 Hz -> 3 strided convolutions -> 32 x 1024, 10.8 Hz
    codes -> sum of entries -> 3 transposed convolutions -> log-mel (`restored`)

Its decoder makes spectra, of which a vocoder makes a wave (BigVGAN in the paper), so it is a
tokenizer: a decoder apart, such as `vocoder`, makes sound of its codes. `loss` is what training
lowers, but for the adversarial part, which is not here. There are no published weights and no
published code: sizes of the network are of this package, those of the codebooks are the paper's.

Source: Kim et al. 2024, arXiv:2404.02781, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, cast

from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent, Scalar, Wave
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import Chain, Layer, Norm
from audiotok.nn.layers.centred_mel import CentredMel
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.quantizers.probabilistic_rvq import ProbabilisticRvq

FLOOR = 1e-5  # least magnitude of a band
RECONSTRUCTION = 1.0  # weight of the difference of spectra


@dataclass(frozen=True)
class Config:
    """Sizes of `Clam`."""

    sample_rate: int = 22050  # Hz
    hop: int = 256  # samples from one spectrum to the next
    window: int = 1024  # samples of the window
    fft: int = 1024  # samples of the transform
    bands: int = 80  # mel bands
    low: float = 0.0  # Hz
    high: float = 8000.0  # Hz
    width: int = 512  # width of the network
    strides: Sequence[int] = (2, 2, 2)  # spectra of a frame: their product
    blocks: int = 2  # ConvNeXt blocks before each stride, and after it in the decoder
    latent: int = 512  # width of the latent that is quantized
    codebooks: int = 32
    size: int = 1024  # entries in a codebook

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give lists
        if min(self.bands, self.width, self.latent, *self.strides) < 1 or self.blocks < 0:
            raise InputError("bands, width, latent and strides: at least 1, and blocks at least 0")


class Clam(Codec):
    """A tokenizer of log-mel spectra, and back to spectra."""

    name = "clam"
    config_type = Config
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "clam": Taxonomy(
            encoder="convolutions over mel bands",
            decoder="none",
            quantizer="probabilistic RVQ",
            training="joint",
            domain="speech",
            licence="",
        )
    }
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = self.end_unit = config.hop * prod(config.strides)
        width = config.width

        def blocks() -> list[Layer]:
            return [Convnext(width) for _ in range(config.blocks)]

        down = [
            layer
            for stride in config.strides
            for layer in (
                *blocks(),
                Norm(width),
                # A spectrum lags, so that steps are no multiples of the stride.
                Conv(width, width, 2 * stride, stride=stride, causal=False),
            )
        ]
        up = [
            layer
            for n in reversed(config.strides)
            for layer in (TransposedConv(width, width, 2 * n, stride=n), *blocks())
        ]
        self.encoder = Chain(
            [
                CentredMel(
                    rate=config.sample_rate,
                    hop=config.hop,
                    window=config.window,
                    fft=config.fft,
                    bands=config.bands,
                    low=config.low,
                    high=config.high,
                    floor=FLOOR,
                ),
                Chain([Conv(config.bands, width, 3), *down, Conv(width, config.latent, 1)]),
            ]
        )
        self.quantizer = ProbabilisticRvq(
            config.latent, codebooks=config.codebooks, size=config.size
        )
        self.restorer = Chain(
            [Conv(config.latent, width, 3), *up, Norm(width), Conv(width, config.bands, 1)]
        )
        self.decoder = Absent("decoder", self.frame_size)

    @property
    def _parts(self) -> list[Layer]:
        """The layer of spectra, and the network over them."""
        return [*cast("Chain", self.encoder)]

    def mels(self, wave: Wave) -> Tensor:
        """Return the log-mel spectra `[b bands n]` of waves `[b 1 t]` of whole frames."""
        return self._parts[0](wave)

    def restored(self, latent: Latent) -> Tensor:
        """Return the log-mel spectra `[b bands n]` that latents `[b d f]` decode to."""
        return self.restorer(latent)

    def loss(self, wave: Wave) -> Scalar:
        """Return what training lowers: the mean absolute difference of spectra, and commitment.

        Args:
            wave: `[b 1 t]` of whole frames.
        """
        spectra = self.mels(wave)
        quantized = self.quantizer(self._parts[1](spectra))
        difference = (self.restored(quantized.latent) - spectra).abs().mean()
        return RECONSTRUCTION * difference + quantized.losses["commitment"]
