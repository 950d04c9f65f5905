"""A folder of audio files: their headers, transcripts and speakers, and random splits of them."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import parse
from audiotok.audio.columns import with_our_names
from audiotok.audio.decoders import AudioFileError
from audiotok.audio.delimited import read_rows
from audiotok.audio.walk import is_file

TEXTS = (".normalized.txt", ".txt", ".lab")  # suffixes of transcripts, the preferred one first
# Labels of HTK (start end phone) and Festival (# on its own line) hold times, not transcripts.
_TIMED = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\S|.*^#\s*$", re.MULTILINE | re.DOTALL)


class Probe(NamedTuple):
    """Format and length of an audio file.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        samples: number of samples a channel.
    """

    rate: int
    channels: int
    samples: int


def probe_all(
    probes: Sequence[Callable[[], Probe]], *, console: Console | None = None
) -> Generator[Probe | AudioFileError, None, None]:
    """Yield the result of each probe, or its error, in order.

    Args:
        probes: functions that look at one recording each; they are called in threads.
        console: shows progress if it is a terminal; stderr if None.
    """

    def attempt(look: Callable[[], Probe]) -> Probe | AudioFileError:
        try:
            return look()
        except AudioFileError as error:
            return error

    console = console or Console(stderr=True)
    threads = ThreadPoolExecutor()
    try:
        yield from track(
            threads.map(attempt, probes),
            "looking at files",
            total=len(probes),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    finally:  # on Ctrl-C too, cancel the files that have not been started
        threads.shutdown(cancel_futures=True)


def shares(texts: Iterable[str]) -> dict[str, float]:
    """Return splits given as text, `dev=0.05`, as name -> share.

    Raises:
        ValueError: another form, a share not between 0 and 1, or nothing left for "train".
    """
    splits: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            splits[name] = float(number)
        except ValueError:
            splits[name] = -1.0
        if not name or name == "train" or not 0 < splits[name] < 1:
            raise InputError(f"split {text}: write it as dev=0.05; the rest is `train`")
    if sum(splits.values()) >= 1:
        raise InputError(f"splits {splits} leave nothing for `train`")
    return splits


def transcript_reader(
    remember: Callable[[Any], Any], root: Path
) -> Callable[[Path], tuple[str, str]]:
    """Return a function that reads speaker and text of a recording.

    It returns "" for either where the folders of the recording do not have it. Transcripts are read
    from the files in which corpora keep them: `*.trans.txt` (LibriSpeech, whose names begin with
    the speaker), `metadata.csv` (LJSpeech; or Hugging Face's audiofolder, with `file_name`, also as
    .jsonl), or a .normalized.txt (LibriTTS), .txt or .lab file of the same name. One that is not
    UTF-8 is a ValueError.

    Args:
        remember: `functools.cache`, or `lru_cache(n)` where there are many folders.
        root: the folder that contains the recordings.
    """
    # Cached by this function only: the files may have changed when the next one is made.
    table = remember(_transcripts)
    names = remember(_names)
    named = remember(_by_file_name)

    def tell(path: Path) -> tuple[str, str]:
        row = table(path.parent).get(path.stem) or table(path.parent.parent).get(path.stem)
        for folder in path.parents:
            if row:
                return row
            rows = named(folder)
            row = rows.get(path.relative_to(folder).as_posix()) if rows else None
            if folder == root:
                break
        return row or ("", _beside(path, names(path.parent)))

    return tell


def _names(folder: Path) -> set[str]:
    """Return the names of the files in a folder, without pipes and the like."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if is_file(entry)}
    return set()


def draw_splits(groups: set[str], splits: Mapping[str, float]) -> dict[str, str]:
    """Return group -> split, drawn by a hash of the group's name.

    Args:
        groups: names of speakers, folders or files.
        splits: name -> share; the rest is "train".
    """

    def position(group: str) -> float:  # 0 to 1
        digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def split(group: str) -> str:
        low = 0.0
        for name, share in splits.items():
            if low <= position(group) < low + share:
                return name
            low += share
        return "train"

    chosen = {group: split(group) for group in sorted(groups, key=position)}
    # With few groups a split can come out empty: it then gets one of the largest split.
    for name in ("train", *splits) if chosen else ():
        count = Counter(chosen.values())
        largest, most = count.most_common(1)[0]
        if not count[name] and (most > 1 or name == "train"):
            chosen[next(group for group in chosen if chosen[group] == largest)] = name
    return chosen


def _transcripts(folder: Path) -> dict[str, tuple[str, str]]:
    """Return name -> speaker, text of the recordings that tables in a folder describe."""
    rows: dict[str, tuple[str, str]] = {}
    metadata = folder / "metadata.csv"
    if metadata.is_file() and not _is_audiofolder(metadata):
        for line in _read(metadata).split("\n"):
            name, *texts = line.split("|")
            texts = [text.strip() for text in texts if text.strip()]
            if texts:  # the last is the normalised one
                rows[name] = "", texts[-1]
    for listing in sorted(folder.glob("*.trans.txt")):
        if listing.is_file():
            for line in _read(listing).split("\n"):
                name, _, text = line.partition(" ")
                rows[name] = name.partition("-")[0], text.strip()
    return rows


def _is_audiofolder(metadata: Path) -> bool:
    """Return whether a metadata.csv is that of Hugging Face's audiofolder, not of LJSpeech."""
    first = _read(metadata).lstrip().partition("\n")[0]
    return "file_name" in [name.strip(' "\r') for name in first.split(",")]


def _by_file_name(folder: Path) -> dict[str, tuple[str, str]]:
    """Return path relative to a folder -> speaker, text of audiofolder's metadata in it."""
    table, objects = folder / "metadata.csv", folder / "metadata.jsonl"
    rows: list[dict[str, Any]] = []
    if table.is_file() and _is_audiofolder(table):
        lines = io.StringIO(_read(table))
        rows = [row for _, row in read_rows(lines, str(table), comma=True)]
    elif objects.is_file():
        lines = enumerate(_read(objects).split("\n"), 1)
        parsed = [parse(line, f"{objects}, line {n}") for n, line in lines if line.strip()]
        rows = [row for row in parsed if isinstance(row, dict)]
    known: dict[str, tuple[str, str]] = {}
    for row in map(with_our_names, rows):
        speaker, text = (
            "" if row.get(name) is None else str(row[name]) for name in ("speaker", "text")
        )
        known[str(row.get("file_name", "")).removeprefix("./")] = speaker, text
    return known


def _beside(path: Path, names: set[str]) -> str:
    """Return the transcript in a file of the same name; "" if `names` of the folder has none."""
    for suffix in TEXTS:
        if path.stem + suffix in names:
            text = _read(path.with_name(path.stem + suffix))
            if not is_timed(suffix, text):
                return " ".join(text.split())
    return ""


def is_timed(suffix: str, text: str) -> bool:
    """Return whether a text is time labels of HTK or Festival instead of a transcript.

    Args:
        suffix: of the file.
        text: of the file.
    """
    return suffix == ".lab" and _TIMED.match(text) is not None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; convert it, e.g. with iconv") from None
