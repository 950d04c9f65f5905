"""Units of what is said, learnt from transcripts: they ship, and need no other model.

    wave -> one level -> log-mel -> 4 blocks of Whisper base -> adapter -> FSQ -> 1 code a frame
                                                                        \\-> characters, by CTC

The blocks are Whisper's, frozen; an adapter for each frame rate learns to keep, through the grid of
finite scalar quantization, what a small reader needs to spell the text (as CosyVoice's S3 does in
the middle of a recogniser), and to give a noisy recording the codes of the clean one. Every
recording is brought to one level first, so its gain has no effect. There is no decoder.

Sources: Radford et al. 2022, arXiv:2212.04356 (Whisper); Du et al. 2024, arXiv:2407.05407, section
2.1 (supervised tokens); Mentzer et al. 2023, arXiv:2309.15505 (FSQ).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Latent, Output, Wave
from audiotok.codecs.models.base import Codec
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.data.features.base import States, TeacherError
from audiotok.data.features.whisper import Whisper
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import Layer, Mix, Norm, WholeClip
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.quantizers.fsq import Fsq

LEVEL = 0.05  # root mean square to which every recording is brought
FLOOR = -3.6  # log10 of mel power; lower is not heard: above that of noise 20 dB below LEVEL
SILENCE = 1e-5  # root mean square below which a recording is left as it is
CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"  # of the reader; 0 is CTC's blank


@dataclass(frozen=True)
class Config:
    """Sizes of `Units`."""

    pool: int = 2  # frames of Whisper (20 ms) in a frame
    width: int = 512  # width of Whisper's encoder
    layers: int = 4  # its first blocks that are used
    heads: int = 8  # its attention heads
    bands: int = 80  # its mel bands
    adapter: int = 256  # width of an adapter
    blocks: int = 2  # ConvNeXt blocks in it
    pools: Sequence[int] = (1, 2, 4)  # values of `pool` that there are adapters for
    levels: Sequence[Sequence[int]] = ((3,) * 5, (3,) * 5, (3,) * 6)  # grid of each

    def __post_init__(self) -> None:
        object.__setattr__(self, "pools", tuple(self.pools))
        object.__setattr__(self, "levels", tuple(map(tuple, self.levels)))
        if self.pool not in self.pools or len(self.pools) != len(self.levels):
            raise InputError(
                f"pool={self.pool}: one of pools={list(self.pools)}, each with a grid in levels"
            )


class Trunk(Whisper):
    """First blocks of Whisper's encoder, without its last norm."""

    def __init__(self, config: Config) -> None:
        super().__init__(
            width=config.width, layers=config.layers, heads=config.heads, bands=config.bands
        )
        self.norm = nn.Identity()
        # Computed, so that a file need not hold them.
        self.register_buffer("positions", self.positions, persistent=False)

    def states_of(self, mel: Features) -> Iterator[States]:
        """See `Whisper.states_of`; what lies below the floor is as if it lay there.

        Whisper's own floor lies 80 dB below the loudest bin, so that noise far below the speech
        fills the pauses, and most features change.
        """
        return super().states_of(mel.clamp(min=(FLOOR + 4) / 4))

    def clip(self, wave: Wave) -> Output:
        """Return the features `[1 d f]` of a recording `[1 1 t]` of any length, 50 a second."""
        samples = wave[0]
        loudness = samples.double().square().mean().sqrt().item()
        if loudness > SILENCE:
            samples = samples * (LEVEL / loudness)
        return self.chosen(samples, [self.layers])[0].transpose(1, 2)


class Trunked(WholeClip):
    """Encoder from a recording `[b 1 t]` to latents `[b d f]`.

    Args:
        trunk: the blocks of Whisper.
        adapter: layers after them.
        pool: frames of Whisper in a frame.
    """

    def __init__(self, trunk: Trunk, adapters: nn.ModuleDict, config: Config) -> None:
        super().__init__(1, config.adapter)
        self.trunk = trunk
        self.adapters = adapters
        self.pool = config.pool
        self.consumes = 320 * config.pool

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; a frame begun counts as one."""
        x = F.pad(x, (0, -x.shape[2] % self.consumes))
        features = torch.cat([self.trunk.clip(wave[None]) for wave in x])
        return self.adapters[str(self.pool)](features)


class _Pool(Layer):
    """Frames of some frames each, features side by side."""

    causal = False

    def __init__(self, pool: int) -> None:
        super().__init__()
        self.consumes = pool
        self.pool = pool

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        b, d, f = x.shape
        return x.view(b, d, f // self.pool, self.pool).transpose(2, 3).reshape(b, d * self.pool, -1)


def adapter(config: Config, pool: int) -> nn.Sequential:
    """Return the layers from Whisper's features `[b d f]` to latents `[b adapter f/pool]`."""
    width = config.adapter
    return nn.Sequential(
        Norm(config.width),
        Mix(config.width, width),
        Convnext(width, expansion=3, kernel=7, causal=False),
        _Pool(pool),
        Mix(pool * width, width),
        *(Convnext(width, expansion=3, kernel=7, causal=False) for _ in range(config.blocks)),
        Norm(width),
    )


class Reader(nn.Module):
    """Reader of characters from codes, by CTC; it trains the adapter, and checks the codes.

    Args:
        width: width of the latents.
        repeat: steps for each frame, so that there are enough of them for the characters.
    """

    def __init__(self, width: int, repeat: int) -> None:
        super().__init__()
        self.repeat = repeat
        self.spread = Mix(width, repeat * width)
        self.blocks = Chain(Convnext(width, expansion=2, causal=False) for _ in range(2))
        self.out = Mix(width, 1 + len(CHARACTERS))

    def forward(self, x: Latent) -> Tensor:
        """Return logits `[b steps characters]`, 0 for the blank, of decoded codes `[b d f]`."""
        b, d, f = x.shape
        x = self.spread(x).view(b, self.repeat, d, f).permute(0, 2, 3, 1).reshape(b, d, -1)
        return self.out(self.blocks(x)).transpose(1, 2)


class Units(Codec):
    """A tokenizer of what is said, one code a frame at 50, 25 or 12.5 frames a second."""

    name = "units"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {
        "units": Config(),
        "units_50hz": Config(pool=1),
        "units_12hz": Config(pool=4),
    }
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = dict.fromkeys(
        presets,
        Taxonomy(
            encoder="Whisper",
            decoder="none",
            quantizer="FSQ",
            training="supervised",
            licence="Apache-2.0",
            published="in this package",
        ),
    )
    shared_weights = "units"
    semantic_codebooks = 1
    semantic: nn.ModuleDict
    causal = False
    fills_up = False
    sample_rate = 16000

    @property
    def decoders(self) -> tuple[str, ...]:
        """See `Tokenizer.decoders`; that of the rate of 25 Hz."""
        return ("vocoder_units",) if self.name == "units" else ()

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.frame_size = 320 * config.pool
        adapters = nn.ModuleDict({str(pool): adapter(config, pool) for pool in config.pools})
        self.encoder = Trunked(Trunk(config), adapters, config)
        self.quantizers = nn.ModuleDict(
            {
                str(pool): Fsq(config.adapter, levels=levels)
                for pool, levels in zip(config.pools, config.levels, strict=True)
            }
        )
        self.decoder = Absent("decoder", self.frame_size)
        self.semantic = nn.ModuleDict(
            {str(pool): Reader(config.adapter, max(1, pool // 2)) for pool in config.pools}
        )

    @classmethod
    def from_whisper(cls, weights: str | Path) -> Units:
        """Return a codec to be trained, whose first blocks are those of Whisper base's encoder.

        Args:
            weights: as for the teacher `whisper`.

        Raises:
            TeacherError: no such weights, or those of another size.
        """
        codec, given = cls(), Whisper.load(weights).state_dict()
        trunk = cast("Trunked", codec.encoder).trunk
        wanted = trunk.state_dict()
        if any(key not in given or given[key].shape != x.shape for key, x in wanted.items()):
            raise TeacherError(f"{weights}: not Whisper base, whose first blocks are wanted")
        trunk.load_state_dict({key: given[key] for key in wanted})
        return codec

    def features(self, wave: Wave) -> Output:
        """Return what an adapter is given of a recording `[1 1 t]`: `[1 d f]`, 50 a second."""
        return cast("Trunked", self.encoder).trunk.clip(wave)

    def parts(self, pool: int) -> tuple[nn.Module, Fsq, Reader]:
        """Return what is trained of one frame rate: adapter, grid and reader.

        Args:
            pool: frames of 20 ms in a frame.
        """
        key = str(pool)
        adapter, reader = cast("Trunked", self.encoder).adapters[key], self.semantic[key]
        return adapter, cast("Fsq", self.quantizers[key]), cast("Reader", reader)

    @staticmethod
    def spell(text: str) -> list[int]:
        """Return the numbers of the characters of a text, as the reader knows them.

        Case is not kept; what it does not know counts as a space.
        """
        known = (c if c in CHARACTERS else " " for c in text.lower().replace("\u2019", "'"))
        return [CHARACTERS.index(c) + 1 for c in " ".join("".join(known).split())]

    @property
    def quantizer(self) -> Fsq:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The grid of the codec's frame rate."""
        return cast("Fsq", self.quantizers[str(self.config.pool)])

    def at(self, pool: int) -> Units:
        """Return the codec of another frame rate, with the same weights.

        Args:
            pool: frames of 20 ms in a frame.
        """
        other = Units(replace(self.config, pool=pool)).to(self.device)
        other.load_state_dict(self.state_dict())
        other.name = next(n for n, c in self.presets.items() if c.pool == pool)
        return other.eval().requires_grad_(False)

    @torch.no_grad()
    def read(self, tokens: Any) -> str:
        """Return the text that the reader spells from tokens, in lower case.

        Args:
            tokens: tokens of this codec, or codes `[1 f]`.

        Raises:
            WrongTokensError: tokens of another codec, or of other weights.
        """
        codes = torch.from_numpy(self.to_tokens(tokens).codes.copy())[None].to(self.device)
        if not codes.shape[2]:
            return ""
        reader = self.semantic[str(self.config.pool)]
        best = reader(self.quantizer.decode(codes))[0].argmax(1)
        changed = torch.unique_consecutive(best).tolist()
        return "".join(CHARACTERS[i - 1] for i in changed if i)
