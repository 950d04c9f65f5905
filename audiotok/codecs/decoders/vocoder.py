"""A vocoder of any tokenizer's tokens: they become latents of `speech`, whose decoder makes sound.

    tokens -> sum of an embedding each -> + voice -> blocks -> + pitch -> (another frame rate)
           -> blocks -> latents of `speech` -> decoder and head of `speech` -> wave at 16 kHz

Units hold no pitch, and a network that is to guess it blurs all harmonics. So it is predicted for
each frame, whether there is a voice and how high, and what follows is trained on the true one.
The voice is a vector, made of how a recording's spectrum and pitch are spread over time; there is
one of nobody in particular too. Codebooks are left out at random in training, so any number of the
first ones decodes.

Sources: Polyak et al. 2021, arXiv:2104.00355 (units, pitch and speaker to speech); Siuzdak 2023,
arXiv:2306.00814 (ConvNeXt blocks at the frame rate before an inverse STFT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Latent, Output, Wave
from audiotok.audio.coerce import Recording, to_audio
from audiotok.codecs.decoders.base import UNITS, Decoder, Source
from audiotok.codecs.models import speech
from audiotok.nn.layers.base import Layer, Mix, Norm, Span, State
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.stft import Istft
from audiotok.nn.layers.stretch import Stretch
from audiotok.nn.log_mel import mirrored, power_logs
from audiotok.nn.pitch import track_pitch
from audiotok.nn.tables import Tables

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio

BANDS = 80  # mel bands of a voice's statistics
TRAITS = 2 * BANDS + 3
AUDIBLE = 4.0  # decades of power below the loudest step in which a voice's spectra count
WAVES = 3  # sines and cosines of pitch
LEVEL = 0.05  # root mean square to which a recording is brought before its voice is described
# Sizes of `speech` on which its decoder depends.
SPOKEN = (
    *("frame_size", "decoder", "decoder_blocks", "kernel", "expansion", "window", "heads"),
    "latent",
)


@dataclass(frozen=True)
class Config:
    """Sizes of `Vocoder`.

    Attributes:
        source: the tokenizer whose tokens it takes; the fields of a `Source`.
        width: width of the blocks.
        reading: ConvNeXt blocks at the frame rate of the tokens.
        blocks: ConvNeXt blocks at that of `speech`.
        kernel: frames in the kernel of a block.
        expansion: hidden width of a block over its width.
        speaker: width of a voice.
        pitch: whether pitch is predicted; tokens such as dMel hold it already.
        ordered: whether the entries of a codebook are levels in order, whose embeddings start on a
            line.
        speech: sizes of `speech` that differ from its defaults.
    """

    source: Mapping[str, Any] = field(default_factory=lambda: dict(UNITS))
    width: int = 320
    reading: int = 3
    blocks: int = 4
    kernel: int = 7
    expansion: float = 3.0
    speaker: int = 64
    pitch: bool = True
    ordered: bool = False
    speech: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = Source(**self.source)  # which has tuples where JSON has lists
        object.__setattr__(self, "source", asdict(source))
        if not source.sizes:
            raise InputError(f"a vocoder of {source.codec!r}: its tokens have no codebooks")
        if min(self.width, self.reading, self.blocks, self.kernel, self.speaker) < 1:
            raise InputError("width, reading, blocks, kernel and speaker must be at least 1")


SHIPPED = Config(
    source={**UNITS, "frame_size": 640, "sizes": (243,), "fingerprint": "e081a4c8ada834c6"},
    speech={name: getattr(speech.Config(), name) for name in SPOKEN},
)


class Pitch(Layer):
    """Layer that predicts pitch from frames `[b d f]`, and adds an embedding of it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out = Mix(features, 2)
        self.embedding = Mix(2 + 2 * WAVES, features)

    def predicted(self, x: Features) -> Output:
        """Return `[b 2 f]`: the logit of a voice, and octaves above `nn.pitch.CENTRE`."""
        return self.out(x)

    def added(self, x: Features, octaves: Tensor, voiced: Tensor) -> Output:
        """Return frames with an embedding of pitch `[b f]`, which counts where there is a voice."""
        angles = [torch.pi * n * octaves for n in range(1, WAVES + 1)]
        waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        parts = torch.stack([torch.ones_like(octaves), octaves, *waves], 1) * voiced[:, None]
        return x + self.embedding(parts)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; there is no state."""
        logit, octaves = self.predicted(x).unbind(1)
        return self.added(x, octaves, (logit > 0).to(x)), None

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; each output depends on its own input only."""
        return first, last


class Head(Layer):
    """The head of `speech`, without its lag: each frame becomes the samples around its middle."""

    causal = False

    def __init__(self, istft: Istft) -> None:
        super().__init__()
        self.istft = istft
        self.produces = istft.hop

    def start(self, batch: int) -> State:
        """See `Layer.start`; that of the head, and whether it had any frame."""
        return self.istft.start(batch), torch.zeros(batch, dtype=torch.bool)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        before, begun = state
        wave, after = self.istft.step(x, before)
        if wave.shape[2] and not bool(begun.any()):
            wave, begun = wave[:, :, self.istft.hop // 2 :], torch.ones_like(begun)
        return wave, (after, begun)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; half a hop more than after a step."""
        wave, (after, begun) = self.step(x, state)
        return torch.cat([wave, self.istft.flush(after)], 2) if bool(begun.any()) else wave

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the two frames that overlap there."""
        half = self.istft.hop // 2
        return self.istft.input_span(first + half, last + half)


class Voice(nn.Module):
    """Voice vectors: of the traits of a recording, or of nobody in particular."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.inner = nn.Linear(TRAITS, 2 * width)
        self.out = nn.Linear(2 * width, width)
        self.nobody = nn.Parameter(torch.zeros(width))
        self.up = nn.Linear(width, features)

    def forward(self, traits: Tensor) -> Tensor:
        """Return the voices `[b width]` of traits `[b TRAITS]`."""
        return self.out(nn.functional.gelu(self.inner(traits)))


def traits_of(wave: Tensor) -> Tensor:
    """Return how spectrum and pitch of a recording `[t]` at 16 kHz are spread, `[TRAITS]`.

    They are mean and spread over time of the logarithm of each mel band, of what is audible and
    whatever the level, and of the pitch, and the share of time that is voiced.
    """
    wave = wave * (LEVEL / wave.square().mean().sqrt().clamp(min=1e-5))
    logs = power_logs(mirrored(wave[None]), BANDS)[0]
    loudness = (10**logs).sum(0).log10()
    audible = logs[:, loudness > loudness.max() - AUDIBLE]
    audible = audible - audible.mean()
    octaves, voiced = track_pitch(wave, rate=16000, hop=320)
    own = octaves[voiced] if voiced.any() else octaves.new_zeros(1)
    spread = own.std(correction=0)
    pitch = torch.stack([own.median(), spread, voiced.float().mean()])
    return torch.cat([audible.mean(1), audible.std(1, correction=0), 2 * pitch])


class Vocoder(Decoder):
    """A vocoder of the tokens of one tokenizer, trained by a recipe (`audiotok.training`).

    That of `units`, `vocoder_units`, ships with its weights.

    Conditions: `speaker`, a voice of `speaker_of`; or `prompt`, a recording whose voice it is to
    have. Without either it has a voice of nobody in particular.
    """

    name = "vocoder"
    config_type = Config
    presets: ClassVar[Mapping[str, Config]] = {"vocoder_units": SHIPPED}
    conditions = ("speaker", "prompt")
    causal = False
    fills_up = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        self.source = source = Source(**config.source)
        sizes = speech.Config(**config.speech)
        # Only its decoder is wanted.
        least = {"encoder": 2 * sizes.heads, "semantic": 1, "codebooks": 1, "size": 2}
        model = speech.Speech(replace(sizes, **least))
        self.sample_rate = sizes.sample_rate
        size = Fraction(source.frame_size * self.sample_rate, source.sample_rate)
        if size.denominator != 1 or sizes.fold != 1:
            raise InputError(
                f"frames of {source.codec!r} are {float(size):g} samples at {self.sample_rate} Hz: "
                "a vocoder needs a whole number"
            )
        self.frame_size = int(size)
        self.hop = sizes.frame_size
        ratio = Fraction(self.frame_size, self.hop)
        self.group = ratio.denominator  # frames of tokens that are whole frames of `speech`
        width = config.width
        self.encoder = self.no_encoder()
        self.quantizer = Tables(tuple(source.sizes), width, ordered=config.ordered)
        self.voice = Voice(config.speaker, width)

        def blocks(count: int) -> list[Layer]:
            return [
                Convnext(width, expansion=config.expansion, kernel=config.kernel, causal=False)
                for _ in range(count)
            ]

        stretch = [] if ratio == 1 else [Stretch(ratio.denominator, ratio.numerator)]
        self.decoder = Chain(
            [
                Chain([Norm(width), *blocks(config.reading)]),
                *([Pitch(width)] if config.pitch else []),
                Chain([*stretch, *blocks(config.blocks), Norm(width), Mix(width, sizes.latent)]),
                model.decoder,
                Head(model.head),
            ]
        )
        self.speaker: Tensor | None = None

    # -- conditions -------------------------------------------------------------------------------

    def speaker_of(self, recording: Recording, rate: int | None = None) -> Tensor:
        """Return the voice `[speaker]` in a recording of a few seconds.

        Args:
            recording: as for `Codec.encode`.
            rate: sample rate of an array or tensor in Hz.

        Raises:
            InputError: it is silent or empty.
        """
        audio: Audio = to_audio(recording, rate).mono().resample(self.sample_rate)
        if not audio.samples.any():
            raise InputError("a voice is taken from a recording of speech: this one is silent")
        with torch.no_grad():
            return self.voice(traits_of(audio.samples[0]).to(self.device)[None])[0]

    def set_conditions(self, seed: int, conditions: dict[str, Any]) -> None:
        """See `Decoder.set_conditions`."""
        given = {name: value for name, value in conditions.items() if value is not None}
        if len(given) > 1:
            raise InputError(f"{self.name}: a speaker or a prompt, not both")
        self.speaker = None
        if "prompt" in given:
            self.speaker = self.speaker_of(given["prompt"])
        elif "speaker" in given:
            voice = torch.as_tensor(given["speaker"], dtype=torch.float32, device=self.device)
            if voice.shape != (self.config.speaker,) or not voice.isfinite().all():
                raise InputError(
                    f"{self.name}: speaker is {self.config.speaker} finite numbers, as speaker_of "
                    f"gives them, not {list(voice.shape)}"
                )
            self.speaker = voice

    # -- tokens to samples ------------------------------------------------------------------------

    def with_voice(self, latent: Latent, voices: Tensor | None = None) -> Latent:
        """Return sums of embeddings with voices `[b speaker]`, those of the condition if None."""
        if voices is None:
            voices = (self.voice.nobody if self.speaker is None else self.speaker)[None]
        return latent + self.voice.up(voices)[:, :, None]

    def start_wave(self, batch: int) -> State:
        """See `Codec.start_wave`; also the number of frames so far, in a group."""
        return self.decoder.start(batch), torch.zeros(batch, dtype=torch.int64)

    def step_wave(self, latent: Latent, state: State, frames: int) -> tuple[Wave, State]:
        """See `Codec.step_wave`."""
        wave, after = self.decoder.step(self.with_voice(latent[:, :, :frames]), state[0])
        return wave, (after, (state[1] + frames) % self.group)

    def finish_wave(self, latent: Latent, state: State) -> Wave:
        """See `Codec.finish_wave`; the last frame of `speech` may reach beyond that of tokens."""
        before, count = self.start_wave(len(latent)) if state is None else state
        wave = self.decoder.finish(self.with_voice(latent), before)
        left = (int(count[0]) + latent.shape[2]) % self.group
        surplus = -left * self.frame_size % self.hop
        return wave[:, :, : wave.shape[2] - surplus]

    # -- training ---------------------------------------------------------------------------------

    @property
    def tables(self) -> Tables:
        """The embeddings of tokens."""
        return cast("Tables", self.quantizer)

    def parts(self) -> tuple[Layer, Pitch | None, Layer, Layer, Layer]:
        """Return what reads tokens, tells pitch, makes latents, spectra and sound."""
        reading, *middle, latents, spectra, head = cast("Chain", self.decoder)
        return reading, cast("Pitch", middle[0]) if middle else None, latents, spectra, head
