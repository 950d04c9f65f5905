"""A folder of audio: its files, what their headers say, and what lies beside them."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from audiotok._platform.jsonfile import parse
from audiotok.audio.columns import with_our_names
from audiotok.audio.decoders import AudioFileError, open_decoder
from audiotok.audio.delimited import read_rows
from audiotok.audio.walk import is_file

TEXTS = (".normalized.txt", ".txt", ".lab")  # of a recording of the same name, the first there is
# Labels of HTK (start end phone) and Festival (# on a line of its own) say when, not what.
_TIMED = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\S|.*^#\s*$", re.MULTILINE | re.DOTALL)


class Probe(NamedTuple):
    """What a file holds."""

    rate: int  # Hz
    channels: int
    samples: int


def probe(path: Path) -> Probe:
    """A file's rate, channels and length from its header; decoded where that does not say.

    Raises:
        AudioFileError: it cannot be read, or holds no samples.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise AudioFileError(f"{path}: the name is not UTF-8; rename the file") from None
    with ExitStack() as stack:
        decoder = open_decoder(path, stack)
        samples = decoder.samples
        if samples is None:
            samples = sum(len(chunk) for chunk in decoder.chunks)
        if not samples:
            raise AudioFileError(f"{path}: holds no samples; record it again")
        return Probe(decoder.rate, decoder.channels, samples)


def probed(
    paths: Sequence[Path], *, console: Console | None = None
) -> Generator[Probe | AudioFileError, None, None]:
    """`probe` of each file, in order, in threads; with progress on a terminal (default stderr)."""

    def attempt(path: Path) -> Probe | AudioFileError:
        try:
            return probe(path)
        except AudioFileError as error:
            return error

    console = console or Console(stderr=True)
    threads = ThreadPoolExecutor()
    try:
        found = threads.map(attempt, paths)
        yield from track(
            found,
            "looking at files",
            total=len(paths),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    finally:  # Ctrl-C too: what has not begun never does
        threads.shutdown(cancel_futures=True)


def shares(texts: Iterable[str]) -> dict[str, float]:
    """Splits as a person writes them: `dev=0.05` is the split and its share.

    Raises:
        ValueError: not so written, a share that is none, or nothing left for "train".
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = -1.0
        if not name or name == "train" or not 0 < found[name] < 1:
            raise ValueError(f"--split {text}: write it as dev=0.05; the rest is `train`")
    if sum(found.values()) >= 1:
        raise ValueError(f"--split: {found} leave nothing for `train`")
    return found


def described(
    folder: Path, paths: Sequence[Path], splits: Mapping[str, float]
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Each file with its `split`, `speaker` and `text` as far as the folder tells them.

    Transcripts are taken from where corpora keep them: `*.trans.txt` (LibriSpeech, whose names
    begin with the speaker), `metadata.csv` (LJSpeech; or Hugging Face's audiofolder, with
    `file_name`, also as .jsonl), or a .normalized.txt (LibriTTS), .txt or .lab file of the same
    name. A split gets whole speakers, where those are not known whole
    folders, and where there are too few of them for its share single files; each is drawn by a hash
    of its name: the same on every machine, and speakers that are added later move no others.

    Args:
        folder: what the paths lie in.
        paths: audio files.
        splits: name -> share; the rest is "train".

    Raises:
        ValueError: a transcript is not UTF-8.
    """
    known = list(map(teller(cache, folder), paths))
    places = [path.relative_to(folder) for path in paths]
    groups = [
        speaker or place.parent.as_posix()
        for place, (speaker, _) in zip(places, known, strict=True)
    ]
    if len(set(groups)) * min(splits.values(), default=0) < 1:
        groups = [place.as_posix() for place in places]
    chosen = drawn(set(groups), splits)
    for path, group, (speaker, text) in zip(paths, groups, known, strict=True):
        yield path, {"split": chosen[group], "speaker": speaker, "text": text}


def teller(remember: Callable[[Any], Any], root: Path) -> Callable[[Path], tuple[str, str]]:
    """Say speaker and text of a recording, as far as its folder tells; see `described`.

    Args:
        remember: `functools.cache`, or `lru_cache(n)` where there are many folders.
        root: what the recordings lie in.
    """
    # Remembered by this teller only: the next may find other files.
    table = remember(_transcripts)
    names = remember(_names)
    named = remember(_by_file_name)

    def tell(path: Path) -> tuple[str, str]:
        found = table(path.parent).get(path.stem) or table(path.parent.parent).get(path.stem)
        for folder in path.parents:
            if found:
                return found
            rows = named(folder)
            found = rows.get(path.relative_to(folder).as_posix()) if rows else None
            if folder == root:
                break
        return found or ("", _beside(path, names(path.parent)))

    return tell


def _names(folder: Path) -> set[str]:
    """The files in a folder; a pipe of a transcript's name is none."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if is_file(entry)}
    return set()


def drawn(groups: set[str], splits: Mapping[str, float]) -> dict[str, str]:
    """Each group's split, by a hash of its name; the rest is "train"."""

    def place(group: str) -> float:  # 0 to 1
        digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def split(group: str) -> str:
        low = 0.0
        for name, share in splits.items():
            if low <= place(group) < low + share:
                return name
            low += share
        return "train"

    chosen = {group: split(group) for group in sorted(groups, key=place)}
    for name in (
        ("train", *splits) if chosen else ()
    ):  # few groups, unlucky hashes: still none stays empty
        count = Counter(chosen.values())
        crowded, most = count.most_common(1)[0]
        if not count[name] and (most > 1 or name == "train"):
            chosen[next(group for group in chosen if chosen[group] == crowded)] = name
    return chosen


def _transcripts(folder: Path) -> dict[str, tuple[str, str]]:
    """What tables in a folder say of the recordings in it: name -> speaker, text."""
    found: dict[str, tuple[str, str]] = {}
    metadata = folder / "metadata.csv"
    if metadata.is_file() and not _is_audiofolder(metadata):
        for line in _read(metadata).split("\n"):
            name, *texts = line.split("|")
            texts = [text.strip() for text in texts if text.strip()]
            if texts:  # the last is the normalised one
                found[name] = "", texts[-1]
    for listing in sorted(folder.glob("*.trans.txt")):
        if listing.is_file():
            for line in _read(listing).split("\n"):
                name, _, text = line.partition(" ")
                found[name] = name.partition("-")[0], text.strip()
    return found


def _is_audiofolder(metadata: Path) -> bool:
    """Return whether a metadata.csv is Hugging Face's audiofolder's and not LJSpeech's."""
    first = _read(metadata).lstrip().partition("\n")[0]
    return "file_name" in [name.strip(' "\r') for name in first.split(",")]


def _by_file_name(folder: Path) -> dict[str, tuple[str, str]]:
    """Read audiofolder's metadata: path from this folder on -> speaker, text."""
    table, objects = folder / "metadata.csv", folder / "metadata.jsonl"
    rows: list[dict[str, Any]] = []
    if table.is_file() and _is_audiofolder(table):
        lines = io.StringIO(_read(table))
        rows = [row for _, row in read_rows(lines, str(table), comma=True)]
    elif objects.is_file():
        lines = enumerate(_read(objects).split("\n"), 1)
        parsed = [parse(line, f"{objects}, line {n}") for n, line in lines if line.strip()]
        rows = [row for row in parsed if isinstance(row, dict)]
    found: dict[str, tuple[str, str]] = {}
    for row in map(with_our_names, rows):
        speaker, text = (
            "" if row.get(name) is None else str(row[name]) for name in ("speaker", "text")
        )
        found[str(row.get("file_name", "")).removeprefix("./")] = speaker, text
    return found


def _beside(path: Path, names: set[str]) -> str:
    """The text of a file of the same name, if that is among those in its folder."""
    for suffix in TEXTS:
        if path.stem + suffix in names:
            text = _read(path.with_name(path.stem + suffix))
            if not is_timed(suffix, text):
                return " ".join(text.split())
    return ""


def is_timed(suffix: str, text: str) -> bool:
    """Return whether a file says when something is said, not what: labels of HTK or Festival."""
    return suffix == ".lab" and _TIMED.match(text) is not None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8; convert it, e.g. with iconv") from None
