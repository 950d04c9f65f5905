"""Lists of recordings: read from any source, and written as a table that reads back the same."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from audiotok._platform.atomic import atomic_file, remove_stale_parts
from audiotok._platform.errors import InputError
from audiotok._platform.registry import find, name_of, names, parts
from audiotok.audio.base import is_utf8
from audiotok.audio.decoders import AUDIO, AudioFileError
from audiotok.audio.folder import Probe, draw_splits, probe_all
from audiotok.data import store as stores
from audiotok.data.locator import is_url, normal_path
from audiotok.data.recording import Recording, as_text
from audiotok.data.sources.base import Listing

log = logging.getLogger("audiotok")

SPLITS = {"dev": 0.05}  # default splits of a source that has none; the rest is "train"
NAMED = 3  # ids that a message names
# Columns in written order; those in `OPTIONAL` are left out where no recording needs them.
COLUMNS = (
    *("path", "id", "start", "end", "channel", "split", "speaker", "language"),
    *("seconds", "rate", "channels", "text"),
)
OPTIONAL = ("id", "start", "end", "channel", "language")
NUMBERS = ("start", "end", "channel", "seconds", "rate", "channels")  # numbers in JSON
# Fields of other programs that a table of ours would take for a stretch of the file.
HIDDEN = (*COLUMNS, "offset", "duration")


@dataclass(frozen=True)
class Summary:
    """Counts and errors of a manifest that was written."""

    recordings: int
    seconds: float
    texts: int  # recordings with a transcript
    splits: dict[str, int]  # recordings by name of a split
    errors: list[tuple[str, str]]  # recordings left out, each with the reason


def listing_of(path: str, kind: str = "auto", audio: str = "") -> Listing:
    """Return the reader of a source of recordings.

    Args:
        path: a folder, manifest, data directory, archive or URL.
        kind: a name of `audiotok.data.sources`; "auto" chooses by the path.
        audio: column, or member of a sample, that is the audio; "" where there is only one.

    Raises:
        ValueError: the path has no listing, the kind is unknown, or the listing has no columns or
            members to choose from.
    """
    listing = _listing_of(path, kind)
    if audio and not listing.chooses:
        kind = name_of(type(listing))
        raise InputError(f"{path}: a listing of kind {kind} has no column or member `{audio}`")
    listing.audio = audio
    return listing


def _listing_of(path: str, kind: str) -> Listing:
    if kind != "auto":
        return find("sources", kind)()
    # The most specific kinds are tried first: a folder may be any of them.
    order = ["huggingface", "kaldi", "shar", "lhotse", "webdataset", "parquet", "table", "folder"]
    known = parts("sources")
    for name in sorted(known, key=lambda name: order.index(name) if name in order else len(order)):
        if known[name].takes(path):
            return known[name]()
    if path.lower().endswith(AUDIO):
        raise InputError(f"{path}: is audio, not a list of recordings; name the folder it is in")
    if not is_url(path) and Path(path).is_file():  # a table of another extension
        return find("sources", "table")()
    raise InputError(
        f"{path}: no such folder, manifest or archive; give its kind if it is one: "
        f"{', '.join(names('sources'))}"
    )


def read_manifest(
    path: str | Path,
    *,
    split: str | None = None,
    kind: str = "auto",
    audio: str = "",
    commands: bool = False,
    store: str | Path | None = None,
    choose: Callable[[list[Recording]], list[Recording]] = list,
) -> list[Recording]:
    """Return the recordings of any source: a manifest, a folder, an archive, a dataset, a URL.

    A manifest is a table: a `.jsonl` file has an object a line, a `.csv` file is quoted as in
    RFC 4180; any other is TSV with a header line, where quotation marks are text. See
    `data.sources.table` for its columns, and `audiotok.data.sources` for the other kinds. A folder
    is split at random, as any source is that names no splits where one is asked for: `SPLITS`, by
    speakers, folders or files.

    Args:
        path: the source.
        split: return only the recordings of this `split`; all if None.
        kind: kind of the source; "auto" chooses by the path.
        audio: column, or member of a sample, that is the audio, where there are several.
        commands: whether shell commands of the source may run.
        store: folder to which audio is copied that is in no file of its own; None to keep its bytes
            in memory.
        choose: returns which of the recordings are wanted; the others are not copied.

    Raises:
        ValueError: no such source, a line that cannot be understood (the message has its number),
            or no recording left.
    """
    given = normal_path(str(path))
    source = listing_of(given, kind, audio)
    listed = _permitted(source, given, commands)
    recordings = list(listed if store is None else stores.without_bytes(listed, Path(store)))
    named = {recording.split for recording in recordings} - {""}
    if not named and (split is not None or name_of(type(source)) == "folder"):
        recordings = with_splits(recordings, SPLITS)
        named = {recording.split for recording in recordings} - {""}
    selected = [r for r in recordings if split is None or r.split == split]
    if not selected:
        known = f"; it has {', '.join(sorted(named))}" if named else ""
        raise InputError(
            f"{path}: no recording" + (f" of split {split!r}{known}" if split else " is listed")
        )
    _warn_of_ids(selected, str(path))
    chosen = choose(selected)
    if store is None:
        return chosen
    return stores.fill(_permitted(source, given, commands), chosen, Path(store))


def _permitted(source: Listing, path: str, commands: bool) -> Iterator[Recording]:
    """Yield the recordings of a source, whose commands may run if the user permits them."""
    for recording in source.items(path):
        if commands:
            locator = replace(recording.locator, permitted=True)
            recording = replace(recording, locator=locator)
        yield recording


def _warn_of_ids(recordings: Sequence[Recording], path: str) -> None:
    """Warn of ids that stand in a list more than once."""
    counts = Counter(recording.id for recording in recordings)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        log.warning(
            "%s: ids must differ, and %d stand there more than once (%s%s); give each its own",
            path,
            len(twice),
            ", ".join(twice[:NAMED]),
            ", ..." if len(twice) > NAMED else "",
        )


def with_splits(recordings: Sequence[Recording], splits: Mapping[str, float]) -> list[Recording]:
    """Return recordings with a `split` that is drawn at random.

    A split gets whole speakers; whole folders where speakers are not known; single files where
    there are too few of either for its share; and stretches where there are hardly any files. Each
    is drawn by a hash of its name: the draw is the same on every machine, and speakers that are
    added later do not move others.

    Args:
        recordings: recordings of one source.
        splits: name -> share; the rest is "train".
    """
    files = [_file_of(recording) for recording in recordings]
    groups = [
        recording.speaker or PurePosixPath(file).parent.as_posix()
        for recording, file in zip(recordings, files, strict=True)
    ]
    if len(set(groups)) * min(splits.values(), default=0) < 1:
        groups = files
    if len(set(groups)) <= len(splits):
        groups = [recording.id for recording in recordings]
    chosen = draw_splits(set(groups), splits)
    return [
        recording.with_fields(split=chosen[group])
        for recording, group in zip(recordings, groups, strict=True)
    ]


def _file_of(recording: Recording) -> str:
    """Return a name that all stretches of a file have in common."""
    locator = recording.locator
    if locator.stretch is None:
        return recording.id
    return locator.path or locator.command or recording.id


def write_manifest(
    source: str | Path,
    out: str | Path,
    *,
    splits: Mapping[str, float] | None = None,
    kind: str = "auto",
    audio: str = "",
    commands: bool = False,
    extract: str | Path | None = None,
    force: bool = False,
    console: Console | None = None,
) -> Summary:
    """Look at every recording of a source, and list those that can be read in a table.

    What is read from the table is what the source has: ids, stretches, channels, texts, speakers
    and other fields. A TSV file cannot hold tabs and line breaks: they become spaces, with a
    warning.

    Args:
        source: a folder (hidden files are left out) or any other source of recordings.
        out: a .tsv or .jsonl file; it appears when it is complete.
        splits: share of the speakers (folders, files) by name of a split; the rest is "train". If
            None, the splits of the source, and 5 % "dev" where it has none.
        kind: kind of the source; "auto" chooses by the path.
        audio: column, or member of a sample, that is the audio, where there are several.
        commands: whether shell commands of the source may run.
        extract: folder to which audio is copied that is in no file of its own (in an archive or a
            dataset, or made by a command); None to leave such recordings out.
        force: whether to overwrite an existing file.
        console: where progress is shown; stderr if None.

    Raises:
        ValueError: `out` exists and not `force` or has another extension, or no recording can be
            read.
    """
    out, given = Path(out), normal_path(str(source))
    if out.suffix.lower() not in (".tsv", ".jsonl"):
        raise InputError(f"{out}: a manifest is a .tsv or a .jsonl file; name it so")
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; force=True overwrites it")
    recordings: list[Recording] = []
    errors: list[tuple[str, str]] = []
    for recording in _permitted(listing_of(given, kind, audio), given, commands):
        try:
            recordings.append(_in_a_file(recording, extract))
        except AudioFileError as error:
            errors.append((recording.name, str(error)))
    probes: list[Probe] = []
    readable: list[Recording] = []
    looks = [recording.probe for recording in recordings]
    for recording, probe in zip(recordings, probe_all(looks, console=console), strict=True):
        if isinstance(probe, AudioFileError):
            errors.append((recording.name, str(probe)))
        elif why := _unwritable(recording, out):
            errors.append((recording.name, f"{recording.name!r}: {why}"))
        else:
            readable.append(recording)
            probes.append(probe)
    if not readable:
        first = f"; the first: {errors[0][1]}" if errors else ""
        raise InputError(f"{source}: none of {len(errors)} recordings can be read{first}")
    _warn_of_ids(readable, str(source))
    if splits is not None or not any(recording.split for recording in readable):
        readable = with_splits(readable, SPLITS if splits is None else splits)
    rows = [_row(*pair, out) for pair in zip(readable, probes, strict=True)]
    _save(rows, out)
    return Summary(
        recordings=len(rows),
        seconds=sum(probe.samples / probe.rate for probe in probes),
        texts=sum(bool(recording.text) for recording in readable),
        splits=dict(Counter(recording.split for recording in readable)),
        errors=errors,
    )


def _in_a_file(recording: Recording, extract: str | Path | None) -> Recording:
    """Return a recording that is in a file or at a URL, or raise AudioFileError."""
    locator = recording.locator
    if locator.error:
        raise AudioFileError(f"{recording.name}: {locator.error}")
    if locator.is_file or (is_url(locator.path) and locator.size is None and not locator.offset):
        return recording
    if locator.cut:
        raise AudioFileError(f"{recording.name}: only lhotse can load it; no table can hold it")
    if extract is None:
        raise AudioFileError(
            f"{recording.name}: in no file of its own; name a folder to extract to"
        )
    return stores.extracted(recording, Path(extract))


def _unwritable(recording: Recording, out: Path) -> str:
    """Return why a table cannot hold the name of a recording; "" if it can."""
    written = f"{recording.id}{recording.locator.path}"
    if not is_utf8(written):
        return "the name is not UTF-8; rename the file"
    if out.suffix.lower() == ".tsv" and any(mark in written for mark in "\t\r\n"):
        return "a tab or line break in the name; rename it, or write a .jsonl manifest"
    return ""


def _row(recording: Recording, probe: Probe, out: Path) -> dict[str, Any]:
    """Return the row of a recording."""
    path = recording.locator.path
    path = path if is_url(path) else _relative(out.parent, Path(path))
    whole = recording.locator.stretch is None
    own = {
        "path": path,
        "id": "" if whole and recording.id == path else recording.id,
        "start": "" if whole else repr(recording.start),
        "end": "" if recording.end is None else repr(recording.end),
        "channel": "" if recording.channel is None else str(recording.channel),
        "split": recording.split,
        "speaker": recording.speaker,
        "language": recording.language,
        "seconds": f"{probe.samples / probe.rate:.3f}",
        "rate": str(probe.rate),
        "channels": str(probe.channels),
        "text": recording.text,
    }
    others = {k: v for k, v in recording.fields.items() if k not in HIDDEN and v not in ("", None)}
    return own | others


def _relative(folder: Path, path: Path) -> str:
    """Return a path relative to the folder; absolute where there is none (another drive)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path.absolute())


def _save(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the manifest to a file that appears when it is complete."""
    used = dict.fromkeys(name for row in rows for name, value in row.items() if value != "")
    columns = [name for name in COLUMNS if name in used or name not in OPTIONAL]
    columns += [name for name in used if name not in columns]
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_parts([out.parent])
    with atomic_file(out) as part, part.open("w", newline="", encoding="utf-8") as lines:
        if out.suffix.lower() == ".jsonl":
            for row in rows:
                fields = {name: row[name] for name in columns if row.get(name, "") != ""}
                numbers = {name: json.loads(fields[name]) for name in NUMBERS if name in fields}
                lines.write(json.dumps(fields | numbers, ensure_ascii=False) + "\n")
            return
        changed = 0
        lines.write("\t".join(map(_plain, columns)) + "\n")
        for row in rows:
            cells = [as_text(row.get(name, "")) for name in columns]
            plain = cells[:1] + [_plain(cell) for cell in cells[1:]]
            changed += plain != cells
            lines.write("\t".join(plain) + "\n")
    if changed:
        log.warning(
            "%s: tabs and line breaks in the fields of %d recordings became spaces; "
            "a .jsonl file keeps them",
            out,
            changed,
        )


def _plain(text: str) -> str:
    """Return text without tabs and line breaks, which a TSV file cannot hold."""
    return " ".join(text.split()) if any(mark in text for mark in "\t\r\n") else text
