"""Manifests: lists of recordings with text, speaker and split, read or written from a folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from audiotok._platform.atomic import atomic_file, remove_stale_parts
from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import parse, shown
from audiotok.audio.columns import PATHS, in_folder, path_of, with_our_names
from audiotok.audio.decoders import AUDIO, AudioFileError
from audiotok.audio.delimited import header_of, read_rows
from audiotok.audio.folder import Probe, probe_all, with_splits_and_texts
from audiotok.audio.walk import files_below

log = logging.getLogger("audiotok")

BAD = 0.1  # share of the files of a corpus that may be unreadable
SPLITS = {"dev": 0.05}  # default splits of a folder; the rest is "train"
COLUMNS = ["path", "split", "speaker", "seconds", "rate", "channels", "text"]  # in written order
NUMBERS = ("seconds", "rate", "channels")  # columns that are numbers in JSON
JSON = (".jsonl", ".json", ".ndjson")


@dataclass(frozen=True)
class Recording:
    """A recording of a manifest: its file and the other fields of its row."""

    path: Path
    fields: dict[str, str]

    @property
    def text(self) -> str:
        """Transcript of the recording; empty where the manifest has none."""
        return self.fields.get("text", "")

    @property
    def speaker(self) -> str:
        """Speaker of the recording; empty where the manifest names none."""
        return self.fields.get("speaker", "")


@dataclass(frozen=True)
class Summary:
    """Counts and errors of a manifest that was written from a folder."""

    recordings: int
    seconds: float
    texts: int  # recordings with a transcript
    splits: dict[str, int]  # recordings by name of a split
    errors: list[tuple[str, str]]  # files left out, each with the reason


def read_manifest(path: str | Path, *, split: str | None = None) -> list[Recording]:
    """Return the recordings that a manifest lists, or those in a folder.

    A `.jsonl` file has an object a line, a `.csv` file is quoted as in RFC 4180; any other is TSV
    with a header line, where quotation marks are text. Each row has `path`, absolute or relative to
    the manifest, and may have `split`, `text`, `speaker`, `language`, `seconds` and any other
    field. The names of these fields in NeMo, Common Voice and Hugging Face's audiofolder are
    understood. A folder is searched and split as `write_manifest` does. Every row is a whole file:
    one that asks for a part of it is refused.

    Args:
        path: the manifest or folder.
        split: return only the recordings of this `split`; all if None.

    Raises:
        ValueError: no such file, not UTF-8, a line that cannot be understood or asks for a part of
            a file (the message has its number), no `path`, or no recording left.
    """
    path = Path(path)
    if path.is_dir():
        rows = with_splits_and_texts(path, files_below(path, AUDIO), SPLITS)
        recordings = [Recording(file, {"path": str(file), **fields}) for file, fields in rows]
    elif path.is_file():
        if path.suffix.lower() in AUDIO:
            raise InputError(f"{path}: is audio, not a manifest; name the folder it is in")
        rows = _objects(path) if path.suffix.lower() in JSON else _table(path)
        try:
            recordings = [Recording(path.parent / row["path"], row) for row in rows]
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-8; convert it, e.g. with iconv") from None
    else:
        raise InputError(
            f"{path}: no such manifest (a .tsv or .jsonl file with `path`, or a folder of audio)"
        )
    selected = [r for r in recordings if split is None or r.fields.get("split") == split]
    if not selected:
        splits = sorted({r.fields.get("split", "") for r in recordings} - {""})
        known = f"; it has {', '.join(splits)}" if splits else ""
        what = "no audio in this folder" if path.is_dir() and not recordings else "no recording"
        raise InputError(f"{path}: {what}" + (f" of split {split!r}{known}" if split else ""))
    return selected


def _table(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV or CSV file."""
    comma = path.suffix.lower() == ".csv"
    with path.open(encoding="utf-8-sig") as lines:
        header = header_of(lines, str(path), comma=comma)
    if not any(name in header for name in PATHS):
        raise InputError(f"{path}: the header has no `path` column, only {header or None}")
    with path.open(encoding="utf-8-sig") as lines:
        for number, row in read_rows(lines, str(path), comma=comma):
            yield _with_path(row, path.parent, f"{path}, line {number}")


def _objects(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a JSONL file; values other than text stay JSON, and null is left out."""
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            row = parse(line, where)
            if not isinstance(row, dict) or not any(row.get(name) for name in PATHS):
                what = f"only {list(row)}" if isinstance(row, dict) else f"but {shown(row)}"
                raise InputError(f"{where}: no `path`, {what}")
            yield {
                key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                for key, value in _with_path(row, path.parent, where).items()
                if value is not None
            }


def _check_whole(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a row of a manifest, or raise if it asks for a part of its file.

    Args:
        row: `start` and `end`, `offset` and `duration` (NeMo), or `channel` ask for one; a start or
            an offset of 0 alone does not.
        where: the file and line, with which the message begins.

    Raises:
        ValueError: the row asks for a part.
    """
    for name in ("start", "end", "offset", "channel"):
        value = row.get(name)
        if value in (None, "") or (name in ("start", "offset") and _is_zero(value)):
            continue
        raise InputError(_part_only(where, name, value))
    if row.get("offset") not in (None, "") and row.get("duration") not in (None, ""):
        raise InputError(_part_only(where, "duration", row["duration"]))
    return row


def _is_zero(value: Any) -> bool:
    """Return whether a value is the number 0, possibly as text."""
    try:
        return float(value) == 0 and not isinstance(value, bool)
    except (TypeError, ValueError, OverflowError):
        return False


def _part_only(where: str, name: str, value: Any) -> str:
    """Return the message for a row that asks for a part of its file."""
    return (
        f"{where}: `{name}` is {shown(value)}, which means a part of the file, and here files are "
        "read whole; cut the file first, or leave the column out"
    )


def _with_path(row: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """Return a row with its file under `path`, and its text and speaker under our names."""
    _check_whole(row, where)
    try:
        column, name = path_of(row)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    rest = {key: value for key, value in row.items() if key not in (column, "path")}
    return {"path": in_folder(folder, row, name), **with_our_names(rest)}


def key(recordings: list[Recording], *more: int) -> str:
    """Return a hash of the recordings' files (names, sizes, times) and of further numbers.

    It names cached data that is computed from the files, and changes with them.

    Args:
        recordings: the recordings, in order.
        more: numbers that the cached data also depends on.
    """

    def version(path: Path) -> list[object]:
        try:
            status = path.stat()
        except OSError:  # raised again when the file is opened
            return [str(path)]
        return [str(path), status.st_size, status.st_mtime_ns]

    content = json.dumps([*more, *(version(r.path) for r in recordings)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Unreadable:
    """A counter of unreadable files that warns of each, and raises when they are too many."""

    def __init__(self, files: int) -> None:
        self.files = files
        self.count = 0

    def add(self, path: Path, error: ValueError) -> None:
        """Count an unreadable file and warn of it.

        Args:
            path: the file.
            error: the reason why it cannot be read.

        Raises:
            ValueError: more than a tenth of the files are unreadable, so the manifest is wrong.
        """
        self.count += 1
        line = str(error) if str(path) in str(error) else f"{path}: {error}"
        if self.count > BAD * self.files:
            raise InputError(
                f"{line}; that makes {self.count} of {self.files} recordings, more than {BAD:.0%}, "
                "that cannot be read; mend the manifest"
            )
        log.warning("%s; left out", line)


def write_manifest(
    folder: str | Path,
    out: str | Path,
    *,
    splits: Mapping[str, float] | None = None,
    force: bool = False,
    console: Console | None = None,
) -> Summary:
    """Search a folder for audio, read the header of every file, and list those that can be read.

    See `folder.with_splits_and_texts` for where transcripts are looked for and how splits are
    drawn.

    Args:
        folder: folder to search; hidden files are left out.
        out: a .tsv or .jsonl file; it appears when it is complete.
        splits: share of the speakers (folders, files) by name of a split; the rest is "train". 5 %
            "dev" if None.
        force: whether to overwrite an existing file.
        console: where progress is shown; stderr if None.

    Raises:
        ValueError: `out` exists and not `force` or has another extension, or no file can be read.
    """
    folder, out = Path(folder), Path(out)
    if out.suffix.lower() not in (".tsv", ".jsonl"):
        raise InputError(f"{out}: a manifest is a .tsv or a .jsonl file; name it so")
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; force=True overwrites it")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = files_below(folder, AUDIO)
    if not paths:
        raise InputError(f"{folder}: no audio file in this folder")
    probes: dict[Path, Probe] = {}
    errors: list[tuple[str, str]] = []
    for path, probe in zip(paths, probe_all(paths, console=console), strict=True):
        if isinstance(probe, AudioFileError):
            errors.append((str(path), str(probe)))
        elif out.suffix.lower() == ".tsv" and any(mark in str(path) for mark in "\t\r\n"):
            why = "a tab or line break in the name; rename it, or write a .jsonl manifest"
            errors.append((str(path), f"{str(path)!r}: {why}"))
        else:
            probes[path] = probe
    if not probes:
        raise InputError(
            f"{folder}: none of {len(paths)} files can be read; the first: {errors[0][1]}"
        )
    rows: list[dict[str, str]] = []
    counts = Counter[str]()
    seconds = 0.0
    for path, fields in with_splits_and_texts(
        folder, list(probes), SPLITS if splits is None else splits
    ):
        rate, channels, samples = probes[path]
        seconds += samples / rate
        counts[fields["split"]] += 1
        facts = {"seconds": f"{samples / rate:.3f}", "rate": str(rate), "channels": str(channels)}
        rows.append({"path": _relative(out.parent, path), **fields, **facts})
    _save(rows, out)
    texts = sum(bool(row["text"]) for row in rows)
    return Summary(len(rows), seconds, texts, dict(counts), errors)


def _relative(folder: Path, path: Path) -> str:
    """Return a path relative to the folder; absolute where there is none (another drive)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path.absolute())


def _save(rows: list[dict[str, str]], out: Path) -> None:
    """Write the manifest to a file that appears when it is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_parts([out.parent])
    with atomic_file(out) as part, part.open("w", newline="", encoding="utf-8") as lines:
        if out.suffix.lower() in JSON:
            for row in rows:
                fields = {name: row[name] for name in COLUMNS if row[name]}
                numbers = {name: json.loads(fields[name]) for name in NUMBERS}
                lines.write(json.dumps(fields | numbers, ensure_ascii=False) + "\n")
        else:  # TSV has no quoting: tabs and line breaks in a field become spaces
            lines.write("\t".join(COLUMNS) + "\n")
            for row in rows:
                cells = (row[name] if name == "path" else _plain(row[name]) for name in COLUMNS)
                lines.write("\t".join(cells) + "\n")


def _plain(text: str) -> str:
    """Return text without tabs and line breaks, which a TSV file cannot hold."""
    return " ".join(text.split()) if any(mark in text for mark in "\t\r\n") else text
