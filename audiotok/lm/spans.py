"""When each word and phone of a corpus is said, in a file of JSON lines that is made once.

    {"id": "a/0001", "words": [["good", 0.31, 0.55], ...], "phones": [["G", 0.31, 0.38], ...]}

`id` is what `audiotok corpus build` calls the recording. One that cannot be aligned has `error`.
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
from audiotok.audio.audio import Audio
from audiotok.data.alignment import Alignment, Span, align, plain
from audiotok.data.locator import opened
from audiotok.data.sources.base import Item
from audiotok.lm.interleave import Word
from audiotok.lm.layout import Layout


def write_spans(
    items: Iterable[Item],
    path: Path,
    *,
    told: Callable[[str], None] = lambda _: None,
    commands: bool = False,
) -> tuple[int, list[str]]:
    """Aligns recordings with their text, by pocketsphinx; what a file has already is left.

    Args:
        items: of a listing (`audiotok.data.sources`); those without text are passed over.
        path: the file, which grows a line a recording.
        told: called with the id of each that is done.
        commands: whether shell commands of the listing may run.

    Returns:
        How many are aligned in all, and a line for each that could not be.

    Raises:
        ValueError: the file is there and is something else.
        ImportError: pocketsphinx is not installed; says how to.
    """
    known = _lines(path) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(prefix="audiotok-")
    with scratch as kept, path.open("a", encoding="utf-8") as file:
        for item in items:
            text = str(item.row.get("text") or "")
            if item.id not in known and text:
                known[item.id] = _aligned(item, text, commands, kept)
                file.write(json.dumps(known[item.id], ensure_ascii=False) + "\n")
                file.flush()
            told(item.id)
    errors = [f"{name}: {row['error']}" for name, row in known.items() if "error" in row]
    return len(known) - len(errors), errors


def _aligned(item: Item, text: str, commands: bool, scratch: str) -> dict[str, Any]:
    try:
        with opened(item.place, commands=commands, scratch=scratch) as source:
            audio = Audio(torch.cat(list(source.blocks()), 1), source.rate)
        found = align(audio, text)
    except (ValueError, OSError, RuntimeError) as error:
        return {"id": item.id, "error": " ".join(str(error).split())}
    words, phones = ([astuple(span) for span in part] for part in (found.words, found.phones))
    return {"id": item.id, "words": words, "phones": phones}


def read_spans(path: str | Path) -> dict[str, Alignment]:
    """What `write_spans` wrote, by id; those that could not be aligned are not there.

    Raises:
        ValueError: no such file, or not of spans.
    """
    try:
        return {
            name: Alignment(*([Span(*span) for span in row[part]] for part in ("phones", "words")))
            for name, row in _lines(Path(path)).items()
            if "error" not in row
        }
    except (KeyError, TypeError):
        raise ValueError(f"{path}: not of `audiotok lm align`") from None


def _lines(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by id. A last line that was cut short is cut off, so that writing goes on after it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    whole = raw[: raw.rfind(b"\n") + 1]
    try:
        rows = [jsonfile.parse(line, str(path)) for line in whole.splitlines()]
        found = {row["id"]: row for row in rows}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: not of `audiotok lm align`; give another --out") from None
    if len(whole) < len(raw):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return found


def written_words(alignment: Alignment, text: str, layout: Layout) -> list[Word]:
    """The words of a text as they are written, each with its frames: what `interleaved` takes.

    Args:
        alignment: of the recording.
        text: what is said; what no dictionary has (a dash) goes with the word before.
        layout: says how long a frame is.

    Raises:
        ValueError: a text of other words than were aligned.
    """
    if len(plain(text)) != len(alignment.words):
        raise ValueError(
            f"{len(plain(text))} words, and {len(alignment.words)} were aligned: another text?"
        )
    rate, at = layout.sample_rate / layout.frame_size, 0
    words: list[Word] = []
    for written in text.split():
        count = len(plain(written))
        if count:
            spans = alignment.words[at : at + count]
            first, last = (int(seconds * rate) for seconds in (spans[0].start, spans[-1].end))
            words.append(Word(written, first, last))
        elif words:
            words[-1] = Word(f"{words[-1].text} {written}", words[-1].first, words[-1].last)
        at += count
    return words
