"""Qwen3-TTS (12 Hz): 16 codes a frame in rows, marks in the first of them."""

from __future__ import annotations

from audiotok.lm.dialects.base import RowsDialect


class Qwen3Tts(RowsDialect):
    """Qwen3-TTS's dialect.

    The talker says the first code of a frame, in a vocabulary of 3,072 ids with marks above the
    codes; another model says the 15 others, which have no marks: 0 stands in their rows where the
    first has one, as in the package's own data, which masks it.
    """

    lm = "Qwen3-TTS 12 Hz"
    codecs = ("qwen3_tts_12hz",)
    entries = (2048,) * 16
    delays = (0,) * 16
    begin = (2149, *(0,) * 15)
    end = (2150, *(0,) * 15)
    facts = (
        "github.com/QwenLM/Qwen3-TTS: finetuning/dataset.py; "
        "huggingface.co/Qwen/Qwen3-TTS-12Hz-1.7B-Base: config.json, talker_config"
    )
