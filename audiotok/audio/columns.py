"""Names of columns in tables of recordings, and the paths of the audio files that rows name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiotok._platform.errors import InputError

# `audio_filepath` is NeMo's column, `file_name` that of Hugging Face's audiofolder.
PATHS = ("path", "audio_filepath", "audio_path", "file_name", "audio", "wav")
# Common Voice has `client_id` and `sentence`, audiofolder `transcription`.
ALIASES = {
    "text": ("sentence", "transcription", "transcript"),
    "speaker": ("client_id", "speaker_id"),
}
CLIPS = "clips"  # Common Voice's folder of audio, beside its tables


def with_our_names(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its text and speaker under the names `text` and `speaker`.

    Columns of other programs (`ALIASES`) are renamed where a row has no value of ours.
    """
    renamed = {}
    for ours, theirs in ALIASES.items():
        if row.get(ours) in (None, ""):
            alias = next((name for name in theirs if row.get(name) not in (None, "")), None)
            if alias is not None:
                renamed[alias] = ours
    if not renamed:
        return row
    dropped = set(renamed.values())  # columns of our name that are there, but empty
    return {renamed.get(k, k): value for k, value in row.items() if k not in dropped}


def path_of(row: Mapping[str, Any], column: str = "") -> tuple[str, str]:
    """Return the column that names the audio file of a row, and its value.

    Args:
        row: the row.
        column: the column; "" for the first of `PATHS` that has a value.

    Raises:
        ValueError: there is no such column, or its value is empty or not text.
    """
    names = (column,) if column else PATHS
    chosen = next((name for name in names if row.get(name) not in (None, "")), None)
    if chosen is None:
        blank = next((name for name in names if name in row), None)
        if blank is not None:
            raise InputError(f"`{blank}` is empty")
        only = " ".join(", ".join(map(str, row)).split())[:200] or "nothing"
        raise InputError(f"no path; call the column `{names[0]}`, there is only {only}")
    name = row[chosen]
    if not isinstance(name, str) or "\0" in name:
        raise InputError(f"`{chosen}` is not the path of a file but {str(name)!r:.60}")
    return chosen, name


def is_clip(row: Mapping[str, Any], name: str) -> bool:
    """Return whether a row is one of Common Voice with the bare name of a file in `clips/`."""
    return "client_id" in row and "/" not in name


def in_folder(folder: Path, row: Mapping[str, Any], name: str) -> str:
    """Return the path of a row's file, relative to the folder of its table.

    It is the path in the table, or `clips/` and that path in a table of Common Voice, which leaves
    `clips/` out, where there is no such file in the folder itself.

    Args:
        folder: the folder of the table.
        row: the row.
        name: the path in the row.
    """
    return f"{CLIPS}/{name}" if is_clip(row, name) and not (folder / name).exists() else name
