"""Encoded audio that is in no file of its own, copied to files: bytes in archives and datasets.

The output of a command is copied too, where the user permits the command, so that it runs once.
Training and benches read a recording more than once, and an archive is only read from the front.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from audiotok._platform.atomic import atomic_file, remove_stale_parts
from audiotok.audio.decoders import AudioFileError
from audiotok.data.locator import AudioLocator, copy_audio, suffix_of
from audiotok.data.recording import Recording, stamp_of


def without_bytes(recordings: Iterable[Recording], store: Path) -> Iterator[Recording]:
    """Yield recordings with the path that a copy of their bytes has in a folder, without the bytes.

    Those that are read where they are stay as they are.

    Args:
        recordings: recordings of a source.
        store: folder of the copies.
    """
    for recording in recordings:
        locator = recording.locator
        name = _name(locator)
        if name:
            locator = replace(locator, copy=str(store / name), data=None)
            recording = replace(recording, locator=locator)
        yield recording


def fill(
    recordings: Iterable[Recording], chosen: Sequence[Recording], store: Path
) -> list[Recording]:
    """Copy the bytes of chosen recordings to the store, as far as it does not have them.

    Args:
        recordings: the recordings of the source once more, with their bytes.
        chosen: the recordings that are wanted, of `without_bytes`.
        store: folder of the copies.

    Returns:
        The chosen recordings; one whose bytes cannot be had says so when it is opened.
    """
    copies = {r.locator.copy for r in chosen} - {""}
    missing = {copy for copy in copies if not Path(copy).is_file()}
    errors: dict[str, str] = {}
    if missing:
        store.mkdir(parents=True, exist_ok=True)
        remove_stale_parts([store])
    for recording in recordings if missing else ():
        name = _name(recording.locator)
        copy = str(store / name)
        if not name or copy not in missing:
            continue
        missing.remove(copy)
        try:
            with atomic_file(Path(copy)) as part, part.open("wb") as file:
                copy_audio(recording.locator, file)
        except AudioFileError as error:
            errors[copy] = str(error).removeprefix(f"{recording.name}: ")
        if not missing:
            break
    return [_with_error(r, errors.get(r.locator.copy, "")) for r in chosen]


def extracted(recording: Recording, folder: Path) -> Recording:
    """Copy the bytes of a recording to a file named after it, and return the recording in it.

    Args:
        recording: a recording that is in no file of its own.
        folder: folder of the files.

    Raises:
        AudioFileError: it cannot be read.
    """
    locator = recording.locator
    folder.mkdir(parents=True, exist_ok=True)
    source = locator.command or json.dumps(stamp_of(recording))  # ids may be equal
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    stem = re.sub(r"[^\w.-]+", "_", Path(recording.id).stem)[:60].strip("._")
    path = folder / (f"{stem}-{digest}{suffix_of(locator)}" if not locator.command else digest)
    if not (locator.command and path.is_file()):  # stretches share the output of their command
        with atomic_file(path) as part, part.open("wb") as file:
            copy_audio(locator, file)
    start, end, channel = locator.stretch or (0.0, None, None)
    copied = AudioLocator(locator.name, str(path), start, end, channel)
    return replace(recording, locator=copied)


def _name(locator: AudioLocator) -> str:
    """Return the file name of a copy, by the bytes or the command; "" where none is needed."""
    if locator.data is not None:
        return hashlib.blake2b(locator.data, digest_size=16).hexdigest() + suffix_of(locator)
    if locator.command and locator.permitted:
        command = locator.command.encode("utf-8", "surrogateescape")
        return f"command-{hashlib.blake2b(command, digest_size=16).hexdigest()}"
    return ""


def _with_error(recording: Recording, error: str) -> Recording:
    """Return a recording that cannot be opened, for this reason; as it is if there is none."""
    if not error:
        return recording
    return replace(recording, locator=replace(recording.locator, error=error))
