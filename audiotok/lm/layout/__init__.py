"""Layouts: the conversion between codes of a recording and ids of a language model."""

from audiotok.lm.layout.base import LayoutError
from audiotok.lm.layout.grammar import Grammar
from audiotok.lm.layout.sequence import Layout, Repaired, find_layout
from audiotok.lm.layout.streaming import DecodeStream, EncodeStream

__all__ = [
    "DecodeStream",
    "EncodeStream",
    "Grammar",
    "Layout",
    "LayoutError",
    "Repaired",
    "find_layout",
]
