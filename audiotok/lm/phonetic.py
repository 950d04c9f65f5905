"""Text as phones, each told in the very frames in which it is said (VALL-E R, arXiv:2406.07855).

    phones   SIL SIL | G  G | UH UH UH | D ...     of frame i, and those around it
    codes    begin c   c  c   c  c  c    c ...     the model says frame i's, and whether the phone
                                                   ends with it

So the model need not find its place in the text, and can neither skip nor repeat a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audiotok.data.alignment import SILENCE, Alignment, pronounced

# Of pocketsphinx's dictionary (CMU's), after what stands for "no phone".
PHONES = (
    *("", SILENCE, "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F"),
    *("G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T"),
    *("TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
AROUND = (-2, -1, 0, 1, 2)  # phones that a frame is told of, counted from its own
LONGEST = 32  # frames of a phone that are told apart
TOLD = (len(PHONES),) * len(AROUND) + (LONGEST,)  # ids of each row of what is told
PAUSE = 0.06  # s; less between two phones goes to the first


class Timed(NamedTuple):
    """Phones `[m]` of a recording, and how many frames `[m]` each lasts."""

    phones: np.ndarray
    lengths: np.ndarray

    def first(self, frames: int) -> Timed:
        """The phones that are whole within so many frames."""
        count = int(np.searchsorted(np.cumsum(self.lengths), frames, "right"))
        return Timed(self.phones[:count], self.lengths[:count])


def numbers(phones: Sequence[str]) -> np.ndarray:
    """Ids `[m]` of phones.

    Raises:
        ValueError: one that is none.
    """
    try:
        return np.array([PHONES.index(phone) for phone in phones], np.int64)
    except ValueError:
        raise ValueError(f"not phones of the dictionary: {set(phones) - set(PHONES)}") from None


def timed(alignment: Alignment, frames: int, frame_rate: float) -> Timed:
    """The phones of a recording, and the silences between and around them.

    Raises:
        ValueError: the phones do not fit the recording.
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
    edges = np.maximum.accumulate(edges - order) + order  # a frame each at least
    lengths = np.diff(np.append(edges, frames))
    if not names or lengths[-1] < 1:
        raise ValueError(f"{len(names)} phones do not fit {frames} frames")
    return Timed(numbers(names), lengths)


def told(phones: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What each frame is told `[r f]`: the phones around, and how long its own has lasted."""
    which = np.repeat(np.arange(len(phones)), lengths)
    since = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    reach = max(map(abs, AROUND))
    wide = np.pad(phones, reach)
    around = [wide[which + reach + step] for step in AROUND]
    return np.stack([*around, np.minimum(since, LONGEST - 1)])


def turns(lengths: np.ndarray) -> np.ndarray:
    """Whether each frame `[f]` is the last of its phone."""
    made = np.zeros(int(lengths.sum()), np.int64)
    made[np.cumsum(lengths) - 1] = 1
    return made


class Reader:
    """Where a model is in the phones that it says.

    Args:
        phones: ids `[m]`.
        longest: frames after which a phone ends whatever the model says.
        before: what was said before them, in a prompt.
    """

    def __init__(
        self, phones: np.ndarray, *, longest: int = 40, before: Timed | None = None
    ) -> None:
        self.phones, self.longest = phones, longest
        self.lengths: list[int] = [0] if len(phones) else []
        if before is not None:
            self.phones = np.concatenate([before.phones, phones])
            self.lengths = before.lengths.tolist() + self.lengths

    @classmethod
    def of(cls, text: str, *, before: Timed | None = None) -> Reader:
        """Of an English text; see `audiotok.data.alignment.pronounced`."""
        return cls(numbers(pronounced(text)), before=before)

    @property
    def done(self) -> bool:
        """Whether all has been said."""
        return len(self.lengths) > len(self.phones) or not len(self.phones)

    @property
    def frames(self) -> int:
        """Said so far."""
        return sum(self.lengths)

    def now(self, frames: int = 1) -> np.ndarray:
        """What the frame to come and those before it are told, `[r frames]`; zeros after the last.

        Args:
            frames: at most one more than were said.
        """
        if self.done:
            return np.zeros((len(TOLD), frames), np.int64)
        counts = np.array([*self.lengths[:-1], self.lengths[-1] + 1])
        reach = max(AROUND)
        here = self.phones[: len(counts) + reach]
        lengths = np.zeros(len(here), np.int64)
        lengths[: len(counts)] = counts
        return told(here, lengths)[:, -frames:]

    def said(self, ends: bool) -> None:
        """A frame was said, and maybe the phone's last."""
        if self.done:
            return
        self.lengths[-1] += 1
        if ends or self.lengths[-1] >= self.longest:
            self.lengths.append(0)

    def timed(self) -> Timed:
        """All phones, and how many frames each lasted so far."""
        lengths = np.zeros(len(self.phones), np.int64)
        lengths[: len(self.lengths)] = self.lengths[: len(self.phones)]
        return Timed(self.phones, lengths)
