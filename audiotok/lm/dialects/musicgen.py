"""MusicGen: four codes of EnCodec 32 kHz a frame in rows, each a step after the one before."""

from __future__ import annotations

from audiotok.lm.dialects.base import RowsDialect


class Musicgen(RowsDialect):
    """MusicGen's dialect: id 2048 wherever no code is."""

    lm = "MusicGen"
    codecs = ("encodec_32khz",)
    entries = (2048,) * 4
    delays = (0, 1, 2, 3)
    begin = before = after = 2048
    facts = "arXiv:2306.05284; transformers: models/musicgen, build_delay_pattern_mask"
