"""The base of decoders that stand alone: tokens of a named tokenizer to audio of their own rate.

A decoder runs like a codec: it decodes whole, in batches, in pieces and from files, of exact
length. Its frames are those of the tokenizer, and may stand for another number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.absent import Absent
from audiotok.tokens.coded import Coded
from audiotok.tokens.tokenizer import Tokenizer, TokensLike, WrongTokensError
from audiotok.tokens.tokens import Header, Tokens

D = TypeVar("D", bound="Decoder")
UNITS = {"codec": "units", "sample_rate": 16000, "frame_size": 320, "sizes": (1000,)}
"""Fields of the `Source` that decoders of any tokenizer have by default."""


@dataclass(frozen=True)
class Source:
    """The tokenizer whose tokens a decoder takes, as far as they depend on it.

    Attributes:
        codec: its name.
        sample_rate: its rate in Hz.
        frame_size: samples per frame at that rate.
        sizes: number of entries in each codebook.
        fingerprint: fingerprint of its weights; "" if those of any weights mean the same.
    """

    codec: str
    sample_rate: int
    frame_size: int
    sizes: Sequence[int] = field(default_factory=tuple)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))  # JSON gives a list


class SourceTokenizer(Tokenizer):
    """Tokenizer that only says what its tokens are."""

    def __init__(self, source: Source) -> None:
        self.name = source.codec
        self.sample_rate = source.sample_rate
        self.frame_size = source.frame_size
        self.channels = 1
        self._source = source

    @property
    def decodes(self) -> bool:
        """See `Tokenizer.decodes`."""
        return False

    @property
    def sizes(self) -> tuple[int, ...]:
        """See `Tokenizer.sizes`."""
        return tuple(self._source.sizes)

    @property
    def fingerprint(self) -> str:
        """See `Tokenizer.fingerprint`."""
        return self._source.fingerprint or "0" * 16

    def has_codes_of(self, fingerprint: str) -> bool:
        """See `Tokenizer.has_codes_of`."""
        return not self._source.fingerprint or super().has_codes_of(fingerprint)


def in_words(information: Mapping[str, Any]) -> str:
    """Return side information (`Decoder.side_information`) in one line."""
    return "; ".join(f"{k}: {'none' if v is None else v}" for k, v in information.items())


def plain(value: Any) -> Any:
    """Return a condition as it is shown: text and numbers as they are, all else described."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Audio):
        return f"{value.seconds:.2f} s of sound"
    return value if isinstance(value, str | int | float) else f"{len(value)} numbers"


class Decoder(Codec):
    """A decoder of the tokens of a tokenizer: `decode` and all that follows from it.

    A subclass sets the attributes below and those of `Codec` (`encoder` aside), of which
    `sample_rate` and `frame_size` are those of the audio that it makes.

    Attributes:
        source: the tokenizer whose tokens it takes.
        conditions: names of what it can be given beside the tokens (`conditioned`); "prompt" is
            always a recording, or the path of one.
        trained_by: what trains one: a command or a recipe.
        random: whether it draws random numbers, from a seed (`conditioned`).
        given_conditions: conditions that are set, as plain data.
    """

    source: Source
    conditions: ClassVar[tuple[str, ...]] = ()
    trained_by: ClassVar[str] = "a recipe (recipes/vocoder_units.toml)"
    random: ClassVar[bool] = False
    channels = 1
    decodes_only = True
    given_conditions: Mapping[str, Any] = MappingProxyType({})

    def no_encoder(self) -> Absent:
        """Return what stands in the place of the encoder."""
        return Absent("encoder", self.frame_size)

    def conditioned(self: D, *, seed: int = 0, **conditions: Any) -> D:
        """Return this decoder with its conditions set; it shares the weights.

        Args:
            seed: seed of its random numbers, if it draws any; the same gives the same audio.
            conditions: what it is given beside the tokens, by the names in `conditions`.

        Raises:
            ValueError: a condition that it does not take, or a value that does not fit.
        """
        unknown = conditions.keys() - {*self.conditions}
        if unknown:
            takes = ", ".join(self.conditions) or "none"
            raise InputError(f"{self.name}: no condition {min(unknown)!r}; it takes {takes}")
        other = copy(self)
        other.set_conditions(seed, conditions)
        given = {name: plain(value) for name, value in conditions.items() if value is not None}
        other.given_conditions = {**given, **({"seed": seed} if self.random else {})}
        return other

    @property
    def side_information(self) -> dict[str, Any]:
        """Conditions and seed that it decodes with, as plain data, to be shown beside every score.

        A condition that is not given is None.
        """
        absent = dict.fromkeys(self.conditions)
        return {**absent, **({"seed": 0} if self.random else {}), **self.given_conditions}

    def set_conditions(self, seed: int, conditions: dict[str, Any]) -> None:
        """Set the conditions of a decoder that takes some, on a copy of it that shares the weights.

        Conditions that are not given, or None, are as in a new decoder.

        Args:
            seed: seed of its random numbers.
            conditions: values by names in `conditions`.

        Raises:
            ValueError: a value that does not fit.
        """

    # -- tokens -----------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> SourceTokenizer:
        """The tokenizer whose tokens it takes."""
        return SourceTokenizer(self.source)

    @property
    def sizes(self) -> tuple[int, ...]:
        """See `Tokenizer.sizes`; those of the tokenizer."""
        return tuple(self.source.sizes)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the weights of the tokenizer; zeros if those of any are taken."""
        return self.tokenizer.fingerprint

    @property
    def decoder_fingerprint(self) -> str:
        """Fingerprint of all weights here."""
        return "".join(part[:8] for part in self._digests())

    def to_tokens(self, tokens: TokensLike, *, samples: int | None = None) -> Tokens:
        """See `Tokenizer.to_tokens`; codes become tokens of the tokenizer."""
        if isinstance(tokens, Tokens):
            return super().to_tokens(tokens, samples=samples)
        return self.tokenizer.to_tokens(tokens, samples=samples)

    def check_tokens(self, tokens: Coded | Header) -> None:
        """Raise unless the tokens are of the tokenizer that this decoder is made for.

        Raises:
            WrongTokensError: they are of another one, or of other weights.
        """
        if tokens.codec != self.source.codec:
            raise WrongTokensError(
                f"tokens of {tokens.codec!r}: decoder {self.name!r} takes those of "
                f"{self.source.codec!r}"
            )
        if not self.tokenizer.has_codes_of(tokens.fingerprint):
            raise WrongTokensError(
                f"tokens of other weights of {tokens.codec!r} ({tokens.fingerprint}): decoder "
                f"{self.name!r} takes those of {self.fingerprint}"
            )

    def decoded_samples(self, samples: int) -> int:
        """See `Tokenizer.decoded_samples`; a fraction of a sample counts as one."""
        return -(-samples * self.frame_size // self.source.frame_size)

    def facts(self) -> str:
        """Return name, tokenizer and output rate in one line."""
        return f"{self.name}: decodes {self.source.codec} to {self.sample_rate} Hz"
