"""The catalogue knows of our codecs, without torch, what their classes say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import audiotok
from golden.presets import STORED, text

from audiotok._platform.registry import presets
from audiotok.codecs.catalogue import facts
from audiotok.codecs.checkpoint import describe

ROOT = Path(__file__).parents[2]


def test_what_is_stored_is_what_the_classes_say():
    assert STORED.read_text("utf-8") == text(), "python tests/golden/presets.py writes it anew"


@pytest.mark.parametrize("name", ["speech", "music", "mimi", "dac_44khz"])
def test_facts_are_those_of_a_description(name: str):
    assert facts(name) == describe(name, read=False)


def test_facts_know_weights_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AUDIOTOK_CACHE", str(tmp_path))
    assert facts("dac_16khz") == describe("dac_16khz", read=False)
    (tmp_path / "dac_16khz").mkdir()
    file = tmp_path / "dac_16khz" / "mine.safetensors"
    file.write_bytes(b"")
    known = facts("dac_16khz")
    assert known
    assert known["weights"] == str(file)
    assert known == describe("dac_16khz", read=False)


def test_a_codec_that_is_not_stored_is_imported(monkeypatch: pytest.MonkeyPatch):
    """So that a new file is a new codec before anybody has written its facts down."""
    from audiotok._platform import registry

    stored = json.loads(STORED.read_text("utf-8"))
    known = presets("codecs")
    del stored["mimi"], stored["dac"]
    monkeypatch.setattr(registry, "_stored", lambda family: stored if family == "codecs" else {})
    assert presets("codecs") == known
    assert facts("mimi") is None
    rows = json.loads(audiotok("codecs", "--json").out)
    assert {row["name"] for row in rows} == known.keys()


WITHOUT_TORCH = [
    ["--help"],
    ["--version"],
    ["codecs"],
    ["codecs", "--json"],
    ["info", "egs/data/reading.flac"],
    ["corpus", "--help"],
    ["encode", "--help"],
]


def test_commands_that_need_no_torch_do_not_import_it():
    code = (
        "import sys\n"
        "from audiotok.__main__ import main\n"
        f"for words in {WITHOUT_TORCH}:\n"
        "    sys.argv[1:] = words\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, words\n"
        "    assert 'torch' not in sys.modules, words\n"
        "import audiotok\n"
        "assert 'speech' in audiotok.names() and 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
