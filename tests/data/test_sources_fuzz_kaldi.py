"""Whatever text stands in a listing: a row for each line of it, or one error in one line."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from audiotok import Error
from audiotok.data.manifest import listing_of, read_manifest
from audiotok.data.recording import Recording

FUZZ = settings(max_examples=100, deadline=None)

# Words that lines are made of: good ones, and what has been taken for something else.
WORD = st.sampled_from([*"ab01|-:\t", "-1", "0.5", "1.0", "nan", "inf", "1e400", "1_0", "A", "a:9"])
LINE = st.lists(WORD | st.text(max_size=3), max_size=6).map(" ".join) | st.text(max_size=20)
TABLE = st.lists(LINE, max_size=5).map("\n".join) | st.just("a a.wav\nb b.wav |")
GOOD = st.just("a a 0 1 0\nb b 0.5 -1")

NUMBER = st.integers() | st.floats() | st.sampled_from([True, "1", None, 1e300, -0.0, 10**400])
VALUE = st.recursive(
    NUMBER | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
FIELDS = [
    *("id", "type", "start", "duration", "channel", "supervisions", "recording", "custom"),
    *("sources", "sampling_rate", "tracks", "text", "speaker", "language", "offset", "source"),
    *("channels", "cut", "path", "split", "end", "seconds", "mute", "transforms"),
]


def given_cut() -> dict[str, Any]:
    audio = {"type": "file", "channels": [0], "source": "a.wav"}
    known = {"id": "r", "sources": [audio], "sampling_rate": 16000, "duration": 2.0}
    said = [{"start": 0.1, "text": "x", "speaker": "s"}]
    cut = {"id": "c", "type": "MonoCut", "start": 0.0, "duration": 1.0, "channel": 0}
    return {**cut, "supervisions": said, "recording": known, "path": "a.wav"}


@st.composite
def near_cuts(draw: st.DrawFn) -> str:
    """A cut, a mix or a recording of which something is another value or gone."""
    made: Any = given_cut()
    kind = draw(st.sampled_from(["cut", "recording", "mix"]))
    if kind == "mix":
        tracks = [{"type": "MonoCut", "offset": 0.0, "cut": given_cut()}]
        made = {"id": "m", "type": "MixedCut", "tracks": tracks}
    elif kind == "recording":
        made = made["recording"]
    for _ in range(draw(st.integers(0, 2))):
        at = made
        while True:
            inner = [v for v in (at.values() if isinstance(at, dict) else at) if v]
            inner = [v for v in inner if isinstance(v, dict | list)]
            if not inner or draw(st.booleans()):
                break
            at = draw(st.sampled_from(inner))
        if isinstance(at, list):
            at[:] = draw(st.lists(VALUE, max_size=2))
        elif draw(st.booleans()):
            at[draw(st.sampled_from(FIELDS))] = draw(VALUE)
        else:
            at.pop(draw(st.sampled_from(FIELDS)), None)
    return json.dumps(made)


ROW = st.dictionaries(st.sampled_from(FIELDS), VALUE, max_size=5).map(json.dumps)
JSONL = st.lists(near_cuts() | ROW | st.text(max_size=12), max_size=4).map("\n".join)


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="audiotok-fuzz-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def lines(text: str) -> list[str]:
    """Those that are not blank, as Python parts a file into lines."""
    parted = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in parted if line.strip()]


def check(error: ValueError, path: Path) -> None:
    """An error is a line that names the file, and of no other kind than is promised."""
    assert isinstance(error, Error)
    assert len(str(error).splitlines()) == 1, str(error)
    assert str(path) in str(error), str(error)


def rows(path: Path, kind: str) -> list[Recording] | None:
    """The rows, or None for an error that is as it should be."""
    try:
        return list(listing_of(str(path), kind).items(str(path)))
    except ValueError as error:
        check(error, path)
        return None


@FUZZ
@given(TABLE, st.none() | TABLE | GOOD, TABLE, TABLE, st.none() | TABLE)
@example("a a.wav", "u a 0 1 0", "u\thi", "u\ts", "u\t1")
@example("a a.wav", "u a 0 1e308", "", "", None)
@example("a a.wav:" + "9" * 30, None, "", "", None)
@example("a\x1ca.wav", None, "\x1c", "\u3000 x", None)
def test_kaldi(scp: str, segments: str | None, text: str, speakers: str, lengths: str | None):
    with folder() as path:
        tables = {"wav.scp": scp, "segments": segments, "text": text, "utt2spk": speakers}
        for name, content in {**tables, "utt2dur": lengths}.items():
            if content is not None:
                (path / name).write_text(content, "utf-8", newline="")
        found = rows(path, "kaldi")
        if found is not None:
            assert len(found) == len(lines(scp if segments is None else segments))
            assert all(item.id and (item.locator.path or item.locator.command) for item in found)
            known = {line.split()[0] for line in lines(text) if len(line.split()) > 1}
            told = {item.id for item in found if "text" in item.fields}
            assert told == {item.id for item in found if item.id in known}


@FUZZ
@given(JSONL)
@example("[" * 100_000)
@example('{"id": "c", "type": "MonoCut", "duration": 1e400}')
@example(json.dumps({**given_cut(), "start": 1e300}))
@example(json.dumps({**given_cut(), "duration": 1e9}))
@example(json.dumps({**given_cut(), "channel": False}))
def test_lhotse(text: str):
    with folder() as path:
        (path / "c.jsonl").write_text(text, "utf-8", newline="")
        listing_of(str(path / "c.jsonl"))  # whatever it takes it for, it says so without a fault
        found = rows(path / "c.jsonl", "lhotse")
        if found is not None:
            assert len(found) == len(lines(text))


TSV = st.lists(st.lists(WORD | st.text(max_size=4), max_size=4).map("\t".join), max_size=4)


@FUZZ
@given(JSONL | TSV.map("\n".join), st.sampled_from([".jsonl", ".tsv"]))
@example('{"path": "a.wav", "seconds": 1e400}', ".jsonl")
@example("[" * 100_000, ".jsonl")
@example("path\tstart\na.wav\tnan", ".tsv")
@example("path\tchannel\na.wav\t-1", ".tsv")
def test_manifest(text: str, suffix: str):
    with folder() as path:
        file = path / f"m{suffix}"
        content = f"path\ttext\tstart\n{text}" if suffix == ".tsv" and "{" not in text else text
        file.write_text(content, "utf-8", newline="")
        try:
            found = read_manifest(file)
        except ValueError as error:
            check(error, file)
            return
        assert all(isinstance(row.locator.name, str) for row in found)
        if suffix == ".jsonl":
            assert len(found) == len(lines(text))
            for row in found:
                cut = any(row.columns().get(name) for name in ("end", "channel"))
                assert row.locator.stretch is not None or not cut
