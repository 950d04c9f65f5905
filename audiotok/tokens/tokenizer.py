"""The interface of a codec that does not depend on its backend: rates, tokens, channel policy.

It needs numpy only, as exported codecs run without torch.
"""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok._platform.errors import Error, InputError, InputTypeError
from audiotok.tokens.codebooks import check_frames, needs_codes
from audiotok.tokens.coded import Coded
from audiotok.tokens.format import Header
from audiotok.tokens.kinds import AnyTokens, tokens_of
from audiotok.tokens.latents import Latents
from audiotok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import Tensor

    TokensLike: TypeAlias = Tokens | Latents | np.ndarray | Tensor
else:
    TokensLike = Any

log = logging.getLogger("audiotok")


class WrongTokensError(Error, ValueError):
    """Error of tokens that are of another codec, or of other weights of the same codec."""


class NoDecoderError(Error, ValueError):
    """Error of tokens that are to be decoded by a tokenizer that has no decoder."""


class NoEncoderError(Error, ValueError):
    """Error of audio that is to be encoded by a decoder that stands alone."""


@cache
def warn_mixing_down(channels: int) -> None:
    """Warn that channels are mixed down; only once for each number of channels."""
    log.warning("%d channels are mixed down to one; split=True codes each by itself", channels)


def kept(codebooks: int | None, there: int) -> int:
    """Return the number of codebooks to use, checked.

    Args:
        codebooks: the requested number; None for all.
        there: the number that exists; 0 where frames hold latents.

    Raises:
        TypeError: no integer.
        ValueError: more than exist, or less than one.
    """
    if codebooks is None:
        return there
    if not isinstance(codebooks, int | np.integer):
        raise InputTypeError(f"codebooks is a number of codebooks, not {codebooks!r}")
    if not there and codebooks:
        raise InputError("latents have no codebooks to choose from; leave their number out")
    if not min(1, there) <= codebooks <= there:
        raise InputError(f"{codebooks} codebooks asked for; there are 1 to {there}")
    return codebooks


class Tokenizer:
    """A codec, from audio to tokens and back: the part that is the same for every backend.

    Attributes:
        name: the codec's name.
        sample_rate: sample rate of the codec in Hz.
        frame_size: samples a frame, an integer from which the rates derive.
        channels: channels of the audio that it codes.
        former_fingerprints: older fingerprints, whose tokens have the same codes.
        semantic_codebooks: number of codebooks, from the first, that are distilled from a teacher
            of what is said (`Tokens.semantic`); 0 if none is.
        precision: precision in which it computes, as of `load`.
        decodes_only: whether it is a decoder apart, of the tokens of another.
    """

    name: str
    sample_rate: int
    frame_size: int
    channels: int
    former_fingerprints: tuple[str, ...] = ()
    semantic_codebooks: int = 0
    precision: str = "float32"
    decodes_only: bool = False

    @property
    def decoders(self) -> tuple[str, ...]:
        """Names of decoders apart that ship and take its tokens, of a tokenizer without its own."""
        return ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook; () where frames hold latents."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Features in a frame of latents, of a codec without codebooks; 0 of any other."""
        return 0

    @property
    def kind(self) -> str:
        """Kind of its tokens: "codes" (`Tokens`) or "latents" (`Latents`)."""
        return "latents" if self.width else "codes"

    def needs_codes(self, use: str) -> None:
        """Raise unless its frames hold codes.

        Args:
            use: what codes are needed for, for the message.

        Raises:
            NoCodesError: they hold latents.
        """
        needs_codes(self.width, self.name, use)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the weights of encoder and codebooks.

        Further training of the decoder alone does not change it, so that tokens and corpora stay
        valid.
        """
        raise NotImplementedError

    @property
    def decoder_fingerprint(self) -> str:
        """16 hexadecimal digits that identify the weights of the decoder."""
        raise NotImplementedError

    @property
    def decodes(self) -> bool:
        """True if it has a decoder of its own."""
        return True

    @property
    def decoded_rate(self) -> int:
        """Sample rate in Hz of decoded audio, which may be another than that of its tokens."""
        return self.sample_rate

    @property
    def codebooks(self) -> int:
        """Number of codes in a frame."""
        return len(self.sizes)

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, as an exact fraction."""
        return Fraction(self.sample_rate, self.frame_size)

    @property
    def kbps(self) -> float:
        """Nominal bit rate in kbit/s with all codebooks: frames per second x bits a frame.

        Of latents it is that of their numbers in single precision; half precision takes half.
        """
        bits = 32 * self.width + sum(math.log2(size) for size in self.sizes)
        return float(self.frame_rate) * bits / 1000

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds; infinite if the codec needs the whole recording."""
        return math.inf

    def facts(self) -> str:
        """Return name, rates, codebooks (or features of latents) and latency in one line."""
        waits = f"latency {1000 * self.latency:.0f} ms" if self.latency < math.inf else "no stream"
        ends = "" if self.decodes else ", no decoder"
        if self.decoded_rate != self.sample_rate:
            ends = f", decodes to {self.decoded_rate} Hz"
        holds = f"latents of {self.width}" if self.width else f"{self.codebooks} codebooks"
        return (
            f"{self.name}: {self.sample_rate} Hz, {float(self.frame_rate):g} frames/s, "
            f"{holds}, {self.kbps:.2f} kbps, {waits}{ends}"
        )

    def decoded_samples(self, samples: int) -> int:
        """Return the length at `decoded_rate` of what a recording decodes to.

        A fraction of a sample counts as one.

        Args:
            samples: its length at the rate of its tokens.
        """
        return -(-samples * self.decoded_rate // self.sample_rate)

    def check_decodes(self) -> None:
        """Raise unless this tokenizer has a decoder.

        Raises:
            NoDecoderError: it has none.
        """
        if not self.decodes:
            shipped = "".join(f", as {name}" for name in self.decoders)
            raise NoDecoderError(
                f"{self.name}: a tokenizer without a decoder; name one that takes its tokens"
                f"{shipped}"
            )

    def check_one_rate(self) -> None:
        """Raise unless it decodes to the rate at which it encodes.

        Raises:
            ValueError: it decodes to another one.
        """
        if self.decoded_rate != self.sample_rate:
            raise InputError(
                f"{self.name} encodes {self.sample_rate} Hz and decodes to {self.decoded_rate}: "
                "this takes a codec of one rate"
            )

    def kept(self, codebooks: int | None) -> int:
        """Return the number of codebooks to use, checked; all of them if None.

        Raises:
            ValueError: more than the codec has, or less than one.
        """
        return kept(codebooks, self.codebooks)

    def to_tokens(self, tokens: TokensLike, *, samples: int | None = None) -> AnyTokens:
        """Return `Tokens` or `Latents` as they are, and their numbers as tokens of this codec.

        Args:
            tokens: `Tokens`; or codes `[k f]` as an array or a tensor of integers, of all codebooks
                or the first ones. Of a codec of latents `Latents`; or their numbers `[d f]`.
            samples: length in samples that codes stand for; None for that of all frames.

        Raises:
            TypeError: they are neither.
            ValueError: codes of another shape, not integers, or of no entry of their codebook;
                a length that does not take so many frames, or is given for `Tokens`.
            WrongTokensError: they are of another codec, or of other weights.
        """
        if isinstance(tokens, Coded):
            if samples is not None:
                raise InputError("Tokens say their length themselves: give samples with codes only")
            self.check_tokens(tokens)
            given: Any = tokens
            return given
        check_frames(tokens, self.codebooks, self.width)
        array = tokens if isinstance(tokens, np.ndarray) else tokens.detach().cpu().numpy()
        length = array.shape[1] * self.frame_size if samples is None else samples
        return self.tokens_of(
            array if self.width else array.astype(np.int64),
            codebooks=0 if self.width else len(array),
            samples=length,
            original_rate=self.sample_rate,
            original_samples=length,
        )

    def check_tokens(self, tokens: Coded | Header) -> None:
        """Raise unless this codec can decode tokens: the same encoder and codebooks wrote them.

        Raises:
            WrongTokensError: they are of another codec, of other weights, or of the other kind.
        """
        if tokens.codec != self.name:
            raise WrongTokensError(
                f"tokens of codec {tokens.codec!r}, not {self.name!r}: decode them with "
                f"audiotok.load({tokens.codec!r})"
            )
        if not self.has_codes_of(tokens.fingerprint):
            raise WrongTokensError(
                f"tokens of other weights of {self.name!r} ({tokens.fingerprint}, these are "
                f"{self.fingerprint}): give the checkpoint that made them, or encode again"
            )
        if tokens.kind != self.kind:
            way = "`quantize` turns them into tokens" if self.kind == "codes" else "encode again"
            raise WrongTokensError(
                f"{tokens.kind} of {self.name!r}, which decodes {self.kind}: {way}"
            )
        header = tokens if isinstance(tokens, Header) else tokens.header
        for what in ("sample_rate", "frame_size", "width", "sizes"):
            given, own = getattr(header, what), getattr(self, what)
            if given != (own[: len(given)] if what == "sizes" else own):
                raise WrongTokensError(
                    f"tokens that say {what} {given}, where {self.name!r} has {own}: they were not "
                    "made by it; encode again"
                )

    def has_codes_of(self, fingerprint: str) -> bool:
        """Return whether codes of weights with this fingerprint mean the same to this codec."""
        return fingerprint in (self.fingerprint, *self.former_fingerprints)

    def streams(self, channels: int, *, split: bool = False) -> int:
        """Return the number of streams in which a recording is coded: the channel policy.

        A mono codec codes the mean of the channels, and warns of it once; or each one, if `split`.

        Args:
            channels: number of channels of the recording.
            split: whether to code channels apart, as many at a time as the codec takes.

        Raises:
            ValueError: channels that this codec cannot take.
        """
        if split and channels % self.channels == 0:
            return channels // self.channels
        if self.channels == 1 or self.channels == channels:
            if channels > self.channels:
                warn_mixing_down(channels)
            return 1
        raise InputError(f"{channels} channels given to {self.name!r}, which codes {self.channels}")

    def tokens_of(
        self,
        codes: np.ndarray,
        *,
        codebooks: int,
        samples: int,
        original_rate: int,
        original_samples: int,
    ) -> AnyTokens:
        """Return the frames of a recording as `Tokens`, or `Latents`, of this codec.

        Args:
            codes: `[streams*codebooks f]`, or latents `[streams*width f]`.
            codebooks: number of codebooks in each stream; 0 of latents.
            samples: length at the codec's rate.
            original_rate: sample rate of the recording in Hz.
            original_samples: length at that rate.
        """
        streams = len(codes) // (self.width or codebooks)
        half = codes.dtype == np.float16
        return tokens_of(
            self.header(original_rate, streams=streams, codebooks=codebooks, half=half),
            codes,
            samples=samples,
            original_samples=original_samples,
        )

    def header(
        self, original_rate: int, *, streams: int, codebooks: int, half: bool = False
    ) -> Header:
        """Return the header of the .tok file of a recording.

        Args:
            original_rate: sample rate of the recording in Hz.
            streams: number of streams.
            codebooks: number of codebooks in each stream; 0 of latents.
            half: whether latents are stored in half precision.

        Raises:
            ValueError: codes, which have no precision, are to be stored in half.
        """
        if half and not self.width:
            raise InputError(f"{self.name} gives codes: half precision is for latents")
        stored = "float16" if half else "float32"
        return Header(
            codec=self.name,
            fingerprint=self.fingerprint,
            sizes=self.sizes[:codebooks],
            sample_rate=self.sample_rate,
            frame_size=self.frame_size,
            original_rate=original_rate,
            channels=self.channels * streams,
            streams=streams,
            semantic_codebooks=self.semantic_codebooks,
            width=self.width,
            dtype=stored if self.width else "int64",
        )
