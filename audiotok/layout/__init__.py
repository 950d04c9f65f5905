"""Between a recording's codes and the ids of a language model."""

from audiotok.layout.base import LayoutError
from audiotok.layout.grammar import Grammar
from audiotok.layout.sequence import Layout, Repaired
from audiotok.layout.streaming import DecodeStream, EncodeStream

__all__ = ["DecodeStream", "EncodeStream", "Grammar", "Layout", "LayoutError", "Repaired"]
