"""A decoder by flow matching: tokens become latents of a codec, whose own decoder makes the sound.

    tokens -> embeddings -> frames of the codec --\\
    noise -> steps along the learnt velocity ------+-> latents -> the codec's decoder -> wave

The codec is any whose latents are frames, at a rate of its own, and its decoder stays as it was. A
recording is decoded as a whole. The noise has a seed, so the same seed gives the same audio to the
bit; conditions are the number of steps, the method of their solver, and guidance.

Source: Lipman et al. 2022, arXiv:2210.02747; from tokens to latents of a codec of another rate:
InspireMusic (Zhang et al. 2025, arXiv:2503.00084).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any, cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok._platform.shapes import Features, Latent, Output, State, Wave
from audiotok.codecs.decoders.base import UNITS, Decoder, Source
from audiotok.codecs.models.base import Codec
from audiotok.nn.continuous import Continuous
from audiotok.nn.flow import Sampling, guided, integrate, noise_of
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import Mix, Norm, WholeClip
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.stretch import Stretch
from audiotok.nn.quantizer import check_type, types_of
from audiotok.nn.tables import Tables

SAMPLING = ("steps", "method", "guidance")


@dataclass(frozen=True)
class Config:
    """Sizes of `Flow`.

    Attributes:
        source: the tokenizer whose tokens it takes; the fields of a `Source`.
        codec: class of codec whose latents it makes, by its file name.
        sizes: sizes of that codec that differ from its defaults.
        features: width of its latents.
        width: width of the network.
        reading: ConvNeXt blocks at the frame rate of the tokens.
        blocks: ConvNeXt blocks at that of the latents, which give the velocity.
        kernel: frames in the kernel of a block.
        times: numbers that time is given by.
        sigma: deviation of the noise that is left in what is learnt.
        steps: steps of sampling, unless a condition says otherwise.
        method: "euler" or "midpoint", unless a condition says otherwise.
        guidance: guidance, unless a condition says otherwise; 1 is none.
    """

    source: Mapping[str, Any] = field(default_factory=lambda: dict(UNITS))
    codec: str = "speech"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    features: int = 96
    width: int = 256
    reading: int = 2
    blocks: int = 6
    kernel: int = 7
    times: int = 64
    sigma: float = 1e-4
    steps: int = 16
    method: str = "midpoint"
    guidance: float = 1.0

    def __post_init__(self) -> None:
        source = Source(**self.source)
        if not source.sizes:
            raise InputError(f"a flow of {source.codec!r}: its tokens have no codebooks")
        object.__setattr__(self, "source", asdict(source))
        object.__setattr__(self, "sizes", json.loads(json.dumps(self.sizes)))  # lists, no tuples
        if min(self.width, self.reading, self.blocks, self.kernel) < 1 or self.times < 2:
            raise InputError("width, reading, blocks and kernel must be at least 1, times 2")
        self.sampling  # noqa: B018 -- refuses what there is not

    @property
    def sampling(self) -> Sampling:
        """Sampling without conditions."""
        return Sampling(steps=self.steps, method=self.method, guidance=self.guidance)


class Velocity(nn.Module):
    """Network from points `[b d f]`, times and conditions `[b w f]` to velocities `[b d f]`.

    Attributes:
        nothing: what stands in the place of conditions where there are none, `[w]`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.into = Mix(config.features + width, width)
        self.time = nn.Sequential(nn.Linear(config.times, width), nn.GELU())
        self.shifts = nn.ModuleList(nn.Linear(width, width) for _ in range(config.blocks))
        self.blocks = nn.ModuleList(
            Convnext(width, kernel=config.kernel, causal=False) for _ in range(config.blocks)
        )
        self.out = Chain([Norm(width), Mix(width, config.features)])
        self.nothing = nn.Parameter(torch.zeros(width))
        slowest = torch.arange(config.times // 2) / max(1, config.times // 2 - 1)
        self.register_buffer("rates", 1000 ** (1 - slowest), persistent=False)

    def forward(self, x: Latent, time: Tensor, condition: Tensor) -> Latent:
        """Return velocities.

        Args:
            x: points `[b d f]`.
            time: `[b]`, from 0, noise, to 1, data.
            condition: `[b w f]`.
        """
        angles = time[:, None] * self.get_buffer("rates")
        embedded = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        y = self.into(torch.cat([x, condition], 1))
        for shift, block in zip(self.shifts, self.blocks, strict=True):
            y = block(y + shift(embedded)[:, :, None])
        return self.out(y)


class Sampler(WholeClip):
    """Layer from embeddings of tokens `[b w f]` to waves `[b c t]`.

    Args:
        config: sizes.
        codec: codec that makes sound of latents, without encoder and quantizer.
        ratio: frames of the codec to a frame of tokens.

    Attributes:
        mean: mean of each feature of the codec's latents, `[d]`.
        deviation: deviation of each, `[d]`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config, codec: Codec, ratio: Fraction) -> None:
        super().__init__(config.width, codec.channels)
        self.config = config
        self.codec = codec
        blocks = [
            Convnext(config.width, kernel=config.kernel, causal=False)
            for _ in range(config.reading)
        ]
        stretch = [] if ratio == 1 else [Stretch(ratio.denominator, ratio.numerator)]
        self.reading = Chain([Norm(config.width), *blocks, *stretch])
        self.velocity = Velocity(config)
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("deviation", torch.ones(config.features))

    def sampled(self, x: Features, sampling: Sampling) -> Output:
        """Return latents `[b d f]` of the codec for embeddings of tokens."""
        condition = self.reading(x)
        b, _, f = condition.shape
        nothing = self.velocity.nothing[:, None].expand_as(condition)
        noise = noise_of(sampling.seed, self.config.features, f, x).expand(b, -1, -1)

        def under(given: Tensor) -> Any:
            return lambda point, time: self.velocity(point, point.new_full((b,), time), given)

        velocity = guided(under(condition), under(nothing), sampling.guidance)
        latent = integrate(velocity, noise, sampling)
        return latent * self.deviation[:, None] + self.mean[:, None]

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; with the sampling that there is without conditions."""
        return self.waves(x, self.config.sampling)

    def waves(self, x: Features, sampling: Sampling) -> Output:
        """Return the waves of embeddings of tokens."""
        return self.codec.waves(self.sampled(x, sampling))


class Flow(Decoder):
    """A decoder of the tokens of one tokenizer by flow matching (`codecs.flow_fit` trains it).

    Conditions: `steps`, `method` and `guidance` of `nn.flow.Sampling`; those of its config if they
    are not given.

    Raises:
        InputError: frames of the tokenizer are no whole number of samples of the codec, or the
            codec has no decoder.
    """

    name = "flow"
    config_type = Config
    conditions = SAMPLING
    trained_by = "`audiotok flow`"
    random = True
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.source = source = Source(**config.source)
        kind = find("codecs", config.codec)
        codec: Codec = kind(kind.config_type(**config.sizes))
        codec.check_decodes()
        codec.check_one_rate()
        if codec.channels != 1 or not codec.quantizer.of_latents:
            raise InputError(f"codec {config.codec!r}: a flow makes frames of latents of a channel")
        codec.encoder = Absent("encoder", codec.frame_size)
        codec.quantizer = Continuous(config.features)
        if hasattr(codec, "semantic"):  # a head that only training uses
            del codec.semantic
        self.sample_rate = codec.sample_rate
        size = Fraction(source.frame_size * self.sample_rate, source.sample_rate)
        if size.denominator != 1:
            raise InputError(
                f"frames of {source.codec!r} are {float(size):g} samples at {self.sample_rate} Hz: "
                "a flow needs a whole number"
            )
        self.frame_size = int(size)
        self.encoder = self.no_encoder()
        self.quantizer = Tables(tuple(source.sizes), config.width)
        self.decoder = Sampler(config, codec, Fraction(self.frame_size, codec.frame_size))
        self.sampling = config.sampling

    @property
    def decoder_fingerprint(self) -> str:
        """See `Decoder.decoder_fingerprint`; how it samples is covered, and so is the seed."""
        how = super().decoder_fingerprint + repr(self.sampling)
        return hashlib.sha256(how.encode()).hexdigest()[:16]

    @property
    def side_information(self) -> dict[str, Any]:
        """See `Decoder.side_information`."""
        return {**super().side_information, **asdict(self.sampling)}

    @property
    def sampler(self) -> Sampler:
        """The layer that samples and makes sound."""
        return cast("Sampler", self.decoder)

    @property
    def tables(self) -> Tables:
        """The embeddings of tokens."""
        return cast("Tables", self.quantizer)

    def set_conditions(self, seed: int, conditions: dict[str, Any]) -> None:
        """See `Decoder.set_conditions`."""
        given = {name: value for name, value in conditions.items() if value is not None}
        types = types_of(Sampling)
        for name, value in given.items():
            check_type(f"{self.name}: condition {name!r}", value, types[name])
        self.sampling = replace(self.config.sampling, seed=seed, **given)

    def finish_wave(self, latent: Latent, state: State) -> Wave:
        """See `Network.finish_wave`; all is made here."""
        whole = latent if state is None else self.decoder.joined(state, latent)
        wave = self.sampler.waves(whole, self.sampling)
        return wave[:, :, : whole.shape[2] * self.frame_size]
