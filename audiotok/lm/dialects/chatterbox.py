"""Chatterbox: one code of S3 (25 Hz, 6,561 entries) a frame, with ids of its own."""

from __future__ import annotations

from audiotok.lm.dialects.base import SerialDialect


class Chatterbox(SerialDialect):
    """Chatterbox's dialect: codes are ids as they are; text has other ids, in another table."""

    lm = "Chatterbox"
    codecs = ("s3_v2_25hz",)
    entries = (6561,)
    begin, end = 6561, 6562
    facts = "github.com/resemble-ai/chatterbox: src/chatterbox/models/t3/modules/t3_config.py"
