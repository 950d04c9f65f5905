"""Everything a corpus says is under a checksum, and damage is a line a file, never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import audiotok

from audiotok.corpus import Corpus, CorpusError
from audiotok.corpus.base import INDEX, CorpusInfo, read_info
from audiotok.corpus.check import is_sound, verify
from audiotok.corpus.inputs import INPUT, INPUTS, FileStamps, inputs_bytes
from audiotok.corpus.write import row_of, write_corpus, write_info, write_quarantine
from audiotok.tokens.tokens import Tokens

ABOUT = CorpusInfo("toy", "ab12", (16, 16), 16000, 320, 1, (), job={"listing": "in", "part": "0/1"})


def tokens(frames: int, seed: int) -> Tokens:
    draw = np.random.default_rng(seed)
    return Tokens(
        codes=draw.integers(0, 16, (2, frames)),
        size=(16, 16),
        codec="toy",
        fingerprint="ab12",
        sample_rate=16000,
        frame_size=320,
        samples=frames * 320,
        original_rate=16000,
        original_samples=frames * 320,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of two recordings, a list of what failed, and what the inputs were like."""
    made = tmp_path / "corpus"
    each = [tokens(5, i) for i in range(4)]
    write_corpus(made, ABOUT, [(row_of(f"r{i}", t, i, {}), t) for i, t in enumerate(each)], limit=8)
    write_quarantine(made, [("bad", "bad.wav", "this is text")])
    write_info(made, read_info(made))
    (made / INPUTS).write_bytes(
        inputs_bytes("00ff", FileStamps(np.array([(100, 5), (7, 8)], INPUT)))
    )
    assert is_sound(made)
    assert len(Corpus(made).shards) == 2
    return made


def damaged(folder: Path) -> dict[str, list[str]]:
    return {name: found for name, found in verify(folder) if found}


@pytest.mark.parametrize("turn", [0, pytest.param(range(1, 8), marks=pytest.mark.slow)])
def test_every_flipped_bit_of_corpus_json_is_found(folder: Path, turn: int | range):
    """One bit of every byte; all others where there is time."""
    path = folder / "corpus.json"
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in [(at + each) % 8 for each in ([turn] if isinstance(turn, int) else turn)]:
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            found = damaged(folder)
            assert list(found) == ["corpus.json"]
            assert len(found["corpus.json"]) == 1
            assert "\n" not in found["corpus.json"][0]


def test_every_flipped_byte_of_every_other_file_is_found(folder: Path):
    names = {p.name for p in folder.iterdir()} - {"corpus.json"}
    names = {name for name in names if not name.startswith("shard-000001")}
    assert {Path(name).suffix or name for name in names} == {
        *(".tok", ".jsonl", ".npy", ".tsv", INPUTS)
    }
    for name in names:
        path = folder / name
        good = path.read_bytes()
        for at in range(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
            ((part, lines),) = damaged(folder).items()
            assert part in (path.stem, name)
            assert lines == [line for line in lines if line.startswith(f"{name}: ")]
            assert len(lines) == 1
        path.write_bytes(good)
    assert is_sound(folder)


def test_damage_of_many_files_is_a_line_each_and_the_rest_is_looked_at(folder: Path):
    """Also a corpus whose corpus.json is damaged does not keep the next from being looked at."""
    shutil.copytree(folder, folder.parent / "other")
    (folder / "corpus.json").write_bytes(b"\xff\x00")
    for name in ("shard-000000.jsonl", "shard-000000.npy", "shard-000001.tok"):
        (folder.parent / "other" / name).write_bytes(b"\x93NUMPY\x01\x00" + bytes(90))
    (folder.parent / "other" / "quarantine.tsv").unlink()
    done = audiotok("corpus", "verify", folder, folder.parent / "other", folder.parent / "none")
    assert done.code == 1
    assert [line.rpartition(": ")[0] for line in done.lines[:-1]] == [
        f"error {folder}/corpus.json",
        f"error {folder.parent}/other/quarantine.tsv: quarantine.tsv",
        f"error {folder.parent}/other/shard-000000: shard-000000.jsonl",
        f"error {folder.parent}/other/shard-000000: shard-000000.npy",
        f"error {folder.parent}/other/shard-000001: shard-000001.tok",
    ] or len(done.lines) == 6
    assert "no corpus" in done.lines[-1]


def complaint(work: Callable[[], object]) -> str:
    """What a reader says against; a traceback is no such thing."""
    try:
        work()
    except (ValueError, KeyError) as error:
        return str(error)
    return ""


CORRUPT: list[Callable[[bytes], bytes]] = [
    lambda data: b"",
    lambda data: data[: len(data) // 2],
    lambda data: bytes(len(data)),
    lambda data: b"[" * 100_000,
    lambda data: b'{"id":' * 50_000,
    lambda data: b"\xff" * len(data),
    lambda data: b"\x93NUMPY\x01\x00" + bytes([118, 0]) + b"{" * 118,
    lambda data: b"\x93NUMPY\x01\x00" + bytes([118, 0]) + b"(" * 118 + data[128:],
    lambda data: data.replace(b"'<u8'", b"'|O '"),
    lambda data: data.replace(b'"r0"', b"1e400"),
    lambda data: data[:128] + bytes(range(256)) * (len(data) // 256 + 1),
]


@pytest.mark.parametrize("suffix", [".tok", ".jsonl", ".npy"])
@pytest.mark.parametrize("how", range(len(CORRUPT)))
def test_real_damage_is_one_line_to_every_reader(folder: Path, suffix: str, how: int):
    path = folder / f"shard-000000{suffix}"
    bad = CORRUPT[how](path.read_bytes())
    if bad == path.read_bytes():
        return
    path.write_bytes(bad)
    readers: list[Callable[[Corpus], object]] = [
        lambda corpus: list(corpus),
        lambda corpus: corpus[0],
        lambda corpus: corpus["r1"],
        lambda corpus: [shard.codes() for shard in corpus.shards],
        lambda corpus: [list(shard.rows()) for shard in corpus.shards],
    ]
    for read in readers:
        said = complaint(lambda read=read: read(Corpus(folder)))
        assert not said or str(path.parent) in said
        assert "\n" not in said
    assert list(damaged(folder)) == ["shard-000000"]
    # The same where a program wrote it so, and the checksums are of that.
    about = read_info(folder)
    shard = about.shards[0]
    shard.bytes[suffix] = len(bad)
    shard.sha256[suffix] = sha256(bad).hexdigest()
    write_info(folder, about)
    ((part, lines),) = damaged(folder).items()
    assert part == "shard-000000"
    assert len(lines) == 1
    assert "\n" not in lines[0]


def test_a_wrong_index_is_found_by_whoever_reads(folder: Path):
    path = folder / "shard-000000.npy"
    index = np.load(path)
    for field, value in (("first", 1), ("frames", 1 << 31), ("row", (1 << 64) - 1)):
        changed = index.copy()
        changed[field][1] = value
        assert changed.dtype == INDEX
        np.save(path, changed)
        with pytest.raises(CorpusError, match="damaged; restore it"):
            [Corpus(folder)[i] for i in range(2)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": [1e400]}, "not JSON"),
        ({"sizes": [16, True]}, "a size is true"),
        ({"sizes": "16"}, 'sizes is "16"'),
        ({"sample_rate": -1}, "sample_rate is -1"),
        ({"shards": [{"name": "../../x"}]}, "no name of a shard"),
        ({"shards": [1]}, "a shard is 1"),
        ({"shards": {}}, "shards is {}"),
        ({"job": [[[[]]]]}, "job is"),
        ({"codec": None}, "codec is null"),
        ({"frame_size": 0}, "frame_size is 0"),
    ],
)
def test_what_corpus_json_says_is_checked(folder: Path, change: dict[str, Any], said: str):
    """Of the older format, which has no checksum: there nothing else stands in the way."""
    facts = json.loads((folder / "corpus.json").read_text())
    del facts["checksum"]
    text = json.dumps(facts | {"format": "audiotok corpus 1"} | change)
    (folder / "corpus.json").write_text(text.replace("Infinity", "1e400"))
    with pytest.raises(CorpusError, match=r"corpus.json: .*restore it") as caught:
        Corpus(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000, "9" * 5000, "[]", "null"])
def test_a_corpus_json_of_anything_is_one_line(folder: Path, text: str):
    (folder / "corpus.json").write_text(text)
    done = audiotok("corpus", "info", folder)
    assert (done.code, len(done.lines)) == (1, 1)
    assert "corpus.json" in done.lines[0]
    assert len(done.lines[0]) < 500


def test_a_checksum_taken_off_is_not_a_corpus_of_before(folder: Path):
    path = folder / "corpus.json"
    path.write_text(path.read_text().replace("audiotok corpus 2", "audiotok corpus 1"))
    with pytest.raises(CorpusError, match="checksum is another"):
        Corpus(folder)
