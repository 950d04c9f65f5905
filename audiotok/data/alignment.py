"""Which phone and which word is said when: forced alignment of English by pocketsphinx."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch.nn import functional as F

from audiotok._platform.optional import needed
from audiotok.audio.audio import Audio

RATE = 16000  # Hz, of the acoustic model
STEP = 0.01  # s, of an alignment
EDGE = 0.5  # s of silence put at either end: without any, speech to the very end cannot be aligned
SILENCE = "SIL"
PROTOCOL = "forced alignment by pocketsphinx's en-us model (39 phones, 10 ms steps, no silences)"


@dataclass(frozen=True)
class Span:
    """A phone or word, from `start` to `end` seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Alignment:
    """Phones and words in the order they are said; silences and noises are left out."""

    phones: list[Span]
    words: list[Span]


def align(audio: Audio, text: str) -> Alignment:
    """When each word of the text, and each phone of it, is said.

    Raises:
        ValueError: no words, a word that the dictionary lacks (a number in digits, a name), or the
            text does not fit the recording.
        ImportError: pocketsphinx is not installed.
    """
    words = plain(text)
    if not words:
        raise ValueError("no text to align")
    decoder = _decoder()
    unknown = [word for word in words if decoder.lookup_word(word) is None]
    if unknown:
        raise ValueError(f"not in pocketsphinx's dictionary: {', '.join(unknown)}")
    edge = round(EDGE * RATE)
    samples = F.pad(audio.mono().resample(RATE).samples[0].clamp(-1, 1), (edge, edge))
    pcm = (samples * 32767).short().numpy().tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        _run(decoder, pcm)  # words
        decoder.set_alignment()
        _run(decoder, pcm)  # phones within them
        found = decoder.get_alignment()
    except RuntimeError as error:
        _decoder.cache_clear()  # this one is left in the middle of a recording
        raise ValueError(f"the text does not fit the recording: {error}") from None
    if found is None:
        raise ValueError("the text does not fit the recording: no alignment was found")
    phones, spoken = [], []
    for word in found:
        if word.name[0] in "<[+":  # silence, noise
            continue
        spoken.append(_span(word, re.sub(r"\(\d+\)$", "", word.name)))
        phones += [_span(phone, phone.name) for phone in word]
    return Alignment(phones, spoken)


def pronounced(text: str) -> list[str]:
    """The phones of an English text by the dictionary's first pronunciations, SIL where it pauses.

    Raises:
        ValueError: no words, or one that the dictionary lacks.
        ImportError: pocketsphinx is not installed.
    """
    decoder = _decoder()
    phones, unknown = [SILENCE], []
    for written in text.split():
        for word in plain(written):
            found = decoder.lookup_word(word)
            if found is None:
                unknown.append(word)
            else:
                phones += found.split()
        if re.search(r"[,.;:!?\u2013\u2014]\W*$|^\W+$", written) and phones[-1] != SILENCE:
            phones.append(SILENCE)
    if unknown:
        raise ValueError(f"not in pocketsphinx's dictionary: {', '.join(unknown)}")
    if len(phones) == 1:
        raise ValueError("no words to say")
    return phones if phones[-1] == SILENCE else [*phones, SILENCE]


def plain(text: str) -> list[str]:
    """The words of a text as a dictionary has them: lower case, without punctuation."""
    text = (
        unicodedata.normalize("NFKC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return [w for w in (w.strip("'") for w in re.findall(r"[\w']+", text)) if w]


@cache
def _decoder() -> Any:
    return needed("pocketsphinx").Decoder(lm=None, loglevel="FATAL")


def _run(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _span(found: Any, label: str) -> Span:
    """Times as the recording has them, without the silence before it."""
    ends = (found.start, found.start + found.duration)
    start, end = (max(0.0, at * STEP - EDGE) for at in ends)
    return Span(label, round(start, 6), round(end, 6))
