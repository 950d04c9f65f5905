"""Layout: how one recording's codes become the ids that a language model reads, and back.

    codes [k f] -> runs -> pattern -> vocabulary -> pieces -> ids

    runs        equal frames one after another, each with its duration as one more codebook
    pattern     in which order, or in which rows (`audiotok.lm.patterns`)
    vocabulary  ids of special marks, then of every codebook
    pieces      BPE or Unigram over the ids of one row

Every step has an exact inverse, but `runs = "drop"`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from audiotok.lm.layout.base import BEGIN, END, NONE, PAD, LayoutError, Vocabulary
from audiotok.lm.layout.inverse import in_rows, in_series
from audiotok.lm.layout.runs import collapse, expand
from audiotok.lm.patterns.base import Serial
from audiotok.tokens.tokens import Tokens


class Repaired(NamedTuple):
    """What could be read of damaged ids.

    Attributes:
        codes: `[k f]`; of a sequence cut short all frames that are whole, or of all frames the
            codebooks that are, whichever is more.
        lost: codes that were there and are not in `codes`.
        problems: what was wrong, in words; none if all was well.
    """

    codes: np.ndarray
    lost: int
    problems: tuple[str, ...]


class Layout(Vocabulary):
    """Codes `[k f]` <-> ids; see `Vocabulary` for what they are.

    >>> layout = Layout.of(tokens, pattern="delay")
    >>> ids = layout.encode(tokens)
    >>> codes = layout.decode(ids)
    """

    def checked(self, codes: Tokens | np.ndarray) -> np.ndarray:
        """The codes `[k f]` that are laid out.

        Raises:
            LayoutError: too few codebooks, other sizes, or a code out of its range.
        """
        if isinstance(codes, Tokens):
            if self.codec and (codes.codec, codes.fingerprint) != (self.codec, self.fingerprint):
                raise LayoutError(
                    f"a layout for {self.codec} {self.fingerprint} was given tokens of "
                    f"{codes.codec} {codes.fingerprint}"
                )
            each = len(self.sizes) // codes.streams
            codes = codes.first(min(max(1, each), codes.codebooks)).codes
        codes = np.asarray(codes)
        if codes.ndim != 2 or len(codes) != len(self.sizes):
            raise LayoutError(
                f"codes {list(codes.shape)}, not those of {len(self.sizes)} codebooks"
            )
        if codes.dtype.kind not in "iu":
            raise LayoutError(f"codes are integers, not {codes.dtype}")
        codes = codes.astype(np.int64)
        bad = (codes < 0) | (codes >= np.array(self.sizes)[:, None])
        if bad.any():
            q, f = np.argwhere(bad)[0]
            raise LayoutError(
                f"frame {f}: code {codes[q, f]} of codebook {q}, which has 0 to {self.sizes[q] - 1}"
            )
        return codes

    def ordered(self, codes: np.ndarray) -> np.ndarray:
        """Codes `[k f]` with runs collapsed, as the pattern gets them: `[len(books) r]`."""
        if self.runs == "keep":
            return codes
        if self.runs == "drop":
            return collapse(codes)[0]
        kept, lengths = collapse(codes, self.longest)
        return np.concatenate([kept, lengths[None] - 1])

    def encode(self, codes: Tokens | np.ndarray, *, marks: bool = True) -> np.ndarray:
        """The ids of a recording's codes.

        Args:
            codes: Tokens, or codes `[k f]`.
            marks: with `begin` and `end`.

        Returns:
            `[n]`, or `[rows n]`, int64.

        Raises:
            LayoutError: the codes do not fit.
            ImportError: pieces need the `tokenizers` library.
        """
        rows = self.ordered(self.checked(codes))
        frames = rows.shape[1]
        cells = self.order.cells(frames)
        if isinstance(self.order, Serial):
            ids = self.numbered((rows + self.firsts[:-1, None]).ravel()[cells[0]])
            return np.r_[self.special("begin"), ids, self.special("end")] if marks else ids
        ids = np.where(cells < 0, PAD, np.r_[rows.ravel(), 0][cells] + NONE)
        if not marks:
            return ids
        ids = np.pad(ids, ((0, 0), (1, max(0, frames + 1 - ids.shape[1]))), constant_values=PAD)
        ids[:, 0] = BEGIN
        ids[0, frames + 1] = END
        return ids

    def numbered(self, units: np.ndarray) -> np.ndarray:
        """Units, pieced together if there are pieces, as ids."""
        return self.offset + NONE + (self.learned.encode(units) if self.learned else units)

    def tokens(self, codes: np.ndarray, *, samples: int | None = None) -> Tokens:
        """Codes `[k f]`, which may be fewer codebooks, as Tokens that the codec decodes.

        Args:
            codes: what `decode` gave.
            samples: length; whole frames if None.
        """
        if not self.codec:
            raise LayoutError("this layout does not say which codec its codes are of")
        length = codes.shape[1] * self.frame_size if samples is None else samples
        return Tokens(
            codes=codes,
            size=self.sizes[: len(codes)],
            codec=self.codec,
            fingerprint=self.fingerprint,
            sample_rate=self.sample_rate,
            frame_size=self.frame_size,
            samples=length,
            original_rate=self.sample_rate,
            original_samples=length,
        )

    def decode(self, ids: np.ndarray, *, marks: bool = True) -> np.ndarray:
        """The codes `[k f]` that ids stand for.

        Args:
            ids: what `encode` gave, as an array or a list; `pad` may follow.
            marks: whether they are within `begin` and `end`.

        Raises:
            LayoutError: they are cut short or damaged; `repair` keeps what is whole.
        """
        codes, _, problems = self.repair(ids, marks=marks)
        if problems:
            raise LayoutError(f"{problems[0]}; Layout.repair keeps what is whole")
        return codes

    def repair(self, ids: np.ndarray, *, marks: bool = True) -> Repaired:
        """As much as ids say up to the first that does not belong, and what was wrong.

        Raises:
            LayoutError: not integers, or not the rows of this layout.
        """
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iu" and ids.size:
            raise LayoutError(f"ids are integers, not {ids.dtype}")
        shape = (1,) if self.serial else (2,)
        if ids.ndim != shape[0] or (ids.ndim == 2 and len(ids) != len(self.books)):
            wanted = "[n]" if self.serial else f"[{len(self.books)} n]"
            raise LayoutError(f"ids {list(ids.shape)}: this layout has {wanted}")
        find = in_series if self.serial else in_rows
        found = find(self, ids.astype(np.int64), marks)
        rows, problems = found.rows, found.problems
        if self.runs == "durations":
            if len(rows) < len(self.books):  # what has no duration has no place in time
                rows = np.zeros((len(self.books), 0), np.int64)
            return Repaired(expand(rows[:-1], rows[-1] + 1), found.units - rows.size, problems)
        return Repaired(rows, found.units - rows.size, problems)
