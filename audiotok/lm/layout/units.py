"""Pieces of several units, as a tokenizer.json of the `tokenizers` library has them.

A unit is a character there, so that the library's models of text are models of units.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from audiotok._platform.optional import needed

Ids = Int[np.ndarray, " n"]
Units = Int[np.ndarray, " m"]

FIRST = 0x10000  # the character of unit 0: above it no surrogates are in the way
MOST = 0x110000 - FIRST  # units that have a character


def written(units: Units) -> str:
    """Units as the text that stands for them."""
    return (units + FIRST).astype("<u4").tobytes().decode("utf-32-le")


def read(text: str) -> np.ndarray:
    """The units of a text that `written` gave."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64) - FIRST


class Pieces:
    """A vocabulary of pieces.

    Args:
        table: the content of a tokenizer.json.
        specials: how many ids come before the pieces.

    Raises:
        ValueError: not a BPE or Unigram model of units.
    """

    def __init__(self, table: dict[str, Any], specials: int) -> None:
        self.table, self.specials = table, specials
        try:
            model = table["model"]
            vocab = model["vocab"]
            if isinstance(vocab, dict):
                texts = sorted(vocab, key=vocab.__getitem__)
                ids = sorted(vocab.values())
            else:
                texts, ids = [text for text, _ in vocab], list(range(len(vocab)))
        except (KeyError, TypeError, ValueError):
            raise ValueError("the pieces are no tokenizer.json of a BPE or Unigram model") from None
        units = [read(text) for text in texts[specials:]]
        if ids != list(range(len(ids))) or any(not len(u) or u.min() < 0 for u in units):
            raise ValueError("the pieces are not made of units; train them with audiotok.lm.bpe")
        self.lengths = np.array([len(u) for u in units], np.int64)
        self.starts = np.r_[0, np.cumsum(self.lengths)[:-1]].astype(np.int64)
        self.flat = np.concatenate(units) if units else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def units(self, pieces: Ids) -> np.ndarray:
        """The units that pieces (counted from 0) stand for, one after another; numpy only."""
        lengths = self.lengths[pieces]
        total = int(lengths.sum())
        within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.flat[np.repeat(self.starts[pieces], lengths) + within]

    @cached_property
    def model(self) -> Any:
        """The library's `Tokenizer`.

        Raises:
            ImportError: `tokenizers` is not installed; says how to.
        """
        return needed("tokenizers", extra="lm").Tokenizer.from_str(json.dumps(self.table))

    def encode(self, units: Units) -> np.ndarray:
        """The pieces (counted from 0) of units."""
        if not len(units):
            return np.zeros(0, np.int64)
        ids = self.model.encode(written(units), add_special_tokens=False).ids
        return np.asarray(ids, np.int64) - self.specials
