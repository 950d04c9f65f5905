"""Pieces of several units, by a subword model of the `tokenizers` library.

Each unit is represented by a character, so that the library's models of text apply to units.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import

Ids = Int[np.ndarray, " n"]
Units = Int[np.ndarray, " m"]

FIRST = 0x10000  # the character of unit 0; there are no surrogates from here on
MAX_UNITS = 0x110000 - FIRST  # number of units that have a character


def units_to_text(units: Units) -> str:
    """Return the text that represents units."""
    return (units + FIRST).astype("<u4").tobytes().decode("utf-32-le")


def text_to_units(text: str) -> np.ndarray:
    """Return the units `[m]` that a text of `units_to_text` represents."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64) - FIRST


class Pieces:
    """Vocabulary of pieces.

    Args:
        table: the content of a tokenizer.json.
        specials: number of ids that precede the pieces.

    Attributes:
        lengths: number of units of each piece `[p]`.
        starts: position of each piece's first unit in `flat` `[p]`.
        flat: units of all pieces, concatenated.

    Raises:
        ValueError: the content is not a BPE or Unigram model of units.
    """

    def __init__(self, table: dict[str, Any], specials: int) -> None:
        self.table = table
        self.specials = specials
        try:
            model = table["model"]
            vocab = model["vocab"]
            if isinstance(vocab, dict):
                texts = sorted(vocab, key=vocab.__getitem__)
                ids = sorted(vocab.values())
            else:
                texts, ids = [text for text, _ in vocab], list(range(len(vocab)))
        except (KeyError, TypeError, ValueError):
            raise InputError("the pieces are no tokenizer.json of a BPE or Unigram model") from None
        units = [text_to_units(text) for text in texts[specials:]]
        if ids != list(range(len(ids))) or any(not len(u) or u.min() < 0 for u in units):
            raise InputError("the pieces are not made of units; train them with audiotok.lm.bpe")
        self.lengths = np.array([len(u) for u in units], np.int64)
        self.starts = np.r_[0, np.cumsum(self.lengths)[:-1]].astype(np.int64)
        self.flat = np.concatenate(units) if units else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def units(self, pieces: Ids) -> np.ndarray:
        """Return the units `[m]` of pieces `[n]`, which are counted from 0.

        This does not need the `tokenizers` library.
        """
        lengths = self.lengths[pieces]
        total = int(lengths.sum())
        within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.flat[np.repeat(self.starts[pieces], lengths) + within]

    @cached_property
    def model(self) -> Any:
        """Tokenizer of the `tokenizers` library.

        Raises:
            ImportError: `tokenizers` is not installed; the message says how to install it.
        """
        return optional_import("tokenizers", extra="lm").Tokenizer.from_str(json.dumps(self.table))

    def encode(self, units: Units) -> np.ndarray:
        """Return the pieces `[n]`, counted from 0, of units `[m]`."""
        if not len(units):
            return np.zeros(0, np.int64)
        ids = self.model.encode(units_to_text(units), add_special_tokens=False).ids
        return np.asarray(ids, np.int64) - self.specials
