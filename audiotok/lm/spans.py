"""Alignments of a corpus: the start and end of each word and phone, in a file of JSON lines.

    {"id": "a/0001", "words": [["good", 0.31, 0.55], ...], "phones": [["G", 0.31, 0.38], ...]}

`id` is the id of the recording in `audiotok corpus build`; times are in seconds. A recording that
cannot be aligned has `error` instead.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from audiotok._platform import jsonfile
from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.data.alignment import Alignment, TimedSpan, align, words_of
from audiotok.data.locator import opened
from audiotok.data.recording import Recording
from audiotok.lm.interleave import TimedWord
from audiotok.lm.layout import Layout


def write_spans(
    items: Iterable[Recording],
    path: Path,
    *,
    progress: Callable[[str], None] = lambda _: None,
    commands: bool = False,
) -> tuple[int, list[str]]:
    """Align recordings with their text by pocketsphinx, and append the alignments to a file.

    Recordings that the file has already are not aligned again.

    Args:
        items: recordings of a source (`audiotok.data.sources`); those without text are skipped.
        path: the file, to which a line per recording is appended.
        progress: called with the id of each recording that is done.
        commands: whether shell commands of the source may run.

    Returns:
        The number of aligned recordings in the file, and an error message for each recording that
        could not be aligned.

    Raises:
        ValueError: the file exists and is not of this format.
        ImportError: pocketsphinx is not installed; the message says how to install it.
    """
    known = _lines(path) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(prefix="audiotok-")
    with scratch as folder, path.open("a", encoding="utf-8") as file:
        for item in items:
            text = str(item.fields.get("text") or "")
            if item.id not in known and text:
                known[item.id] = _aligned(item, text, commands, folder)
                file.write(json.dumps(known[item.id], ensure_ascii=False) + "\n")
                file.flush()
            progress(item.id)
    errors = [f"{name}: {row['error']}" for name, row in known.items() if "error" in row]
    return len(known) - len(errors), errors


def _aligned(item: Recording, text: str, commands: bool, scratch: str) -> dict[str, Any]:
    """Return the line of a recording: its alignment, or the error."""
    try:
        with opened(item.locator, commands=commands, scratch=scratch) as source:
            audio = Audio(torch.cat(list(source.blocks()), 1), source.rate)
        alignment = align(audio, text)
    except (ValueError, OSError, RuntimeError) as error:
        return {"id": item.id, "error": " ".join(str(error).split())}
    words = [astuple(span) for span in alignment.words]
    phones = [astuple(span) for span in alignment.phones]
    return {"id": item.id, "words": words, "phones": phones}


def read_spans(path: str | Path) -> dict[str, Alignment]:
    """Read the alignments that `write_spans` wrote, by id, without those that failed.

    Raises:
        ValueError: there is no such file, or it is not of this format.
    """
    try:
        return {
            name: Alignment(
                *([TimedSpan(*span) for span in row[part]] for part in ("phones", "words"))
            )
            for name, row in _lines(Path(path)).items()
            if "error" not in row
        }
    except (KeyError, TypeError):
        raise InputError(f"{path}: not of `audiotok lm align`") from None


def _lines(path: Path) -> dict[str, dict[str, Any]]:
    """Read the lines of a file by id, and truncate the file after its last complete line."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    whole = raw[: raw.rfind(b"\n") + 1]
    try:
        rows = [jsonfile.parse(line, str(path)) for line in whole.splitlines()]
        by_id = {row["id"]: row for row in rows}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not of `audiotok lm align`; give another file") from None
    if len(whole) < len(raw):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return by_id


def written_words(alignment: Alignment, text: str, layout: Layout) -> list[TimedWord]:
    """Return the words of a text as written, each with its frames, for `interleaved`.

    Args:
        alignment: the alignment of the recording.
        text: the text of the recording; a token without a word (a dash) is appended to the word
            before it.
        layout: the layout, for its frame rate.

    Raises:
        ValueError: the number of words is not that of the alignment.
    """
    if len(words_of(text)) != len(alignment.words):
        raise InputError(
            f"{len(words_of(text))} words, and {len(alignment.words)} were aligned: another text?"
        )
    rate, at = layout.sample_rate / layout.frame_size, 0
    words: list[TimedWord] = []
    for written in text.split():
        count = len(words_of(written))
        if count:
            spans = alignment.words[at : at + count]
            first, last = (int(seconds * rate) for seconds in (spans[0].start, spans[-1].end))
            words.append(TimedWord(written, first, last))
        elif words:
            words[-1] = TimedWord(f"{words[-1].text} {written}", words[-1].first, words[-1].last)
        at += count
    return words
