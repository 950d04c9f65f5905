"""Conditioning on phones, each in the frames in which it is spoken (VALL-E R, arXiv:2406.07855).

    phones   SIL SIL | G  G | UH UH UH | D ...     input: the phone of frame i and its neighbours
    codes    begin c   c  c   c  c  c    c ...     output: the codes of frame i, and whether its
                                                   phone ends with it

So the model does not have to learn an alignment, and can neither skip nor repeat a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.data.alignment import SILENCE, Alignment, pronounce

# Phones of pocketsphinx's dictionary (CMU's), after an id that means "no phone".
PHONES = (
    *("", SILENCE, "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F"),
    *("G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T"),
    *("TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
AROUND = (-2, -1, 0, 1, 2)  # phones that are inputs of a frame, relative to its own
LONGEST = 32  # number of distinct positions within a phone, in frames
# Number of ids of each row of the inputs.
PHONE_INPUT_SIZES = (len(PHONES),) * len(AROUND) + (LONGEST,)
PAUSE = 0.06  # seconds; a shorter gap between two phones is counted to the first


class TimedPhones(NamedTuple):
    """Phones of a recording `[m]`, and the duration of each in frames `[m]`."""

    phones: np.ndarray
    lengths: np.ndarray

    def first(self, frames: int) -> TimedPhones:
        """Return the phones that end within the first `frames` frames."""
        count = int(np.searchsorted(np.cumsum(self.lengths), frames, "right"))
        return TimedPhones(self.phones[:count], self.lengths[:count])


def numbers(phones: Sequence[str]) -> np.ndarray:
    """Return the ids `[m]` of phones.

    Raises:
        ValueError: a name that is not in `PHONES`.
    """
    try:
        return np.array([PHONES.index(phone) for phone in phones], np.int64)
    except ValueError:
        raise InputError(f"not phones of the dictionary: {set(phones) - set(PHONES)}") from None


def timed(alignment: Alignment, frames: int, frame_rate: float) -> TimedPhones:
    """Return the phones of a recording with the silences between and around them, in frames.

    Args:
        alignment: the phones of the recording, in seconds.
        frames: number of frames of the recording.
        frame_rate: frames per second.

    Raises:
        ValueError: there are no phones, or more than the recording has frames for.
    """
    names: list[str] = []
    starts: list[float] = []
    end = 0.0
    for span in alignment.phones:
        if span.start - end > PAUSE:
            names.append(SILENCE)
            starts.append(end)
        names.append(span.label)
        starts.append(span.start)
        end = span.end
    if frames / frame_rate - end > PAUSE:
        names.append(SILENCE)
        starts.append(end)
    edges = np.round(np.array([0.0, *starts[1:]]) * frame_rate).astype(np.int64)
    order = np.arange(len(edges))
    edges = np.maximum.accumulate(edges - order) + order  # at least a frame each
    lengths = np.diff(np.append(edges, frames))
    if not names or lengths[-1] < 1:
        raise InputError(f"{len(names)} phones do not fit {frames} frames")
    return TimedPhones(numbers(names), lengths)


def phone_inputs(phones: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the phone inputs `[p f]`: neighbouring phones, and the position within the phone.

    Args:
        phones: ids of phones `[m]`.
        lengths: duration of each phone in frames `[m]`.
    """
    which = np.repeat(np.arange(len(phones)), lengths)
    since = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    radius = max(map(abs, AROUND))
    padded = np.pad(phones, radius)
    around = [padded[which + radius + step] for step in AROUND]
    return np.stack([*around, np.minimum(since, LONGEST - 1)])


def phone_ends(lengths: np.ndarray) -> np.ndarray:
    """Return `[f]`: 1 for the last frame of each phone, 0 for the others."""
    ends = np.zeros(int(lengths.sum()), np.int64)
    ends[np.cumsum(lengths) - 1] = 1
    return ends


class Reader:
    """Position in a sequence of phones during generation.

    Args:
        phones: ids of the phones to generate `[m]`.
        longest: frames after which a phone ends even if the model does not end it.
        before: phones of a prompt, which precede them.

    Attributes:
        phones: ids of all phones, the prompt's included.
        lengths: frames generated so far of each phone that has been started.
    """

    def __init__(
        self, phones: np.ndarray, *, longest: int = 40, before: TimedPhones | None = None
    ) -> None:
        self.phones = phones
        self.longest = longest
        self.lengths: list[int] = [0] if len(phones) else []
        if before is not None:
            self.phones = np.concatenate([before.phones, phones])
            self.lengths = before.lengths.tolist() + self.lengths

    @classmethod
    def of(cls, text: str, *, before: TimedPhones | None = None) -> Reader:
        """Return a reader of an English text; see `audiotok.data.alignment.pronounce`.

        Args:
            text: the text.
            before: phones of a prompt, which precede it.
        """
        return cls(numbers(pronounce(text)), before=before)

    @property
    def done(self) -> bool:
        """True if all phones have ended."""
        return len(self.lengths) > len(self.phones) or not len(self.phones)

    @property
    def frames(self) -> int:
        """Number of frames generated so far, the prompt's included."""
        return sum(self.lengths)

    def inputs(self, frames: int = 1) -> np.ndarray:
        """Return the phone inputs `[p frames]` of the last frames, the next one included.

        They are zeros after the last phone.

        Args:
            frames: number of frames, at most one more than were generated.
        """
        if self.done:
            return np.zeros((len(PHONE_INPUT_SIZES), frames), np.int64)
        counts = np.array([*self.lengths[:-1], self.lengths[-1] + 1])
        known = self.phones[: len(counts) + max(AROUND)]
        lengths = np.zeros(len(known), np.int64)
        lengths[: len(counts)] = counts
        return phone_inputs(known, lengths)[:, -frames:]

    def advance(self, ends: bool) -> None:
        """Count a frame as generated.

        Args:
            ends: whether its phone ends with it.
        """
        if self.done:
            return
        self.lengths[-1] += 1
        if ends or self.lengths[-1] >= self.longest:
            self.lengths.append(0)

    def timed(self) -> TimedPhones:
        """Return all phones, with the number of frames generated so far of each."""
        lengths = np.zeros(len(self.phones), np.int64)
        lengths[: len(self.lengths)] = self.lengths[: len(self.phones)]
        return TimedPhones(self.phones, lengths)
