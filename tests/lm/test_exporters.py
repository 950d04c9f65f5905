"""Exports are read back by the libraries they are for, row for row."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import audiotok

from audiotok._platform.registry import find, names
from audiotok.corpus import Corpus
from audiotok.corpus.base import CorpusInfo
from audiotok.corpus.write import row_of, write_corpus
from audiotok.lm.exporters import base
from audiotok.lm.exporters.base import CorpusExportError, export
from audiotok.lm.layout import Layout
from audiotok.tokens.tokens import Tokens

SIZES = (40, 30)
NEEDS = {
    "parquet": "pyarrow",
    "arrow": "pyarrow",
    "hf": "datasets",
    "lhotse": "lhotse",
    "webdataset": "webdataset",
}
WRITERS = {"parquet": "pyarrow", "arrow": "pyarrow", "hf": "pyarrow", "lhotse": "lhotse"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("export") / "corpus"

    def entries():
        for i in range(30):
            random = np.random.default_rng(i)
            codes = np.stack([random.integers(0, size, i) for size in SIZES])
            tokens = Tokens(
                codes=codes,
                size=SIZES,
                codec="speech",
                fingerprint="0" * 16,
                sample_rate=16000,
                frame_size=320,
                samples=320 * i,
                original_rate=16000,
                original_samples=320 * i,
            )
            row = {"text": f"Straße {i}.", "speaker": f"s{i % 3}"}
            yield row_of(f"dir/a.b {i}", tokens, 0, row), tokens

    about = CorpusInfo("speech", "0" * 16, SIZES, 16000, 320, 1, ())
    write_corpus(folder, about, entries(), limit=150)
    return Corpus(folder)


LAYOUTS = {
    "none": None,
    "flat": Layout(sizes=SIZES),
    "delay": Layout(sizes=SIZES, pattern="delay"),
    "one": Layout(sizes=SIZES[:1], runs="durations"),
}


def read_back(name: str, out: Path, ids: bool) -> list[dict[str, Any]]:
    """Rows as the library gives them."""
    if name == "jsonl":
        files = sorted(out.glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.open()]
    if name == "parquet":
        import pyarrow.parquet as pq

        return [row for f in sorted(out.glob("*.parquet")) for row in pq.read_table(f).to_pylist()]
    if name == "arrow":
        import pyarrow.feather as feather

        tables = [feather.read_table(f) for f in sorted(out.glob("*.arrow"))]
        return [row for table in tables for row in table.to_pylist()]
    if name == "hf":
        return list(import_module("datasets").load_from_disk(str(out)))
    if name == "webdataset":
        tars = [str(file) for file in sorted(out.glob("*.tar"))]
        library = import_module("webdataset")
        data = library.WebDataset(tars, shardshuffle=False, empty_check=False).decode()
        return [
            {
                "id": each["json"]["id"],
                "text": each["txt"],
                "codes": each["codes.npy"],
                **({"ids": each["ids.npy"]} if ids else {}),
            }
            for each in data
        ]
    assert name == "lhotse"
    load_manifest = import_module("lhotse").load_manifest
    cuts = [cut for file in sorted(out.glob("*.jsonl")) for cut in load_manifest(file)]
    return [
        {
            "id": cut.id,
            "text": cut.supervisions[0].text,
            "codes": cut.load_codes().T,
            **({"ids": cut.load_ids()} if ids else {}),
        }
        for cut in cuts
    ]


def check_rows(rows: list[dict[str, Any]], corpus: Corpus, layout: Layout | None) -> None:
    assert len(rows) == len(corpus)
    for row, entry in zip(rows, corpus, strict=True):
        assert row["id"] == entry.id
        assert row["text"] == entry.row["text"]
        codes = np.array(row["codes"], np.int64).reshape(len(SIZES), -1)
        assert np.array_equal(codes, entry.tokens.codes)
        if layout is None:
            assert "ids" not in row
        else:
            wanted = layout.encode(entry.tokens.codes[: len(layout.sizes)])
            assert np.array_equal(np.array(row["ids"]), wanted)


@pytest.mark.filterwarnings("default")  # others' warnings are not ours
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [n for n in names("exporters") if n not in ("npy", "megatron")])
def test_the_library_reads_every_row_back(name: str, layout: str, corpus: Corpus, tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(NEEDS.get(name, "json"))
        chosen, told = LAYOUTS[layout], []
        count = export(
            find("exporters", name), corpus, tmp_path, layout=chosen, progress=told.append
        )
        assert count == len(corpus) == told[-1]
        assert len(told) == len(corpus.shards) > 2
        check_rows(read_back(name, tmp_path, chosen is not None), corpus, chosen)
        if chosen is not None:
            assert Layout.load(tmp_path / "layout.json") == chosen


def test_a_recording_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where its ids are written as text too."""
    layout = Layout.named("orpheus")
    codes = np.arange(7 * 5).reshape(7, 5)
    tokens = Tokens(
        codes=codes,
        size=layout.sizes,
        codec="snac_24khz",
        fingerprint="0" * 16,
        sample_rate=24000,
        frame_size=2048,
        samples=5 * 2048,
        original_rate=24000,
        original_samples=5 * 2048,
    )
    about = CorpusInfo("snac_24khz", "0" * 16, layout.sizes, 24000, 2048, 1, ())
    write_corpus(tmp_path / "corpus", about, iter([(row_of("a", tokens, 0, {}), tokens)]))
    text, usual, count = layout.text(codes), type(layout).encode, []
    monkeypatch.setattr(
        type(layout), "encode", lambda *args, **named: count.append(1) or usual(*args, **named)
    )
    export(find("exporters", "jsonl"), Corpus(tmp_path / "corpus"), tmp_path / "out", layout=layout)
    assert len(count) == 1
    line = (tmp_path / "out" / "shard-000000.jsonl").read_text("utf-8")
    assert json.loads(line)["audio"] == text


def test_npy_holds_all_ids_end_to_end(corpus: Corpus, tmp_path: Path):
    export(find("exporters", "npy"), corpus, tmp_path)
    layout, got = Layout.load(tmp_path / "layout.json"), []
    for shard in sorted(tmp_path.glob("*.ids")):
        ids, bounds = np.load(shard / "ids.npy", mmap_mode="r"), np.load(shard / "bounds.npy")
        assert ids.dtype == np.uint8
        got += [layout.decode(ids[a:b]) for a, b in pairwise(bounds.tolist())]
    assert all(map(np.array_equal, got, (entry.tokens.codes for entry in corpus)))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("offset", [0, 300, 70_000])  # ids of one, two and four bytes
def test_megatron_reads_its_own_format(offset: int, corpus: Corpus, tmp_path: Path):
    layout, got = Layout(sizes=SIZES, offset=offset), []
    export(find("exporters", "megatron"), corpus, tmp_path, layout=layout)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
        for file in sorted(tmp_path.glob("*.bin")):
            data = indexed.IndexedDataset(str(file.with_suffix("")))
            got += [layout.decode(data[i].astype(np.int64)) for i in range(len(data))]
            assert list(data.document_indices) == list(range(len(data) + 1))
    assert all(map(np.array_equal, got, (entry.tokens.codes for entry in corpus)))


@pytest.mark.filterwarnings("ignore")  # others' warnings are not ours
@pytest.mark.parametrize("name", names("exporters"))
def test_an_interrupted_export_goes_on(
    name: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip(WRITERS.get(name, "json"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    export(find("exporters", name), corpus, whole)
    read, given = base.records, 0

    def records(*arguments: Any):
        nonlocal given
        for record in read(*arguments):
            given += 1
            if given == 17:
                # Had it been killed here, the next one would sweep away all that has no name yet.
                assert all(each.suffix == ".part" for each in parts.glob(".*"))
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(base, "records", records)
    with pytest.raises(KeyboardInterrupt):
        export(find("exporters", name), corpus, parts)
    first = given
    assert not list(parts.glob(".*"))
    export(find("exporters", name), corpus, parts)
    assert given - first < len(corpus)  # shards that were there were not read again
    for file in whole.rglob("*"):
        if file.is_file():
            made = (parts / file.relative_to(whole)).read_bytes()
            if name == "lhotse":  # its cuts say where their arrays are
                made = made.replace(str(parts).encode(), str(whole).encode())
            assert made == file.read_bytes()


def test_what_does_not_fit_is_refused(corpus: Corpus, tmp_path: Path):
    export(find("exporters", "jsonl"), corpus, tmp_path / "a")
    with pytest.raises(CorpusExportError, match="another layout"):
        export(find("exporters", "jsonl"), corpus, tmp_path / "a", layout=LAYOUTS["flat"])
    with pytest.raises(CorpusExportError, match="one row"):
        export(find("exporters", "megatron"), corpus, tmp_path / "b", layout=LAYOUTS["delay"])
    with pytest.raises(CorpusExportError, match="codebooks"):
        export(find("exporters", "npy"), corpus, tmp_path / "b", layout=Layout(sizes=(9,)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(CorpusExportError, match="not empty"):
        export(find("exporters", "npy"), corpus, tmp_path / "full")


def test_command_line(corpus: Corpus, tmp_path: Path):
    done = audiotok("export-corpus", corpus.path, "--to", "npy", "-k", "1", "-o", tmp_path / "o")
    assert done.code == 0, done.err
    assert Layout.load(tmp_path / "o/layout.json").sizes == SIZES[:1]
    done = audiotok("export-corpus", corpus.path, "--to", "nyp", "-o", tmp_path / "p")
    assert done.code != 0
    assert "Did you mean 'npy'" in done.lines[-1]
    done = audiotok("export-corpus", tmp_path, "--to", "npy", "-o", tmp_path / "p")
    assert done.code != 0
    assert "no corpus" in done.lines[-1]
