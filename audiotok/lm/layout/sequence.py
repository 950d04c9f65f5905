"""Layout: the conversion of a recording's codes to ids of a language model, and back.

    codes [k f] -> runs -> pattern -> vocabulary -> pieces -> ids

    runs        runs of equal frames as one frame, their duration as a further codebook
    pattern     the order of codes, or their rows (`audiotok.lm.patterns`)
    vocabulary  ids of special marks, then of each codebook
    pieces      BPE or Unigram over the ids of one row

Every step has an exact inverse, except `runs = "drop"`.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find, names
from audiotok.lm.layout.base import BEGIN, END, NONE, PAD, LayoutError, Vocabulary
from audiotok.lm.layout.inverse import DecodedIds, in_rows, in_series
from audiotok.lm.layout.runs import collapse, expand
from audiotok.lm.patterns.base import Serial
from audiotok.tokens.tokenizer import Tokenizer
from audiotok.tokens.tokens import Tokens


class Repaired(NamedTuple):
    """Codes that could be decoded from damaged ids.

    Attributes:
        codes: codes `[k f]`; if the sequence is cut short, all complete frames, or all complete
            codebooks from the first, whichever is more.
        lost: number of codes in the ids that are not in `codes`.
        problems: descriptions of what was wrong; empty if nothing was.
    """

    codes: np.ndarray
    lost: int
    problems: tuple[str, ...]


class Layout(Vocabulary):
    """Conversion between codes `[k f]` and ids; see `Vocabulary` for the ids and the fields.

    >>> layout = Layout.of(tokens, pattern="delay")
    >>> ids = layout.encode(tokens)
    >>> codes = layout.decode(ids)
    """

    @staticmethod
    def named(name: str, source: Any = None, **chosen: Any) -> Layout:
        """Return the layout of a published language model (`audiotok.lm.dialects`).

        >>> layout = Layout.named("orpheus")  # or with tokens, whose fingerprint it keeps then

        Args:
            name: name of the model, as "orpheus".
            source: Tokens of any recording, or a Corpus; None if only codes are to be converted.
            **chosen: `offset`, where the model's text vocabulary has another size.

        Raises:
            UnknownPartError: there is no such layout; the message lists those that there are.
            LayoutError: the model does not speak the codes of the source.
        """
        kind = find("dialects", name)
        return kind(**chosen) if source is None else kind.of(source, **chosen)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise unless this is a layout for the codes of a codec.

        Raises:
            InputError: it is for another codec, for other weights, or for none in particular.
        """
        if self.codec != tokenizer.name or not tokenizer.has_codes_of(self.fingerprint):
            raise InputError(
                f"a layout for {self.codec or 'any codec'} {self.fingerprint}, and the codec is"
                f" {tokenizer.name} {tokenizer.fingerprint}"
            )

    def checked(self, codes: Tokens | np.ndarray) -> np.ndarray:
        """Return the codes `[k f]`, checked, as int64.

        Args:
            codes: Tokens, whose first codebooks are taken, or codes `[k f]`.

        Raises:
            LayoutError: the codes are of another codec or another number of channels, there are
                too few codebooks, or a code is out of range.
        """
        if isinstance(codes, Tokens):
            if self.codec and (codes.codec, codes.fingerprint) != (self.codec, self.fingerprint):
                raise LayoutError(
                    f"a layout for {self.codec} {self.fingerprint} was given tokens of "
                    f"{codes.codec} {codes.fingerprint}"
                )
            if codes.streams != self.streams:
                raise LayoutError(f"{codes.streams} channels, and the layout is of {self.streams}")
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
        """Return the rows `[len(books) r]` that the pattern orders: codes with runs collapsed."""
        if self.runs == "keep":
            return codes
        if self.runs == "drop":
            return collapse(codes)[0]
        kept, lengths = collapse(codes, self.longest)
        return np.concatenate([kept, lengths[None] - 1])

    def encode(self, codes: Tokens | np.ndarray, *, marks: bool = True) -> np.ndarray:
        """Encode a recording's codes to ids.

        Args:
            codes: Tokens, or codes `[k f]`.
            marks: whether to add `begin` and `end`.

        Returns:
            Ids `[n]`, or `[rows n]`, int64.

        Raises:
            LayoutError: the codes do not fit.
            ImportError: the layout has pieces, and `tokenizers` is not installed.
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

    @cached_property
    def _names(self) -> list[str]:
        return self.names()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._names)}

    def text(self, codes: Tokens | np.ndarray, *, marks: bool = True) -> str:
        """Return the codes as text, which a tokenizer that has `names` turns into their ids.

        Args:
            codes: as for `encode`.
            marks: as for `encode`.

        Raises:
            LayoutError: the codes do not fit, or the ids have no names.
        """
        return self.spelled(self.encode(codes, marks=marks))

    def spelled(self, ids: np.ndarray) -> str:
        """Return ids of `encode` as text, as `text` does codes.

        Args:
            ids: ids `[n]`.

        Raises:
            LayoutError: the ids have no names.
        """
        names = self._names
        return "".join(names[i] for i in ids - self.offset)

    def parse(self, text: str, *, marks: bool = True) -> np.ndarray:
        """Return the codes `[k f]` of a text that `text` returned, or a model wrote.

        Raises:
            LayoutError: there is anything else in it, or it is cut short.
        """
        number = self._numbers
        words = re.findall(r"<[^<>]*>|[^<]+|<", text)
        unknown = next((word for word in words if word not in number), None)
        if unknown is not None:
            raise LayoutError(f"{unknown[:40]!r} is no code and no mark of this layout")
        ids = np.array([number[word] for word in words], np.int64)
        return self.decode(ids + self.offset, marks=marks)

    def numbered(self, units: np.ndarray) -> np.ndarray:
        """Return the ids of units `[m]`, joined to pieces if the layout has pieces."""
        return self.offset + NONE + (self.learned.encode(units) if self.learned else units)

    def tokens(self, codes: np.ndarray, *, samples: int | None = None) -> Tokens:
        """Return codes as Tokens, which the codec can decode.

        Args:
            codes: codes `[k f]` of `decode`, of all codebooks or the first ones.
            samples: length in samples; None for the length of all frames.

        Raises:
            LayoutError: the layout does not name a codec.
        """
        if not self.codec:
            raise LayoutError("this layout does not say which codec its codes are of")
        length = codes.shape[1] * self.frame_size if samples is None else samples
        return Tokens(
            codes=codes,
            size=self.sizes[: len(codes) // self.streams],
            streams=self.streams,
            channels=self.streams,
            codec=self.codec,
            fingerprint=self.fingerprint,
            sample_rate=self.sample_rate,
            frame_size=self.frame_size,
            samples=length,
            original_rate=self.sample_rate,
            original_samples=length,
        )

    def decode(self, ids: np.ndarray, *, marks: bool = True) -> np.ndarray:
        """Decode ids to codes `[k f]`.

        Args:
            ids: ids of `encode`, as an array or a list; `pad` may follow.
            marks: whether the ids are between `begin` and `end`.

        Raises:
            LayoutError: the ids are cut short or damaged; `repair` decodes what is complete.
        """
        codes, _, problems = self.repair(ids, marks=marks)
        if problems:
            raise LayoutError(f"{problems[0]}; Layout.repair keeps what is whole")
        return codes

    def repair(self, ids: np.ndarray, *, marks: bool = True) -> Repaired:
        """Decode ids up to the first that is not valid in its position, and report the problems.

        Args:
            ids: ids of `encode`, possibly damaged.
            marks: whether the ids are between `begin` and `end`.

        Raises:
            LayoutError: the ids are not integers, or do not have the rows of this layout.
        """
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iu" and ids.size:
            raise LayoutError(f"ids are integers, not {ids.dtype}")
        shape = (1,) if self.serial else (2,)
        if ids.ndim != shape[0] or (ids.ndim == 2 and len(ids) != self.order.rows):
            wanted = "[n]" if self.serial else f"[{self.order.rows} n]"
            raise LayoutError(f"ids {list(ids.shape)}: this layout has {wanted}")
        rows, units, problems = self.inverted(ids.astype(np.int64), marks)
        lost = units - rows.size
        if self.runs == "durations":
            if len(rows) < len(self.books):  # without durations the frames cannot be placed in time
                rows = np.zeros((len(self.books), 0), np.int64)
                lost = units
            return Repaired(expand(rows[:-1], rows[-1] + 1), lost, problems)
        return Repaired(rows, lost, problems)

    def inverted(self, ids: np.ndarray, marks: bool) -> DecodedIds:
        """Decode ids up to the first that is not valid in its position.

        Args:
            ids: ids `[n]` or `[rows n]`, int64.
            marks: whether they are between `begin` and `end`.
        """
        return in_series(self, ids, marks) if self.serial else in_rows(self, ids, marks)


def find_layout(name_or_path: str | Path, source: Any = None) -> Layout:
    """Return the layout of a file, or of a published language model.

    Args:
        name_or_path: name of a dialect, as "orpheus"; else a layout.json ("./orpheus" is a file).
        source: Tokens of any recording, or a Corpus, for a dialect.

    Raises:
        LayoutError: no such dialect, nor such a file; or it does not fit the source.
    """
    known = names("dialects")
    if str(name_or_path) in known:
        return Layout.named(str(name_or_path), source)
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        raise LayoutError(f"{path}: no such file, nor one of the layouts {', '.join(known)}")
    return Layout.load(path)
