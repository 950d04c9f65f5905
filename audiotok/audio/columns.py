"""Names of columns in tables of audiotok and of others, and the folders of the files they list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# NeMo's is audio_filepath, that of Hugging Face's audiofolder file_name.
PATHS = ("path", "audio_filepath", "audio_path", "file_name", "audio", "wav")
# Common Voice says client_id and sentence, audiofolder transcription.
ALIASES = {
    "text": ("sentence", "transcription", "transcript"),
    "speaker": ("client_id", "speaker_id"),
}
CLIPS = "clips"  # Common Voice's folder of audio, beside its tables


def with_our_names(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose text and speaker stand under these names, whoever wrote it."""
    renamed = {}
    for ours, theirs in ALIASES.items():
        if row.get(ours) in (None, ""):
            found = next((name for name in theirs if row.get(name) not in (None, "")), None)
            if found is not None:
                renamed[found] = ours
    if not renamed:
        return row
    dropped = set(renamed.values())  # there, but empty
    return {renamed.get(k, k): value for k, value in row.items() if k not in dropped}


def path_of(row: Mapping[str, Any], column: str = "") -> tuple[str, str]:
    """Return the column that names the audio file of a row, and what it says.

    Args:
        row: the row.
        column: which column it is; "" looks for one of `PATHS`.

    Raises:
        ValueError: there is none, or it is empty, or not text.
    """
    names = (column,) if column else PATHS
    found = next((name for name in names if row.get(name) not in (None, "")), None)
    if found is None:
        there = next((name for name in names if name in row), None)
        if there is not None:
            raise ValueError(f"`{there}` is empty")
        only = " ".join(", ".join(map(str, row)).split())[:200] or "nothing"
        raise ValueError(f"no path; call the column `{names[0]}`, there is only {only}")
    name = row[found]
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"`{found}` is not the path of a file but {str(name)!r:.60}")
    return found, name


def is_clip(row: Mapping[str, Any], name: str) -> bool:
    """Return whether a row is one of Common Voice, with the bare name of a file in `clips/`."""
    return "client_id" in row and "/" not in name


def in_folder(folder: Path, row: Mapping[str, Any], name: str) -> str:
    """Return the path of a row's file from the folder of its table on.

    It is what the table says, but for Common Voice, whose tables name files in `clips/` barely.
    """
    return f"{CLIPS}/{name}" if is_clip(row, name) and not (folder / name).exists() else name
