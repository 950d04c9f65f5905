"""Scripts whose marks are letters, and scripts without spaces between words.

In Hindi, Thai or vowelled Arabic a combining mark (Unicode's category M) is a vowel or a tone; in
Chinese, Japanese, Thai, Lao, Khmer and Burmese no space parts two words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache

_HIDDEN = 0xF0000  # private characters from here on stand for marks, one for each up to U+1FFFD
_NO_SPACES = (
    "BALINESE",
    "BOPOMOFO",
    "CJK COMPATIBILITY",
    "CJK UNIFIED",
    "HIRAGANA",
    "IDEOGRAPHIC",
    "JAVANESE",
    "KATAKANA",
    "KHMER",
    "LAO",
    "MYANMAR",
    "NEW TAI",
    "TAI",
    "THAI",
    "YI SYLLABLE",
)


def hide_marks(text: str, *, latin: bool = True) -> str:
    """Return the text in lower case with its combining marks as private characters, which whoever
    cuts marks off leaves alone; `show_marks` brings them back.

    Args:
        text: any text.
        latin: hide marks of Latin letters too. Otherwise they stay as they are, while letters of
            other scripts that Unicode has with their mark (й) are taken apart first.
    """
    lower = unicodedata.normalize("NFC", text.lower())
    if latin:
        lower = lower.replace("i\u0307", "i")  # what Python makes of the Turkish capital
    made, base = list[str](), ""
    for letter in lower:
        alone = latin or not letter.isalpha() or _is_latin(letter)
        for part in letter if alone else unicodedata.normalize("NFD", letter):
            if not unicodedata.category(part).startswith("M"):
                base = part if part.isalpha() else ""
            elif "VARIATION SELECTOR" in unicodedata.name(part, ""):
                continue  # of a glyph, not of a letter
            elif base and (latin or not _is_latin(base)) and ord(part) <= 0x1FFFD:
                part = chr(_HIDDEN + ord(part))
            made.append(part)
    return "".join(made)


def show_marks(text: str) -> str:
    """Return the text with the marks that `hide_marks` hid, composed where Unicode can (NFC)."""
    shown = (chr(ord(c) - _HIDDEN) if ord(c) >= _HIDDEN else c for c in text)
    return unicodedata.normalize("NFC", "".join(shown))


def only_latin(text: str) -> bool:
    """Return whether all letters of a text are Latin."""
    return text.isascii() or all(_is_latin(c) for c in text if c.isalpha())


def unspaced(text: str) -> bool:
    """Return whether a text is mostly in a script without spaces between words: it has more
    letters of such scripts than words of others."""
    letters = sum(map(_without_spaces, text))
    return letters > sum(not any(map(_without_spaces, word)) for word in text.split())


def joined(text: str) -> str:
    """Return the text without spaces beside a letter of a script that has none between words."""
    return "".join(_joined(text))


def _joined(text: str) -> Iterator[str]:
    parts = text.split()
    for before, part in zip(("", *parts), parts, strict=False):
        if before and not (_without_spaces(before[-1]) or _without_spaces(part[0])):
            yield " "
        yield part


@cache
def _is_latin(letter: str) -> bool:
    return "LATIN" in unicodedata.name(letter, "").split()[:3]  # "FULLWIDTH LATIN SMALL LETTER A"


@cache
def _without_spaces(letter: str) -> bool:
    """Return whether it is a letter or a mark of a script without spaces between words."""
    kind = unicodedata.category(letter)[0]
    return kind in "LM" and unicodedata.name(letter, "").startswith(_NO_SPACES)
