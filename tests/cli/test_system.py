"""What the operating system refuses is one line that names a path of the user's and the way out."""

from __future__ import annotations

from errno import EACCES, EIO, ENOSPC
from pathlib import Path

import pytest
from commandline import audiotok, recording, small

from audiotok.cli.system import explained


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(EACCES, "Permission denied", "a/b"), "; change its permissions, or name"),
        (OSError(ENOSPC, "No space left on device", "a/b"), "; free some and run again"),
        (OSError(EIO, "Input/output error", "a/b"), "a/b: Input/output error"),
        (FileNotFoundError(2, "No such file or directory", "a/.b.pt.part"), "a: No such file"),
        (OSError("said in words"), "said in words"),
    ],
)
def test_an_error_is_worded_for_its_kind(error: OSError, text: str):
    assert text in explained(error)
    assert ".part" not in explained(error)


@pytest.mark.parametrize(
    "command",
    [
        ("manifest", "recordings", "-o", "taken/list.tsv"),
        ("corpus", "build", "recordings", "-o", "taken/corpus", "--codec", "small", "-j", "1"),
        ("plot", "recordings/a.wav", "-o", "taken/a.png"),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_named(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("recordings").mkdir()
    recording(Path("recordings/a.wav"))
    Path("taken").touch()
    done = audiotok(*(small() if word == "small" else word for word in command))
    assert done.code == 1
    assert done.lines == ["error taken: a file, where a folder is needed; name another place"]
