"""Dia: nine codes of DAC a frame in rows, the first of which is 8 steps and more ahead."""

from __future__ import annotations

from audiotok.lm.dialects.base import RowsDialect


class Dia(RowsDialect):
    """Dia's dialect: marks 1024 (end), 1025 (padding) and 1026 (begin) above the codes."""

    lm = "Dia"
    codecs = ("dac_44khz",)
    entries = (1024,) * 9
    delays = (0, 8, 9, 10, 11, 12, 13, 14, 15)
    begin = before = 1026
    end, after = 1024, 1025
    facts = "transformers: models/dia/processing_dia.py; github.com/nari-labs/dia: dia/config.py"
