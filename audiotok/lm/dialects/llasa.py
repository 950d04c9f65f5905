"""Llasa: one code of XCodec2 a frame, written `<|s_123|>`, in Llama 3's vocabulary."""

from __future__ import annotations

from audiotok.lm.dialects.base import SerialDialect

MARKS = tuple(
    f"<|{what}_{edge}|>"
    for what in (
        "TEXT_GENERATION",
        "TEXT_UNDERSTANDING",
        "SPEECH_GENERATION",
        "SPEECH_UNDERSTANDING",
    )
    for edge in ("START", "END")
)


class Llasa(SerialDialect):
    """Llasa's dialect: eight marks after Llama 3's 128,256 ids, then 65,536 codes."""

    lm = "Llasa"
    codecs = ("xcodec2",)
    entries = (65_536,)
    text_ids = 128_256
    first = len(MARKS)
    begin = MARKS.index("<|SPEECH_GENERATION_START|>")
    end = MARKS.index("<|SPEECH_GENERATION_END|>")
    facts = "huggingface.co/HKUSTAudio/Llasa-3B: README, tokenizer_config.json; vocab_size 193,800"

    def names(self) -> list[str]:
        """See `Dialect.names`."""
        return [*MARKS, *(f"<|s_{code}|>" for code in range(self.entries[0]))]
