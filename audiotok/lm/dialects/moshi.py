"""Moshi: the first eight codebooks of Mimi in rows, all but the first a step late."""

from __future__ import annotations

from audiotok.lm.dialects.base import RowsDialect


class Moshi(RowsDialect):
    """Moshi's dialect, of one speaker: id 2048 wherever no code is.

    A conversation has two speakers' eight rows each, below a row of text: 17 rows.
    """

    lm = "Moshi"
    codecs = ("mimi",)
    entries = (2048,) * 8
    delays = (0, *(1,) * 7)
    before = after = 2048
    facts = (
        "github.com/kyutai-labs/moshi: moshi/models/loaders.py, delays; "
        "transformers: models/moshi, build_delay_pattern_mask"
    )
