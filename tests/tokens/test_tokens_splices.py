"""A record of a .tok file belongs to its file; and files of format 1 are read as ever."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import audiotok.serving.server
from audiotok.corpus import Corpus
from audiotok.corpus.check import is_sound
from audiotok.tokens import (
    Header,
    TokenFileDamagedError,
    TokenFileError,
    TokenSink,
    TokenSource,
    TokenWriter,
    verify,
)
from audiotok.tokens.format import BLOCK, BLOCK_TAG, END, NO_IDENTITY
from audiotok.tokens.tokens import Tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "format1"
HEADER = Header(
    codec="toy",
    fingerprint="ab12",
    sizes=(1024, 5),
    sample_rate=16000,
    frame_size=320,
    original_rate=16000,
    block_frames=8,
)


def drawn(seed: int, frames: int = 27) -> np.ndarray:
    """Codes whose first block is the same for all seeds, as where recordings begin in silence."""
    draw = np.random.default_rng(seed)
    codes = np.stack([draw.integers(0, size, frames) for size in HEADER.sizes])
    codes[:, :8] = 1
    return codes


def written(path: Path, codes: np.ndarray, how: str) -> bytes:
    """A file of these codes: written at once, through a pipe, or in two runs."""
    if how == "piped":
        file = io.BytesIO()
        sink = TokenSink(file, HEADER, block=8)
        sink.append(codes)
        sink.finish(codes.shape[1] * 320)
        path.write_bytes(file.getvalue())
        return file.getvalue()
    first = 16 if how == "appended" else codes.shape[1]
    with TokenWriter(path, HEADER, force=True) as writer:
        writer.append(codes[:, :first])
    if how == "appended":
        with TokenWriter.reopen(path) as writer:
            writer.append(codes[:, first:])
    return path.read_bytes()


def records(data: bytes) -> list[bytes]:
    """The header and the identity of a file, and each of its records after that."""
    at = len(HEADER.to_bytes()) + len(NO_IDENTITY)
    made = [data[: at - len(NO_IDENTITY)], data[at - len(NO_IDENTITY) : at]]
    while at < len(data):
        size = END.size
        if data[at : at + 4] == BLOCK_TAG:
            size = HEADER.block_bytes(BLOCK.unpack_from(data, at)[3])
        made.append(data[at : at + size])
        at += size
        if size == END.size and at < len(data):
            made.append(data[at : at + len(NO_IDENTITY)])
            at += len(NO_IDENTITY)
    assert b"".join(made) == data
    return made


def splices(one: list[bytes], other: list[bytes]) -> Iterator[bytes]:
    """Files of records of the one, with some of the other's in the place of some."""
    for i in range(len(one)):
        for j in range(len(other)):
            yield b"".join([*one[:i], other[j], *one[i + 1 :]])
            yield b"".join([*one[:i], *other[j:]])
        for j in range(i + 2, len(one)):
            yield b"".join([*one[:i], *other[i:j], *one[j:]])


@pytest.mark.parametrize("how", ["written", "piped", "appended"])
def test_records_of_another_file_are_found(tmp_path: Path, how: str):
    """Same header, same lengths, same first block: only what belongs together is read."""
    one, other = drawn(1), drawn(2)
    mine, theirs = written(tmp_path / "1.tok", one, how), written(tmp_path / "2.tok", other, how)
    path, tried = tmp_path / "spliced.tok", 0
    for data in splices(records(mine), records(theirs)):
        if data in (mine, theirs):
            continue
        tried += 1
        path.write_bytes(data)
        assert not verify(path).ok
        with pytest.raises(TokenFileDamagedError):
            Tokens.load(path)
        file = io.BytesIO(data)
        with suppress(TokenFileDamagedError):
            list(TokenSource(file).blocks())
            assert file.read(1)  # a pipe ends where its end is; the rest does not belong
    assert tried > 80


def test_what_is_read_or_recovered_of_a_spliced_file_is_its_own(tmp_path: Path):
    one, other = drawn(1, 64), drawn(2, 64)
    mine = records(written(tmp_path / "1.tok", one, "written"))
    theirs = records(written(tmp_path / "2.tok", other, "written"))
    path = tmp_path / "spliced.tok"
    for at in range(2, 10):
        path.write_bytes(b"".join([*mine[:at], theirs[at], *mine[at + 1 :]]))
        first = (at - 2) * 8
        with pytest.raises(TokenFileDamagedError, match="checksum"):
            Tokens.load(path, start=first * 0.02, end=(first + 8) * 0.02)
        for start, piece in Tokens.recover(path).pieces:
            begin = round(start * 50)
            assert np.array_equal(piece.codes, one[:, begin : begin + piece.frames])
    left = [(0.0, 24), (0.64, 32)]
    path.write_bytes(b"".join([*mine[:5], *theirs[5:6], *mine[6:]]))
    assert [(at, piece.frames) for at, piece in Tokens.recover(path).pieces] == left


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_damaged_identity_costs_no_codes(tmp_path: Path, damaged: int):
    """The end of a run says its key too."""
    path, codes = tmp_path / "a.tok", drawn(3)
    data = bytearray(written(path, codes, "appended"))
    at = len(HEADER.to_bytes())
    second = data.index(b"NEXT") + END.size
    for place in [(at,), (second,), (at, second)][damaged]:
        data[place + 1] ^= 1
    path.write_bytes(data)
    assert not verify(path).ok
    (start, piece), *more = Tokens.recover(path).pieces
    assert (start, more) == (0.0, [])
    assert np.array_equal(piece.codes, codes)


def test_the_same_codes_are_the_same_bytes(tmp_path: Path):
    codes = drawn(4, 50)
    is_sound = written(tmp_path / "a.tok", codes, "written")
    with TokenWriter(tmp_path / "b.tok", HEADER) as writer:
        for cut in np.array_split(codes, 17, axis=1):
            writer.append(cut)
    assert (tmp_path / "b.tok").read_bytes() == is_sound
    assert written(tmp_path / "c.tok", drawn(5, 50), "written")[-36:-32] != is_sound[-36:-32]


# ---- format 1, as it was written before


@pytest.mark.parametrize("name", ["two_runs.tok", "stream.tok"])
def test_files_of_format_1_are_read(name: str, tmp_path: Path):
    codes = (np.arange(2 * 40).reshape(2, 40) * 7) % 5
    codes[0] = np.arange(40) * 25
    tokens = Tokens.load(GOLDEN / name)
    assert np.array_equal(tokens.codes, codes)
    assert verify(GOLDEN / name).ok
    assert np.array_equal(Tokens.load(GOLDEN / name, start=0.1, end=0.5).codes, codes[:, 5:25])
    source = TokenSource(io.BytesIO((GOLDEN / name).read_bytes()))
    assert np.array_equal(np.concatenate(list(source.blocks()), 1), codes)
    data = bytearray((GOLDEN / name).read_bytes())
    path = tmp_path / "bad.tok"
    for at in range(len(data)):
        data[at] ^= 4
        path.write_bytes(data)
        if at == 6:  # the format
            with pytest.raises(TokenFileError, match="format 5"):
                verify(path)
        else:
            assert not verify(path).ok
        data[at] ^= 4


def test_what_is_appended_to_format_1_is_of_format_1(tmp_path: Path):
    path = tmp_path / "a.tok"
    shutil.copyfile(GOLDEN / "stream.tok", path)
    tokens = Tokens.load(path)
    tokens.append(path)
    assert path.read_bytes()[6] == 1
    assert np.array_equal(Tokens.load(path).codes, np.concatenate([tokens.codes] * 2, 1))


def test_a_corpus_of_format_1_is_read():
    corpus = Corpus(GOLDEN / "corpus")
    for i, entry in enumerate(corpus):
        frames = np.arange(9 + i)
        assert np.array_equal(entry.tokens.codes, [(frames * 31 + i) % 1024, (frames + i) % 5])
        assert entry.row["text"] == f"said {i}"
    assert len(corpus) == 6
    assert is_sound(corpus.path)


# ---- what the page of `audiotok serve` writes and reads

READ_AND_WRITE = """
import { readFileSync, writeFileSync } from 'node:fs';
import { read, write } from './tok.js';
for (const [from, to] of JSON.parse(process.argv[2])) {
  const file = read(readFileSync(from));
  writeFileSync(to, write(file.header, file.codes, { ...file.header, ...file }));
}
"""


@pytest.mark.skipif(not shutil.which("node"), reason="no node on the PATH")
def test_the_page_writes_and_reads_the_same_files(tmp_path: Path):
    page = Path(audiotok.serving.server.__file__).parent / "page"
    for name in ("tok.js", "socket.js"):
        shutil.copyfile(page / name, tmp_path / name)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "run.js").write_text(READ_AND_WRITE)
    made = []
    for how in ("written", "piped", "appended"):
        path = tmp_path / f"{how}.tok"
        written(path, drawn(6, 300), how)
        made.append((path, tmp_path / f"{how}-page.tok"))
    made += [(GOLDEN / name, tmp_path / name) for name in ("two_runs.tok", "stream.tok")]
    pairs = json.dumps([(str(a), str(b)) for a, b in made])
    subprocess.run(["node", "run.js", pairs], cwd=tmp_path, check=True)
    for source, copy in made:
        tokens = Tokens.load(source)
        assert Tokens.load(copy) == tokens
        tokens.save(tmp_path / "ours.tok", force=True)  # in blocks of the same length
        assert copy.read_bytes() == (tmp_path / "ours.tok").read_bytes()
