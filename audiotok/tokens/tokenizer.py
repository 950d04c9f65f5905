"""What a codec is, whatever executes it: its rates, whose tokens it takes, how it takes channels.

Needs numpy only, as an exported codec does.
"""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from audiotok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from audiotok.tokens.tokens import Header

log = logging.getLogger("audiotok")


class WrongTokensError(ValueError):
    """Tokens that another codec, or other weights of the same codec, made."""


@cache
def mixing_down(channels: int) -> None:
    """Says that channels are mixed down, once for each number of them."""
    log.warning(
        "%d channels are mixed down to one; --channels split (split=True) codes each", channels
    )


def kept(codebooks: int | None, there: int) -> int:
    """How many of the codebooks that are there: all of them if None.

    Raises:
        ValueError: more than there are, or less than one.
    """
    if codebooks is None:
        return there
    if not 1 <= codebooks <= there:
        raise ValueError(f"{codebooks} codebooks asked for; there are 1 to {there}")
    return codebooks


class Tokenizer:
    """Audio to tokens and back.

    Attributes:
        name: the codec's id.
        sample_rate: Hz.
        frame_size: samples a frame; integer, the truth that rates derive from.
        channels: of the audio it codes.
        former_fingerprints: others under which tokens of the same codes were written before.
    """

    name: str
    sample_rate: int
    frame_size: int
    channels: int
    former_fingerprints: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries in each codebook."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name what makes its codes: encoder and codebooks.

        A decoder that was trained on for the same codes leaves it as it is, so that tokens and
        corpora keep their worth.
        """
        raise NotImplementedError

    @property
    def decoder_fingerprint(self) -> str:
        """16 hexadecimal digits that name what makes sound of codes: its decoder."""
        raise NotImplementedError

    @property
    def codebooks(self) -> int:
        """Codes in a frame."""
        return len(self.sizes)

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second, exactly."""
        return Fraction(self.sample_rate, self.frame_size)

    @property
    def kbps(self) -> float:
        """Nominal rate with all codebooks: frames/s x the information of a frame."""
        return float(self.frame_rate) * sum(math.log2(size) for size in self.sizes) / 1000

    def kept(self, codebooks: int | None) -> int:
        """`codebooks`, all of them if None.

        Raises:
            ValueError: more than there are, or less than one.
        """
        return kept(codebooks, self.codebooks)

    def check_tokens(self, tokens: Tokens | Header) -> None:
        """Raise unless this codec decodes them: the same encoder and codebooks made them.

        Raises:
            WrongTokensError: another codec's, or other weights'.
        """
        if tokens.codec != self.name:
            raise WrongTokensError(
                f"tokens of codec {tokens.codec!r}, not {self.name!r}: decode them with "
                f"audiotok.load({tokens.codec!r}) (--codec {tokens.codec})"
            )
        if not self.has_codes_of(tokens.fingerprint):
            raise WrongTokensError(
                f"tokens of other weights of {self.name!r} ({tokens.fingerprint}, these are "
                f"{self.fingerprint}): give the checkpoint that made them, or encode again"
            )

    def has_codes_of(self, fingerprint: str) -> bool:
        """Return whether codes made by weights of this fingerprint mean the same here."""
        return fingerprint in (self.fingerprint, *self.former_fingerprints)

    def streams(self, channels: int, *, split: bool = False) -> int:
        """How many times a recording of so many channels is coded: the channel policy.

        A mono codec codes the mean of the channels, and says so once; or each, if `split`.

        Raises:
            ValueError: channels that this codec cannot take.
        """
        if split and channels % self.channels == 0:
            return channels // self.channels
        if self.channels == 1 or self.channels == channels:
            if channels > self.channels:
                mixing_down(channels)
            return 1
        raise ValueError(f"{channels} channels given to {self.name!r}, which codes {self.channels}")

    def tokens_of(
        self,
        codes: np.ndarray,
        *,
        codebooks: int,
        samples: int,
        original_rate: int,
        original_samples: int,
    ) -> Tokens:
        """Codes `[streams*codebooks f]` of a recording as `Tokens`, with the lengths they need."""
        streams = len(codes) // codebooks
        return Tokens(
            codes=codes,
            size=self.sizes[:codebooks],
            codec=self.name,
            fingerprint=self.fingerprint,
            sample_rate=self.sample_rate,
            frame_size=self.frame_size,
            samples=samples,
            original_rate=original_rate,
            original_samples=original_samples,
            channels=self.channels * streams,
            streams=streams,
        )

    def header(self, original_rate: int, *, streams: int, codebooks: int) -> Header:
        """What the .tok file of a recording says before its codes."""
        none = np.zeros((streams * codebooks, 0), np.int64)
        lengths = {"samples": 0, "original_samples": 0}
        made = self.tokens_of(none, codebooks=codebooks, original_rate=original_rate, **lengths)
        return made.header
