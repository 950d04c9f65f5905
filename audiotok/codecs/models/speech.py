"""The codecs of this package: of speech at 16 kHz, 8 codebooks; of music at 24 kHz, 12 codebooks.

Both are causal and have 50 frames/s and 0.5 kbps a codebook. `music` has half the parameters of
`speech`, no teacher, and no codebooks kept for words; its sizes are in `Speech.presets`.

It works at the frame rate: ConvNeXt blocks and a little attention turn one spectrum into another
50 times a second. A SEANet runs its widest convolutions thousands of times a second, and costs 10
to 50 times as much. The algorithmic latency is 40 ms.

    wave -> compressed STFT -> encoder 256 -> latent 96 -> 8 x 1024 -> decoder 384 -> iSTFT -> wave
                                                      \\-> first codebook -> semantic head
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent, Wave
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.nn.layers.attention import Attention
from audiotok.nn.layers.base import Layer, Mix, Norm, State
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.depthwise import Depthwise
from audiotok.nn.layers.fold import CausalFold, Unfold
from audiotok.nn.layers.parallel import LevelNorm, Parallel
from audiotok.nn.layers.stft import Istft, Stft
from audiotok.nn.quantizer import build_quantizer

# Least values of `Config`; blocks are two, since attention stands between the first and the last.
LEAST = {
    **dict.fromkeys(("encoder_blocks", "decoder_blocks", "semantic_blocks"), 2),
    **dict.fromkeys(("sample_rate", "encoder", "decoder", "kernel", "expansion", "window"), 1),
    **dict.fromkeys(("heads", "latent", "codebooks", "semantic_encoder"), 1),
    "semantic": 0,
    **dict.fromkeys(("frame_size", "size"), 2),
}


@dataclass(frozen=True)
class Config:
    """Sizes of `Speech`.

    Raises:
        ValueError: sizes that no network has.
    """

    sample_rate: int = 16000  # Hz
    frame_size: int = 320  # samples in a frame: 50 frames/s
    encoder: int = 256  # width of the encoder
    encoder_blocks: int = 5  # ConvNeXt blocks in it
    decoder: int = 384  # width of the decoder
    decoder_blocks: int = 5  # ConvNeXt blocks in it
    kernel: int = 7  # frames in the kernel of a block's convolution
    expansion: int = 3  # hidden width of a block over its width
    window: int = 50  # frames in the window of attention
    heads: int = 4  # attention heads
    latent: int = 96  # width of the latent that is quantized
    codebooks: int = 8  # codebooks of an `rvq`
    size: int = 1024  # entries in a codebook of an `rvq`
    semantic: int = 512  # width of the teacher that the first codebook is distilled from, or 0
    fold: int = 1  # spectra that are coded as one frame, each of frame_size / fold samples
    semantic_features: int = 0  # first features of the latent, from a gain-invariant encoder
    semantic_encoder: int = 192  # width of that encoder
    semantic_blocks: int = 4  # ConvNeXt blocks in it
    quantizer: str = "rvq"  # name of any quantizer of latents
    quantizer_options: dict[str, Any] = field(default_factory=dict)  # its options by name

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name}={value}: must be at least {least}")
        if self.fold < 1 or self.frame_size % self.fold:
            raise InputError(
                f"fold={self.fold}: a frame of {self.frame_size} samples must divide into so many "
                "spectra"
            )
        if self.frame_size == self.fold:
            raise InputError(f"fold={self.fold}: spectra of 1 sample; 2 are the least")
        if not 0 <= self.semantic_features < self.latent:
            raise InputError(
                f"semantic_features={self.semantic_features}: 0 or more, and fewer than the "
                f"latent's {self.latent}"
            )


def _body(width: int, blocks: int, config: Config) -> list[Layer]:
    """Return ConvNeXt blocks with attention after the first and before the last of them."""
    convnext = [
        Convnext(width, expansion=config.expansion, kernel=config.kernel) for _ in range(blocks)
    ]
    attention = [Attention(width, heads=config.heads, window=config.window) for _ in range(2)]
    return [convnext[0], attention[0], *convnext[1:-1], attention[1], convnext[-1]]


class Speech(Codec):
    """A codec at the frame rate, which ships with the package (`Config` for its sizes)."""

    name = "speech"
    teacher_field = "semantic"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "speech": Config(),
        "music": Config(
            sample_rate=24000,
            frame_size=480,
            encoder=192,
            encoder_blocks=4,
            decoder=256,
            decoder_blocks=4,
            latent=64,
            codebooks=12,
            semantic=0,
        ),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = {
        "speech": Taxonomy(
            encoder="ConvNeXt",
            decoder="Vocos",
            quantizer="RVQ",
            training="distilled",
            teacher="Whisper base",
            licence="Apache-2.0",
            published="in this package",
        ),
        "music": Taxonomy(
            encoder="ConvNeXt",
            decoder="Vocos",
            quantizer="RVQ",
            training="joint",
            domain="audio",
            licence="Apache-2.0",
            published="in this package",
        ),
    }
    semantic_codebooks = 1

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.sample_rate = config.sample_rate
        self.frame_size = config.frame_size
        hop = config.frame_size // config.fold
        # The windows of encoder and decoder are two spectra wide and centred on their spectrum.
        self.look_ahead = hop // 2
        bins = config.fold * 3 * (hop + 1)
        acoustic_features = config.latent - config.semantic_features
        encoder: list[Layer] = [
            Mix(bins, config.encoder),
            *_body(config.encoder, config.encoder_blocks, config),
            Norm(config.encoder),
            Mix(config.encoder, acoustic_features),
            # Residual codebooks learn faster in a space of known scale.
            Norm(acoustic_features, affine=False),
        ]
        if config.semantic_features:
            semantic = [
                LevelNorm(),
                Mix(bins, config.semantic_encoder),
                *_body(config.semantic_encoder, config.semantic_blocks, config),
                Norm(config.semantic_encoder),
                Mix(config.semantic_encoder, config.semantic_features),
                Norm(config.semantic_features, affine=False),
            ]
            encoder = [Parallel([Chain(semantic), Chain(encoder)])]
        folding = [CausalFold(config.fold)] if config.fold > 1 else []
        self.encoder = Chain([Stft(hop), *folding, *encoder])
        self.quantizer = build_quantizer(
            config.quantizer,
            config.latent,
            config.quantizer_options,
            usual={"codebooks": config.codebooks, "size": config.size},
        )
        self.semantic_codebooks = min(1, self.codebooks, config.semantic)
        if self.semantic_codebooks:  # latents that are kept have none to distil
            self.semantic = nn.Linear(config.latent, config.semantic)
        self.decoder = Chain(
            [
                Mix(config.latent, config.decoder),
                Depthwise(config.decoder, 3),
                *_body(config.decoder, config.decoder_blocks, config),
                Norm(config.decoder),
                Mix(config.decoder, bins),
                *([Unfold(config.fold)] if config.fold > 1 else []),
            ]
        )
        self.head = Istft(hop)

    def start_wave(self, batch: int) -> State:
        """Return the initial states of decoder and head."""
        return self.decoder.start(batch), self.head.start(batch)

    def step_wave(self, latent: Latent, state: State, frames: int) -> tuple[Wave, State]:
        """See `Codec.step_wave`; the head takes only the real frames, so that it can flush."""
        spectrum, decoder = self.decoder.step(latent, state[0])
        wave, head = self.head.step(spectrum[:, :, : frames * self.config.fold], state[1])
        return wave, (decoder, head)

    def flush_wave(self, state: State) -> Wave:
        """See `Codec.flush_wave`."""
        return self.head.flush(state[1])

    def first_latents(self, wave: Wave) -> Latent:
        """Return the latents `[b d f]` of the first codebook, by its own encoder alone.

        Args:
            wave: `[b c t]`, t a multiple of `frame_size`.

        Raises:
            ValueError: the first codebook has no encoder of its own (`semantic_features` is 0).
        """
        *before, last = cast("Chain", self.encoder)
        if not isinstance(last, Parallel):
            raise InputError("the first codebook has no encoder: set config.semantic_features")
        encoder = Chain([*before, next(iter(last))])
        wave = F.pad(wave, (self.start_padding, self.look_ahead))
        latent, _ = encoder.step(wave, encoder.start(len(wave)))
        return latent[:, :, self.padding_frames :]

    def distilled(self, latent: Latent) -> Tensor:
        """See `Codec.distilled`."""
        return self.semantic(latent.transpose(1, 2))
