"""Orpheus: seven codes of SNAC a frame in one row, each position with ids of its own."""

from __future__ import annotations

from audiotok.lm.dialects.base import SerialDialect


class Orpheus(SerialDialect):
    """Orpheus's dialect.

    SNAC's frame has one code of its first codebook, a, two of the second, b c, and four of the
    third, d e f g, which audiotok lists in this order. Orpheus says them in time: a b d e c f g. In
    its tokenizer id 128,256 + n is `<custom_token_n>`, and codes begin with n = 10.

    Models of its kind on other text models differ in the size of the text vocabulary alone:
    `Layout.named("orpheus", offset=64400)` is VyvoTTS's.
    """

    lm = "Orpheus"
    codecs = ("snac_24khz",)
    entries = (4096,) * 7
    text_ids = 128_256
    positions = (0, 1, 3, 4, 2, 5, 6)
    first, begin, end = 10, 1, 2
    facts = (
        "github.com/canopyai/Orpheus-TTS: orpheus_tts_pypi/orpheus_tts/decoder.py; "
        "huggingface.co/canopylabs/orpheus-3b-0.1-ft"
    )

    def names(self) -> list[str]:
        """See `Dialect.names`."""
        return [f"<custom_token_{n}>" for n in range(self.vocabulary[0] - self.offset)]
