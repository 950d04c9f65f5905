"""NeuTTS: one code of NeuCodec a frame, written `<|speech_123|>`."""

from __future__ import annotations

from audiotok.lm.dialects.base import SerialDialect

MARKS = (
    "<|TEXT_REPLACE|>",
    "<|TEXT_PROMPT_START|>",
    "<|TEXT_PROMPT_END|>",
    "<|SPEECH_REPLACE|>",
    "<|SPEECH_GENERATION_START|>",
    "<|SPEECH_GENERATION_END|>",
)


class Neutts(SerialDialect):
    """NeuTTS's dialect: six marks after the text vocabulary, then 65,536 codes.

    The ids are those of NeuTTS Nano, on Llama 3's vocabulary. NeuTTS Air has another: give its
    size, or take the text, which is the same for both.
    """

    lm = "NeuTTS Nano and Air"
    codecs = ("neucodec",)
    entries = (65_536,)
    text_ids = 128_256
    first = len(MARKS)
    begin = MARKS.index("<|SPEECH_GENERATION_START|>")
    end = MARKS.index("<|SPEECH_GENERATION_END|>")
    facts = "github.com/neuphonic/neutts: neutts/neutts.py; huggingface.co/neuphonic/neutts-nano"

    def names(self) -> list[str]:
        """See `Dialect.names`."""
        return [*MARKS, *(f"<|speech_{code}|>" for code in range(self.entries[0]))]
