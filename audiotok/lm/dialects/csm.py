"""CSM: 32 codes of Mimi a frame in rows, and a frame of zeros for the end."""

from __future__ import annotations

from audiotok.lm.dialects.base import RowsDialect


class Csm(RowsDialect):
    """CSM's dialect: ids are codes as they are, since its tables of embeddings add 2,051 a row.

    A frame in which every code is 0 means the end, so that a recording cannot have one.
    """

    lm = "CSM"
    codecs = ("mimi",)
    entries = (2048,) * 32
    delays = (0,) * 32
    end = 0
    facts = "github.com/SesameAILabs/csm: generator.py; transformers: models/csm"
