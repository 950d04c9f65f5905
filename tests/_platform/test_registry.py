"""A part is found by its file name, and an unknown one says what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import audiotok
from audiotok._platform.registry import FAMILIES, UnknownPartError, find, names


def test_families_are_folders_with_a_base():
    assert {"codecs", "layers", "quantizers"} <= set(FAMILIES)
    for family, folder in FAMILIES.items():
        assert Path(audiotok.__path__[0], *folder.split("."), "base.py").is_file()
        assert names(family) == sorted(names(family))
        assert not {"base", "__init__"} & set(names(family))


@pytest.mark.parametrize("family", ["codecs", "quantizers"])
def test_every_part_is_found_by_its_file_name(family: str):
    assert names(family)
    for name in names(family):
        part = find(family, name)
        assert part.__module__ == f"audiotok.{FAMILIES[family]}.{name}"
        assert part.__name__.lower() == name.replace("_", "")


def test_an_unknown_part_names_the_nearest_and_the_known():
    with pytest.raises(UnknownPartError) as caught:
        find("codecs", "speach")
    known = ", ".join(names("codecs"))
    assert str(caught.value) == (
        f"unknown codecs part 'speach'. Did you mean 'speech'? Known: {known}"
    )
    with pytest.raises(UnknownPartError) as caught:
        find("quantizers", "zzz")
    known = ", ".join(names("quantizers"))
    assert str(caught.value) == f"unknown quantizers part 'zzz'. Known: {known}"


@pytest.mark.parametrize("name", ["base", "__init__", "../codecs/speech", "", "speech.py"])
def test_only_parts_are_parts(name: str):
    with pytest.raises(UnknownPartError, match=r"^unknown codecs part"):
        find("codecs", name)


def test_an_unknown_family_lists_those_there_are():
    for family in ("codec", "train", ""):
        with pytest.raises(
            UnknownPartError, match=f"^no family {family!r}; there are asr, backends, baselines"
        ):
            names(family)


def test_finding_a_part_imports_no_other():
    code = (
        "import sys; from audiotok._platform.registry import find, names; names('codecs'); "
        "assert 'torch' not in sys.modules; find('quantizers', 'rvq'); "
        "print('audiotok.codecs.models.speech' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
