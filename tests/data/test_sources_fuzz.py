"""Listings of anything: what they hold comes out as rows or as errors of one line, and no more.

Of a listing that is given at all, items and samples are equally many, whatever is in them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from audiotok.data.locator import opened
from audiotok.data.manifest import listing_of, read_manifest
from audiotok.data.recording import Recording

FUZZED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(max_size=8)
FIELD = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(
    ["path", "id", "text", "start", "end", "offset", "duration", "channel", "sentence", "client_id"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)


def complaint(call: Callable[[], Any]) -> str:
    """What is wrong, in one line; "" if nothing is. Any other error is a fault."""
    try:
        call()
    except ValueError as error:
        line = str(error)
    else:
        return ""
    assert re.fullmatch(r"[^\r\n]+", line), line
    return line


def listed(path: Path, kind: str = "auto") -> list[Recording] | None:
    """The items of a listing, each with a row that JSON can hold; None after an error of a line."""
    items: list[Recording] = []
    line = complaint(lambda: items.extend(listing_of(str(path), kind).items(str(path))))
    for item in items:
        json.dumps(item.fields, allow_nan=False).encode("utf-8", "surrogateescape")
        assert item.id
    assert not line or path.name in line
    return None if line else items


def heard(item: Recording) -> None:
    """Opens an item; what is wrong with it names it."""
    with ExitStack() as stack:
        line = complaint(lambda: stack.enter_context(opened(item.locator)))
    assert not line or item.locator.name in line or "\n" in item.locator.name


@FUZZED
@given(st.lists(st.tuples(FIELD.filter(str.strip), FIELD, FIELD), min_size=1, max_size=5))
def test_any_fields_between_tabs(tmp_path: Path, rows: list[tuple[str, str, str]]):
    path = tmp_path / "m.tsv"
    path.write_text("path\tx\ttext\n" + "".join("\t".join(row) + "\n" for row in rows), "utf-8")
    items = listed(path)
    if items is None:
        assert any("\0" in row[0] for row in rows)  # no name of a file
        return
    assert [(i.id, i.fields.get("x", ""), i.fields.get("text", "")) for i in items] == rows
    cells = [recording.columns() for recording in read_manifest(path)]
    assert [(c["path"], c["x"], c.get("text", "")) for c in cells] == rows


@FUZZED
@given(st.lists(st.tuples(FIELD.filter(str.strip), TEXT), min_size=1, max_size=5))
def test_any_fields_that_a_writer_of_csv_quotes(tmp_path: Path, rows: list[tuple[str, str]]):
    assume(not any(mark in text for row in rows for text in row for mark in "\0\r"))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [("path", "text"), *rows]
    )
    try:
        data = text.getvalue().encode()
    except UnicodeEncodeError:
        return
    path = tmp_path / "m.csv"
    path.write_bytes(data)
    items = listed(path)
    assert items is not None
    assert [(i.id, i.fields.get("text", "")) for i in items] == rows


@FUZZED
@given(st.sampled_from(["m.tsv", "m.csv", "m.jsonl", "m.tar", "m.tar.gz", "m.parquet"]), st.data())
def test_any_bytes(tmp_path: Path, name: str, data: st.DataObject):
    head = b"path,text\n" if "csv" in name else b"path\ttext\n" if "tsv" in name else b""
    path = tmp_path / name
    path.write_bytes(data.draw(st.just(head) | st.just(b"")) + data.draw(st.binary(max_size=200)))
    if name == "m.parquet":
        pytest.importorskip("pyarrow")
    for item in listed(path) or ():
        heard(item)
    if path.suffix in (".tsv", ".csv", ".jsonl"):
        complaint(lambda: read_manifest(path))


@FUZZED
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5) | VALUES, min_size=1, max_size=4))
def test_any_objects(tmp_path: Path, rows: list[Any]):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    items = listed(path)
    assert items is None or len(items) == len(rows)
    complaint(lambda: read_manifest(path))


MEMBERS = st.from_regex(
    r"(\./|d/|\.h/|__m__/?)?[xyz]?(\.[57a])?\.(wav|flac|txt|json|lab|jpg|WAV)", fullmatch=True
)


@FUZZED
@given(
    st.lists(st.tuples(MEMBERS, st.binary(max_size=20) | st.just(b'{"text": 1}')), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_any_members(
    tmp_path: Path, members: list[tuple[str, bytes]], in_order: bool, packed: bool
):
    """As many items as webdataset's rule makes samples, or an error."""
    members = sorted(members) if in_order else members
    path = tmp_path / ("m.tar.gz" if packed else "m.tar")
    with tarfile.open(path, "w:gz" if packed else "w") as file:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    names = [name for name, _ in members if not name.startswith("__m__/")]
    rule = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
    keys = [found[1] for name in names if (found := rule.match(name))]
    samples = [key for key, _ in groupby(keys)]
    items = listed(path, "webdataset")
    if items is not None:
        assert [item.id for item in items] == samples
        for item in items:
            heard(item)


@FUZZED
@given(st.binary(min_size=1, max_size=3), st.integers(0, 4000), st.booleans())
def test_damaged_archives(tmp_path: Path, data: bytes, at: int, packed: bool):
    """A sample is lost to damage of the archive's own only with an error."""
    path = tmp_path / ("m.tar.gz" if packed else "m.tar")
    with tarfile.open(path, "w:gz" if packed else "w") as file:
        for name in ("a.wav", "b.wav", "c.wav"):
            about = tarfile.TarInfo(name)
            about.size = 600
            file.addfile(about, io.BytesIO(bytes(600)))
    whole = bytearray(path.read_bytes())
    at %= len(whole)
    whole[at : at + len(data)] = data[: len(whole) - at]
    path.write_bytes(whole)
    items = listed(path)
    assert items is None or len(items) == 3


CELLS = {
    "null": st.none(),
    "binary": st.binary(max_size=8),
    "string": FIELD,
    "int64": st.integers(-(2**62), 2**62),
    "float64": st.floats(),
    "audio": st.fixed_dictionaries(
        {"bytes": st.none() | st.binary(max_size=8), "path": st.none() | FIELD}
    ),
}


@FUZZED
@given(
    st.dictionaries(
        st.sampled_from(["audio", "id", "x", "seconds"]), st.sampled_from(list(CELLS)), min_size=1
    ),
    st.integers(1, 4),
    st.data(),
)
def test_any_columns(tmp_path: Path, kinds: dict[str, str], rows: int, data: st.DataObject):
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    audio = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    types = {n: audio if k == "audio" else arrow.type_for_alias(k) for n, k in kinds.items()}
    values = {
        n: data.draw(st.lists(CELLS[k] | st.none(), min_size=rows, max_size=rows))
        for n, k in kinds.items()
    }
    path = tmp_path / "m.parquet"
    parquet.write_table(arrow.table(values, arrow.schema(types.items())), path)
    items = listed(path)
    assert items is None or len(items) == rows
    for item in items or ():
        heard(item)


ENTRIES = st.from_regex(r"(a/|b/|\.c/)?[a-d]?\.(wav|txt|lab|trans\.txt|mp3)", fullmatch=True)


@FUZZED
@given(
    st.dictionaries(
        ENTRIES | st.sampled_from(["metadata.csv", "a/metadata.jsonl"]),
        st.sampled_from(["file", "pipe", "folder", "link", "loop"]),
        max_size=6,
    ),
    st.binary(max_size=20),
)
@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders")
def test_any_folder(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, str], data: bytes):
    folder = tmp_path_factory.mktemp("any")
    for name in ("a", "b", ".c"):
        (folder / name).mkdir()
    for name, kind in entries.items():
        path = folder / name
        if kind == "file":
            path.write_bytes(data)
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("nowhere" if kind == "link" else ".")
    items = listed(folder, "folder")
    wanted = [
        name
        for name, kind in entries.items()
        if kind in ("file", "link") and name.endswith((".wav", ".mp3"))
        and not any(part.startswith(".") for part in name.split("/"))
    ]  # fmt: skip
    assert items is None or sorted(item.id for item in items) == sorted(wanted)
    if items is not None:
        assert [r.path for r in read_manifest(folder)] == [folder / i.id for i in items]
        for item in items:
            heard(item)
    else:
        complaint(lambda: read_manifest(folder))
