"""Names of what is scored, given with commas or one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiotok.cli.commands.bench import _listed


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["speech,opus:6"], ["speech", "opus:6"]),
        (["speech,folder:fold"], ["speech", "folder:fold"]),
        (["folder:fold,speech"], ["folder:fold", "speech"]),
        (["folder:a,b"], ["folder:a,b"]),
        (
            ["speech, folder:a,b ,opus:6", "noise:10"],
            ["speech", "folder:a,b", "opus:6", "noise:10"],
        ),
        (["folder:fold,folder:a,b"], ["folder:fold", "folder:a,b"]),
        (["folder:none,b"], ["folder:none", "b"]),
        ([",speech,,"], ["speech"]),
    ],
)
def test_commas_part_names_but_not_a_folder_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], names: list[str]
):
    monkeypatch.chdir(tmp_path)
    for name in ("fold", "a,b"):
        Path(name).mkdir()
    assert _listed(given) == names
    assert _listed(None) is None
