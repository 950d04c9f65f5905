"""CLaM-TTS's Mel-VAE: log-mel spectra at 10.8 Hz as 32 codes a frame, with probabilistic codebooks.

    wave at 22.05 kHz -> log-mel, 86 Hz -> 3 strided convolutions -> 32 x 1024, 10.8 Hz
    codes -> sum of entries -> 3 transposed convolutions -> log-mel (`restored`) -> vocoder -> wave

Spectra become a wave by Griffin-Lim, which has no weights and needs the whole recording, or by a
Vocos (`with_vocoder`) that recipes/vocoder_clam.toml trains; the paper has BigVGAN there. `loss` is
what training of all else lowers, but for the adversarial part, which is not here. There are no
published weights and no published code: sizes of the network are of this package, those of the
codebooks are the paper's.

Sources: Kim et al. 2024, arXiv:2404.02781, section 3.1; Vocos: Siuzdak 2023, arXiv:2306.00814.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10, prod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Latent, Output, Scalar, Wave
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.griffin_lim import MelInversion
from audiotok.nn.layers.base import Layer, Norm, WholeClip
from audiotok.nn.layers.centred_mel import CentredMel
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.quantizers.probabilistic_rvq import ProbabilisticRvq
from audiotok.nn.vocos_chain import VocosChain

FLOOR = 1e-5  # least magnitude of a band
VOCODER = "decoder.layers.1."  # where its weights are
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
    vocoder_width: int = 512  # width of the vocoder
    vocoder_blocks: int = 0  # ConvNeXt blocks of it; 0 for Griffin-Lim in its place

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # TOML and JSON give lists
        if min(self.bands, self.width, self.latent, self.vocoder_width, *self.strides) < 1:
            raise InputError("bands, width, latent, strides and vocoder_width: at least 1")
        if min(self.blocks, self.vocoder_blocks) < 0:
            raise InputError("blocks and vocoder_blocks: 0 or more")


class _Inverted(WholeClip):
    """Layer from latents `[b d f]` to waves `[b 1 t]` by Griffin-Lim.

    Recordings run one after the other, as in `MelInversion` and for its reason.
    """

    def __init__(self, latent: int, restorer: Chain, inversion: MelInversion) -> None:
        super().__init__(latent, 1)
        self.produces = restorer.produces * inversion.produces
        self.layers = nn.ModuleList([restorer, inversion])  # by the names of a chain

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`.

        Raises:
            InputError: in training.
        """
        restorer, inversion = self.layers
        spectra = [restorer(one) for one in x.split(1)]
        if any(each.requires_grad for each in spectra):
            raise InputError(
                "clam: Griffin-Lim learns nothing: give it a vocoder (vocoder_blocks) to train, or "
                "train its spectra by Clam.loss"
            )
        return torch.cat([inversion(each) for each in spectra])


class Clam(Codec):
    """A codec of log-mel spectra, of which a vocoder makes the wave."""

    name = "clam"
    config_type = Config
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "clam": Taxonomy(
            encoder="convolutions over mel bands",
            decoder="convolutions, then Griffin-Lim or Vocos",
            quantizer="probabilistic RVQ",
            training="joint",
            domain="speech",
            licence="",
        )
    }
    causal = False
    fills_up = False
    block = 16  # frames are long

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
        mel: dict[str, Any] = {
            "rate": config.sample_rate,
            "hop": config.hop,
            "window": config.window,
            "fft": config.fft,
            "bands": config.bands,
            "low": config.low,
            "high": config.high,
        }
        self.encoder = Chain(
            [
                CentredMel(**mel, floor=FLOOR),
                Chain([Conv(config.bands, width, 3), *down, Conv(width, config.latent, 1)]),
            ]
        )
        self.quantizer = ProbabilisticRvq(
            config.latent, codebooks=config.codebooks, size=config.size
        )
        restorer = [Conv(config.latent, width, 3), *up, Norm(width), Conv(width, config.bands, 1)]
        if config.vocoder_blocks:
            vocoder = VocosChain(
                config.bands,
                config.vocoder_width,
                blocks=config.vocoder_blocks,
                expansion=3,
                hop=config.hop,
                window=config.window,
            )
            self.decoder = Chain([Chain(restorer), vocoder])
        else:
            inversion = MelInversion(**mel, quietest=log10(FLOOR))
            self.decoder = _Inverted(config.latent, Chain(restorer), inversion)

    @property
    def _parts(self) -> tuple[Layer, Layer, Layer, Layer]:
        """The layer of spectra, the network over them, the one back to them, and the vocoder."""
        spectra, down = cast("Chain", self.encoder)
        restorer, vocoder = cast("Any", self.decoder.layers)
        return spectra, down, restorer, vocoder

    def mels(self, wave: Wave) -> Tensor:
        """Return the log-mel spectra `[b bands n]` of waves `[b 1 t]` of whole frames."""
        return self._parts[0](wave)

    def restored(self, latent: Latent) -> Tensor:
        """Return the log-mel spectra `[b bands n]` that latents `[b d f]` decode to."""
        return self._parts[2](latent)

    def sound(self, spectra: Tensor) -> Wave:
        """Return the waves `[b 1 t]` that the vocoder makes of log-mel spectra `[b bands n]`."""
        return self._parts[3](spectra)

    def with_vocoder(self, blocks: int = 8, width: int = 512) -> Clam:
        """Return a codec with these weights and a new Vocos as its vocoder; codes stay the same.

        Args:
            blocks: ConvNeXt blocks of the vocoder.
            width: width of the vocoder.
        """
        other = Clam(replace(self.config, vocoder_blocks=blocks, vocoder_width=width))
        kept = {k: v for k, v in self.state_dict().items() if not k.startswith(VOCODER)}
        other.load_state_dict(kept, strict=False)
        other.name = self.name
        other.former_fingerprints = self.former_fingerprints
        return other

    def loss(self, wave: Wave) -> Scalar:
        """Return what training lowers: the mean absolute difference of spectra, and commitment.

        Args:
            wave: `[b 1 t]` of whole frames.
        """
        spectra = self.mels(wave)
        quantized = self.quantizer(self._parts[1](spectra))
        difference = (self.restored(quantized.latent) - spectra).abs().mean()
        return RECONSTRUCTION * difference + quantized.losses["commitment"]
