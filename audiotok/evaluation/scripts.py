"""Writing systems whose combining marks are letters, and those without spaces between words.

In Hindi, Thai or vowelled Arabic a combining mark (Unicode's category M) is a vowel or a tone; in
Chinese, Japanese, Thai, Lao, Khmer and Burmese no space separates two words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache

_HIDDEN = 0xF0000  # first of the private characters that replace marks, one for each up to U+1FFFD
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
    """Return the text in lower case with its combining marks replaced by private characters.

    A normaliser that removes marks leaves private characters alone; `show_marks` restores them.

    Args:
        text: any text.
        latin: hide marks of Latin letters too. Otherwise they stay as they are, while letters of
            other scripts that Unicode composes with their mark (й) are decomposed first.
    """
    lower = unicodedata.normalize("NFC", text.lower())
    if latin:
        lower = lower.replace("i\u0307", "i")  # Python's lower case of the Turkish capital İ
    characters, base = list[str](), ""
    for letter in lower:
        alone = latin or not letter.isalpha() or _is_latin(letter)
        for part in letter if alone else unicodedata.normalize("NFD", letter):
            if not unicodedata.category(part).startswith("M"):
                base = part if part.isalpha() else ""
            elif "VARIATION SELECTOR" in unicodedata.name(part, ""):
                continue  # selects a glyph, not a letter
            elif base and (latin or not _is_latin(base)) and ord(part) <= 0x1FFFD:
                part = chr(_HIDDEN + ord(part))
            characters.append(part)
    return "".join(characters)


def show_marks(text: str) -> str:
    """Return the text with the marks that `hide_marks` hid, composed where Unicode can (NFC)."""
    shown = (chr(ord(c) - _HIDDEN) if ord(c) >= _HIDDEN else c for c in text)
    return unicodedata.normalize("NFC", "".join(shown))


def only_latin(text: str) -> bool:
    """Return whether all letters of a text are Latin."""
    return text.isascii() or all(_is_latin(c) for c in text if c.isalpha())


def unspaced(text: str) -> bool:
    """Return whether a text is mostly in a script without spaces between words.

    It is when it has more letters of such scripts than words of others.
    """
    letters = sum(map(_without_spaces, text))
    return letters > sum(not any(map(_without_spaces, word)) for word in text.split())


def joined(text: str) -> str:
    """Return the text without spaces beside letters of scripts that put none between words."""
    return "".join(_joined(text))


def _joined(text: str) -> Iterator[str]:
    """Yield the words of a text, and the spaces between them that are kept."""
    parts = text.split()
    for before, part in zip(("", *parts), parts, strict=False):
        if before and not (_without_spaces(before[-1]) or _without_spaces(part[0])):
            yield " "
        yield part


@cache
def _is_latin(letter: str) -> bool:
    """Return whether a character is a Latin letter by its Unicode name."""
    return "LATIN" in unicodedata.name(letter, "").split()[:3]  # "FULLWIDTH LATIN SMALL LETTER A"


@cache
def _without_spaces(letter: str) -> bool:
    """Return whether a character is a letter or a mark of a script without spaces between words."""
    kind = unicodedata.category(letter)[0]
    return kind in "LM" and unicodedata.name(letter, "").startswith(_NO_SPACES)
