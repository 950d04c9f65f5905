"""Forced alignment of English speech: the times of its words and phones, by pocketsphinx."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.audio.audio import Audio

RATE = 16000  # sample rate of the acoustic model, Hz
STEP = 0.01  # seconds from one frame of an alignment to the next
EDGE = 0.5  # seconds of silence added at either end: speech that runs to the end fails without
SILENCE = "SIL"
PROTOCOL = "forced alignment by pocketsphinx's en-us model (39 phones, 10 ms steps, no silences)"


@dataclass(frozen=True)
class TimedSpan:
    """A labelled phone or word from `start` to `end`, in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Alignment:
    """Phones and words of a recording in spoken order, without silences and noises."""

    phones: list[TimedSpan]
    words: list[TimedSpan]


def align(audio: Audio, text: str) -> Alignment:
    """Return the times of each word of a text, and of each of its phones, in a recording.

    Args:
        audio: the recording, at any rate; it is mixed down and resampled to 16 kHz.
        text: the English text spoken in it.

    Returns:
        Phones and words with their times in seconds, to 10 ms.

    Raises:
        ValueError: no words, a word that the dictionary lacks (a number in digits, a name), or the
            text does not fit the recording.
        ImportError: pocketsphinx is not installed.
    """
    words = words_of(text)
    if not words:
        raise InputError("no text to align")
    decoder = _decoder()
    unknown = [word for word in words if decoder.lookup_word(word) is None]
    if unknown:
        raise InputError(f"not in pocketsphinx's dictionary: {', '.join(unknown)}")
    edge = round(EDGE * RATE)
    samples = F.pad(audio.mono().resample(RATE).samples[0].clamp(-1, 1), (edge, edge))
    pcm = (samples * 32767).short().numpy().tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        _run(decoder, pcm)  # words
        decoder.set_alignment()
        _run(decoder, pcm)  # phones within them
        alignment = decoder.get_alignment()
    except RuntimeError as error:
        _decoder.cache_clear()  # this decoder is left in the middle of a recording
        raise InputError(f"the text does not fit the recording: {error}") from None
    if alignment is None:
        raise InputError("the text does not fit the recording: no alignment was found")
    phones, spoken = [], []
    for word in alignment:
        if word.name[0] in "<[+":  # silence, noise
            continue
        spoken.append(_span(word, re.sub(r"\(\d+\)$", "", word.name)))
        phones += [_span(phone, phone.name) for phone in word]
    return Alignment(phones, spoken)


def pronounce(text: str) -> list[str]:
    """Return the phones of an English text, with SIL at its pauses and at both ends.

    Of each word the first pronunciation in the dictionary is taken.

    Raises:
        ValueError: no words, or one that the dictionary lacks.
        ImportError: pocketsphinx is not installed.
    """
    decoder = _decoder()
    phones, unknown = [SILENCE], []
    for written in text.split():
        for word in words_of(written):
            phones_of_word = decoder.lookup_word(word)
            if phones_of_word is None:
                unknown.append(word)
            else:
                phones += phones_of_word.split()
        if re.search(r"[,.;:!?\u2013\u2014]\W*$|^\W+$", written) and phones[-1] != SILENCE:
            phones.append(SILENCE)
    if unknown:
        raise InputError(f"not in pocketsphinx's dictionary: {', '.join(unknown)}")
    if len(phones) == 1:
        raise InputError("no words to say")
    return phones if phones[-1] == SILENCE else [*phones, SILENCE]


def words_of(text: str) -> list[str]:
    """Return the words of a text as a dictionary lists them: lower case, without punctuation."""
    text = (
        unicodedata.normalize("NFKC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return [w for w in (w.strip("'") for w in re.findall(r"[\w']+", text)) if w]


@cache
def _decoder() -> Any:
    """Return the decoder of this process, which takes seconds to load."""
    return optional_import("pocketsphinx").Decoder(lm=None, loglevel="FATAL")


def _run(decoder: Any, pcm: bytes) -> None:
    """Process 16-bit samples as one utterance."""
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _span(entry: Any, label: str) -> TimedSpan:
    """Return the span of an entry in seconds of the recording, less the silence added to it."""
    ends = (entry.start, entry.start + entry.duration)
    start, end = (max(0.0, at * STEP - EDGE) for at in ends)
    return TimedSpan(label, round(start, 6), round(end, 6))


def frame_labels(
    spans: Sequence[TimedSpan], names: Sequence[str], frames: int, rate: float
) -> np.ndarray:
    """Return the label of every frame whose middle lies in a span, -1 elsewhere.

    Args:
        spans: labelled stretches of time, in seconds.
        names: labels in the order of their numbers.
        frames: number of frames.
        rate: frames a second.
    """
    label = np.full(frames, -1, np.int64)
    for span in spans:
        first, last = (_from(at * rate - 0.5) for at in (span.start, span.end))
        label[first:last] = names.index(span.label)
    return label


def _from(at: float) -> int:
    """Return the first frame at or after a position, which is rounded to six decimals."""
    return max(0, int(np.ceil(round(at, 6))))
